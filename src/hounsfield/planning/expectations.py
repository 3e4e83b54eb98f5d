"""The time, memory and disk that the training of a network on whole images should take on this machine."""

from __future__ import annotations

from typing import TypeVar

import keras
import numpy as np

from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.base import Facts
from hounsfield.planning.budget import BUDGETS
from hounsfield.planning.speed import measure_speed, multiply_adds
from hounsfield.plans.whole_images import WholeImagePlan

AnyPlan = TypeVar("AnyPlan", bound=WholeImagePlan)

# Epochs also judge validation images and take batch statistics anew.
EPOCH_SURPLUS = 1.12
# Seconds for what comes before and after the epochs.
START_AND_END = 30


def expected(plan: AnyPlan, network: keras.Model, facts: Facts) -> AnyPlan:
    """The plan with the time, memory and disk that the training of its network should take on this machine."""
    hardware = Hardware.here(accelerators())
    width = plan.width or BUDGETS[plan.effort].width[len(plan.input_shape) - 1]
    speed = measure_speed(plan.input_shape, width, plan.batch_size)
    passes = round(plan.epochs * plan.folds * plan.train_share * facts.fingerprint.num_readable)
    seconds = EPOCH_SURPLUS * passes * multiply_adds(network) / speed.rates[plan.precision] + START_AND_END
    values = sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers)
    memory = 900 + (plan.batch_size * values * 4 * 2 + network.count_params() * 16) / 2**20
    disk = facts.num_prepared * int(np.prod(plan.input_shape)) * 4 / 2**20
    work = f"{passes:,} images at {multiply_adds(network) / 1e6:.0f} million multiply-adds on {hardware.describe()}"
    return plan.expecting(seconds, memory, disk, work=work, num_prepared=facts.num_prepared)
