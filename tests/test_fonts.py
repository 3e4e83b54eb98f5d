"""Names of any script in figures: drawn where a font has their letters, else numbered, and never a box or a warning."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hounsfield.drawing.predictions import Findings, findings_figure
from hounsfield.evaluation import as_outcomes, confusion_matrix
from hounsfield.images.image import Image
from hounsfield.reports import confusion_figure, fonts, roc_figure, save_figure, score_histogram
from hounsfield.reports.svg import svg_of

LABELS = ("正常", "细菌性肺炎", "病毒性 $x$")
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def warnings_are_errors() -> None:
    warnings.simplefilter("error")


@pytest.fixture
def no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "installed", lambda: ())
    monkeypatch.setattr(fonts, "_numbers", {})


def figures() -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    case = as_outcomes(rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60), labels=LABELS, task="multi-class")
    found = Findings(np.array([[5.0, 5, 30, 40], [20, 30, 60, 70]]), np.array([0, 1]), np.array([0.9, 0.4]))
    image = Image(rng.integers(0, 255, (80, 90, 1), np.uint8))
    return {
        "roc": roc_figure(case),
        "confusion": confusion_figure(confusion_matrix(case), LABELS),
        "scores": score_histogram(case),
        "findings": findings_figure(image, found, labels=LABELS, title="病人 1"),
    }


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


@pytest.mark.parametrize("name", ["roc", "confusion", "scores", "findings"])
def test_names_are_drawn_or_numbered(name: str, tmp_path: Path) -> None:
    figure = figures()[name]
    save_figure(figure, tmp_path / "figure.png")
    drawn = "".join(texts(figure))
    has_font = any(set("正常细菌性肺炎病毒人") <= fonts._letters(path) for _, path in fonts.installed())
    assert bool(CHINESE.search(drawn)) == has_font
    assert ("[1]" in drawn) == (not has_font)


@pytest.mark.usefixtures("no_font")
@pytest.mark.parametrize("name", ["roc", "confusion", "scores", "findings"])
def test_without_a_font_each_name_has_one_number_and_a_note(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = figures()[name], figures()[name]
    with caplog.at_level(logging.WARNING):
        for number, figure in enumerate((first, second)):
            save_figure(figure, tmp_path / f"{number}.png")
    drawn = texts(first)
    assert not CHINESE.search("".join(drawn))
    note = next(text for text in drawn if text.startswith("No installed font"))
    # The names have the same numbers in the next figure, and the log gives them once, with their letters.
    assert note in texts(second)
    (record,) = caplog.records
    for number, spelled in re.findall(r"\[(\d)\] ((?:U\+\w+ ?)+)", note):
        letters = "".join(chr(int(point.replace("U+", "0x"), base=0)) for point in spelled.split())
        assert f"[{number}] {letters}" in record.getMessage()
    assert any("[1]" in text for text in drawn if text != note)


@pytest.mark.usefixtures("no_font")
def test_a_page_keeps_the_letters_since_its_reader_has_fonts() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.barh([0, 1], [1, 2], label="<病毒>")
    axes.set_yticks([0, 1], LABELS[:2])
    axes.legend()
    svg = svg_of(figure, "names", "names")
    found = [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]  # noqa: S314 - our own
    assert {"正常", "细菌性肺炎", "<病毒>"} <= set(found)
    assert not re.search("[⟦\u2003]", svg)


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("cost $\\notacommand$")
    save_figure(figure, tmp_path / "figure.png")
    assert not figure.findobj(Text)[0].get_parse_math()
