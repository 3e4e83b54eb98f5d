"""What a training would take on this machine, as a plan expects it."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.plans.base import BasePlan, Effort


@dataclass(frozen=True)
class Cost:
    """An estimate for one effort.

    Attributes:
        effort: of the plan.
        seconds: of the whole training at most; early stopping may end it sooner.
        memory_mb: greatest resident memory.
        disk_mb: of the prepared images.
    """

    effort: Effort
    seconds: float
    memory_mb: float
    disk_mb: float

    @classmethod
    def of(cls, plan: BasePlan) -> Cost:
        """What a plan expects of its training."""
        seconds, memory, disk = (
            value or 0.0 for value in (plan.expected_seconds, plan.expected_memory_mb, plan.expected_disk_mb)
        )
        return cls(plan.effort, seconds, memory, disk)

    def words(self) -> tuple[str, str, str]:
        """Time, memory and disk as a person says them."""
        minutes, disk = self.seconds / 60, self.disk_mb
        time = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        sizes = [f"{size:,.0f} MB" if size < 10_000 else f"{size / 1000:,.0f} GB" for size in (self.memory_mb, disk)]
        return (f"{self.seconds:.0f} s" if minutes < 2 else time, sizes[0], sizes[1])
