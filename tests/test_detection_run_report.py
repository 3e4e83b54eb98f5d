"""The report of a detector says what its run says, in 2D and in 3D, with one class and with several; without Keras."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from detection_runs import LABELS, THRESHOLD, make_detection_run
from hounsfield.boxes import COLUMNS
from hounsfield.cli.main import app
from hounsfield.errors import RunError
from hounsfield.evaluation.detection import image_errors
from hounsfield.reports.run_report import Report, write_report
from hounsfield.reports.sections.content import Block, Table
from hounsfield.reports.sections.privacy import Scrubber
from hounsfield.runs import BoxRun, read_run
from pages import Page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_detection_run(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def written(run: Path) -> Report:
    return write_report(run)


@pytest.fixture(scope="module")
def page(written: Report) -> Page:
    return Page(written.page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def record(run: Path) -> BoxRun:
    found = read_run(run)
    assert isinstance(found, BoxRun)
    return found


def blocks(written: Report, identifier: str) -> tuple[Block, ...]:
    (section,) = [section for section in written.sections if section.identifier == identifier]
    return section.blocks


def table(written: Report, identifier: str, title: str) -> Table:
    (found,) = [block for block in blocks(written, identifier) if isinstance(block, Table) and title in block.title]
    return found


def test_the_page_is_whole_and_needs_nothing_else(written: Report, page: Page) -> None:
    assert page.open == []
    assert len(page.identifiers) == len(set(page.identifiers))
    inside = [address for address in page.addresses if address.startswith("#")]
    assert {address[1:] for address in inside} <= set(page.identifiers)
    assert all(address.startswith("data:image/jpeg") for address in page.addresses if address not in inside)
    assert written.page.stat().st_size < 5e6


def test_every_drawing_has_its_table(written: Report) -> None:
    drawings = 0
    for section in written.sections:
        for number, block in enumerate(section.blocks):
            if block.kind == "drawing":
                drawings += 1
                assert block.table is not None or section.blocks[number + 1].kind == "table", section.title
    assert drawings == 4


def test_nobody_and_no_file_is_named(written: Report) -> None:
    for text in (written.page.read_text(encoding="utf-8"), written.card.read_text(encoding="utf-8")):
        assert not re.search(r"MUSTERMANN|scan-\d", text)


def test_figures_are_those_of_the_run(written: Report, page: Page, record: BoxRun) -> None:
    metrics = json.loads((record.folder / "metrics.json").read_text())["test"]
    for name in ("ap", "ap50_virus", "sensitivity_fp_1", "luna16_cell", "count_high"):
        found = metrics[name]
        assert f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f}, unreliable)" in page.text
    recall = metrics["recall"]
    assert f"Of 100 objects it finds {100 * recall['value']:.0f} (" in page.text
    assert f"{metrics['count_mae']['value']:.2f} objects per image" in page.text
    worst = min(LABELS, key=lambda label: metrics[f"ap50_{label}"]["value"])
    assert f"the weakest class is '{worst}'" in page.text


def test_the_score_in_use_gives_the_figures_of_the_test(written: Report, record: BoxRun) -> None:
    rows = {row[0]: row for row in table(written, "operating", "Other score thresholds").rows}
    used = rows[f"{THRESHOLD:g} (in use)"]
    figures = record.estimates
    expected = [f"{figures[name]['value']:.3f}" for name in ("recall", "precision")]
    assert [used[1], used[2], used[4]] == [*expected, f"{figures['count_bias']['value']:+.2f}"]
    found = pd.read_csv(record.folder / "predictions.csv")
    said = found[(found["split"] == "test") & (found["score"] >= 0.7)]
    hits = round(float(rows["0.7"][1]) * len(record.shown.detections.truth_classes))
    assert float(rows["0.7"][3]) == pytest.approx((len(said) - hits) / record.num_cases, abs=0.01)


def test_objects_are_counted_as_the_table_of_boxes_has_them(written: Report, record: BoxRun) -> None:
    boxes = record.boxes.merge(record.cohort[["image", "split"]], on="image")
    counts = boxes.groupby(["split", "label"]).size()
    rows = {row[0]: row for row in table(written, "data", "Objects by class").rows}
    for split, name in (("train", "training"), ("test", "test")):
        assert [int(cell) for cell in rows[name][1:3]] == [counts[split, label] for label in LABELS]
        images = record.rows(split)["image"]
        assert int(rows[name][5]) == boxes["image"].value_counts().reindex(images).max()
    cells = record.boxes[record.boxes["label"] == "cell"]
    middle = np.median(cells["x1"] - cells["x0"])
    assert table(written, "data", "Sides").rows[0][2].startswith(f"{middle:g} (")


def test_what_a_count_says_comes_from_the_validation_images_of_the_bundle(written: Report, record: BoxRun) -> None:
    promised = table(written, "counting", "Prediction intervals")
    kept = record.bundle.uncertainty
    misfit = np.abs(kept.counts_true - kept.counts_found) / np.sqrt(kept.counts_found + 1)
    for column, row in enumerate(promised.rows):
        # Of 12 images the finite-sample quantile of .9 is the greatest misfit.
        reach = misfit[:, column].max() * np.sqrt(21)
        assert row[3] == f"{np.ceil(20 - reach):.0f} to {np.floor(20 + reach):.0f}"


def test_cases_are_drawn_and_say_what_was_found(written: Report, record: BoxRun) -> None:
    typical, worst = (block for block in blocks(written, "evidence") if block.kind == "cases")
    assert len(typical.items) == len(worst.items) == 4
    assert all(case.overlay != case.original for case in (*typical.items, *worst.items))
    errors = image_errors(record.shown.detections, threshold=THRESHOLD, overlap=0.5)
    most = int((errors["missed"] + errors["false"]).argmax())
    found = {name: int(errors[name][most]) for name in errors}
    assert worst.items[0].caption == (
        f"{found['hits'] + found['missed']} objects: {found['hits']} found, {found['missed']} missed; "
        f"{found['false']} false positives"
    )


def test_anchors_and_decisions_stand_with_their_reasons(written: Report, page: Page) -> None:
    anchors = table(written, "training", "Anchors")
    assert anchors.rows == (("1", "4", "10×10"), ("2", "8", "22×20"))
    assert "fitted to the 90 training boxes: 1 a position on 2 levels, which cover 97%" in page.text
    decisions = {row[0]: row for row in table(written, "environment", "Decisions").rows}
    assert decisions["input shape"][1:] == (
        "[64, 80, 1]",
        "nine tenths of the objects are longer than 9 pixels; whole images fit",
    )
    assert "Try: more images" in page.text
    assert "/data/x" not in page.text
    (curves,) = [block for block in blocks(written, "training") if block.kind == "drawing"]
    assert [row[0] for row in curves.table.rows] == ["first: 1", "kept: 2", "last: 3"]


def test_what_is_about_labels_of_images_is_left_out_and_said(written: Report, page: Page) -> None:
    assert not {"calibration", "uncertainty", "subgroups", "robustness"} & {
        section.identifier for section in written.sections
    }
    assert "for boxes they are not part of this report" in page.text
    for word in ("Brier", "temperature", "heat map of", "AUC"):
        assert word not in page.text


def test_checklists_have_every_item_and_say_who_fills_it(written: Report, record: BoxRun) -> None:
    claim = written.checklists[0]
    assert [len(each.items) for each in written.checklists] == [44, 52, 48, 34]
    clean, lists = Scrubber.of(record), Page(written.lists.read_text(encoding="utf-8"))
    for row in [row for each in written.checklists for row in each.items]:
        assert row.text
        assert " ".join(clean(row.text).split()) in lists.text
        assert ("by the author:" in row.text) <= (row.status != "filled")
    answers = {row.number: row for row in claim.items}
    assert "Faster R-CNN" in answers["22"].text
    assert f"AP50 {record.estimates['ap50']['value']:.3f}" in answers["38"].text
    assert (answers["30"].status, answers["31"].status) == ("author", "filled")


@pytest.mark.parametrize(("rank", "labels"), [(2, ("particle",)), (3, LABELS)])
def test_volumes_and_single_classes_have_their_report(rank: int, labels: tuple[str, ...], tmp_path: Path) -> None:
    report = write_report(make_detection_run(tmp_path, rank=rank, labels=labels))
    page = Page(report.page.read_text(encoding="utf-8"))
    assert page.open == []
    assert ("Given a volume" in page.text) == (rank == 3)
    assert ("weakest class" in page.text) == (len(labels) > 1)
    assert table(report, "data", "Sides").columns[1:] == ("slices", "rows", "columns")[-rank:]
    assert len([block for block in blocks(report, "evidence") if block.kind == "cases"]) == 2


def test_a_detector_that_found_nothing_has_its_report(tmp_path: Path) -> None:
    page = Page(write_report(make_detection_run(tmp_path, share=0)).page.read_text(encoding="utf-8"))
    assert page.open == []
    assert "Of 100 objects it finds 0" in page.text
    assert "an unknown number (" not in page.text


def test_data_that_is_gone_leaves_a_report_without_cases(tmp_path: Path) -> None:
    run = make_detection_run(tmp_path)
    (tmp_path / "data" / "boxes.csv").unlink()
    text = Page(write_report(run).page.read_text(encoding="utf-8")).text
    assert "No cases could be shown" in text
    done = CliRunner().invoke(app, ["report", str(run), "--no-evidence", "--json"])
    assert done.exit_code == 0, done.output
    assert "made without pictures" in (run / "report.html").read_text(encoding="utf-8")
    card = (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Model card: cell and virus")
    assert "## When should its findings be doubted?" in card


BREAKAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no boxes": (lambda run: (run / "boxes.parquet").unlink(), r"boxes\.parquet cannot be read"),
    "other boxes": (
        lambda run: pd.DataFrame({"image": ["a"], "label": ["b"]}).to_parquet(run / "boxes.parquet"),
        r"predictions\.csv cannot be read.*lacks",
    ),
    "a stranger's image": (
        lambda run: (run / "predictions.csv").write_text(
            f"image,label,score,{','.join(COLUMNS[2])},split\nz.png,cell,.5,0,0,2,2,test\n"
        ),
        r"predictions\.csv cannot be read.*'z\.png'",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_run_is_told_in_one_paragraph(name: str, tmp_path: Path) -> None:
    run = make_detection_run(tmp_path)
    breakage, message = BREAKAGES[name]
    breakage(run)
    with pytest.raises(RunError, match=message) as outcome:
        write_report(run)
    assert "\n" not in str(outcome.value)
