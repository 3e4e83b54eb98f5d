"""The sections on the training: did it overfit, what did it take, and on what did it run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hounsfield.evaluation.ablation import Ablation
from hounsfield.evaluation.learning_curve import Forecast, LearningCurve
from hounsfield.reports.figures import learning_curves
from hounsfield.reports.run_report.content import (
    Block,
    Callout,
    Drawing,
    Paragraph,
    Points,
    Section,
    Table,
    Verbatim,
    number,
)
from hounsfield.reports.run_report.detector_training import decision_table, detector_training_section
from hounsfield.reports.subgroups import ablation_figure, learning_curve_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs.record import DetectorRun, Run, RunRecord

# Lannelongue et al., "Green Algorithms", Advanced Science 2021: W a core in full use, and W a GiB of memory.
CORE_WATTS, MEMORY_WATTS, ACCELERATOR_WATTS = 12.0, 0.3725, 300.0
MEANINGS = {
    "overfitting": "the network knows its training images better than it understands them",
    "underfitting": "the network has not yet learned its training images",
    "balanced": "training and validation agree",
}
# What further commands find out of a training: addition -> what, and by which command.
FURTHER = {
    "ablation": ("what each remedy against overfitting contributed", "hounsfield ablate RUN"),
    "learning_curve": ("what more patients would bring", "hounsfield forecast RUN"),
}
DECISIONS = (
    "effort",
    "seed",
    "network",
    "width",
    "weights",
    "pretrained",
    "input_shape",
    "batch_size",
    "epochs",
    "patience",
    "learning_rate",
    "weight_decay",
    "dropout",
    "label_smoothing",
    "balance_classes",
    "train_share",
    "average_decay",
    "folds",
    "test_time_flips",
    "precision",
)


def training_section(run: Run) -> Section:
    """Learning curves; of a classifier the gap between training and validation, and whether more data would help."""
    if isinstance(run, DetectorRun):
        return detector_training_section(run)
    return Section("training", "Training and overfitting", tuple(_training_blocks(run)))


def _training_blocks(run: RunRecord) -> Iterator[Block]:
    found = run.event("diagnosis")
    if found:
        verdict = str(found["verdict"])
        yield Callout(
            "warning" if verdict == "overfitting" else "note",
            f"{verdict.capitalize()}: {MEANINGS[verdict]}",
            f"The log-loss of the final network is {number(found['train_loss'])} on training images without "
            f"augmentation and {number(found['val_loss'])} on validation images, a gap of {found['gap']:+.3f}; "
            f"guessing by frequency has {number(found['chance_loss'])}. A gap under 0.08 is within "
            "what another seed would give.",
        )
        yield Paragraph(f"Against overfitting the plan already uses: {'; '.join(found['already'])}.")
        yield Paragraph("What might be tried next, judged by validation:")
        yield Points(tuple(str(remedy["what"]) for remedy in found["remedies"]))
    best = run.history.sort_values("val_loss").groupby("member").first() if "member" in run.history else run.history
    rows = [
        (f"network {member}", str(int(row["epoch"])), number(row["loss"]), number(row["val_loss"]))
        for member, row in best.iterrows()
    ]
    yield Drawing(
        svg_of(learning_curves(run.history), "learning", "Learning curves"),
        "Loss against the epoch. The training loss is that of augmented images with smoothed labels, so "
        "it may lie above that of validation; the epoch with the least validation loss is kept.",
        Table("", ("", "best epoch", "training loss", "validation loss"), tuple(rows)),
    )
    ablation = run.additions.get("ablation")
    if ablation:
        yield _remedies(Ablation.from_dict(ablation))
        yield Points(tuple(str(line) for line in ablation["lines"]))
    curve = run.additions.get("learning_curve")
    if curve:
        yield _data_curve(curve)
        yield Points(tuple(str(line) for line in curve["lines"]))
    missing = [f"{what}: {command}" for name, (what, command) in FURTHER.items() if name not in run.additions]
    if missing:
        yield Callout("note", "Not looked at yet", f"{'; '.join(missing)}. Make the report again afterwards.")


def _remedies(found: Ablation) -> Drawing:
    rows = [
        (
            f"without {each.remedy}",
            *(
                f"{each.without[name]:.3f}, {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
                for name, change in each.changes.items()
            ),
            each.verdict,
        )
        for each in found.bought
    ]
    planned = ("as planned", *(number(found.planned[name]) for name in found.bought[0].changes), "")
    return Drawing(
        svg_of(ablation_figure(found), "remedies", "Change of the log loss without each remedy"),
        "What did the remedies against overfitting bring? Trainings without each, on the same validation images.",
        Table("", ("", "log loss, and change", "AUC, and change", "the remedy"), (planned, *rows)),
    )


def _data_curve(found: dict[str, Any]) -> Drawing:
    known = {field.name for field in fields(LearningCurve)}
    forecasts = tuple(Forecast(**forecast) for forecast in found["forecasts"])
    values = {name: value for name, value in found.items() if name in known}
    curve = LearningCurve(**(values | {"forecasts": forecasts}))
    rows = [
        (f"{size:,}", number(error), f"{number(low)} to {number(high)}", "measured")
        for size, error, low, high in zip(curve.sizes, curve.errors, curve.lows, curve.highs, strict=True)
    ]
    rows += [
        (f"{one.size:,}", number(one.error), f"{number(one.low)} to {number(one.high)}", "expected")
        for one in forecasts
    ]
    return Drawing(
        svg_of(learning_curve_figure(curve), "data", "Error against the number of training images"),
        "Would more data help? Error against training size, and where it leads.",
        Table("", (f"training {curve.unit}", curve.title, "95 % interval", ""), tuple(rows)),
    )


def resources_section(run: RunRecord) -> Section:
    """Time, memory and an estimate of the energy."""
    seconds = run.event("finished").get("seconds")
    rows = [("training and evaluation", _duration(seconds))]
    if "seconds" in run.history:
        rows.append(("of these in epochs", _duration(float(run.history["seconds"].sum()))))
    memory = run.event("finished").get("peak_memory_mb") or run.plan.get("expected_memory_mb")
    measured = "peak" if run.event("finished").get("peak_memory_mb") else "expected by the plan"
    if memory:
        rows.append((f"memory, {measured}", f"{memory:,.0f} MiB"))
    if run.plan.get("expected_disk_mb") is not None:
        rows.append(("disk for prepared images", f"{run.plan['expected_disk_mb']:,.0f} MiB"))
    if seconds:
        rows.append(("energy, estimated", f"{_energy(run, float(seconds)):.3g} Wh"))
    note = (
        f"Energy: time × ({CORE_WATTS:g} W a core, {MEMORY_WATTS:g} W a GiB of memory, {ACCELERATOR_WATTS:g} W an "
        "accelerator), as if in full use, without cooling (Lannelongue et al. 2021). It is an order of magnitude, not "
        "a measurement."
    )
    return Section("resources", "Resources used", (Table("", ("", ""), tuple(rows), note),))


def _energy(run: RunRecord, seconds: float) -> float:
    """Watt hours."""
    memory = (run.event("finished").get("peak_memory_mb") or run.plan.get("expected_memory_mb") or 0) / 1024
    accelerators = len(run.environment.get("accelerators", ()))
    watts = run.environment["cores"] * CORE_WATTS + memory * MEMORY_WATTS + accelerators * ACCELERATOR_WATTS
    return float(watts * seconds / 3600)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def environment_section(run: Run) -> Section:
    """What the run was made with, and the plan with every decision and its reason."""
    facts = run.environment
    hardware = f"{facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB memory"
    rows = [
        ("Hounsfield", facts["hounsfield"]),
        ("Python", facts["python"]),
        ("Keras backend", facts["backend"]),
        ("platform", facts["platform"]),
        ("hardware", f"{hardware}, {', '.join(facts['accelerators']) or 'no accelerator'}"),
        *((name, str(version)) for name, version in facts["packages"].items()),
    ]
    blocks: tuple[Block, ...] = (
        Table("What it ran on", ("", ""), tuple(rows), wordy=True, beside=True),
        _decisions(run),
        Verbatim("The whole plan, with the reason of each decision (plan.yaml)", run.plan_text),
    )
    return Section("environment", "Environment and plan", blocks)


def _decisions(run: Run) -> Table:
    if isinstance(run, DetectorRun):
        return decision_table(run)
    decisions = [(name.replace("_", " "), str(run.plan.get(name))) for name in DECISIONS]
    return Table("The main decisions of the plan", ("", ""), tuple(decisions), wordy=True, beside=True)
