"""Networks: the size that their papers give, and requests that are refused. No backend changes these."""

from __future__ import annotations

import pytest

from hounsfield.errors import UsageError
from hounsfield.models import build
from hounsfield.planning.speed import multiply_adds


@pytest.mark.parametrize(("task", "units"), [("binary", 1), ("multi-class", 4), ("multi-label", 4)])
def test_the_head_fits_the_task(task, units: int) -> None:
    labels = 2 if task == "binary" else 4
    network = build("resnet10", (16, 16, 1), labels, task, width=4)
    assert network.output_shape == (None, units)
    assert network.get_layer("features").output.shape == (None, 32)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_174_000), (34, 21_283_000), (50, 23_507_000)])
def test_depths_have_the_papers_size(depth: int, parameters: int) -> None:
    """He et al., table 1, by the sum of convolution, normalisation and dense weights at width 64."""
    network = build(f"resnet{depth}", (32, 32, 3), 2, "binary")
    assert network.count_params() == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize(("size", "positions"), [(28, 4), (64, 4), (224, 7), (512, 16)])
def test_the_stem_suits_the_input_size(size: int, positions: int) -> None:
    network = build("resnet10", (size, size, 1), 2, "binary", width=4)
    assert network.layers[-3].output.shape[1:3] == (positions, positions)


def test_pretrained_weights_that_cannot_be_had_are_an_error_in_one_sentence(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org: None -- unreachable")  # noqa: TRY002 - as Keras does

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    with pytest.raises(UsageError, match=r"could not be downloaded.*weights: null"):
        build("mobilenetv2", (96, 96, 1), 2, "binary", weights="imagenet")


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet99", (16, 16, 1), {}, "No network is called 'resnet99'"),
        ("resnet10", (16, 16, 1), {"weights": "imagenet"}, "does not take these options"),
        ("resnet10", (16, 16, 1), {"pooling": "sum"}, "must be 'mean' or 'stages'"),
        ("vgg16", (8, 8, 8, 1), {}, "take 2D images"),
        ("vgg16", (8, 8, 1), {}, "cannot be built"),
    ],
)
def test_wrong_requests_are_told_apart(name: str, shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(name, shape, 2, "binary", **options)


def test_multiply_adds_of_the_paper() -> None:
    """He et al. (2015), table 1: 1.8·10⁹ for ResNet-18 at 224×224; shortcuts are projections as in option B."""
    network = build("resnet18", (224, 224, 3), 1000, "multi-class")
    assert multiply_adds(network) == pytest.approx(1.8e9, rel=0.02)
