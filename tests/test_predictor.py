"""Predictions of files, folders, arrays and stores, and what is done with images that do not fit."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from dicom_samples import make_dicom
from hounsfield.bundle import Bundle, SourceRange
from hounsfield.errors import ImageError, UsageError
from hounsfield.images import Image, Reference, read_image
from hounsfield.inference import BadImage, Prediction, Predictor, open_predictor, tables
from hounsfield.inference.fitting import require_units
from hounsfield.inference.sources import Source
from networks import SHAPE, keras_outputs, tiny_bundle, tiny_network


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(tiny_bundle(tmp_path_factory.mktemp("run") / "bundle"))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 12, 10), np.uint8)


@pytest.fixture(scope="module")
def folder(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:02}.png"), picture)
    return folder


def expected(bundle: Bundle, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and features by plain Keras on images that were prepared one by one."""
    prepared = [bundle.pipeline.apply(Image(pixels=picture[..., None])).pixels for picture in pictures]
    probabilities, features = keras_outputs(tiny_network(), np.stack(prepared))
    return probabilities[:, 0], features


def test_a_folder_in_order_as_plain_keras_would(predictor: Predictor, folder: Path, pictures: np.ndarray) -> None:
    predictions = predictor.predict(folder)
    assert [prediction.image for prediction in predictions] == [str(folder / f"{n:02}.png") for n in range(40)]
    positive, features = expected(predictor.bundle, pictures)
    np.testing.assert_allclose([p.probabilities["opacity"] for p in predictions], positive, atol=1e-4)
    np.testing.assert_allclose([sum(p.probabilities.values()) for p in predictions], 1, atol=1e-6)
    np.testing.assert_allclose(np.stack([p.features for p in predictions]), features, atol=1e-4)
    assert [p.label for p in predictions] == ["opacity" if value > 0.5 else "normal" for value in positive]


