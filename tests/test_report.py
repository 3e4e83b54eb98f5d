"""The report of a run says what its files say, names nobody, and needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from hounsfield.errors import RunError
from hounsfield.evaluation import as_outcomes, assess
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.scaling import Temperature, Unscaled
from hounsfield.inference import Predictor
from hounsfield.reports.base import Cases
from hounsfield.reports.figures import COLOURS, dress, new_figure
from hounsfield.reports.run_report import Report, write_report
from hounsfield.reports.sections.answers import Facts, answer
from hounsfield.reports.sections.certainty import calibration_section
from hounsfield.reports.sections.data import attributes, data_section
from hounsfield.reports.sections.groups import robustness_section, subgroup_section
from hounsfield.reports.sections.guidelines import CLAIM, GUIDELINES, PROBAST_AI, STARD_AI, TRIPOD_AI
from hounsfield.reports.sections.operating import operating_section
from hounsfield.reports.sections.privacy import Scrubber
from hounsfield.reports.sections.summary import limitations, where_not
from hounsfield.reports.svg import svg_of
from hounsfield.reports.table import PAGES
from hounsfield.runs import LabelRun, RunRecord, read_run
from networks import LABELS, tiny_bundle
from pages import Page

COUNT = 90
PLAN = """# A plan.
version: 1
effort: quick
seed: 0
task: {task}
labels: {labels}
input_shape: [12, 10, 1]
pipeline:
  steps: [{{name: to_channels, channels: 1}}, {{name: resize, size: [12, 10]}}, {{name: min_max}}]
