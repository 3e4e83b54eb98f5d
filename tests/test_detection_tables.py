"""Anyone's findings against anyone's true boxes: tables and COCO files, judged on the command line without Keras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hounsfield.boxes import COLUMNS, to_xywh
from hounsfield.cli.main import app
from hounsfield.cohorts.box_lists import read_findings, read_truth
from hounsfield.errors import CohortError, EvaluationError, HounsfieldError, UsageError
from hounsfield.evaluation import evaluate_detections
from hounsfield.evaluation.detections import Finding, Truth, as_detections
from hounsfield.testing.findings import evaluate_findings

LABELS = ("cell", "virus")
TEST = {"threshold": 0.5, "num_replicates": 100}


@pytest.fixture
def lists() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six images, the last without objects; most objects found a pixel off, some missed, some false."""
    generator = np.random.default_rng(0)
    true, found = [], []
    for number in range(5):
        image, patient = f"set/{number}.png", f"p{number}"
        for label in LABELS * 2:
            start = generator.integers(0, 80, 2)
            box = np.concatenate([start, start + generator.integers(8, 20, 2)]).astype(float)
            true.append({"image": image, "patient": patient, "label": label, **dict(zip(COLUMNS[2], box, strict=True))})
            if generator.random() < 0.8:
                moved = dict(zip(COLUMNS[2], box + generator.integers(-2, 3, 4), strict=True))
                found.append({"image": image, "label": label, **moved, "score": generator.random()})
        false = dict(zip(COLUMNS[2], (100.0, 100, 110, 110), strict=True))
        found.append({"image": image, "label": "cell", **false, "score": generator.random()})
    true.append({"image": "set/5.png", "patient": "p4", "label": None} | dict.fromkeys(COLUMNS[2]))
    return pd.DataFrame(true), pd.DataFrame(found)


def arrays(true: pd.DataFrame, found: pd.DataFrame) -> Any:
    """The same test laid out by hand."""
    truths, findings = [], []
    for number in range(6):
        one = true[(true["image"] == f"set/{number}.png") & true["label"].notna()]
        two = found[found["image"] == f"set/{number}.png"]
        classes = [[LABELS.index(label) for label in part["label"]] for part in (one, two)]
        truths.append(Truth(one[list(COLUMNS[2])].to_numpy(float), classes[0]))
        findings.append(Finding(two[list(COLUMNS[2])].to_numpy(float), classes[1], two["score"].to_numpy()))
    return as_detections(truths, findings, labels=LABELS)


