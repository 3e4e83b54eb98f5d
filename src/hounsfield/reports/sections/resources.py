"""The sections on what the run took, what it ran on, and the plan with every decision and its reason."""

from __future__ import annotations

from hounsfield.reports.sections.content import Block, Section, Table, Verbatim
from hounsfield.runs import RunRecord

# Lannelongue et al., "Green Algorithms", Advanced Science 2021: W per core in full use, and W per GiB of memory.
CORE_WATTS, MEMORY_WATTS, ACCELERATOR_WATTS = 12.0, 0.3725, 300.0
# Fields of a plan that are shown elsewhere, or that tell a reader nothing.
ELSEWHERE = frozenset({"version", "task", "family", "labels", "pipeline", "anchors", "reasons"})
# Longer values, such as the limits of the augmentation, stand only in the whole plan.
LONGEST = 160


def resources_section(run: RunRecord) -> Section:
    """Time, memory and an estimate of the energy."""
    seconds, memory, measured = run.event("finished").get("seconds"), *_memory(run)
    rows = [("training and evaluation", _duration(seconds))]
    if "seconds" in run.history:
        rows.append(("of these in epochs", _duration(float(run.history["seconds"].sum()))))
    if memory:
        rows.append((f"memory, {measured}", f"{memory:,.0f} MiB"))
    if run.plan.expected_disk_mb is not None:
        rows.append(("disk for prepared images", f"{run.plan.expected_disk_mb:,.0f} MiB"))
    if seconds:
        rows.append(("energy, estimated", f"{_energy(run, float(seconds)):.3g} Wh"))
    note = (
        f"Energy: time × ({CORE_WATTS:g} W per core, {MEMORY_WATTS:g} W per GiB of memory, {ACCELERATOR_WATTS:g} W per "
        "accelerator), as if fully used, without cooling (Lannelongue et al. 2021). An order of magnitude, not a "
        "measurement."
    )
    return Section("resources", "Resources used", (Table("", ("", ""), tuple(rows), note),))


def _memory(run: RunRecord) -> tuple[float, str]:
    """MiB, and whether they were measured."""
    peak = run.event("finished").get("peak_memory_mb")
    return (float(peak), "peak") if peak else (run.plan.expected_memory_mb or 0.0, "expected by the plan")


def _energy(run: RunRecord, seconds: float) -> float:
    """Watt hours."""
    accelerators = len(run.environment.get("accelerators", ()))
    watts = run.environment["cores"] * CORE_WATTS + _memory(run)[0] / 1024 * MEMORY_WATTS
    return float((watts + accelerators * ACCELERATOR_WATTS) * seconds / 3600)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def environment_section(run: RunRecord) -> Section:
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
        Table("Software and hardware", ("", ""), tuple(rows), wordy=True, folded=True),
        decisions(run),
        Verbatim("The whole plan, with the reason for each decision (plan.yaml)", run.plan.to_yaml()),
    )
    return Section("environment", "Environment and plan", blocks)


def decisions(run: RunRecord) -> Table:
    """Every short decision of the plan with its reason."""
    values = run.plan.model_dump(mode="json", exclude=set(ELSEWHERE))
    rows = [
        (name.replace("_", " "), str(value), run.plan.reasons.get(name, ""))
        for name, value in values.items()
        if len(str(value)) <= LONGEST
    ]
    return Table("Decisions of the plan", ("decision", "value", "reason"), tuple(rows), wordy=True, folded=True)
