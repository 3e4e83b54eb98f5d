"""A model of chest X-rays on images of other hospitals: internal figures beside external ones, and the drop.

    python bench/external.py tables CHEST_XRAY SUBGROUPS FOLDER
    hounsfield train FOLDER/internal.csv --allow-outside --out RUN
    python bench/external.py compare RUN FOLDER/external.csv

`tables` writes two tables with normal against pneumonia: one of paediatric images of one hospital, in whose table the
labels are normal, bacteria and virus; one of the frontal images (PA, AP) of a collection of many hospitals, whose
findings COVID-19, SARS, Streptococcus and Pneumocystis are pneumonia and No Finding is normal. Other findings, lateral
images and CT slices are left out. This was fixed before any prediction was seen.

`compare` tests the run on its own test images and on the external ones, with the threshold of the run. The drop is the
internal minus the external figure; its interval joins those of both, by patient (MOVER; Zou, Donner 2008), since the
images are independent. Where one of the two is too small a sample for its interval to hold, the drop has none.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.classification import Estimate
from hounsfield.testing import Tested, evaluate_run

FRONTAL = ("PA", "AP", "AP Supine")
PNEUMONIA = ("COVID-19", "SARS", "Streptococcus", "Pneumocystis")
LABELS = {"normal": "normal", "No Finding": "normal"} | dict.fromkeys(("bacteria", "virus", *PNEUMONIA), "pneumonia")
FIGURES = ("auc", "accuracy", "sensitivity", "specificity", "brier", "ece")


def write_tables(chest: Path, subgroups: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    internal = pd.read_csv(chest / "index.csv")
    external = pd.read_csv(subgroups / "index.csv").rename(columns={"finding": "label"})
    external = external[external["view"].isin(FRONTAL)]
    for name, table, source in (("internal", internal, chest), ("external", external, subgroups)):
        kept = table[table["label"].isin(LABELS)]
        made = pd.DataFrame(
            {
                "image": [str((source / image).resolve()) for image in kept["image"]],
                "label": kept["label"].map(LABELS),
                "patient": name + "-" + kept["patient"].astype(str),
            }
        )
        made.to_csv(folder / f"{name}.csv", index=False)
        counts = made.groupby("label").agg(images=("image", "size"), patients=("patient", "nunique"))
        print(f"{name}: {counts.to_dict('index')}")


def compare(run: Path, data: Path) -> None:
    tests = {
        "internal": evaluate_run(run),
        "external": evaluate_run(run, DataRequest(str(data), allow_outside=True)),
    }
    for name, tested in tests.items():
        print(f"{name}: {described(tested)}")
    internal, external = (tested.assessment.estimates for tested in tests.values())
    print("| | internal | external | drop |\n| --- | --- | --- | --- |")
    for name in FIGURES:
        title = tests["internal"].assessment.title(name)
        print(
            f"| {title} | {said(internal[name])} | {said(external[name])} | {dropped(internal[name], external[name])} |"
        )


def described(tested: Tested) -> str:
    table = tested.cohort.table
    counts = ", ".join(f"{count} {label}" for label, count in table["label"].value_counts().items())
    return " ".join([f"{counts}; {table['patient'].nunique()} patients.", *tested.assessment.notes])


def dropped(inside: Estimate, outside: Estimate) -> str:
    """The difference of two independent figures."""
    drop = inside.value - outside.value
    if inside.note or outside.note or not (math.isfinite(inside.low) and math.isfinite(outside.low)):
        return f"{drop:+.3f}, no interval"
    low = drop - math.hypot(inside.value - inside.low, outside.high - outside.value)
    high = drop + math.hypot(inside.high - inside.value, outside.value - outside.low)
    return f"{drop:+.3f} ({low:+.3f} to {high:+.3f})"


def said(one: Estimate) -> str:
    ends = f"({one.low:.3f}–{one.high:.3f})" if math.isfinite(one.low) else "(no interval)"
    return f"{one.value:.3f} {ends}, n {one.n}{f': {one.note}' if one.note else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tables = commands.add_parser("tables")
    for name in ("chest", "subgroups", "folder"):
        tables.add_argument(name, type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("run", type=Path)
    comparing.add_argument("data", type=Path)
    wanted = parser.parse_args()
    if wanted.command == "tables":
        write_tables(wanted.chest, wanted.subgroups, wanted.folder)
    else:
        compare(wanted.run, wanted.data)


if __name__ == "__main__":
    main()
