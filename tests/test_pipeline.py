"""The pipeline as a value: order, fitting, files, digest, schema."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hounsfield.errors import PreprocessingError, UsageError
from hounsfield.images.image import Image
from hounsfield.preprocessing import (
    STEPS,
    Clahe,
    CropBox,
    CropCenter,
    DatasetZScore,
    Denoise,
    Gamma,
    HistogramStandard,
    MinMax,
    Percentile,
    Pipeline,
    Reorient,
    Resize,
    Step,
    ToChannels,
    Window,
)
from hounsfield.preprocessing.arguments import pipeline_from_file, step_from_option, steps_table


def images(count: int = 4) -> list[Image]:
    rng = np.random.default_rng(0)
    return [Image(rng.normal(100 + 50 * i, 20, (20, 30, 1)).astype(np.float32)) for i in range(count)]


def test_steps_are_applied_in_order_and_end_in_contiguous_float32() -> None:
    image = Image(np.arange(16, dtype=np.uint8).reshape(4, 4, 1))
    cropped_first = Pipeline(steps=(CropCenter(size=2), MinMax())).apply(image).pixels
    scaled_first = Pipeline(steps=(MinMax(), CropCenter(size=2))).apply(image).pixels
    np.testing.assert_allclose(cropped_first.ravel(), [0, 0.2, 0.8, 1])
    np.testing.assert_allclose(scaled_first.ravel(), np.array([5, 6, 9, 10]) / 15)
    for pixels in (cropped_first, scaled_first, Pipeline().apply(image).pixels):
        assert pixels.dtype == np.float32
        assert pixels.flags.c_contiguous


def test_each_learning_step_is_fitted_on_what_comes_before_it() -> None:
    calls = []

    def factory() -> Iterator[Image]:
        calls.append(1)
        yield from images()

    fitted = Pipeline(steps=(MinMax(), DatasetZScore(), Resize(size=8), DatasetZScore())).fit(factory)
    assert len(calls) == 2
    assert not fitted.needs_fit
    together = np.stack([MinMax().apply(image).pixels for image in images()]).astype(np.float64)
    first, last = fitted.steps[1], fitted.steps[3]
    np.testing.assert_allclose(first.mean, together.mean(), rtol=1e-6)
    np.testing.assert_allclose(first.std, together.std(), rtol=1e-5)
    assert abs(last.mean[0]) < 0.05
    assert last.std[0] < 0.7  # averaging over areas shrinks the spread of noise


def test_fitting_leaves_the_original_and_fitted_steps_alone() -> None:
    unfitted = Pipeline(steps=(HistogramStandard(),))
    fitted = unfitted.fit(images)
    assert unfitted.needs_fit
    assert fitted.fit(lambda: pytest.fail("a fitted pipeline reads nothing")) == fitted
    with pytest.raises(PreprocessingError, match="'histogram_standard' learns from training images"):
        unfitted.apply(images()[0])


def test_fitting_leaves_out_what_steps_refuse() -> None:
    holes = images()[0].pixels.copy()
    holes[2, 3] = np.nan
    turned = Image(np.zeros((4, 20, 30, 1)), affine=np.eye(4))
    for step, good, bad in (
        (MinMax(), images(), Image(holes)),
        (None, images(), Image(holes)),
        (Reorient(), [turned], Image(turned.pixels)),
    ):
        pipeline = Pipeline(steps=(*([step] if step else []), DatasetZScore()))
        expected = pipeline.fit(lambda good=good: good)
        assert pipeline.fit(lambda good=good, bad=bad: [bad, *good, bad]) == expected


def test_fitting_on_nothing_but_refused_images_says_why() -> None:
    holes = Image(np.full((4, 4, 1), np.nan))
    with pytest.raises(PreprocessingError, match=r"all 3 training images are refused .* 'min_max' got .* 16 NaN"):
        Pipeline(steps=(MinMax(), DatasetZScore())).fit(lambda: [holes] * 3)


def test_pipeline_survives_json_and_applies_alike(tmp_path: Path) -> None:
    pipeline = Pipeline(
        steps=(
            Clahe(clip_limit=3),
            Denoise(method="gaussian"),
            Window(center=150, width=300.5),
            CropBox(box=(0, 1, 9, 9)),
            HistogramStandard(),
            DatasetZScore(),
            Resize(size=(9, 7), letterbox=True, fill=0.0),
            ToChannels(channels=3),
        )
    ).fit(images)
    pipeline.to_json(tmp_path / "pipeline.json")
    again = Pipeline.from_json(tmp_path / "pipeline.json")
    assert again == pipeline
    assert again.digest() == pipeline.digest()
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline.json"]
    np.testing.assert_array_equal(again.apply(images()[1]).pixels, pipeline.apply(images()[1]).pixels)


def test_digest_tells_pipelines_apart_and_is_stable() -> None:
    pipelines = [
        Pipeline(),
        Pipeline(steps=(MinMax(),)),
        Pipeline(steps=(Resize(size=8), MinMax())),
        Pipeline(steps=(MinMax(), Resize(size=8))),
        Pipeline(steps=(MinMax(), Resize(size=9))),
        Pipeline(steps=(DatasetZScore(),)),
        Pipeline(steps=(DatasetZScore(mean=(1.0,), std=(1.0,)),)),
    ]
    assert len({pipeline.digest() for pipeline in pipelines}) == len(pipelines)
    # Stores and bundles on disk are known by this value: a change here makes every user prepare images again.
    assert pipelines[0].digest() == "4430e7786edc0f8419f02e909c15422ebf572287a58132d8f6f33250ce053121"


def test_pipeline_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Pipeline().steps = (MinMax(),)  # type: ignore[misc]  # the very thing that must fail


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": [{"name": "gama"}]}, r"steps.0: Input tag 'gama' found .* does not match any of the expected tags"),
        ({"steps": [{"name": "gamma"}]}, r"steps.0.gamma.gamma: Field required"),
        ({"steps": [{"name": "gamma", "gamma": -1}]}, r"greater than 0 \(got -1\)"),
        ({"steps": [{"name": "percentile", "low": 60, "high": 40}]}, "'low' must be below 'high'"),
        ({"steps": [{"name": "z_score", "color": 1}]}, "Extra inputs"),
        ({"stages": []}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_said(values: dict[str, object], message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        Pipeline.from_dict(values)


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2]", "\x00\x01"])
def test_a_file_without_a_pipeline_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "pipeline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PreprocessingError):
        Pipeline.from_json(path)


def test_schema_lists_every_step_and_its_limits() -> None:
    schema = Pipeline.json_schema()
    json.dumps(schema)
    names = {part["properties"]["name"]["const"] for part in schema["$defs"].values() if "name" in part["properties"]}
    assert names == set(STEPS)
    assert schema["$defs"]["Gamma"]["properties"]["gamma"]["exclusiveMinimum"] == 0
    assert schema["$defs"]["Window"]["properties"]["preset"]["anyOf"][0]["enum"]


def test_usual_pipeline_makes_no_double_precision_copy() -> None:
    pixels = np.random.default_rng(0).normal(1000, 200, (1024, 1024, 1)).astype(np.float32)
    pipeline = Pipeline(steps=(Percentile(), Resize(size=224), ToChannels(channels=3)))
    tracemalloc.start()
    try:
        pipeline.apply(Image(pixels))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * pixels.nbytes


# ------------------------------------------------------------------------------------------- as people write them


@pytest.mark.parametrize(
    ("option", "step"),
    [
        ("--clahe", Clahe()),
        ("--clahe=3,4", Clahe(clip_limit=3, tiles=4)),
        ("--clahe=tiles=4", Clahe(tiles=4)),
        ("--gamma=0.8", Gamma(gamma=0.8)),
        ("--resize=256", Resize(size=256)),
        ("--resize=256x128,letterbox=true", Resize(size=(256, 128), letterbox=True)),
        ("--resize=64,interpolation=cubic", Resize(size=64, interpolation="cubic")),
        ("--window", Window()),
        ("--window=40,400", Window(center=40, width=400)),
        ("--window=lung", Window(preset="lung")),
        ("--window=soft_tissue", Window(preset="soft tissue")),
        ("--crop-box=1,2,30,40", CropBox(box=(1, 2, 30, 40))),
        ("--crop_box=1x2x30x40", CropBox(box=(1, 2, 30, 40))),
        ("--denoise=non_local_means,2.5", Denoise(method="non_local_means", strength=2.5)),
        ("--percentile=1,99,foreground=true", Percentile(low=1, high=99, foreground=True)),
    ],
)
def test_option_becomes_a_step(option: str, step: Step) -> None:
    assert step_from_option(option) == step


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--gama=2", r"no step '--gama'. Did you mean '--gamma'\?"),
        ("--qqq", r"no step '--qqq'. The steps are: clahe"),
        ("--gamma", "gamma: Field required"),
        ("--gamma=high", "unable to parse"),
        ("--min-max=1", r"the step 'min_max' takes at most 0 values \(none\), got 1"),
        ("--clahe=colour=2", "colour: Extra inputs"),
        ("--window=lungs", "the window presets are lung"),
        ("--window=3,4,5,6,7", "at most"),
    ],
)
def test_option_that_does_not_fit_is_wrong_usage(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        step_from_option(option)


def test_steps_file_in_yaml_and_in_json(tmp_path: Path) -> None:
    expected = Pipeline(steps=(Clahe(), Gamma(gamma=0.8), Resize(size=(64, 32))))
    written = tmp_path / "steps.yaml"
    written.write_text("- clahe\n- {name: gamma, gamma: 0.8}\n- name: resize\n  size: [64, 32]\n")
    assert pipeline_from_file(written) == expected
    expected.to_json(tmp_path / "pipeline.json")
    assert pipeline_from_file(tmp_path / "pipeline.json") == expected


@pytest.mark.parametrize("content", [None, "clahe", "{steps: 3}", "- [", "- 3", "- name: gama", "\xff"])
def test_steps_file_that_describes_none_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "steps.yaml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(PreprocessingError):
        pipeline_from_file(path)


def test_table_of_steps_has_every_step_with_its_fields() -> None:
    rows = {option: (fields, summary) for option, fields, summary in steps_table()}
    assert set(rows) == {f"--{name.replace('_', '-')}" for name in STEPS}
    assert rows["--clahe"][0] == "clip_limit=2.0, tiles=8"
    assert rows["--gamma"][0] == "gamma"
    assert all(summary.endswith((".", "darkens.", ":")) for _, summary in rows.values())