def test_every_form_of_the_same_images_gives_the_same(
    predictor: Predictor, folder: Path, pictures: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", pictures)
    forms = {
        str(tmp_path / "stack.npy"): [f"{tmp_path}/stack.npy[{n}]" for n in range(40)],
        "array": [f"array[{n}]" for n in range(40)],
    }
    reference = [prediction.probabilities for prediction in predictor.predict(folder)]
    for given, names in ((tmp_path / "stack.npy", forms[str(tmp_path / "stack.npy")]), (pictures, forms["array"])):
        found = predictor.predict(given)
        assert [prediction.image for prediction in found] == names
        assert [prediction.probabilities for prediction in found] == reference
    listed = predictor.predict([Image(pixels=picture[..., None]) for picture in pictures])
    assert [prediction.image for prediction in listed[:2]] == ["image0", "image1"]
    assert [prediction.probabilities for prediction in listed] == reference


@pytest.mark.parametrize(
    ("shape", "count"),
    [((12, 10), 1), ((12, 10, 1), 1), ((12, 10, 3), 1), ((12, 10, 4), 1), ((5, 12, 10), 5), ((2, 12, 10, 3), 2)],
)
def test_shapes_of_arrays(predictor: Predictor, shape: tuple[int, ...], count: int) -> None:
    assert len(predictor.predict(np.ones(shape, np.uint8))) == count


def test_one_image_equals_the_same_image_among_many(predictor: Predictor, folder: Path) -> None:
    (alone,) = predictor.predict(folder / "07.png")
    among = predictor.predict(folder)[7]
    assert alone.image == among.image
    assert alone.probabilities["opacity"] == pytest.approx(among.probabilities["opacity"], abs=1e-5)


def test_bad_images_are_named_and_the_good_ones_predicted(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes((folder / "00.png").read_bytes()[:40])
    inputs = [folder / "00.png", tmp_path / "torn.png", folder / "01.png", tmp_path / "absent.png"]
    results = list(predictor.stream(inputs))
    assert [type(result) for result in results] == [Prediction, BadImage, Prediction, BadImage]
    assert "torn.png" in str(results[1])
    with pytest.raises(ImageError, match=r"2 of 4 images could not be predicted.*torn\.png.*absent\.png"):
        predictor.predict(inputs)


def test_an_empty_folder_is_one_bad_image(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="folder without images"):
        predictor.predict(tmp_path)


def test_an_empty_name_is_not_the_current_folder(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="has an empty name"):
        predictor.predict(["", "."])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((12, 10), np.nan), "not finite|NaN|nan"),
        (np.ones((2, 2, 12, 10, 1)), "shape"),
        (np.ones(3), "shape"),
        (np.array([["a"]]), "numbers"),
    ],
)
def test_arrays_that_are_no_images(predictor: Predictor, values: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        predictor.predict(values)


def test_a_volume_is_predicted_slice_by_slice(predictor: Predictor, pictures: np.ndarray) -> None:
    volume = Image(pixels=pictures[:5, ..., None], spacing=(5.0, 1.0, 1.0))
    found = predictor.predict(volume)
    assert [prediction.image for prediction in found] == [f"image[{number}]" for number in range(5)]
    np.testing.assert_allclose(
        [p.probabilities["opacity"] for p in found], expected(predictor.bundle, pictures[:5])[0], atol=1e-4
    )


def test_a_2d_image_for_a_network_of_volumes(tmp_path: Path) -> None:
    predictor = Predictor(tiny_bundle(tmp_path / "bundle", shape=(6, 8, 8, 1)))
    assert len(predictor.predict(np.ones((6, 8, 8)))) == 1
    with pytest.raises(ImageError, match="takes volumes"):
        predictor.predict(Image(pixels=np.ones((8, 8, 1))))


def test_units_of_ct_are_not_mixed_with_others(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", source_range=None)
    predictor = Predictor(dataclasses.replace(bundle, modality="CT"))
    pixels = np.arange(120.0).reshape(12, 10, 1)
    assert len(predictor.predict(Image(pixels=pixels, modality="CT"))) == 1
    assert len(predictor.predict(Image(pixels=pixels))) == 1
    with pytest.raises(ImageError, match="Hounsfield units"):
        predictor.predict(Image(pixels=pixels, modality="DX"))


@pytest.mark.parametrize(
    ("trained", "refused"),
    [(("CT",), {"MR", "PT"}), (("CT", "MR"), set()), (("MR", "PT"), {"CT"}), ((), set())],
)
def test_only_units_that_training_never_saw_are_refused(trained: tuple[str, ...], refused: set[str]) -> None:
    bundle = SimpleNamespace(source_range=SourceRange(modalities=trained), modality=None)
    found = set()
    for modality in ("CT", "MR", "PT", None):
        try:
            require_units(Image(pixels=np.ones((4, 4, 1)), modality=modality), "it", bundle)
        except ImageError:
            found.add(modality)
    assert found == refused


def test_unlike_images_warn_once_and_are_counted(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    big = [Image(pixels=np.random.default_rng(n).random((64, 64, 3))) for n in range(3)]
    with caplog.at_level(logging.WARNING, "hounsfield"):
        assert len(predictor.predict(big)) == 3
    messages = [record.getMessage() for record in caplog.records]
    assert sum("size of 64×64" in message for message in messages) == 1
    assert sum("has 3 channel(s)" in message for message in messages) == 1
    assert sum(message.startswith("3 images differ") for message in messages) == 2


def test_the_threshold_decides_the_label_alone(predictor: Predictor, folder: Path) -> None:
    (usual,) = predictor.predict(folder / "00.png")
    for threshold, label in ((0.0, "opacity"), (1.0, "normal")):
        (moved,) = Predictor(predictor.bundle, threshold=threshold).predict(folder / "00.png")
        assert moved.label == label
        assert moved.probabilities == pytest.approx(usual.probabilities)


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_labels_of_other_tasks(task: str, tmp_path: Path) -> None:
    predictor = Predictor(tiny_bundle(tmp_path / "bundle", task))
    (prediction,) = predictor.predict(np.arange(120.0).reshape(12, 10))
    values = prediction.probabilities
    assert list(values) == ["a", "b", "c"]
    wanted = (
        max(values, key=values.__getitem__)
        if task == "multi-class"
        else ";".join(k for k, v in values.items() if v > 0.5)
    )
    assert prediction.label == wanted


def test_bad_images_among_many_keep_their_places(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes((folder / "00.png").read_bytes()[:40])
    good = sorted(folder.iterdir()) * 2
    inputs = [path for number, each in enumerate(good) for path in ([each, tmp_path / "torn.png"][: 1 + number % 2])]
    results = list(predictor.stream(inputs))
    assert [result.image for result in results] == list(map(str, inputs))
    assert {result.image for result in results if isinstance(result, BadImage)} == {str(tmp_path / "torn.png")}
    alone = [predictor.predict(path)[0].probabilities["opacity"] for path in good[:5]]
    found = [result.probabilities["opacity"] for result in results if isinstance(result, Prediction)]
    assert len(found) == len(good)
    np.testing.assert_allclose(found[:5], alone, atol=1e-5)


@pytest.mark.parametrize(("side", "together"), [(12, True), (300, False)])
def test_of_large_images_one_at_a_time_is_held(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, side: int, together: bool
) -> None:
    events: list[str] = []

    def load() -> Image:
        events.append("load")
        return Image(pixels=np.arange(side * side, dtype=np.float32).reshape(side, side, 1))

    monkeypatch.setattr(
        "hounsfield.inference.base.sources", lambda *_: (Source(Reference(str(n)), load) for n in range(6))
    )
    monkeypatch.setattr("hounsfield.inference.base.require_units", lambda *_: events.append("prepare"))
    assert len(predictor.predict("anything")) == 6
    one_by_one = ["load", "prepare"]
    assert events == (one_by_one + ["load"] * 5 + ["prepare"] * 5 if together else one_by_one * 6)


def test_inputs_are_read_only_a_few_ahead(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def endless(*_: object) -> Iterator[Source]:
        def load(number: int) -> Image:
            read.append(number)
            return Image(pixels=np.ones(SHAPE))

        for number in range(100_000):
            yield Source(Reference(str(number)), lambda number=number: load(number))  # type: ignore[misc]  # bound at definition

    monkeypatch.setattr("hounsfield.inference.base.sources", endless)
    stream = predictor.stream("anything")
    next(stream)
    stream.close()
    assert len(read) < 500


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_tables_hold_what_was_predicted(predictor: Predictor, folder: Path, tmp_path: Path, suffix: str) -> None:
    predictions = predictor.predict(folder)
    path = tmp_path / f"table{suffix}"
    assert predictor.write(path, predictions) == 40
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[suffix](path)
    assert list(read.columns) == ["image", "prediction", "p_normal", "p_opacity"]
    assert read["prediction"].tolist() == [prediction.label for prediction in predictions]
    np.testing.assert_allclose(read["p_opacity"], [p.probabilities["opacity"] for p in predictions], rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_a_write_that_fails_keeps_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def rows() -> Iterator[dict[str, str]]:
        yield {"image": "a"}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        tables.write_table(path, ["image"], rows())
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_features_are_written(predictor: Predictor, folder: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    predictions = predictor.predict(folder)
    assert tables.write_features(path, predictions) == 40
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            names, features = archive["image"].tolist(), archive["features"]
    else:
        table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        names, features = table["image"].tolist(), table[["f0", "f1", "f2", "f3"]].to_numpy()
    assert names == [prediction.image for prediction in predictions]
    np.testing.assert_allclose(features, np.stack([p.features for p in predictions]), rtol=1e-6)


def test_an_output_of_another_kind_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected one of \.csv, \.parquet, \.json"):
        tables.write_table(tmp_path / "table.xlsx", ["image"], [])
    with pytest.raises(UsageError, match="does not exist"):
        tables.write_table(tmp_path / "absent" / "table.csv", ["image"], [])


def test_commas_and_quotes_in_names_survive(tmp_path: Path) -> None:
    rows = [{"image": 'a,"b".png', "prediction": "x;y"}]
    tables.write_table(tmp_path / "t.csv", ["image", "prediction"], rows)
    with (tmp_path / "t.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream)) == rows
    tables.write_table(tmp_path / "t.json", ["image", "prediction"], rows)
    assert json.loads((tmp_path / "t.json").read_text()) == rows


def test_a_prediction_names_its_place_and_can_be_drawn(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (3, 12, 10, 1), np.uint8)
    np.save(tmp_path / "three.npy", volume)
    make_dicom(tmp_path / "one.dcm", np.arange(120, dtype=np.uint16).reshape(12, 10))
    found = predictor.predict([folder / "00.png", tmp_path / "three.npy", tmp_path / "one.dcm"])
    references = [prediction.reference for prediction in found]
    assert references[:2] == [Reference(str(folder / "00.png")), Reference(str(tmp_path / "three.npy"), volume=0)]
    header = read_image(tmp_path / "one.dcm").metadata
    assert references[-1].instance == header.instance is not None
    assert found[-1].json()["reference"] == {
        "path": str(tmp_path / "one.dcm"),
        "study": header.study,
        "series": header.series,
        "instance": header.instance,
    }
    assert json.loads(json.dumps(found[-1].json())) == found[-1].json()
    figure = found[0].draw(read_image(folder / "00.png"))
    assert figure.axes[0].get_title(loc="left").endswith("00.png")
    assert f"opacity {found[0].probabilities['opacity']:.3f}" in figure.texts[0].get_text()


def test_the_table_has_a_predictor_for_the_bundle_and_names_its_options(predictor: Predictor) -> None:
    opened = open_predictor(predictor.bundle, predictor.engine, threshold=0.3)
    assert isinstance(opened, Predictor)
    assert (opened.threshold, opened.engine) == (0.3, predictor.engine)
    assert opened.info()["engine"] == predictor.engine.description
    with pytest.raises(UsageError, match="classifier has no option overlap: expected some of by_class, coverage"):
        open_predictor(predictor.bundle, overlap=0.5)
