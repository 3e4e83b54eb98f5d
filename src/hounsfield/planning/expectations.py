"""The time, memory and disk that a plan for a classifier should take on this machine."""

from __future__ import annotations

import numpy as np

from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.split import FRACTIONS
from hounsfield.hardware import Hardware
from hounsfield.models import build
from hounsfield.models.devices import accelerators
from hounsfield.planning.budget import BUDGETS
from hounsfield.planning.speed import Speed, measure_speed, multiply_adds
from hounsfield.plans.labels import Plan

# Epochs also judge validation images and take batch statistics anew.
EPOCH_SURPLUS = 1.12
# Seconds for what comes before and after the epochs.
START_AND_END = 30


def with_expectations_here(plan: Plan, seen: Fingerprint, num_prepared: int | None = None) -> Plan:
    """The expectations of a plan that was changed by hand, measured anew; see ``make_plan``."""
    width = plan.width or BUDGETS[plan.effort].width[len(plan.input_shape) - 1]
    speed = measure_speed(plan.input_shape, width, plan.batch_size)
    return with_expectations(plan, seen, speed, Hardware.here(accelerators()), num_prepared)


def with_expectations(
    plan: Plan, seen: Fingerprint, speed: Speed, hardware: Hardware, num_prepared: int | None = None
) -> Plan:
    """The plan with the time, memory and disk that it should take on this machine; see ``make_plan``."""
    network = build(plan.network, plan.input_shape, len(plan.labels), plan.task, **plan.network_options())
    passes = round(plan.epochs * plan.folds * plan.train_share * seen.num_readable)
    seconds = EPOCH_SURPLUS * passes * multiply_adds(network) / speed.rates[plan.precision] + START_AND_END
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers)
    memory = 900 + (plan.batch_size * values * 4 * 2 + network.count_params() * 16) / 2**20
    num_prepared = num_prepared or prepared_images(seen)
    disk = num_prepared * int(np.prod(plan.input_shape)) * 4 / 2**20
    work = f"{passes:,} images at {multiply_adds(network) / 1e6:.0f} million multiply-adds on {hardware.describe()}"
    return plan.expecting(seconds, memory, disk, work=work, num_prepared=num_prepared)


def prepared_images(seen: Fingerprint) -> int:
    """How many images the store keeps where the training rows are their usual share: it keeps those of all splits."""
    return round(seen.num_readable / FRACTIONS[0])
