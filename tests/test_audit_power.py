"""What an audit without findings could have seen, and questions that were fixed beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hounsfield.cli import main as cli
from hounsfield.errors import EvaluationError
from hounsfield.evaluation import as_outcomes
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.sample_size import cases_for_gap


def drawn(count: int = 400, *, gap: float = 0.0, seed: int = 0) -> tuple[Outcomes, pd.DataFrame]:
    """A sensitivity and specificity of .9 each; the first by ``gap`` lower at the site of 15 %."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"site": rng.choice(["a", "b"], count, p=[0.85, 0.15]), "sex": rng.choice(["F", "M"], count)})
    truth = rng.random(count) < 0.5
    right = rng.random(count) < 0.9 - gap * (truth & (table["site"] == "b"))
    score = np.where(truth == right, rng.uniform(0.5, 1, count), rng.uniform(0, 0.5, count))
    return as_outcomes(truth, score, labels=("normal", "sick"), task="binary"), table


def test_the_patients_needed_are_those_of_the_formula() -> None:
    answers, table = drawn()
    audit = audit_bias(answers, table)
    assert not audit.findings
    lines = "\n".join(audit.lines())
    assert "Largest gaps that are not excluded" in lines
    gap = next(each for each in audit.not_excluded if each.metric == "sensitivity")
    singles = [each for each in audit.gaps if len(each.parts) == 1]
    assert max(abs(gap.low), abs(gap.high)) == max(
        max(abs(each.low), abs(each.high)) for each in singles if each.metric == "sensitivity"
    )
    column, level = gap.parts[0]
    sick = answers.truth[:, 0]
    share = (table[column] == level)[sick].mean()
    needed = cases_for_gap(gap.outside, 0.1, share, significance=0.0075, comparisons=len(singles))
    assert audit.needed(gap) == (needed, int(sick.sum()))
    assert f"about {needed:,} patients with 'sick', here {int(sick.sum()):,} images" in lines


def test_named_attributes_are_compared_alone_at_five_percent() -> None:
    answers, table = drawn(gap=0.22, seed=1)
    open_audit, named = audit_bias(answers, table), audit_bias(answers, table, attributes=("site",))
    assert (open_audit.significance, named.significance) == (0.01, 0.05)
    assert [each.name for each in named.attributes] == ["site"]
    assert all(len(group.parts) == 1 for group in named.groups)
    # Fewer comparisons, and the whole of the significance.
    p_values = [min(gap.adjusted for gap in audit.gaps if gap.metric == "sensitivity") for audit in (open_audit, named)]
    assert p_values[1] < p_values[0]
    assert "fixed beforehand" in named.lines()[0]


@pytest.mark.parametrize(("names", "why"), [(("age",), "has no column age"), (("image",), "makes no groups")])
def test_columns_that_make_no_groups_are_refused(names: tuple[str, ...], why: str) -> None:
    answers, table = drawn()
    with pytest.raises(EvaluationError, match=why):
        audit_bias(answers, table.assign(image=range(len(table))), attributes=names)


def test_the_command_takes_attributes_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, table = drawn()
    table = table.assign(truth=np.where(answers.truth[:, 0], "sick", "normal"), p_sick=answers.scores[:, 0])
    table.to_csv(tmp_path / "p.csv", index=False)
    line = ["evaluate", str(tmp_path / "p.csv"), "--attributes", "site", "--replicates", "100", "--json"]
    cli.app(line, standalone_mode=False)
    found = json.loads(capsys.readouterr().out)["bias"]
    assert list(found["attributes"]) == ["site"]
    assert (found["named"], found["significance"]) == (True, 0.05)
    assert found["not_excluded"][0]["metric"] == "auc"


def test_reasons_stand_once_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sick = np.arange(60) < 6
    scores = np.random.default_rng(0).random(60)
    table = pd.DataFrame({"image": range(60), "truth": np.where(sick, "sick", "normal"), "p_sick": scores})
    table.to_csv(tmp_path / "p.csv", index=False)
    cli.app(["evaluate", str(tmp_path / "p.csv"), "--replicates", "100"], standalone_mode=False)
    told = capsys.readouterr().out
    assert told.count("unreliable: rests on 6 patients of a kind; at least 10 are needed") == 1
    rows = {
        cells[0]: cells[4] for line in told.splitlines() if len(cells := [*map(str.strip, line.split("│")[1:])]) > 4
    }
    (mark,) = {line.split()[0] for line in told.splitlines() if "rests on 6" in line}
    assert (rows["AUC"], rows["Specificity"]) == (mark, "")
