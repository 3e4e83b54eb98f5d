"""What remedies brought: told from chance, in the right direction, and kept in a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from hounsfield.evaluation.ablation import Ablation
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.reports.subgroups import ablation_figure


def answers(noise: float) -> Outcomes:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    logits = 3 * (truth - 0.5) + noise * rng.normal(size=400)
    return as_outcomes(truth, expit(logits), labels=("no", "yes"), task="binary")


@pytest.fixture(scope="module")
def found() -> Ablation:
    without = {"augmentation": answers(4.0), "dropout": answers(1.01), "mixing": answers(0.1)}
    return Ablation.of(answers(1.0), without, groups=np.arange(400) // 2, num_replicates=300)


def test_a_remedy_helps_where_the_loss_is_larger_without_it(found: Ablation) -> None:
    verdicts = {each.remedy: each.verdict for each in found.bought}
    assert verdicts["augmentation"] == "it helped here"
    assert verdicts["mixing"] == "it cost here"
    for each in found.bought:
        for name, change in each.changes.items():
            assert each.without[name] - found.planned[name] == pytest.approx(change.value, abs=1e-9)
            assert change.low <= change.value <= change.high
    assert (found.cases, found.patients) == (400, 200)


def test_chance_is_not_called_a_difference() -> None:
    """Another draw of the same noise: in 95 of 100 cases nothing is found."""
    rng = np.random.default_rng(1)
    truth = rng.random(200) < 0.5
    verdicts = []
    for _ in range(40):
        first, second = (
            as_outcomes(truth, expit(3 * (truth - 0.5) + rng.normal(size=200)), labels=("no", "yes"), task="binary")
            for _ in range(2)
        )
        ablation = Ablation.of(first, {"nothing": second}, num_replicates=200)
        verdicts.append(ablation.bought[0].verdict)
        assert ablation.lines()[-1].startswith("Patients are unknown")
    assert verdicts.count("no difference beyond chance") >= 34


def test_it_is_kept_in_a_file_and_drawn(found: Ablation) -> None:
    again = Ablation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.lines() == found.lines()
    assert found.lines()[1].startswith("Without augmentation: log loss +")
    labels = [label.get_text() for label in ablation_figure(found).axes[0].get_yticklabels()]
    assert not found.lines()[-1].startswith("Patients are unknown")
    assert labels == ["without augmentation", "without dropout", "without mixing"]