def as_coco(true: pd.DataFrame) -> dict[str, Any]:
    images = [{"id": 10 + number, "file_name": f"set/{number}.png", "patient": f"p{number}"} for number in range(6)]
    kept = true[true["label"].notna()]
    boxes = to_xywh(kept[list(COLUMNS[2])].to_numpy(float))
    annotations = [
        {"id": row, "image_id": 10 + int(image[4]), "category_id": 3 + LABELS.index(label), "bbox": box.tolist()}
        for row, (image, label, box) in enumerate(zip(kept["image"], kept["label"], boxes, strict=True))
    ]
    categories = [{"id": 3 + number, "name": label} for number, label in enumerate(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_figures_are_those_of_the_arrays(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found.to_csv(tmp_path / "found.csv", index=False)
    assessment = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    patients = ["p0", "p1", "p2", "p3", "p4", "p4"]
    expected = evaluate_detections(arrays(true, found), groups=patients, num_replicates=100)
    assert assessment.patients == 5
    assert 0.2 < expected["ap50"].value < 0.95
    assert list(assessment.estimates) == list(expected)
    for name, estimate in expected.items():
        same = assessment.estimates[name]
        np.testing.assert_allclose([same.value, same.low, same.high], [estimate.value, estimate.low, estimate.high])
    (note,) = (note for note in assessment.notes if note.startswith("20 objects in 6 images"))
    assert "1 images have no finding" in note


def test_coco_files_say_the_same_as_tables(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    document = as_coco(true)
    (tmp_path / "true.json").write_text(json.dumps(document))
    boxes = to_xywh(found[list(COLUMNS[2])].to_numpy(float))
    results = [
        {"image_id": 10 + int(image[4]), "category_id": 3 + LABELS.index(label), "bbox": box.tolist(), "score": score}
        for image, label, box, score in zip(found["image"], found["label"], boxes, found["score"], strict=True)
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    whole = document | {"annotations": [{"id": row, **entry} for row, entry in enumerate(results)]}
    (tmp_path / "found.json").write_text(json.dumps(whole))
    found.to_parquet(tmp_path / "found.parquet")
    values = [
        {
            name: estimate.value
            for name, estimate in evaluate_findings(tmp_path / name, tmp_path / "true.json", **TEST).estimates.items()
        }
        for name in ("found.parquet", "results.json", "found.json")
    ]
    for other in values[1:]:
        np.testing.assert_allclose(list(other.values()), list(values[0].values()))


def test_other_paths_match_by_the_name_of_the_file(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found["image"] = found["image"].str.replace("set/", "/elsewhere/new/")
    found.to_csv(tmp_path / "found.csv", index=False)
    assessment = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    assert any("matched by their file names" in note for note in assessment.notes)
    assert assessment.estimates["recall"].value > 0


def test_findings_of_some_splits_are_judged_by_the_truth_of_these(
    lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    true, found = lists
    splits = {f"set/{number}.png": "train" if number < 3 else "test" for number in range(6)}
    true.assign(split=true["image"].map(splits)).to_csv(tmp_path / "true.csv", index=False)
    kept = found[found["image"].map(splits) == "test"]
    kept.assign(split="test").to_csv(tmp_path / "found.csv", index=False)
    assessment = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    assert assessment.detections.num_images == 3
    assert any("Only the 3 images of the split test" in note for note in assessment.notes)


@pytest.mark.parametrize(
    ("split", "images", "bias", "told"),
    [("test", 2, 1.0, "Only the 2 images of the split test"), ("held", 4, 0.0, "no image of the split held")],
)
def test_a_split_without_objects_is_judged_by_itself(
    split: str, images: int, bias: float, told: str, tmp_path: Path
) -> None:
    box = dict(zip(COLUMNS[2], (10.0, 10, 20, 20), strict=True))
    objects = [{"image": name, "split": "train", "label": "cell", **box} for name in "ab"]
    empty = [{"image": name, "split": "test", "label": None} for name in "cd"]
    pd.DataFrame(objects + empty).to_csv(tmp_path / "true.csv", index=False)
    found = [{"image": name, "split": split, "label": "cell", "score": 0.9, **box} for name in "cd"]
    pd.DataFrame(found).to_csv(tmp_path / "found.csv", index=False)
    assessment = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    assert assessment.detections.num_images == images
    assert assessment.estimates["count_bias"].value == pytest.approx(bias)
    assert any(told in note for note in assessment.notes)


def test_an_empty_table_says_that_nothing_was_found(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found.iloc[:0].to_csv(tmp_path / "found.csv", index=False)
    estimates = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST).estimates
    assert (estimates["ap"].value, estimates["recall"].value) == (0, 0)
    assert estimates["count_bias"].value == pytest.approx(-20 / 6)


def test_a_class_that_the_truth_has_not_is_false_and_said(
    lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found["label"] = found["label"].replace("virus", "debris")
    found.to_csv(tmp_path / "found.csv", index=False)
    assessment = evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    assert assessment.detections.labels == ("cell", "virus", "debris")
    assert "Findings of debris are all false: the truth has no such object." in assessment.notes
    assert assessment.estimates["ap50_virus"].value == 0
    assert np.isnan(assessment.estimates["ap50_debris"].value)


BAD: dict[str, tuple[str, str, type[HounsfieldError], str]] = {
    "no score": ("image,label,y0,x0,y1,x1\na.png,c,0,0,2,2\n", "", CohortError, "1 of 1 findings.*no score"),
    "no boxes": ("image,label,score\na.png,c,.5\n", "", CohortError, "has the columns image, label, score"),
    "another image": (
        "image,label,y0,x0,y1,x1,score\nb.png,c,0,0,2,2,.5\n",
        "",
        EvaluationError,
        "1 images that the truth does not, first 'b.png'.*empty box",
    ),
    "no valid truth": ("", "image,label,y0,x0,y1,x1\na.png,c,2,2,2,4\n", CohortError, "no valid box"),
    "volumes": (
        "image,label,z0,y0,x0,z1,y1,x1,score\na.png,c,0,0,0,2,2,2,.5\n",
        "",
        EvaluationError,
        "boxes of 6 coordinates and the truth of 4",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_are_told_in_one_paragraph(name: str, tmp_path: Path) -> None:
    found, truth, error, message = BAD[name]
    (tmp_path / "found.csv").write_text(found or "image,label,y0,x0,y1,x1,score\na.png,c,0,0,2,2,.5\n")
    (tmp_path / "true.csv").write_text(truth or "image,label,y0,x0,y1,x1\na.png,c,0,0,2,2\n")
    with pytest.raises(error, match=message) as outcome:
        evaluate_findings(tmp_path / "found.csv", tmp_path / "true.csv", **TEST)
    assert "\n" not in str(outcome.value)


def test_results_need_the_identifiers_of_a_coco_file(tmp_path: Path) -> None:
    (tmp_path / "true.csv").write_text("image,label,y0,x0,y1,x1\na.png,c,0,0,2,2\n")
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]))
    with pytest.raises(CohortError, match="identifiers of a COCO file"):
        read_findings(tmp_path / "results.json", read_truth(tmp_path / "true.csv"))
    with pytest.raises(CohortError, match="There is no file"):
        read_truth(tmp_path / "none.csv")


def test_the_command_prints_and_writes(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found.to_csv(tmp_path / "found.csv", index=False)
    command = ["evaluate", str(tmp_path / "found.csv"), "--truth", str(tmp_path / "true.csv"), "--replicates", "100"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--criterion", "centre"])
    assert done.exit_code == 0, done.output
    assert re.search(r"AP50\s+│\s+0\.\d{3}", done.stdout)
    assert "Counting bias: virus" in done.stdout
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["criterion"], written["overlap"], written["cases"]) == ("centre", 0.5, 6)
    assert {"counts.png", "free_response.png", "precision_recall.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    printed = json.loads(CliRunner().invoke(app, [*command, "--json", "--overlap", "0.3"]).stdout)
    assert printed["overlap"] == 0.3
    for wrong in (["--criterion", "dice"], ["--interventions"]):
        assert isinstance(CliRunner().invoke(app, [*command, *wrong]).exception, UsageError)
    alone = CliRunner().invoke(app, command[:2]).exception
    assert isinstance(alone, EvaluationError)
    assert "--truth" in str(alone)


def test_no_keras_is_imported(lists: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    true, found = lists
    true.to_csv(tmp_path / "true.csv", index=False)
    found.to_csv(tmp_path / "found.csv", index=False)
    code = (
        "import sys; from hounsfield.cli import main\n"
        "try: main.main()\nexcept SystemExit as end: assert not end.code\n"
        "assert 'keras' not in sys.modules"
    )
    arguments = ["evaluate", str(tmp_path / "found.csv"), "--truth", str(tmp_path / "true.csv"), "--replicates", "100"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
