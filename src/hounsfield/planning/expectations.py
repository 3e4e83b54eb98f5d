"""The time, memory and disk that the training of a network on whole images should take on this machine."""

from __future__ import annotations

from typing import TypeVar

import keras
import numpy as np

from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning.adapting import expected_seconds
from hounsfield.planning.base import Facts
from hounsfield.planning.budget import BUDGETS
from hounsfield.planning.dial import Timing
from hounsfield.planning.speed import measure_speed, multiply_adds
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained.slices import slices_of

AnyPlan = TypeVar("AnyPlan", bound=WholeImagePlan)

# Resident memory of a training beside its batches and weights: Keras on TensorFlow, OpenVINO, the evaluation. Measured
# peaks of small trainings on CPUs are 1,340 to 1,430 MB.
PROCESS_MB = 1450
# Epochs also judge validation images and take batch statistics anew.
EPOCH_SURPLUS = 1.12


def timing(plan: WholeImagePlan, network: keras.Model, facts: Facts) -> Timing:
    """What the training of a plan takes on this machine."""
    width = plan.width or BUDGETS[plan.effort].width[len(plan.input_shape) - 1]
    speed = measure_speed(plan.input_shape, width, plan.batch_size * (plan.views or 1))
    image = EPOCH_SURPLUS * plan.folds * multiply_adds(network) / speed.rate(plan.precision)
    return Timing.of(image, speed, facts, num_networks=plan.folds)


def expected(plan: AnyPlan, network: keras.Model, facts: Facts) -> AnyPlan:
    """The plan with the time, memory and disk that the training of its network should take on this machine."""
    hardware, num_rows = Hardware.here(accelerators()), plan.train_share * facts.fingerprint.num_readable
    # Of samples of several images each image counts.
    part = plan.epoch_images * (plan.views or 1) if plan.epoch_images else None
    counted = plan.model_copy(update={"epoch_images": part})
    if plan.adapt is None:
        seconds = timing(plan, network, facts).seconds(counted, num_rows)
    else:
        seconds = expected_seconds(plan, network, facts)
    values = slices_of(network) * sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers)
    batch_and_weights = plan.batch_size * (plan.views or 1) * values * 4 * 2 + network.count_params() * 16
    memory = PROCESS_MB + batch_and_weights / 2**20
    disk = facts.num_prepared * int(np.prod(plan.input_shape)) * 4 / 2**20
    images = round(plan.epochs * plan.folds * min(num_rows, part or num_rows))
    work = (
        f"within a factor of 2: at most {images:,} images at {multiply_adds(network) / 1e6:.0f} million multiply-adds "
        f"on {hardware.describe()}"
    )
    return plan.expecting(seconds, memory, disk, work=work, num_prepared=facts.num_prepared)
