"""Maps of evidence without gradients: counted right, back in the file's pixels, and drawn by the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hounsfield.cli import main as cli
from hounsfield.errors import ImageError, UsageError
from hounsfield.explanation import (
    Explainer,
    deletion_curve,
    insertion_curve,
    open_method,
    place,
    points_into,
)
from hounsfield.explanation.occlusion import lost_by_hiding, windows, without_detail
from hounsfield.explanation.receptive_field import moved
from hounsfield.images import Image
from hounsfield.inference import BadImage, open_engine
from hounsfield.preprocessing import CropCenter, Pipeline, Resize
from hounsfield.preprocessing.grid_change import apply_and_trace
from hounsfield.preprocessing.orientation import Reorient
from networks import tiny_bundle


def test_a_moved_map_keeps_its_sum_and_moves_its_middle() -> None:
    grid = np.zeros((9, 7), np.float32)
    grid[4, 3] = 2
    found = moved(grid, np.array([0.375, -1.25]))
    assert found.sum() == pytest.approx(2)
    assert [found.sum(axis=1) @ np.arange(9) / 2, found.sum(axis=0) @ np.arange(7) / 2] == pytest.approx([4.375, 1.75])
    noise = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    assert moved(noise, np.array([0.5, -0.5])).sum() == pytest.approx(noise.sum(), abs=1e-5)


def test_bad_images_and_unknown_words_are_named(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "multi-class")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    explainer = Explainer(bundle, engine="keras")
    good, bad = explainer.stream([Image(np.eye(12, dtype=np.float32)[..., None]), tmp_path / "broken.png"])
    assert isinstance(bad, BadImage)
    assert good.label == max(good.prediction.probabilities, key=lambda label: good.prediction.probabilities[label])
    with pytest.raises(ImageError, match=r"broken\.png"):
        explainer.explain(tmp_path / "broken.png")
    with pytest.raises(UsageError, match=r"no label 'z'.*a, b, c"):
        Explainer(bundle, label="z")
    with pytest.raises(UsageError, match="No method is called 'guess'"):
        Explainer(bundle, "guess")


def test_occlusion_runs_on_every_engine_alike(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    (image,) = np.random.default_rng(0).normal(size=(1, 12, 10, 1)).astype(np.float32)
    found = [
        open_method("occlusion", bundle.network, open_engine(bundle, engine)).evidence(image, np.ones(1, np.float32))
        for engine in ("openvino", "keras")
    ]
    np.testing.assert_allclose(*found, atol=1e-3)


def test_hiding_a_linear_score_is_counted_right() -> None:
    """Against a plain loop over windows of a score whose every fall is known."""
    generator = np.random.default_rng(0)
    whole, hidden, weight = (generator.normal(size=(20, 11, 2)).astype(np.float32) for _ in range(3))
    found = lost_by_hiding(lambda batch: (batch * weight).sum(axis=(1, 2, 3)), whole, hidden, span=3)
    worth = ((whole - hidden) * weight).sum(axis=-1)
    total, count = np.zeros((20, 11)), np.zeros((20, 11))
    for window in windows((20, 11), 3):
        total[window] += worth[window].sum()
        count[window] += 1
    assert set(np.unique(count)) == {9.0}
    np.testing.assert_allclose(found, total / count, rtol=1e-3, atol=1e-3)


PLACES = {
    "resize": (Resize(size=(32, 48)),),
    "letterbox": (Resize(size=(40, 40), letterbox=True),),
    "crop and resize": (CropCenter(size=(50, 30)), Resize(size=(64, 32))),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_map_comes_back_to_the_pixels_that_it_was_made_of(name: str) -> None:
    """A blob that is prepared, taken for a map and placed, lies where it lay."""
    rows, columns = np.indices((60, 40))
    blob = np.exp(-((rows - 38) ** 2 + (columns - 13) ** 2) / 30.0)
    prepared, change = apply_and_trace(Pipeline(steps=PLACES[name]), Image(blob[..., None].astype(np.float32)))
    heat = place(prepared.pixels[..., 0], prepared.shape, (60, 40), change.matrix)
    centre = [(heat * axis).sum() / heat.sum() for axis in (rows, columns)]
    np.testing.assert_allclose(centre, (38, 13), atol=0.3)
    ones = place(np.ones((4, 5), np.float32), prepared.shape, (60, 40), change.matrix)
    seen = np.zeros((60, 40), bool)
    seen[(slice(5, 55), slice(5, 35)) if name.startswith("crop") else slice(None)] = True
    np.testing.assert_allclose(ones, seen, atol=1e-6)


def test_a_map_of_a_turned_volume_comes_back() -> None:
    affine = np.array([[0.0, 2, 0, 5], [0, 0, 3, -7], [-4, 0, 0, 9], [0, 0, 0, 1]])
    indices = np.indices((12, 20, 28))
    blob = np.exp(-sum((axis - at) ** 2 for axis, at in zip(indices, (5, 12, 9), strict=True)) / 12.0)
    image = Image(blob[..., None].astype(np.float32), affine=affine, spacing=(4.0, 2.0, 3.0))
    prepared, change = apply_and_trace(Pipeline(steps=(Reorient(), Resize(size=(24, 24, 24)))), image)
    heat = place(prepared.pixels[..., 0], prepared.shape, image.shape, change.matrix)
    np.testing.assert_allclose([(heat * axis).sum() / heat.sum() for axis in indices], (5, 12, 9), atol=0.3)


def test_a_coarse_cell_lies_over_its_part_of_the_image() -> None:
    grid = np.zeros((4, 4), np.float32)
    grid[1, 2] = 1
    heat = place(grid, (64, 64), (128, 128))
    assert np.unravel_index(heat.argmax(), heat.shape)[0] in range(45, 51)
    rows, columns = np.indices(heat.shape)
    np.testing.assert_allclose([(heat * axis).sum() / heat.sum() for axis in (rows, columns)], (47.5, 79.5), atol=2.5)


def test_the_pointing_game_counts_ties_by_their_share() -> None:
    heat = np.zeros((6, 8))
    heat[2, 3] = 1
    assert points_into(heat, np.array([2, 3, 3, 4])) == 1
    assert points_into(heat, np.array([0, 0, 2, 8])) == 0
    assert points_into(np.zeros((6, 8)), np.array([0, 0, 3, 4])) == 0.25


def test_a_right_map_is_deleted_sooner_and_inserted_sooner() -> None:
    """The probability is the share of one small patch's detail that can still be seen."""
    image = np.random.default_rng(0).normal(size=(20, 20, 1)).astype(np.float32)
    blurred = without_detail(image)
    patch = np.zeros((20, 20), np.float32)
    patch[5:9, 10:14] = 1

    def probability(batch: np.ndarray) -> np.ndarray:
        seen = np.abs(batch - blurred)[..., 0] > 1e-6
        return (seen * patch).sum(axis=(1, 2)) / patch.sum()

    deleted = deletion_curve(probability, image, patch)
    shown = insertion_curve(probability, image, patch)
    assert (deleted.probability[0], deleted.probability[-1]) == (1, 0)
    assert (shown.probability[0], shown.probability[-1]) == (0, 1)
    # The patch is 4 % of the pixels, and the curves have a point at each 5 %: one trapezoid of half that width.
    assert deleted.area == pytest.approx(0.025)
    assert shown.area == pytest.approx(0.975)
    assert deletion_curve(probability, image, -patch).area > 0.95


