"""Image quality: planted faults are found and named, good images are not, what cannot be told is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError
from hounsfield.evaluation import charts
from hounsfield.evaluation.monitoring import QUALITY, monitor
from hounsfield.inference import Predictor
from hounsfield.quality import FAULTS, QualityReference, measure
from hounsfield.quality.measures import sampled
from hounsfield.quality.planting import VARIANTS, planted
from networks import tiny_bundle
from trained import Trained

SIDE = 96


def thorax(number: int, side: int = SIDE) -> np.ndarray:
    """Two dark fields beside a bright middle and above a bright base, with noise; never the same twice."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:side, 0:side] / side
    shift = rng.normal(0, 0.03, 4)
    fields = sum(
        np.exp(-(((rows - 0.42 - shift[0]) / 0.28) ** 2) - ((columns - middle - shift[1]) / 0.13) ** 2)
        for middle in (0.27, 0.73)
    )
    base = 1 / (1 + np.exp(-(rows - 0.78 - shift[2]) / 0.04))
    heart = np.exp(-(((rows - 0.6) / 0.15) ** 2) - ((columns - 0.58 - shift[3]) / 0.12) ** 2)
    picture = 0.55 - 0.4 * fields + 0.02 * base + 0.3 * heart + rng.normal(0, 0.02, (side, side))
    return np.clip(255 * picture, 0, 255).astype(np.uint8)[..., None]


def particles(number: int) -> np.ndarray:
    """Bright discs anywhere: a picture that looks the same however it is turned or cut."""
    rng = np.random.default_rng(number)
    picture = rng.normal(90, 12, (SIDE, SIDE))
    for row, column in rng.integers(8, SIDE - 8, (12, 2)):
        cv2.circle(picture, (int(column), int(row)), 6, 190, -1)
    return np.clip(picture, 0, 255).astype(np.uint8)[..., None]


def fitted(images: list[np.ndarray], patients: np.ndarray | None = None) -> QualityReference:
    planes = [sampled(each, 2) for each in images]
    measured = [measure(each, 2) for each in images]
    reference = QualityReference.fit(measured, [planted(each) for each in planes], patients)  # type: ignore[arg-type]
    assert reference is not None
    return reference


@pytest.fixture(scope="module")
def reference() -> QualityReference:
    return fitted([thorax(number) for number in range(150)])


def empty_edge(pixels: np.ndarray) -> np.ndarray:
    found = pixels.copy()
    found[-SIDE // 3 :] = 0
    return found


def collimated(pixels: np.ndarray) -> np.ndarray:
    found = np.zeros_like(pixels)
    found[20:-20, 20:-20] = pixels[20:-20, 20:-20]
    return found


PLANTED = {
    "rotated": [np.rot90, lambda pixels: np.rot90(pixels, 2), lambda pixels: np.rot90(pixels, 3)],
    "cut": [empty_edge, lambda pixels: pixels[:, 35:]],
    "collimated": [collimated],
    "blurred": [lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 1.5)[..., None]],
    "clipped": [
        lambda pixels: np.minimum(pixels, np.quantile(pixels, 0.8).astype(np.uint8)),
        lambda pixels: np.maximum(pixels, np.quantile(pixels, 0.2).astype(np.uint8)),
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found_and_good_images_are_not(reference: QualityReference, fault: str) -> None:
    good = [thorax(number) for number in range(1000, 1100)]
    assert sum(map(bool, reference.faults([measure(each, 2) for each in good]))) <= 4
    for plant in PLANTED[fault]:
        named = reference.faults([measure(np.ascontiguousarray(plant(each)), 2) for each in good])
        assert sum(fault in each for each in named) >= 90
    assert reference.untold == ()


def test_what_a_kind_of_image_cannot_show_is_not_told() -> None:
    found = fitted([particles(number) for number in range(120)])
    assert "rotated" in found.untold
    assert "rotated" in found.missed
    assert any(each.startswith("cut (") for each in found.missed) or "cut" in found.missed
    turned = [np.ascontiguousarray(np.rot90(particles(number))) for number in range(500, 560)]
    assert not any("rotated" in each for each in found.faults([measure(each, 2) for each in turned]))
    blurred = [cv2.GaussianBlur(particles(number), (0, 0), 1.5)[..., None] for number in range(500, 560)]
    assert sum("blurred" in each for each in found.faults([measure(each, 2) for each in blurred])) >= 54


def test_faulty_images_among_those_of_training_do_not_hide_others() -> None:
    """One training image in a hundred is blurred, and one is rotated."""
    images = [thorax(number) for number in range(200)]
    images[10] = cv2.GaussianBlur(images[10], (0, 0), 2)[..., None]
    images[20] = np.ascontiguousarray(np.rot90(images[20], 2))
    found = fitted(images)
    more = [cv2.GaussianBlur(thorax(number), (0, 0), 2)[..., None] for number in range(700, 740)]
    assert sum("blurred" in each for each in found.faults([measure(each, 2) for each in more])) >= 36
    assert "clipped" not in found.untold


def test_measures_against_numpy() -> None:
    pixels = thorax(0)
    found = measure(pixels, 2)
    assert found is not None
    values = pixels[..., 0].astype(np.float64)
    span = values.max() - values.min()
    assert found.saturated == pytest.approx(
        [(values >= values.max() - span / 64).mean(), (values <= values.min() + span / 64).mean()]
    )

    def differences(lag: int) -> float:
        both = [(values[lag:] - values[:-lag]).ravel(), (values[:, lag:] - values[:, :-lag]).ravel()]
        return float(np.sqrt(np.square(np.concatenate(both)).mean()) + span / 1000)

    one, two, four = map(differences, (1, 2, 4))
    assert found.sharpness == pytest.approx([np.log(one / two), np.log(two / four)], abs=1e-6)
    assert (found.mean, found.deviation) == pytest.approx((values.mean(), values.std()))
    assert found.picture is not None
    cells = values.reshape(32, 3, 32, 3).mean(axis=(1, 3))
    stretched = 255 * (cells - cells.min()) / np.ptp(cells)
    assert np.abs(found.picture - stretched).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(40, 300, 1), (300, 40, 3), (64, 64, 6), (9, 30, 40, 1), (30, 20, 25, 2)])
