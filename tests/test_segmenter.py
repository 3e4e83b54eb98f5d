"""Masks of images of any size: windows against the network itself, the original grid, files, intervals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import keras
import nibabel
import numpy as np
import pandas as pd
import pytest
from keras import layers

from families import hounsfield
from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.errors import ResourceError, UsageError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.images import Image, read_image, write_image
from hounsfield.inference import open_predictor
from hounsfield.inference.masks import Segmenter
from hounsfield.inference.sliding import FULL, Sliding, weights
from hounsfield.phantoms import make_phantom
from hounsfield.preprocessing import Pipeline, Resample, ToChannels

LABELS = ("organ", "lesion")


def pointwise(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits that depend on one pixel alone, whatever the window; features of the whole window."""
    value = batch[..., 0]
    return np.stack([0 * value, value, 2 * value - 1.5], axis=-1), np.stack([value.mean((1, 2)), value.max((1, 2))], -1)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def shares(found: Any) -> np.ndarray:
    return np.asarray(found.probabilities / FULL)


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, 1)).astype(np.float32)


@pytest.mark.parametrize("shape", [(16, 16), (40, 23), (17, 64), (9, 30), (5, 7)])
def test_windows_give_what_the_network_gives_of_the_whole(shape: tuple[int, int]) -> None:
    pixels = image(*shape)
    found = Sliding((16, 16)).segment(pointwise, pixels)
    np.testing.assert_allclose(shares(found), softmax(pointwise(pixels[None])[0][0]), atol=2e-5)


