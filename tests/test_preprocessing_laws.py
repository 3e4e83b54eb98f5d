"""What every step of the registry must hold, whatever it does."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image, Metadata
from hounsfield.preprocessing import STEPS, AnyStep, Pipeline, Step

# Arguments that a step cannot do without, and others that make it work hard; one entry a variant.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "clahe": [{}, {"clip_limit": 4.0, "tiles": 3}],
    "gamma": [{"gamma": 0.5}, {"gamma": 2.0}],
    "denoise": [{"method": method} for method in ("median", "gaussian", "bilateral", "non_local_means")],
    "bias_field": [{"iterations": [5]}],
    "window": [{}, {"center": 100.0, "width": 50.0}, {"preset": "lung"}],
    "min_max": [{}],
    "percentile": [{}, {"low": 5.0, "high": 90.0, "foreground": True}],
    "z_score": [{}, {"foreground": True}],
    "dataset_z_score": [{"mean": [3.0], "std": [2.0]}],
    "histogram_standard": [{"landmarks": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}],
    "crop_center": [{"size": 9}],
    "crop_foreground": [{}, {"threshold": 1.0, "margin": 3}],
    "crop_lungs": [{}, {"margin": 0.0}],
    "crop_box": [{"box": [2, 3, 11, 12]}],
    "pad": [{"size": 40}, {"size": 40, "fill": "edge"}, {"size": 40, "fill": -1.5}],
    "crop_or_pad": [{"size": 21}],
    "reorient": [{}, {"orientation": "RAI"}],
    "resize": [{"size": 16}, {"size": 40, "interpolation": "cubic"}, {"size": 16, "letterbox": True}],
    "zoom": [{"factor": 0.7}, {"longest": 30}],
    "resample": [
        {"spacing": 1.0},
        {"spacing": 3.0},
        {"spacing": 1.1, "interpolation": "nearest"},
        {"spacing": 3.0, "tolerance": 0.1},
    ],
    "to_channels": [{"channels": 1}, {"channels": 3}],
}
CASES = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]
RANKED_CASES = [(name, variant, rank) for name, variant in CASES for rank in STEPS[name].ranks]


def make_image(rank: int, dtype: type = np.float32, *, channels: int = 1, seed: int = 0) -> Image:
    shape = (18, 20, 24)[3 - rank :]
    places = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    blob = np.exp(-3 * sum(place**2 for place in places))[..., np.newaxis]
    noise = np.random.default_rng(seed).normal(0, 4, (*shape, channels))
    affine = np.array([[0, 0, 0.8, -50.0], [0, 0.9, 0, 20.0], [1.5, 0, 0, 7.0], [0, 0, 0, 1]])
    return Image(
        pixels=np.clip(200 * blob + noise, 0, 255).astype(dtype),
        spacing=(1.5, 0.9, 0.8)[3 - rank :],
        affine=affine,
        metadata=Metadata(patient="p1", windows=((100.0, 80.0),), bits=8),
    )


def make_step(name: str, variant: dict[str, Any], rank: int = 2) -> Step:
    values = dict(variant)
    if name == "crop_box" and rank == 3:
        values["box"] = [1, 2, 3, 10, 11, 12]
    return STEPS[name].from_dict({"name": name, **values})


def test_registry_and_union_hold_the_same_steps() -> None:
    assert set(get_args(get_args(AnyStep)[0])) == set(STEPS.values())
    assert {name: step.model_fields["name"].default for name, step in STEPS.items()} == {name: name for name in STEPS}
    assert set(VARIANTS) == set(STEPS)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_step_survives_its_own_description(name: str, variant: dict[str, Any]) -> None:
    step = make_step(name, variant)
    again = STEPS[name].from_dict(json.loads(json.dumps(step.to_dict())))
    assert again == step
    assert Pipeline.from_dict({"steps": [step.to_dict()]}).steps == (step,)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_step_is_frozen_and_refuses_unknown_fields(name: str, variant: dict[str, Any]) -> None:
    step = make_step(name, variant)
    for field in type(step).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(step, field, getattr(step, field))
    with pytest.raises(ValidationError, match="Extra inputs"):
        STEPS[name].from_dict({**step.to_dict(), "colour": "red"})


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "variant", "rank"), RANKED_CASES)
def test_step_keeps_rank_and_input_and_is_deterministic(
    name: str, variant: dict[str, Any], dtype: type, rank: int
) -> None:
    image = make_image(rank, dtype)
    before = image.pixels.copy()
    step = make_step(name, variant, rank)
    first, second = step.apply(image), step.apply(image)
    np.testing.assert_array_equal(image.pixels, before)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.rank == rank
    assert first.spacing is not None
    assert len(first.spacing) == rank
    assert first.metadata.patient == "p1"
    assert first.pixels.dtype in (dtype, np.float32)
    assert np.isfinite(first.pixels).all()


# The learned numbers of dataset_z_score are for one channel.
@pytest.mark.parametrize(
    ("name", "variant"), [case for case in CASES if 2 in STEPS[case[0]].ranks and case[0] != "dataset_z_score"]
)
def test_step_takes_colour(name: str, variant: dict[str, Any]) -> None:
    result = make_step(name, variant).apply(make_image(2, np.uint8, channels=3))
    assert result.channels == (variant["channels"] if name == "to_channels" else 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("name", "variant", "rank"), RANKED_CASES)
def test_step_is_defined_on_a_constant_image(name: str, variant: dict[str, Any], dtype: type, rank: int) -> None:
    image = make_image(rank, dtype)
    result = make_step(name, variant, rank).apply(image.replace(pixels=np.full_like(image.pixels, 7)))
    assert np.isfinite(result.pixels).all()
    if not (name == "pad" and variant.get("fill") == -1.5):
        np.testing.assert_allclose(result.pixels, result.pixels.flat[0], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STEPS)
def test_step_names_nan_and_infinity(name: str, value: float) -> None:
    rank = STEPS[name].ranks[0]
    image = make_image(rank)
    pixels = image.pixels.copy()
    pixels.flat[5] = value
    with pytest.raises(PreprocessingError, match=rf"'{name}' got an image with 1 NaN or infinite values"):
        make_step(name, VARIANTS[name][0], rank).apply(image.replace(pixels=pixels))


# A box outside the image is an error, and has a test of its own.
@pytest.mark.parametrize(("name", "variant", "rank"), [case for case in RANKED_CASES if case[0] != "crop_box"])
def test_step_works_on_tiny_images(name: str, variant: dict[str, Any], rank: int) -> None:
    image = make_image(rank)
    tiny = image.replace(pixels=image.pixels[(slice(0, 2),) * rank])
    assert make_step(name, variant, rank).apply(tiny).rank == rank


@pytest.mark.parametrize("name", ["clahe", "gamma", "window", "percentile", "z_score", "histogram_standard"])
def test_windows_of_the_source_go_with_its_units(name: str) -> None:
    result = make_step(name, VARIANTS[name][0]).apply(make_image(2))
    assert result.metadata.windows == ()
    assert result.metadata.bits is None


@pytest.mark.parametrize("name", ["crop_center", "resize", "denoise", "pad"])
def test_windows_of_the_source_stay_where_units_do(name: str) -> None:
    result = make_step(name, VARIANTS[name][0]).apply(make_image(2))
    assert result.metadata.windows == ((100.0, 80.0),)


def test_unfitted_step_says_so() -> None:
    with pytest.raises(PreprocessingError, match=r"was never fitted. Call Pipeline.fit"):
        STEPS["dataset_z_score"].from_dict({}).apply(make_image(2))


def test_rank_that_a_step_does_not_offer_is_refused() -> None:
    with pytest.raises(PreprocessingError, match="works on images of rank 3, but this image has rank 2"):
        STEPS["reorient"].from_dict({}).apply(make_image(2))