def explain(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", "explain", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def test_the_command_draws_every_image_and_names_the_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    images = tmp_path / "images"
    for folder in (images / "one", images / "two"):
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "scan.png"), np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8))
    (images / "broken.png").write_bytes(b"no picture")
    np.save(tmp_path / "stack.npy", np.random.default_rng(1).integers(0, 256, (2, 40, 30), np.uint8))
    out = tmp_path / "out"
    options = ("-o", out, "--engine", "keras", "--maps", "npy", "--json")
    assert explain(monkeypatch, bundle.folder, images, tmp_path / "stack.npy", *options) == 1
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert [Path(row["picture"]).name for row in said["explanations"]] == [
        "scan.png",
        "scan-2.png",
        "stack-0.png",
        "stack-1.png",
    ]
    assert "1 of 5 images could not be used" in printed.err
    assert all(Path(row["picture"]).stat().st_size > 10_000 for row in said["explanations"])
    heat = np.load(out / "scan.npy")[..., 0]
    assert heat.shape == (40, 30)
    assert said["explanations"][0]["peak"] == "×".join(map(str, np.unravel_index(heat.argmax(), heat.shape)))


def test_the_command_refuses_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    assert explain(monkeypatch, bundle.folder, tmp_path, "-o", tmp_path / "out", "--method", "guess") == 2
    assert "Known are: auto, activation" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert explain(monkeypatch, bundle.folder, "", "-o", tmp_path / "out", "--engine", "keras") == 2
    assert "has an empty name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert explain(monkeypatch, tmp_path / "nowhere", tmp_path, "-o", tmp_path / "out") == 1
