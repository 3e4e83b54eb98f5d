"""Whether the network overfits, what the plan does against it already, and what to try next."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hounsfield.plans.whole_images import WholeImagePlan

Verdict = Literal["overfitting", "underfitting", "balanced"]
# Smaller differences of log loss are within the variation between seeds.
NOTABLE_GAP = 0.08
# A network that has fitted its training images has less than this share of the loss of predicting the label
# frequencies.
LEARNED_SHARE = 0.45


@dataclass(frozen=True)
class Remedy:
    """Something to try next, and the command that tries it."""

    what: str
    command: str


@dataclass(frozen=True)
class Diagnosis:
    """The gap between training and validation, on unchanged images and with the final weights.

    Attributes:
        train_loss: log-loss on training rows, without augmentation.
        val_loss: log-loss on validation rows.
        gap: their difference.
        chance_loss: log loss of predicting the label frequencies.
        verdict: "overfitting", "underfitting" or "balanced".
        already: what the plan does against overfitting.
        remedies: what to try next.
        measure: what the losses are.
    """

    train_loss: float
    val_loss: float
    gap: float
    chance_loss: float
    verdict: Verdict
    already: tuple[str, ...]
    remedies: tuple[Remedy, ...]
    measure: str = "log loss"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The diagnosis in words, one line per statement."""
        meaning = {
            "overfitting": "the network performs better on training images than on new ones",
            "underfitting": "the network has not yet fitted its training images",
            "balanced": "the network performs alike on training and validation images",
        }[self.verdict]
        head = (
            f"Diagnosis: {self.verdict}, {meaning} ({self.measure} {self.train_loss:.3f} on training and "
            f"{self.val_loss:.3f} on validation images, gap {self.gap:+.3f})."
        )
        return [
            head,
            f"  Already in the plan: {'; '.join(self.already)}.",
            *(f"  Try: {remedy.what}: {remedy.command}" for remedy in self.remedies),
        ]


def diagnose(
    plan: WholeImagePlan,
    data: str,
    plan_file: Path,
    *,
    train_loss: float,
    val_loss: float,
    chance_loss: float,
    best_epoch: int,
    num_networks: int | None = None,
) -> Diagnosis:
    """Judge a finished training.

    Args:
        plan: of the training.
        data: DATA and its options, as they stand in a command.
        plan_file: where the plan lies; the remedies train by it again with one thing changed.
        train_loss: log-loss of the final network on training rows, without augmentation.
        val_loss: the same on rows it was not trained on.
        chance_loss: log loss of predicting the label frequencies.
        best_epoch: epoch of the smallest validation loss; 0 where the probe before a finetuning had it.
        num_networks: that were trained, as many as the plan's folds where not given; fewer after an interrupt.
    """
    gap = val_loss - train_loss
    if gap > NOTABLE_GAP:
        verdict: Verdict = "overfitting"
    elif train_loss > LEARNED_SHARE * chance_loss:
        verdict = "underfitting"
    else:
        verdict = "balanced"
    return Diagnosis(
        train_loss,
        val_loss,
        gap,
        chance_loss,
        verdict,
        _already(plan, best_epoch, num_networks or plan.folds),
        _remedies(plan, verdict, data, plan_file),
    )


def _already(plan: WholeImagePlan, best_epoch: int, num_networks: int) -> tuple[str, ...]:
    if plan.adapt == "probe":
        return (
            "one layer on features of a network that was trained before",
            f"its penalty, chosen on validation images ({best_epoch} of {plan.epochs})",
        )
    used, smoothing = plan.augmentation.changes(), getattr(plan, "label_smoothing", 0.0)
    measures = [
        (used, f"augmentation ({', '.join(used)})"),
        (plan.weight_decay, f"weight decay {plan.weight_decay:g}"),
        (plan.dropout, f"dropout {plan.dropout:g}"),
        (smoothing, f"label smoothing {smoothing:g}"),
        (plan.average_decay, "averaged weights"),
        (best_epoch, f"the weights of the best epoch ({best_epoch} of {plan.epochs})"),
        (not best_epoch, f"the weights of the probe, which none of {plan.epochs} epochs improved on in validation"),
        (num_networks > 1, f"an ensemble of {num_networks}"),
    ]
    return tuple(told for wanted, told in measures if wanted)


def _remedies(plan: WholeImagePlan, verdict: Verdict, data: str, plan_file: Path) -> tuple[Remedy, ...]:
    def remedy(what: str, *changes: str) -> Remedy:
        again = f"hounsfield train {data} --plan {shlex.quote(str(plan_file))}"
        return Remedy(what, " ".join([again, *(f"--set {change}" for change in changes)]))

    more = "more data, the most reliable measure; a training on half of the data shows how much it would add"
    if plan.adapt == "probe":
        return (
            remedy(more, f"train_share={plan.train_share / 2:g}"),
            Remedy(
                "all layers trained",
                f"hounsfield train {data} --weights {shlex.quote(str(plan.weights))} --adapt finetune",
            ),
        )
    # Residual networks have no pretrained weights.
    own_weights = ("weights=null",) if plan.weights else ()
    wider = (f"width={plan.width * 2}",) if plan.width else ("network=resnet34", *own_weights)
    narrower = (f"width={max(4, plan.width // 2)}",) if plan.width else ("network=resnet10", *own_weights)
    if plan.adapt is not None:
        # The size of the network is that of its weights.
        regularised = remedy("stronger augmentation", "augmentation=strong")
        longer = remedy("a longer training", f"epochs={2 * plan.epochs}", f"patience={2 * plan.patience}")
        return (
            remedy(more, f"train_share={plan.train_share / 2:g}"),
            longer if verdict == "underfitting" else regularised,
        )
    decay, dropout = max(2 * plan.weight_decay, 0.01), min(0.5, plan.dropout + 0.2)
    if verdict == "overfitting":
        return (
            remedy(more, f"train_share={plan.train_share / 2:g}"),
            remedy("stronger augmentation", "augmentation=strong"),
            remedy("more regularisation", f"weight_decay={decay:g}", f"dropout={dropout:g}"),
            remedy("a smaller network", *narrower),
        )
    if verdict == "underfitting":
        return (
            remedy("a longer training", f"epochs={2 * plan.epochs}", f"patience={2 * plan.patience}"),
            remedy("a larger network", *wider),
            remedy("weaker augmentation", "augmentation=light"),
        )
    efforts = {"quick": "standard", "standard": "thorough"}
    if plan.effort in efforts:
        again = f"hounsfield train {data} --effort {efforts[plan.effort]} --seed {plan.seed}"
        return (Remedy("more effort", again),)
    return (remedy("more data, or a larger network", *wider),)