def test_an_image_that_one_window_holds_is_the_network_itself() -> None:
    def whole(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Of all pixels of the window: another window would give something else.
        logits = np.stack([0 * batch[..., 0], np.cumsum(batch[..., 0], axis=1)], axis=-1)
        return logits, batch.mean((1, 2))

    pixels = image(16, 16)
    found = Sliding((16, 16)).segment(whole, pixels)
    np.testing.assert_allclose(shares(found), softmax(whole(pixels[None])[0][0]), atol=2e-5)
    np.testing.assert_array_equal(found.features, pixels.mean((0, 1)))


def test_windows_are_weighted_towards_their_middles_in_3d() -> None:
    patch, pixels = (4, 6, 8), image(9, 10, 13)
    seen: list[np.ndarray] = []

    def numbered(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(batch[0, ..., 0].copy())
        logit = np.full(batch.shape[:-1], float(len(seen)))
        return np.stack([0 * logit, logit], axis=-1), np.ones((1, 1), np.float32)

    found = shares(Sliding(patch).segment(numbered, pixels))
    weight = np.multiply.outer(np.multiply.outer(weights(4), weights(6)), weights(8))
    total, expected = np.zeros(pixels.shape[:-1]), np.zeros(pixels.shape[:-1])
    for number, window in enumerate(seen, start=1):
        spots = itertools.product(
            *(range(length - side + 1) for length, side in zip(pixels.shape, patch, strict=False))
        )
        place = next(
            spot
            for spot in (tuple(slice(at, at + side) for at, side in zip(each, patch, strict=True)) for each in spots)
            if np.array_equal(pixels[..., 0][spot], window)
        )
        total[place] += weight
        expected[place] += weight / (1 + np.exp(-number))
    assert len(seen) == 4 * 3 * 3
    np.testing.assert_allclose(found[..., 1], expected / total, atol=1e-4)


def test_mirrored_views_are_averaged_over_all_combinations_of_axes() -> None:
    def slope(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.indices(batch.shape[1:3])
        logit = batch[..., 0] + 0.3 * rows - 0.2 * columns
        return np.stack([0 * logit, logit], axis=-1), batch.mean((1, 2))

    pixels = image(8, 8)
    found = shares(Sliding((8, 8), flips=(0, 1)).segment(slope, pixels))[..., 1]
    views = [
        np.flip(softmax(slope(np.flip(pixels, axes)[None].copy())[0][0])[..., 1], axes)
        for axes in ((), (0,), (1,), (0, 1))
    ]
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=2e-5)


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_expected_dice_is_that_of_true_probabilities(overlapping: bool) -> None:
    pixels = 3 * image(20, 12, seed=3)
    found = Sliding((8, 8), overlapping, thresholds=(0.45, 0.4, 0.6)).segment(pointwise, pixels)
    values = shares(found)
    masks = values > (0.45, 0.4, 0.6) if overlapping else values.argmax(-1)[..., None] == np.arange(1, 3)
    values = values if overlapping else values[..., 1:]
    expected = 2 * (values * masks).sum((0, 1)) / (values.sum((0, 1)) + masks.sum((0, 1)))
    np.testing.assert_allclose(found.expected, expected, rtol=1e-3)
    assert ((found.uncertainty > 0) & (found.uncertainty <= 1)).all()


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_mask_is_that_of_the_probabilities(overlapping: bool) -> None:
    pixels = 3 * image(20, 12, seed=4)
    sliding = Sliding((8, 8), overlapping, thresholds=(0.45, 0.4, 0.6))
    kept, bare = (sliding.segment(pointwise, pixels, keep=keep) for keep in (True, False))
    assert bare.probabilities is None
    np.testing.assert_array_equal(kept.mask, bare.mask)
    values = shares(kept)
    expected = values > (0.45, 0.4, 0.6) if overlapping else values.argmax(-1)[..., None]
    np.testing.assert_array_equal(kept.mask, expected)


def test_nothing_is_expected_of_an_empty_mask() -> None:
    found = Sliding((8, 8)).segment(
        lambda batch: (np.concatenate([0 * batch + 9, 0 * batch], -1), batch[:, 0, 0]), image(8, 8)
    )
    assert np.isnan(found.expected).all()
    assert np.isnan(found.uncertainty).all()


def test_large_probabilities_lie_in_a_file_and_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = image(30, 40)
    expected = Sliding((16, 16)).segment(pointwise, pixels)
    monkeypatch.setattr("hounsfield.inference.sliding.IN_MEMORY", 100)
    found = Sliding((16, 16)).segment(pointwise, pixels)
    assert isinstance(found.probabilities, np.memmap)
    assert expected.probabilities is not None
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ResourceError, match="TMPDIR"):
        Sliding((16, 16)).segment(pointwise, pixels)


def threshold_network(rank: int, patch: tuple[int, ...], outputs: int) -> Any:
    """A segmenter by brightness: label 1 from 40, label 2 from 80."""
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[rank]
    pooling = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[rank]
    inputs = keras.Input((*patch, 1), name="image")
    logits = convolution(outputs, 1, name="logits")(inputs)
    features = pooling(name="features")(convolution(3, 1, name="hidden")(inputs))
    network = keras.Model(inputs, [logits, features])
    kernel = np.zeros((*(1,) * rank, 1, outputs), np.float32)
    if outputs == 3:
        kernel[..., 0, :], bias = (0, 1, 2), (0, -40, -120)
    else:
        kernel[..., 0, :], bias = (1, 1), (-40, -80)
    network.get_layer("logits").set_weights([kernel, np.array(bias, np.float32)])
    return network


def build(
    folder: Path, patch: tuple[int, ...], *, overlapping: bool = False, spacing: float = 2.0, **settings: Any
) -> Bundle:
    rank = len(patch)
    steps = (ToChannels(channels=1), Resample(spacing=(spacing,) * rank)) if rank == 3 else (ToChannels(channels=1),)
    settings = {"overlapping": overlapping, "spacing": [spacing] * rank, "flips": [], "strides": [], **settings}
    bundle = save_bundle(
        folder,
        threshold_network(rank, patch, 2 if overlapping else 3),
        pipeline=Pipeline(steps=steps),
        labels=LABELS,
        task="segmentation",
        settings=settings,
    )
    export_onnx(bundle)
    return bundle


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("flat"), (16, 16))


@pytest.fixture(scope="module")
def solid(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("solid"), (8, 8, 8), flips=[2])


