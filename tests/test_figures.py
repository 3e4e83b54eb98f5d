"""Figures say what their data say, and are written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hounsfield.evaluation import as_outcomes, confusion_matrix, evaluate
from hounsfield.reports import (
    confusion_figure,
    learning_curves,
    montage,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    score_histogram,
)


def answers(task: str, num_labels: int = 3):
    rng = np.random.default_rng(0)
    labels = tuple("abcdefgh"[:num_labels])
    if task == "multi-class":
        truth = rng.integers(0, num_labels, 90)
        return as_outcomes(truth, rng.dirichlet(np.ones(num_labels), 90), labels=labels, task=task)
    if task == "binary":
        truth = rng.random(90) < 0.4
        return as_outcomes(truth, np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1), labels=("n", "p"), task=task)
    truth = rng.random((90, num_labels)) < 0.4
    return as_outcomes(truth, np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1), labels=labels, task=task)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_the_roc_curve_is_drawn_from_corner_to_corner_with_its_area() -> None:
    case = answers("binary")
    found = evaluate(case.truth, case.scores, labels=case.labels, task="binary", num_replicates=100)
    figure = roc_figure(case, found)
    chance, curve, point = figure.axes[0].lines
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert curve.get_xydata()[0].tolist() == [0, 0]
    assert curve.get_xydata()[-1].tolist() == [1, 1]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(found["auc"].value, abs=1e-9)
    assert point.get_xydata()[0] == pytest.approx([1 - found["specificity"].value, found["sensitivity"].value])
    assert legend(figure)[0] == f"AUC {found['auc'].value:.3f} ({found['auc'].low:.3f}–{found['auc'].high:.3f})"


@pytest.mark.parametrize("num_labels", [3, 8])
@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_several_labels_have_a_curve_each(task: str, num_labels: int) -> None:
    case = answers(task, num_labels)
    for draw in (roc_figure, precision_recall_figure):
        figure = draw(case)
        assert legend(figure) == list(case.labels)
        styles = {
            (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if line.get_label()[0] != "_"
        }
        assert len(styles) == num_labels


def test_labels_that_cannot_be_ranked_have_no_curve() -> None:
    case = as_outcomes([0, 0, 0], [0.1, 0.2, 0.3], labels=("n", "p"), task="binary")
    assert len(roc_figure(case).axes[0].lines) == 1
    assert len(precision_recall_figure(case).axes[0].lines) == 0
    assert reliability_figure(case).axes
    assert score_histogram(case).axes


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(0)
    case = as_outcomes(rng.random(20_000) < 0.5, rng.random(20_000), labels=("n", "p"), task="binary")
    curve = roc_figure(case).axes[0].lines[1].get_xydata()
    assert len(curve) == 2_000
    assert (curve[0].tolist(), curve[-1].tolist()) == ([0, 0], [1, 1])


def test_the_confusion_matrix_shows_every_count() -> None:
    case = answers("multi-class")
    matrix = confusion_matrix(case)
    axes = confusion_figure(matrix, case.labels).axes[0]
    counts = [int(text.get_text().split("\n")[0]) for text in axes.texts]
    assert counts == matrix.ravel().tolist()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(case.labels)
    assert len(confusion_figure(np.eye(60, dtype=int), [str(k) for k in range(60)]).axes[0].texts) == 0


def test_learning_curves_pair_training_with_validation() -> None:
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "loss": [0.9, 0.5, 0.3], "val_loss": [1.0, 0.6, 0.7], "auc": [0.6, 0.8, 0.9],
         "val_auc": [0.6, 0.7, np.nan], "learning_rate": [1e-3, 5e-4, 1e-4]}
    )  # fmt: skip
    figure = learning_curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "AUC"]
    training, validation, best = figure.axes[0].lines
    assert training.get_ydata().tolist() == [0.9, 0.5, 0.3]
    assert validation.get_ydata().tolist() == [1.0, 0.6, 0.7]
    assert best.get_xydata().tolist() == [[2, 0.6]]
    assert figure.axes[1].lines[2].get_xydata().tolist() == [[2, 0.7]]


def test_learning_curves_without_validation_still_show_the_loss() -> None:
    figure = learning_curves(pd.DataFrame({"loss": [0.9]}))
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 0.9]]


def test_a_montage_takes_grey_colour_volume_and_damaged_images() -> None:
    rng = np.random.default_rng(0)
    images = [rng.random((8, 8)), rng.random((8, 8, 1)), rng.random((8, 8, 3)), rng.random((5, 8, 8, 1)),
              np.full((8, 8), np.nan), np.full((8, 8), 7.0)]  # fmt: skip
    figure = montage(images, list("abcdef"), columns=4)
    assert [axes.get_title() for axes in figure.axes] == list("abcdef")
    drawn = [axes.images[0].get_array() for axes in figure.axes]
    assert [array.shape for array in drawn] == [(8, 8), (8, 8), (8, 8, 3), (8, 8), (8, 8), (8, 8)]
    assert all(0 <= array.min() <= array.max() <= 1 for array in drawn)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_is_written_in_the_format_of_its_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "figures" / f"roc{suffix}"
    save_figure(roc_figure(answers("binary")), path)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "roc.png"
    path.write_bytes(b"old")
    broken = roc_figure(answers("binary"))

    def fail(*_: object) -> None:
        raise ValueError("broken")

    broken.axes[0].lines[0].draw = fail
    with pytest.raises(ValueError, match="broken"):
        save_figure(broken, path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_figures_need_no_pyplot() -> None:
    code = "import sys, hounsfield.reports; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
