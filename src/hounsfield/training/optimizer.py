"""AdamW with a schedule whose pace can change while the network is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras

from hounsfield.errors import require
from hounsfield.shares import mean_of_gradients
from hounsfield.training.schedule import Schedule


class PacedAdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # Keras has no types
    """AdamW whose learning-rate schedule can be passed faster or slower from some step on.

    Where the schedule is lies in variables of the optimiser: every backend reads them anew in each step, and a compiled
    step stays as it is.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the variables: those of AdamW, then the step and the place of the last change, and the pace since."""
        if self.built:
            return
        super().build(variables)
        self.kept = list(self.variables)
        self.since, self.place, self.pace = (
            self.add_variable((), initializer, "float32", name=name)
            for name, initializer in (("since", "zeros"), ("place", "zeros"), ("pace", "ones"))
        )

    def follow(self, since: float, place: float, pace: float) -> None:
        """Go on in the schedule from ``place``, at step ``since``, with ``pace`` steps of it in each step."""
        for variable, value in ((self.since, since), (self.place, place), (self.pace, pace)):
            variable.assign(value)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step, by the gradients of the whole batch where several processes share it."""
        super().apply(mean_of_gradients(grads), trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of Adam for a variable.

        Keras composes it of some ten operations, each of which reads and writes as many values as the network has
        weights. TensorFlow's own kernel, which Keras does not use, passes over them once, and computes the same.
        """
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        tensorflow = require("tensorflow", "training on the TensorFlow backend")
        number, step = self._get_variable_index(variable), keras.ops.cast(self.iterations + 1, variable.dtype)
        tensorflow.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=keras.ops.power(self.beta_1, step),
            beta2_power=keras.ops.power(self.beta_2, step),
            lr=keras.ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=keras.ops.cast(gradient, variable.dtype),
        )

    def _get_current_learning_rate(self) -> Any:
        if not self.built or not callable(self._learning_rate):
            return super()._get_current_learning_rate()
        steps = keras.ops.cast(self._iterations, "float32")
        return self._learning_rate((steps - self.since) * self.pace + self.place)


# Of a network that was trained before: where a third of its variables lies -> its rate, as a share of that of the last,
# and the share of all steps after which it is trained at all. After Howard & Ruder, 2018 (arXiv:1801.06146).
STAGES = ((1 / 9, 0.3), (1 / 3, 0.15), (1.0, 0.0))


class StagedAdamW(PacedAdamW):
    """Trains the first layers later than the last ones, and at lower rates.

    Backends differ in how they update variables, so each is moved a share of the way that AdamW would move it.

    Args:
        total: steps of the training, as planned.
        options: of AdamW.
        named: likewise.
    """

    def __init__(self, *options: Any, total: int, **named: Any) -> None:
        super().__init__(*options, **named)
        self._total = total

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step, in which each variable goes its stage's share of the way."""
        steps = keras.ops.cast(self._iterations, "float32")
        variables = self._trainable_variables
        before = [keras.ops.copy(variable) for variable in variables]
        super().apply(grads, trainable_variables)
        # The last two are the kernel and the bias of the last layer, which belong to the last stage.
        length = max(len(variables) - 2, 1)
        for number, (variable, old) in enumerate(zip(variables, before, strict=True)):
            rate, start = STAGES[min(len(STAGES) - 1, len(STAGES) * number // length)]
            share = keras.ops.cast(rate * keras.ops.cast(steps >= start * self._total, "float32"), variable.dtype)
            variable.assign(old + share * (variable - old))


def optimizer(schedule: Schedule, steps: int, variables: Sequence[keras.Variable]) -> PacedAdamW:
    """AdamW with warm-up, cosine and accumulated gradients.

    Args:
        schedule: the plan's decisions.
        steps: batches in an epoch.
        variables: that are trained, those of the first layers first.
    """
    # An epoch with fewer batches than are to be accumulated would never change a weight.
    accumulate = min(schedule.accumulate, steps)
    # Keras counts batches in its schedules, not the steps that accumulated gradients make.
    total = schedule.epochs * steps
    warmup = min(total - 1, max(1, round(schedule.warmup * total)))
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=schedule.learning_rate / 25,
        warmup_target=schedule.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
        alpha=0.005,
    )
    kind: Any = partial(StagedAdamW, total=total) if schedule.in_stages else PacedAdamW
    made: PacedAdamW = kind(
        rate,
        weight_decay=schedule.weight_decay,
        beta_2=0.99,
        global_clipnorm=5.0,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    # One-dimensional weights are biases and normalisation scales, which decay only harms.
    made.exclude_from_weight_decay([weight for weight in variables if len(weight.shape) < 2])
    # Built by the first step, its variables would have TensorFlow trace that step twice.
    made.build(variables)
    return made