def nested(*shape: int) -> np.ndarray:
    """A block of 60 with a block of 100 in it."""
    pixels = np.zeros((*shape, 1), np.float32)
    pixels[tuple(slice(length // 4, 3 * length // 4) for length in shape)] = 60
    pixels[tuple(slice(3 * length // 8, length // 2) for length in shape)] = 100
    return pixels


def truth(pixels: np.ndarray) -> np.ndarray:
    return np.where(pixels > 80, 2, np.where(pixels > 40, 1, 0)).astype(np.uint8)


def test_a_mask_lies_on_the_grid_of_its_image(solid: Bundle) -> None:
    pixels = nested(16, 24, 32)
    # Oblique, flipped and anisotropic; at 2 mm the grid of the network is another one.
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0.6, -0.8], [0, 0.8, 0.6], [-1, 0, 0]]) @ np.diag([4.0, 1, 1])
    affine[:3, 3] = (11, -7, 3)
    (found,) = Segmenter(solid).predict(Image(pixels, (4.0, 1.0, 1.0), affine))
    np.testing.assert_array_equal(found.mask.affine, affine)
    assert found.mask.shape == (16, 24, 32)
    wrong = (np.asarray(found.mask.pixels) != truth(pixels)).mean()
    assert wrong < 0.05, wrong
    assert found.unit == "ml"
    assert found.sizes["lesion"].value == pytest.approx(found.pixels["lesion"] * 4 / 1000)


def test_a_mask_is_exact_where_the_grid_is_that_of_the_network(solid: Bundle, flat: Bundle) -> None:
    for bundle, shape in ((solid, (16, 24, 32)), (flat, (40, 56))):
        pixels = nested(*shape)
        (found,) = Segmenter(bundle).predict(Image(pixels, (2.0,) * len(shape), None))
        np.testing.assert_array_equal(np.asarray(found.mask.pixels), truth(pixels))


def test_labels_that_overlap_have_channels_of_their_own(tmp_path: Path) -> None:
    segmenter = Segmenter(build(tmp_path / "b", (16, 16), overlapping=True))
    pixels = nested(40, 56)
    (found,) = segmenter.predict(Image(pixels))
    np.testing.assert_array_equal(np.asarray(found.mask.pixels), np.concatenate([pixels > 40, pixels > 80], -1))
    assert found.unit == "pixels"
    assert [ending for ending, _ in found.files()] == ["_1-organ", "_2-lesion"]


def test_small_components_go_only_where_the_bundle_says_so(flat: Bundle) -> None:
    pixels = nested(40, 56)
    pixels[0, 0] = 60
    for labels, corner in (([], 1), (["organ"], 0), (["lesion"], 1)):
        bundle = dataclasses.replace(flat, settings={**flat.settings, "largest_component": labels})
        (found,) = Segmenter(bundle).predict(Image(pixels))
        mask = np.asarray(found.mask.pixels)
        assert mask[0, 0, 0] == corner
        np.testing.assert_array_equal(mask[1:], truth(pixels)[1:])


def test_mirrored_views_need_a_network_that_was_trained_so(flat: Bundle, solid: Bundle) -> None:
    with pytest.raises(UsageError, match="without mirrored"):
        Segmenter(flat, mirror=True)
    pixels = nested(16, 24, 32)
    plain, mirrored = (Segmenter(solid, mirror=each).predict(Image(pixels, (2.0,) * 3))[0] for each in (False, True))
    np.testing.assert_array_equal(np.asarray(plain.mask.pixels), np.asarray(mirrored.mask.pixels))


def test_a_threshold_is_for_labels_that_overlap(flat: Bundle) -> None:
    with pytest.raises(UsageError, match="most probable"):
        open_predictor(flat, threshold=0.3)


def test_probabilities_are_kept_on_request(flat: Bundle) -> None:
    pixels = nested(40, 56)
    (found,) = Segmenter(flat, probabilities=True).predict(Image(pixels))
    assert found.probabilities is not None
    expected = softmax(np.concatenate([0 * pixels, pixels - 40, 2 * pixels - 120], -1))[..., 1:]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)


def test_volumes_and_dice_have_intervals_where_validation_images_are_known(flat: Bundle) -> None:
    generator = np.random.default_rng(0)
    expected = generator.uniform(0.6, 0.95, 80)
    kept = MaskUncertainty(
        label=np.arange(80) % 2,
        expected=expected,
        dice=np.clip(expected - 0.05, 0, 1),
        size_true=np.full(80, 110.0),
        size_predicted=np.full(80, 100.0),
        unit="mm²",
    )
    bundle = flat.with_uncertainty(kept, threshold=flat.threshold)
    pixels = nested(40, 56)
    (found,) = Segmenter(bundle).predict(Image(pixels, (1.0, 1.0)))
    size = found.sizes["organ"]
    assert size.low < size.value < size.high
    dice = found.dice["organ"]
    assert dice is not None
    assert dice.low <= dice.value <= dice.high <= 1
    # Of pixels nothing is known: the validation images had a spacing.
    (other,) = Segmenter(bundle).predict(Image(pixels))
    assert np.isnan(other.sizes["organ"].low)
    row = found.rows()[0]
    assert list(row) == Segmenter(bundle).columns


def test_too_few_validation_images_give_sizes_no_end_of_an_interval(flat: Bundle) -> None:
    """A lower end of 0 beside none above would read as half of an interval."""
    size = np.array([100.0, 200.0])
    few = MaskUncertainty(np.array([0, 1]), np.array([0.9, 0.8]), np.array([0.9, 0.8]), size, size, "pixels")
    segmenter = Segmenter(flat.with_uncertainty(few, threshold=flat.threshold))
    (found,) = segmenter.predict(Image(nested(40, 56)))
    assert all(row["size_low"] is None and row["size_high"] is None for row in found.rows())
    assert all(row["size"] > 0 for row in found.rows())
    assert "in fewer than 3 patients" in (segmenter.summary(1, 2) or "")


def test_predict_writes_masks_that_read_back_as_they_were(
    solid: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    affine = np.array([[0, 0, -2.0, 5], [0, 2.0, 0, 6], [2.0, 0, 0, 7], [0, 0, 0, 1]])
    pixels = nested(16, 24, 32)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_image(Image(pixels, (2.0,) * 3, affine), tmp_path / "in" / f"{name}.nii.gz")
    status = hounsfield(
        monkeypatch, "predict", solid.folder, tmp_path / "in", "-o", tmp_path / "out", "--probabilities"
    )
    assert status == 0, capsys.readouterr().err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        *("a.nii.gz", "a_p1-organ.nii.gz", "a_p2-lesion.nii.gz", "a_uncertainty.nii.gz"),
        *("b.nii.gz", "b_p1-organ.nii.gz", "b_p2-lesion.nii.gz", "b_uncertainty.nii.gz", "predictions.csv"),
    ]
    written = read_image(tmp_path / "out" / "a.nii.gz")
    original = read_image(tmp_path / "in" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.pixels), truth(np.asarray(original.pixels)))
    np.testing.assert_allclose(written.affine, original.affine)
    doubt = np.asarray(read_image(tmp_path / "out" / "a_uncertainty.nii.gz").pixels)
    odds = np.array([[0, 60 - 40, 120 - 120], [0, 100 - 40, 200 - 120]], float)
    shares = softmax(odds)
    expected = -(shares * np.log(np.maximum(shares, 1e-7))).sum(-1) / np.log(3)
    values = np.asarray(original.pixels)
    assert doubt[values == 60].max() == pytest.approx(expected[0], abs=1e-3)
    assert doubt[values == 100].max() == pytest.approx(expected[1], abs=1e-3)
    assert nibabel.load(tmp_path / "out" / "a.nii.gz").get_data_dtype() == np.uint8
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 1 + 2 * 2


def test_predict_prints_one_row_per_label(
    flat: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(Image(nested(40, 56).astype(np.uint8)), tmp_path / "a.png")
    assert (
        hounsfield(monkeypatch, "predict", flat.folder, tmp_path / "a.png", "--json", "--overlay", tmp_path / "o") == 0
    )
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert set(told["labels"]) == set(LABELS)
    assert (tmp_path / "o" / "a.png").is_file()


def test_a_folder_is_for_predictions_that_are_files(
    flat: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(Image(nested(40, 56).astype(np.uint8)), tmp_path / "a.png")
    assert hounsfield(monkeypatch, "predict", flat.folder, tmp_path / "a.png", "--probabilities") == 2
    assert "-o DIR" in " ".join(capsys.readouterr().err.split())


def test_the_recipe_for_tumours_follows_a_lesion_between_visits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_phantom("ct-organs", Path("organs"), num_patients=3)
    generator = np.random.default_rng(0)
    true, shares = generator.uniform(20, 200, 40), generator.uniform(0.8, 0.95, 40)
    kept = MaskUncertainty(np.arange(40) % 2, shares, shares, true, true * generator.normal(1, 0.05, 40), "ml")
    bundle = build(Path("runs/organs/bundle"), (44, 64, 64), spacing=5.0)
    bundle.with_uncertainty(kept, threshold=bundle.threshold)
    page = (Path(__file__).parent.parent / "docs" / "recipes" / "tumours.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^hounsfield (predict runs/organs .*)$", page, flags=re.MULTILINE)
    assert hounsfield(monkeypatch, *command.split()) == 0, capsys.readouterr().err
    assert len([*Path("pictures").iterdir()]) == 6
    capsys.readouterr()
    (change,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    exec(change, {})  # noqa: S102 - our own page
    told = capsys.readouterr().out.splitlines()
    visits = pd.read_csv("organs/cohort.csv").sort_values(["patient", "visit"])["image"]
    voxels = [int((np.asarray(read_image(f"masks/{Path(name).name}.nii.gz").pixels) == 2).sum()) for name in visits]
    sizes = np.array(voxels).reshape(3, 2) * 0.125  # ml: voxels of 5 mm
    for number, (line, (before, after)) in enumerate(zip(told, sizes, strict=True)):
        patient, *numbers = re.fullmatch(r"(\S+): (\S+) to (\S+) ml, (\S+) \((\S+) to (\S+)\)", line).groups()
        assert patient == f"PHANTOM-0-{number:04}"
        first, second, value, low, high = map(float, numbers)
        assert (first, second, value) == pytest.approx((before, after, after - before), abs=0.11)
        assert low < value < high