def test_every_type_and_rank_is_measured_alike(dtype: type, shape: tuple[int, ...]) -> None:
    rank = len(shape) - 1
    values = np.random.default_rng(0).integers(0, 100, shape)
    expected, found = measure(values.astype(np.float64), rank), measure(values.astype(dtype), rank)
    assert expected is not None
    assert found is not None
    assert found.saturated == expected.saturated
    assert found.sharpness == pytest.approx(expected.sharpness, abs=1e-6)
    assert (found.picture is None) == (rank == 3)


def test_what_cannot_be_measured_has_no_fault(reference: QualityReference) -> None:
    broken = thorax(0).astype(np.float32)
    broken[3, 3] = np.nan
    assert [measure(each, 2) for each in (np.zeros((64, 64, 1)), np.ones((4, 64, 1)), broken)] == [None] * 3
    assert reference.faults([None, measure(thorax(3000), 2)])[0] == ()
    planes = sampled(thorax(0), 2)
    assert planes is not None
    assert QualityReference.fit([measure(thorax(0), 2)] * 49, [planted(planes)] * 49) is None  # type: ignore[list-item]


def test_images_of_a_single_patient_judge_each_other() -> None:
    assert fitted([thorax(number) for number in range(60)], np.zeros(60, np.int64)).images == 60


def test_a_reference_survives_its_file(reference: QualityReference) -> None:
    again = QualityReference.from_arrays(reference.to_arrays())
    shown = [measure(np.ascontiguousarray(plant(thorax(5))), 2) for plants in PLANTED.values() for plant in plants]
    assert again.faults(shown) == reference.faults(shown)
    assert (again.missed, again.found, again.images) == (reference.missed, reference.found, reference.images)
    with pytest.raises(ValueError, match="weights has the shape"):
        QualityReference.from_arrays({**reference.to_arrays(), "weights": np.zeros((2, 3))})
    assert len(VARIANTS) == 14


def test_monitor_alarms_when_faulty_images_become_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "STREAMS", 100)
    monkeypatch.setattr(charts, "LENGTH", 500)
    rng = np.random.default_rng(0)

    def table(count: int, share: float) -> pd.DataFrame:
        probability = rng.uniform(0.01, 0.99, count)
        faulty = rng.random(count) < share
        return pd.DataFrame(
            {
                "image": [f"{number}.png" for number in range(count)],
                "p_no": 1 - probability,
                "p_yes": probability,
                "flags": np.where(faulty, "size;blurred", np.where(rng.random(count) < 0.5, "size", "")),
                "mean_intensity": rng.normal(100, 10, count),
            }
        )

    known = table(200, 0.0).drop(columns="flags")
    quiet = monitor(known, table(300, 0.01))
    assert {f"{QUALITY}, share", "mean_intensity, level"} <= set(quiet.names)
    assert not [alarm for alarm in quiet.alarms if alarm.chart.startswith(QUALITY)]
    found = monitor(known, pd.concat([table(100, 0.01), table(100, 0.3)], ignore_index=True))
    first = next(alarm for alarm in found.alarms if alarm.chart == f"{QUALITY}, share")
    assert 100 < first.number <= 140
    assert found.windows[0][QUALITY] > 0.1


def test_a_run_keeps_what_tells_faulty_images_and_names_them(
    trained_classifier: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained_classifier.run.folder
    images = np.load(trained_classifier.data.split(",")[0])
    kept = pd.read_csv(run / "predictions.csv")
    rows = kept["image"].str.extract(r"(\d+)")[0].astype(int)
    # As `predict` writes them, of the same images.
    assert kept["mean_intensity"].to_numpy() == pytest.approx(images[rows].mean(axis=(1, 2)), rel=1e-5)
    reference = fitted([thorax(number) for number in range(80)])
    copy = tmp_path / "bundle"
    bundle = tiny_bundle(copy).with_quality(reference)
    assert Bundle.load(copy).quality is not None
    predictor = Predictor(bundle)
    blurred = cv2.GaussianBlur(thorax(900), (0, 0), 2)
    predictions = predictor.predict([thorax(901), blurred])
    assert "blurred" not in predictions[0].flags
    assert "blurred" in predictions[1].flags
    assert "looks blurred" in caplog.text
    (row,) = predictions[1].rows()
    assert list(row) == predictor.columns
    assert row["mean_intensity"] == pytest.approx(blurred.mean(), rel=1e-5)
    assert predictions[1].json()["sd_intensity"] == row["sd_intensity"]
    (copy / "quality.npz").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"quality\.npz is damaged"):
        Bundle.load(copy)
