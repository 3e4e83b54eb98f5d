"""What only its user may see, pages on which no name does anything, and names whose bytes are no text."""

from __future__ import annotations

import io
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from hounsfield.cli import console
from hounsfield.cohorts import Store, load_cohort
from hounsfield.cohorts.scan import scan
from hounsfield.errors import CohortError
from hounsfield.images.deidentify import make_key
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.resampling import Resize
from hounsfield.reports import run_report
from hounsfield.runs.folder import RunFolder
from networks import LABELS
from test_inspect import app, runner
from test_report import make_run

# Labels as somebody could write them into a table.
HARM = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><svg/onload=alert(1)>")
NOT_TEXT = os.fsdecode(b"scan-\xff.png")


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pictures(folder: Path, *classes: str) -> Path:
    """Six pictures in a folder for each class."""
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(6):
            cv2.imwrite(str(folder / name / f"scan-{number}.png"), generator.integers(0, 255, (9, 8), np.uint8))
    return folder


@pytest.mark.skipif(os.name == "nt", reason="Windows takes the rights from the folder above")
def test_what_is_made_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    before = os.umask(0o022)
    try:
        run = RunFolder.create(tmp_path / "runs" / "run")
        make_key(tmp_path / "key")
        cohort = load_cohort(pictures(tmp_path / "data", "a", "b"))
        scan(cohort)
        Store.build(cohort, Pipeline(steps=(Resize(size=(4, 4)),)))
    finally:
        os.umask(before)
    assert mode(run.path) == 0o700
    assert mode(tmp_path / "key") == 0o600
    # Whatever lies in the cache lies in a folder that is closed to others.
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        between = [place for place in path.parents if place.is_relative_to(tmp_path / "cache")]
        assert any(mode(place) == 0o700 for place in between), path


@pytest.mark.skipif(os.name == "nt", reason="Windows takes the rights from the folder above")
def test_the_folder_of_a_run_is_private(trained_classifier: Any) -> None:
    assert mode(trained_classifier.run.folder) == 0o700


def check_page(text: str, num_scripts: int) -> None:
    page = Elements(text)
    (policy,) = [str(values["content"]) for tag, values in page.found if tag == "meta" and "http-equiv" in values]
    assert policy.startswith("default-src 'none'")
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]
    assert [tag for tag, _ in page.found].count("script") == num_scripts
    assert not [name for _, values in page.found for name in values if name.startswith("on")]
    assert not [values for tag, values in page.found if tag == "img" and not str(values["src"]).startswith("data:")]


def test_labels_do_nothing_on_the_page_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELS, "binary", HARM[:2])
    report = run_report.write_report(make_run(tmp_path))
    check_page(report.page.read_text(encoding="utf-8"), num_scripts=1)
    card = report.card.read_text(encoding="utf-8")
    assert "alert(1)" in card
    assert not Elements(card).found


def test_labels_do_nothing_on_the_page_of_an_inspection(tmp_path: Path) -> None:
    rows = ["image,label"]
    for number, path in enumerate(sorted(pictures(tmp_path / "in", "all", "more").rglob("*.png"))):
        rows.append(f'{path.relative_to(tmp_path / "in")},"{HARM[number % 2].replace(chr(34), chr(34) * 2)}"')
    (tmp_path / "in" / "table.csv").write_text("\n".join(rows) + "\n")
    result = runner.invoke(app, ["inspect", "--no-cost", f"{tmp_path}/in/table.csv", "-o", f"{tmp_path}/out"])
    assert result.exit_code == 0, result.output
    check_page((tmp_path / "out" / "inspection.html").read_text(encoding="utf-8"), num_scripts=0)


def test_a_name_that_is_no_text_is_printed_and_makes_no_cohort(tmp_path: Path) -> None:
    stream = io.StringIO()
    safe = type(console.out)(file=stream, markup=False, soft_wrap=True)
    assert isinstance(safe, Console)
    table = Table("image")
    table.add_row(f"{NOT_TEXT}\x1b[31m")
    safe.print(f"{NOT_TEXT}\x1b[31m")
    safe.print(table)
    assert stream.getvalue().count(r"scan-\xff.png\x1b[31m") == 2
    folder = pictures(tmp_path / "data", "a", "b")
    (folder / "a" / "scan-0.png").rename(folder / "a" / NOT_TEXT)
    with pytest.raises(CohortError, match=r"scan-\\xff\.png', whose bytes are not UTF-8.*Rename"):
        scan(load_cohort(folder))
