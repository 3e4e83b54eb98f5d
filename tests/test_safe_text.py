"""Names and cells that would do something where they are shown."""

from __future__ import annotations

import csv
import json
import os
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from hounsfield.inference.tables import write_table
from hounsfield.reports import run_report
from hounsfield.safe_text import cell, markdown, plain_cells, shown, uncell

# The name of a file as Python has it where its bytes are no UTF-8.
NOT_TEXT = os.fsdecode(b"scan-\xff.png")
NAMES = [
    NOT_TEXT,
    "a\nb.png",
    "red\x1b[31m.png",
    "turned\u202egnp.exe",
    "a\tb",
    "=1+1",
    "@SUM(A1)",
    "+cmd|' /C calc'!A0",
    "-x",
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_hides_in_a_name(name: str) -> None:
    text = shown(name)
    assert text.isprintable()
    assert text.encode("utf-8").decode() == text
    assert shown(text) == text


def test_what_is_escaped() -> None:
    assert shown(NOT_TEXT) == r"scan-\xff.png"
    assert shown("a\nb\tc") == r"a\nb\tc"
    assert shown("a\nb\tc\x1b", lines=True) == "a\nb\tc\\x1b"
    assert shown("\u202e") == r"\u202e"
    assert shown("Größe 大 é 🙂.png") == "Größe 大 é 🙂.png"


@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-x", "-", "=", "+", "@"])
def test_formulas_are_neutralised_and_given_back(name: str) -> None:
    assert str(cell(name)).startswith("'")
    assert uncell(str(cell(name))) == name


@pytest.mark.parametrize("number", ["-1", "+1.5e-3", "-.5", "1", "-inf", "nan", "2026"])
def test_numbers_stay(number: str) -> None:
    assert cell(number) == number
    assert uncell(number) == number
    assert cell(-1.5) == -1.5
    assert cell(None) is None


def test_plain_texts_stay() -> None:
    for text in ("scan.png", "'quoted'", "it's", ""):
        assert cell(text) == text
        assert uncell(text) == text


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_no_name_stops_a_table(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    rows = [{"image": name, "prediction": "=2", "p": -0.5} for name in NAMES]
    assert write_table(path, ["image", "prediction", "p"], rows) == len(NAMES)
    if suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.reader(file))[1:]
        assert all(len(row) == 3 and row[2] == "-0.5" for row in found)
        assert not any(text.startswith(("=", "+", "@", "-", "\t")) for row in found for text in row[:2])
        table = plain_cells(pd.read_csv(path))
        assert table["image"].tolist() == [shown(name) for name in NAMES]
    elif suffix == ".json":
        assert [row["image"] for row in json.loads(path.read_text())] == [shown(name) for name in NAMES]
    else:
        assert pd.read_parquet(path)["image"].tolist() == [shown(name) for name in NAMES]


def test_a_name_in_markdown_makes_no_tag_link_or_line() -> None:
    assert markdown("<script>") == "&lt;script>"
    assert "](" not in markdown("[x](javascript:alert)")
    assert "\n" not in markdown("a\n# title")


def test_pages_run_no_script_but_their_own() -> None:
    base = (run_report.TEMPLATES / "base.html").read_text(encoding="utf-8")
    report = (run_report.TEMPLATES / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in base
    (script,) = re.findall(r"<script>(.*?)</script>", report, flags=re.DOTALL)
    assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in report
    for page in run_report.TEMPLATES.glob("*.html"):
        assert not re.search(r"\son\w+=|<script src|javascript:", page.read_text(encoding="utf-8"))