# chosen by hand
network: resnet10
width: 4
pretrained: false
dropout: 0.1
batch_size: 8
epochs: 3
patience: 5
learning_rate: 0.003
warmup: 0.1
augmentation: {{}}
weight_decay: 0.01
label_smoothing: 0.05
balance_classes: true
train_share: 1.0
average_decay: 0.5
folds: 1
test_time_flips: []
precision: float32
expected_memory_mb: 900.0
expected_disk_mb: 0.1
"""


def make_run(folder: Path, task: str = "binary") -> Path:
    """A finished run on pictures of patients with tell-tale names, its predictions those of its network."""
    data, run = folder / "data", folder / "run"
    data.mkdir(parents=True)
    run.mkdir()
    generator = np.random.default_rng(0)
    labels = LABELS[task]
    images = [f"scan-{number:03}.png" for number in range(COUNT)]
    pixels = generator.integers(0, 256, (COUNT, 14, 12), dtype=np.uint8)
    pixels[::2, 2:7, 2:7] = 255
    for name, picture in zip(images, pixels, strict=True):
        cv2.imwrite(str(data / name), picture)
    scores = predicted(tiny_bundle(run / "bundle", task), [data / name for name in images])
    threshold = 0.5
    if task == "binary":
        # Half of the images above it, so that there are right and wrong answers of both kinds.
        threshold = round(float(np.median(scores[:, 1])), 6)
        tiny_bundle(run / "bundle", task, threshold=threshold)
    noisy = scores + generator.normal(0, scores.std(axis=0), scores.shape)
    middle = np.median(noisy, axis=0)
    truth = [labels[int(code)] for code in (noisy - middle).argmax(axis=1)]
    said = [labels[int(row[1] > threshold) if task == "binary" else int(row.argmax())] for row in scores]
    if task == "multi-label":
        truth = [";".join(np.array(labels)[row > middle]) for row in noisy]
        said = [";".join(np.array(labels)[row > threshold]) for row in scores]
    table = pd.DataFrame(
        {
            "image": images,
            "label": truth,
            "patient": [f"MUSTERMANN-{number // 2}" for number in range(COUNT)],
            "split": (["train"] * 30 + ["validation"] * 30 + ["test"] * 30)[:COUNT],
            "sex": generator.choice(["F", "M"], COUNT),
            "age": generator.integers(20, 90, COUNT),
            "patient_name": [f"Erika {number}" for number in range(COUNT)],
        }
    )
    table.to_csv(data / "index.csv", index=False)
    table.to_parquet(run / "cohort.parquet")
    predictions = table[["image", "split", "label", "patient"]].assign(prediction=said)
    predictions = predictions.join(pd.DataFrame(scores, columns=[f"p_{label}" for label in labels]))
    predictions[table["split"] != "train"].to_csv(run / "predictions.csv", index=False)
    metrics = {split: measured(table, scores, task, split, threshold) for split in ("validation", "test")}
    (run / "metrics.json").write_text(json.dumps(metrics))
    write_rest(run, data / "index.csv", PLAN.format(task=task, labels=list(labels)))
    return run


def predicted(bundle: Bundle, images: list[Path]) -> np.ndarray:
    found = [prediction.probabilities for prediction in Predictor(bundle).predict(images)]
    return np.array([list(each.values()) for each in found])


def measured(table: pd.DataFrame, scores: np.ndarray, task: Any, split: str, threshold: float) -> dict[str, Any]:
    rows = (table["split"] == split).to_numpy()
    labels = LABELS[task]
    sets = [set(text.split(";")) for text in table["label"][rows]]
    truth = np.array([[label in each for label in labels] for each in sets])
    truth, given = (truth[:, 1:], scores[rows, 1:]) if task == "binary" else (truth, scores[rows])
    answers = as_outcomes(truth, given, labels=labels, task=task, threshold=threshold)
    return assess(answers, threshold=threshold, groups=table["patient"][rows].to_numpy(), num_replicates=100).to_dict()[
        "test"
    ]


def write_rest(run: Path, data: Path, plan: str) -> None:
    (run / "plan.yaml").write_text(plan)
    history = {"member": [1, 1], "epoch": [1, 2], "loss": [0.6, 0.5], "val_loss": [0.65, 0.55], "seconds": [1.0, 2.0]}
    pd.DataFrame(history).to_csv(run / "history.csv", index=False)
    origin = {"data": str(data), "kind": None, "images": None, "label_columns": [], "allow_outside": False}
    environment = {"data": {**origin, "drop_leaks": False, "allow_leaks": False}, "hounsfield": "0.1.0", "cores": 2}
    environment |= {"python": "3.11.7", "platform": "Linux", "backend": "tensorflow", "packages": {"numpy": "2.4"}}
    environment |= {"memory_bytes": 2**34, "accelerators": [], "command": ["hounsfield", "train"]}
    (run / "environment.json").write_text(json.dumps(environment))
    diagnosis = {"train_loss": 0.4, "val_loss": 0.55, "gap": 0.15, "chance_loss": 0.69, "verdict": "overfitting"}
    diagnosis |= {"already": ["dropout 0.1"], "remedies": [{"what": "more data", "command": "hounsfield train"}]}
    events: list[dict[str, Any]] = [
        {"event": "note", "text": "1 image cannot be read: scan-007.png of MUSTERMANN-3."},
        {"event": "diagnosis", **diagnosis},
        {"event": "finished", "seconds": 90.0, "peak_memory_mb": 800.0, "time": "2026-11-22T20:00:00+0000"},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(make_run(tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="module")
def page(written: Report) -> Page:
    return Page(written.page.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_needs_nothing_else(written: Report, page: Page) -> None:
    assert page.open == []
    assert len(page.identifiers) == len(set(page.identifiers))
    inside = [address for address in page.addresses if address.startswith("#")]
    assert {address[1:] for address in inside} <= set(page.identifiers)
    assert all(address.startswith("data:image/jpeg") for address in page.addresses if address not in inside)
    assert "url(http" not in written.page.read_text(encoding="utf-8")
    assert written.page.stat().st_size < 5e6


def test_the_first_screen_warns_of_miscalibration_and_has_prevalence(written: Report, page: Page) -> None:
    record = read_run(written.page.parent)
    assert f"Prevalence {record.answers.truth.mean():.3f}" in page.text
    for title in ("PPV", "NPV"):
        assert title in page.text.split("Do not take these figures at their word")[0]
    (caution,) = record.cautions
    assert "Probabilities of 'opacity' are" in caution
    assert written.sections[0].blocks[0].text == caution
    assert caution in limitations(record, PAGES["labels"])
    assert record.verdicts[0].text() in written.card.read_text(encoding="utf-8").replace("\\", "")


def test_every_drawing_has_its_table(written: Report) -> None:
    drawings = 0
    for section in written.sections:
        for number, block in enumerate(section.blocks):
            if block.kind == "drawing":
                drawings += 1
                assert block.table is not None or section.blocks[number + 1].kind == "table", section.title
    assert drawings == 7


def test_nobody_and_no_file_is_named(written: Report, page: Page) -> None:
    for path in (written.page, written.card, written.lists, written.facts):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"MUSTERMANN|Erika|scan-\d|patient_name", text)
    assert "1 image cannot be read: [withheld] of [withheld]." in page.text


def test_figures_are_those_of_the_run(written: Report, page: Page) -> None:
    metrics = json.loads((written.page.parent / "metrics.json").read_text())["test"]
    for name in ("auc", "sensitivity", "ece"):
        found = metrics[name]
        assert f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" in page.text
    sensitivity = metrics["sensitivity"]
    assert f"Of 1,000 images with 'opacity' it misses {1000 * (1 - sensitivity['value']):.0f} (" in page.text
    record = read_run(written.page.parent)
    truth, scores = record.shown.answers.truth[:, 0], record.shown.answers.scores[:, 0]
    (table,) = [block for section in written.sections for block in section.blocks if "Thresholds" in block_title(block)]
    for row in table.rows:
        threshold = float(row[1])
        # Thresholds lie half-way between scores, so three digits decide alike unless two scores are that near.
        if np.abs(scores - threshold).min() > 1e-3:
            assert row[2].startswith(f"{(scores[truth] > threshold).mean():.3f}")
            assert row[3].startswith(f"{(scores[~truth] <= threshold).mean():.3f}")


def answered(item: str, run: RunRecord) -> str:
    return answer(item, Facts(run, PAGES["labels"], Cases(()))).text


def block_title(block: Any) -> str:
    return str(getattr(block, "title", ""))


def test_typical_and_worst_cases_are_shown_and_checked(written: Report) -> None:
    (evidence,) = [section for section in written.sections if section.identifier == "evidence"]
    typical, misses, alarms = (block for block in evidence.blocks if block.kind == "cases")
    assert all(case.right for case in typical.items)
    assert not any(case.right for case in (*misses.items, *alarms.items))
    assert typical.items
    assert all("truth: opacity; predicted: normal" in case.caption for case in misses.items)
    assert all("truth: normal; predicted: opacity" in case.caption for case in alarms.items)
    assert all(case.overlay != case.original for case in (*typical.items, *misses.items, *alarms.items))
    record = read_run(written.page.parent)
    answers = record.shown.answers
    error = np.abs(answers.truth - answers.scores)[:, 0]
    wrong = error[answers.truth[:, 0] != answers.decisions[:, 0]].max()
    said = [float(re.search(r"= ([\d.]+)", each.items[0].caption)[1]) for each in (misses, alarms)]
    assert max(1 - said[0], said[1]) == pytest.approx(wrong, abs=1e-3)
    images = record.table.loc[(record.table["split"] == "test") & (record.table["label"] != record.table["prediction"])]
    for label, gallery in (("opacity", misses), ("normal", alarms)):
        assert len(gallery.items) == min(4, images.loc[images["label"] == label, "patient"].nunique())
    (checks,) = [block for block in evidence.blocks if block.kind == "table"]
    assert [row[0].split()[0] for row in checks.rows] == ["Probability", "Probability", "Similarity"]


def predictive_width(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray | None) -> float:
    """Of the interval of the predictive value at a prevalence of 10 %, in per cent."""
    answers = as_outcomes(truth, scores, labels=LABELS["binary"], task="binary")
    shown = SimpleNamespace(answers=answers, groups=groups)
    bundle = SimpleNamespace(threshold=0.5, labels=LABELS["binary"])
    run = SimpleNamespace(shown=shown, tested={"validation": shown}, bundle=bundle, positive="x", split="test")
    (table,) = [block for block in operating_section(run).blocks if block_title(block).startswith("Predictive values")]
    row = next(row for row in table.rows if row[0].startswith("10"))
    low, high = re.findall(r"[\d.]+", row[1])[1:3]
    return float(high) - float(low)


def test_predictive_values_of_several_images_a_patient_are_as_sure_as_of_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.4
    scores = np.clip(0.2 + 0.5 * truth + rng.normal(0, 0.2, 300), 0, 1)
    patients = np.repeat(np.arange(300), 4)
    once = predictive_width(truth, scores, None)
    assert predictive_width(truth[patients], scores[patients], patients) == pytest.approx(once, abs=2)
    assert predictive_width(truth[patients], scores[patients], None) < 0.7 * once


def test_an_image_of_an_unknown_patient_counts_as_a_patient() -> None:
    answers = as_outcomes([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], labels=LABELS["binary"], task="binary")
    groups = np.array(["a", "a", np.nan, np.nan], dtype=object)
    assert LabelRun.num_patients.fget(SimpleNamespace(shown=SimpleNamespace(answers=answers, groups=groups))) == 3


def test_checklists_have_every_item_and_say_who_fills_it(written: Report, page: Page) -> None:
    claim, tripod, stard, probast = written.checklists
    lists = Page(written.lists.read_text(encoding="utf-8"))
    assert lists.open == []
    clean = Scrubber.of(read_run(written.page.parent))
    assert [row.number for row in claim.items] == [str(number) for number in range(1, 45)]
    assert [len(each.items) for each in (tripod, stard, probast)] == [52, 48, 34]
    for row in (*claim.items, *tripod.items, *stard.items, *probast.items):
        assert row.text
        assert " ".join(clean(row.text).split()) in lists.text
        assert ("by the author:" in row.text) <= (row.status != "filled")
    filled = sum(row.status == "filled" for row in claim.items)
    assert f"CLAIM 2024: {filled} of 44 filled in" in page.text
    # Robustness and subgroups have not been looked at in this run, and its data is nobody's public set.
    statuses = {row.number: row.status for row in claim.items}
    assert (statuses["30"], statuses["7"], statuses["31"], statuses["33"]) == ("author", "partly", "filled", "author")
    # What only the author knows is never filled in.
    assert "filled" not in {statuses[number] for number in ("1", "2", "5", "13", "21", "26", "35", "36")}
    known = {row.number for row in tripod.items if row.status == "filled"}
    # What these ask is known in part, or not at all, by a program.
    assert known.isdisjoint({"1", "7", "9b", "10", "14", "15", "16", "20a", "20b", "20c", "21"})
    statuses = {row.number: row.status for row in tripod.items}
    for number in ("1", "2", "7", "9b", "10", "14", "15", "16", "20a", "20b", "20c", "21"):
        assert statuses[number] != "filled", number


def test_what_was_not_looked_at_is_said_with_its_command(page: Page) -> None:
    for command in ("hounsfield evaluate RUN", "hounsfield robustness RUN"):
        assert f"Run {command}, then make the report again." in page.text
    for what in (
        "each measure against overfitting contributes: hounsfield ablate",
        "more patients would add: hounsfield",
    ):
        assert what in page.text


def test_without_test_rows_commands_are_given_other_data(written: Report) -> None:
    record = read_run(written.page.parent)
    bare = replace(record, metrics={"validation": record.metrics["validation"]})
    for section, command in ((subgroup_section, "evaluate"), (robustness_section, "robustness")):
        (told,) = section(bare).blocks
        assert f"hounsfield {command} RUN DATA," in told.text
    assert "hounsfield evaluate RUN DATA does it" in " ".join(PAGES["labels"].not_for(bare))


def test_data_without_attributes_is_not_sent_to_a_command_that_finds_none(written: Report) -> None:
    record = read_run(written.page.parent)
    assert "Patient groups have not been compared" in " ".join(PAGES["labels"].not_for(record))
    # Of one level each: columns are there, and no group.
    for cohort in (record.cohort.drop(columns=["sex", "age"]), record.cohort.assign(sex="F", age=50)):
        bare = replace(record, cohort=cohort)
        (told,) = subgroup_section(bare).blocks
        assert told.title == "No groups to compare"
        assert "columns such as sex, age or site" in told.text
        said = " ".join(PAGES["labels"].not_for(bare))
        assert "has no attribute" in said
        assert "hounsfield evaluate" not in said


@pytest.mark.parametrize(
    ("folds", "trained", "flips", "told"),
    [
        (1, 1, [], "None: one network, one view."),
        (1, 1, [1], "One network: the mean of the logits of the image and of its mirror images."),
        (4, 4, [], "The mean of the logits of 4 networks, each trained without another part of the data."),
        (
            4,
            3,
            [1],
            (
                "The mean of the logits of 3 networks, each trained without another part of the data, on the image and "
                "its mirror images. The plan has 4 networks, but the training was interrupted."
            ),
        ),
        (4, 1, [], "None: one network, one view. The plan has 4 networks, but the training was interrupted."),
    ],
)
def test_the_networks_that_answer_are_those_that_were_trained(
    written: Report, folds: int, trained: int, flips: list[int], told: str
) -> None:
    record = read_run(written.page.parent)
    run = replace(
        record,
        plan=record.plan.model_copy(update={"folds": folds, "test_time_flips": tuple(flips)}),
        history=pd.DataFrame({"member": np.repeat(np.arange(trained) + 1, 2)}),
    )
    assert answered("ensembling", run) == told


def test_the_report_does_not_make_calibration_better_than_it_is(written: Report) -> None:
    record = read_run(written.page.parent)

    def said(scaling: str, before: float, after: float, losses: dict[str, float]) -> str:
        ece = {
            name: {"value": value, "low": None, "high": None} for name, value in (("before", before), ("after", after))
        }
        bundle = replace(
            record.bundle,
            calibration={"ece": ece, "cases": 12, "log_loss": losses},
            **({"scaling": Temperature(2.0)} if scaling == "temperature" else {}),
        )
        return str(calibration_section(replace(record, bundle=bundle)).blocks[0].text)

    both = {"none": 0.7, "temperature": 0.6}
    rose = said("temperature", 0.1, 0.2, both)
    assert "fell" not in rose
    assert "is 0.100 before and 0.200 after" in rose
    assert "No scaling was better beyond chance" in said("none", 0.1, 0.1, both)
    none_tried = said("none", 0.1, 0.1, {"none": 0.7})
    assert "The 12 validation images are too few" in none_tried
    assert "better" not in none_tried


def test_the_checklist_names_the_scaling_where_there_is_one(written: Report) -> None:
    record = read_run(written.page.parent)
    told = {}
    for scaling in (Unscaled(), Temperature(2.0)):
        run = replace(record, bundle=replace(record.bundle, scaling=scaling))
        told[scaling.name] = answered("updating", run)
    assert told["none"].startswith("None: probabilities are the network's own")
    assert "temperature scaling" in told["temperature"]


def test_groups_and_worse_images_are_shown_where_they_were_looked_at(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record = read_run(run)
    table = record.rows("test").reset_index(drop=True)
    audit = audit_bias(record.shown.answers, table[["sex", "age"]], groups=table["patient"].to_numpy())
    (run / "bias.json").write_text(json.dumps({**audit.to_dict(), "probes": [], "removals": []}))
    estimate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 30}
    condition = {"strength": 1, "auc": estimate, "accuracy": estimate, "ood_score": 0.1}
    curve = {"title": "Noise", "unit": "", "severities": [condition] * 5}
    worse = {"images": 30, "clean": condition, "corruptions": {"noise": curve}, "notes": ["Tested on 30 images."]}
    (run / "robustness.json").write_text(json.dumps(worse))
    report = write_report(run, evidence=False)
    page = Page(report.page.read_text(encoding="utf-8"))
    assert page.open == []
    for group in ("sex = F", "sex = M"):
        assert f"{group} (" in page.text
    assert "Noise, severity 5 0.800 (0.700 to 0.900)" in page.text
    assert "Left out" in page.text
    statuses = {row.number: row.status for row in report.checklists[0].items}
    assert (statuses["30"], statuses["31"]) == ("filled", "author")


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_other_tasks_have_their_report(task: str, tmp_path: Path) -> None:
    report = write_report(make_run(tmp_path, task))
    page = Page(report.page.read_text(encoding="utf-8"))
    assert page.open == []
    assert "Each label against the others" in page.text
    assert ("most probable" in page.text) == (task == "multi-class")


def test_data_that_is_gone_leaves_a_report_without_evidence(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "data" / "index.csv").unlink()
    report = write_report(run)
    text = Page(report.page.read_text(encoding="utf-8")).text
    assert "No cases could be shown" in text
    assert {row.number: row.status for row in report.checklists[0].items}["31"] == "author"


BREAKAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no run": (lambda run: (run / "plan.yaml").unlink(), "is not a run folder"),
    "not finished": (lambda run: (run / "metrics.json").unlink(), "is not finished.*--resume"),
    "damaged metrics": (lambda run: (run / "metrics.json").write_text("{"), r"metrics\.json cannot be read"),
    "damaged table": (lambda run: (run / "cohort.parquet").write_bytes(b"no"), r"cohort\.parquet cannot be read"),
    "other predictions": (lambda run: (run / "predictions.csv").write_text("a,split\n1,test\n"), "cannot be read"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_run_is_told_in_one_paragraph(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    breakage, message = BREAKAGES[name]
    breakage(run)
    with pytest.raises(RunError, match=message) as outcome:
        write_report(run)
    assert "\n" not in str(outcome.value)
    assert not (run / "report.html").exists()


def test_the_command_writes_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hounsfield", "report", str(run), "--no-evidence", "--json"])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    assert not outcome.value.code
    said = json.loads(capsys.readouterr().out)
    assert Path(said["page"]).is_file()
    assert said["checklists"]["CLAIM 2024"][0]["number"] == "1"
    card = (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Model card: normal or opacity")
    assert "## Where it should not be used" in card


def test_the_lists_have_the_items_of_the_published_ones() -> None:
    assert list(CLAIM) == [str(number) for number in range(1, 45)]
    parts = {"3": "abc", "5": "ab", "6": "abc", "8": "abc", "9": "abc", "12": "abcdefg", "18": "abcdef", "20": "abc"}
    parts |= {"23": "ab", "27": "abc"}
    expected = [f"{item}{part}" for item in map(str, range(1, 28)) for part in parts.get(item, [""])]
    assert list(TRIPOD_AI) == expected
    parts = {"15": "abcd", "16": "abc", "17": "ab", "26": "ab", "40": "ab"}
    assert list(STARD_AI) == [f"{item}{part}" for item in map(str, range(1, 41)) for part in parts.get(item, [""])]
    questions = {"D": (3, 4, 4, 5), "E": (3, 4, 4, 7)}
    assert list(PROBAST_AI) == [
        f"{part}{domain}.{number}"
        for part, counts in questions.items()
        for domain, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]


ABOUT = {
    "intended_use": "Sorting of chest radiographs in the worklist",
    "users": "Radiologists",
    "not_for": "Children",
    "ethics": "Waived by the committee of X",
    "annotators": "Two radiologists of ten years",
}


def test_what_the_author_says_is_taken_in(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "about.yaml").write_text("\n".join(f"{name}: {text}" for name, text in ABOUT.items()), encoding="utf-8")
    report = write_report(run, evidence=False)
    found = {each.name: {row.number: row for row in each.items} for each in report.checklists}
    assert list(found) == list(GUIDELINES)
    # Of the three entries that this item needs, one is missing.
    background = found["CLAIM 2024"]["3"]
    assert background.status == "partly"
    assert "The author: Sorting of chest radiographs in the worklist. Radiologists. To be added" in background.text
    for name, item in (("TRIPOD+AI", "17"), ("STARD-AI", "6"), ("STARD-AI", "12")):
        assert found[name][item].status == "filled"
        assert "by the author:" not in found[name][item].text
    first = Page(report.page.read_text(encoding="utf-8")).text.split("What does it do?")[0]
    assert "What is it for? Sorting of chest radiographs in the worklist. Radiologists." in first
    assert "Not intended: Children." in " ".join(where_not(read_run(run), PAGES["labels"]))
    card = report.card.read_text(encoding="utf-8")
    assert "## Intended use\n\nSorting of chest radiographs" in card
    assert "- Ethics: Waived by the committee of X." in card
    facts = Page(report.facts.read_text(encoding="utf-8"))
    assert facts.open == []
    assert "Not to be used Children." in facts.text
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert (
        f"AUC {metrics['auc']['value']:.3f} ({metrics['auc']['low']:.3f} to {metrics['auc']['high']:.3f})" in facts.text
    )


def test_identifiers_are_withheld_and_words_stay() -> None:
    clean = Scrubber(frozenset({"PAT-0001", "images/PAT-0001-1.dcm", "PAT-0001-1.dcm", "PAT-0001-1"}))
    text = "PAT-0001 and images/PAT-0001-1.dcm, /data/PAT-0001-1.dcm; (PAT-0001-1), PAT-00012 stays."
    assert clean(text) == "[withheld] and [withheld], /[withheld]; ([withheld]), PAT-00012 stays."


def test_attributes_leave_out_what_could_point_at_a_person() -> None:
    values = {"sex": ["F", "M"] * 10, "age": range(20), "PatientID": ["a", "b"] * 10, "birth_date": ["x", "y"] * 10}
    values |= {
        "accession": ["1", "2"] * 10,
        "note": [f"free text {number}" for number in range(20)],
        "label": ["a"] * 20,
    }
    assert attributes(pd.DataFrame(values)) == ["sex", "age"]


def test_patients_are_described_once_each_and_labels_by_group(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    table = pd.read_parquet(run / "cohort.parquet")
    # Of a patient's two images, one attribute is always the same and one is not.
    table["sex"] = np.resize(np.repeat(["F", "M", "M"], 2), COUNT)
    table["view"] = ["frontal", "lateral"] * (COUNT // 2)
    table.to_parquet(run / "cohort.parquet")
    record = read_run(run)
    shares, described = (
        block for block in data_section(record, PAGES["labels"]).blocks if block_title(block)[:5] in {"Patie", "Label"}
    )
    rows = {row[0]: row[1:] for row in described.rows}
    sexes = record.rows("test").drop_duplicates("patient")["sex"].value_counts()
    assert rows["sex: F"][-1].startswith(f"{sexes.get('F', 0)} (")
    assert rows["view: frontal (images)"] == ("15 (50 %)",) * 3
    parts = {row[0]: row[1:] for row in shares.rows}
    women = table[table["sex"] == "F"]
    share = (women["label"] == "opacity").mean()
    assert parts["sex: F"][0] == str(len(women))
    assert parts["sex: F"][-1] == f"{100 * share:.0f} %"


def test_a_figure_becomes_part_of_a_page() -> None:
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=COLOURS[0], label="one")
    axes.legend()
    dress(axes, "Title <&>", "x", "y")
    svg = svg_of(figure, "first", 'A "line"')
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.attrib["aria-label"] == 'A "line"'
    assert "width" not in root.attrib
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "var(--series1)" in svg
    assert "<text" in svg
    identifiers = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert all(identifier.startswith("first-") for identifier in identifiers)
    used = re.findall(r"url\(#([^)]+)\)", svg) + re.findall(r'href="#([^"]+)"', svg)
    assert used
    assert set(used) <= set(identifiers)
