"""What every plan is: each decision of a training with its reason, as one file to be read, edited and rerun."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hounsfield.atomic import write_text
from hounsfield.errors import PlanError
from hounsfield.plans.architecture import with_weights
from hounsfield.plans.decision import Decision
from hounsfield.preprocessing import Pipeline
from hounsfield.tasks import Family, Task, check_labels, check_shape, family_of
from hounsfield.textfiles import MAX_YAML_BYTES, parse_yaml, read_text

Effort = Literal["quick", "standard", "thorough"]
# The time that a training of each effort may take, in all.
EFFORT_MINUTES: dict[Effort, float] = {"quick": 2, "standard": 20, "thorough": 120}
COMMENT_WIDTH = 100
# What no plan needs: channels of the first stage, and images, epochs and the like.
MAX_WIDTH = 4096
MAX_COUNT = 10**6
# Two years.
MAX_MINUTES = 10**6
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
# Fields of an augmentation that say what images of this cohort may be taken for, whatever the strength.
SYMMETRIES = ("flip_axes", "rotate90")


class BasePlan(BaseModel):
    """The decisions that every training takes; ``reasons`` holds, by field, why the planner took it.

    Attributes:
        effort: the dial from which the planner derived the rest.
        seed: of the split, the initial weights, the order, the augmentation.
        labels: in class order; for a binary task (negative, positive).
        input_shape: what the network takes: spatial axes, then channels.
        pipeline: preprocessing steps; those that learn are fitted on training rows by the training.
        network: a name that ``models.build`` or, for a detector, ``models.backbone`` knows.
        width: channels of the first stage of a resnet; null for other networks.
        weights: what the network starts from: null for random weights, "imagenet" for those of keras.applications;
            families may take others.
        batch_size: images a step.
        accumulate: batches whose gradients make one optimiser step.
        minutes: that the training may take in all, from reading to results; null for no limit. Within it, the measured
            pace decides how many epochs are trained.
        epochs: passes over the training rows, at most.
        epoch_images: images of an epoch, another random part of the training rows each time; null for all rows.
        pacing: (network, after epoch, epochs in all) as the pace decided; a training follows it instead of the clock.
        patience: epochs without a better validation after which training stops.
        learning_rate: peak of the warm-up and cosine schedule.
        warmup: share of the steps in which the rate rises.
        weight_decay: of AdamW, decoupled (Loshchilov & Hutter, 2019).
        average_decay: weight of the past in the average of the weights, epoch by epoch.
        precision: of the arithmetic in training.
        expected_seconds: time that training should take here.
        expected_memory_mb: resident memory that training should need.
        expected_disk_mb: disk that the prepared images of all splits take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    # Field -> name -> values that the name stands for when the field is set by hand.
    named_values: ClassVar[Mapping[str, Mapping[Any, BaseModel]]] = {}

    version: Literal[1] = 1
    effort: Effort
    seed: int = Field(ge=0, lt=2**32)
    task: Task
    labels: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(check_labels)]
    input_shape: Annotated[tuple[int, ...], Field(min_length=3, max_length=4), AfterValidator(check_shape)]
    pipeline: Pipeline
    network: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    width: int | None = Field(default=None, ge=1, le=MAX_WIDTH)
    weights: str | None = None
    batch_size: int = Field(ge=1, le=MAX_COUNT)
    accumulate: int = Field(default=1, ge=1, le=MAX_COUNT)
    minutes: float | None = Field(default=None, gt=0, le=MAX_MINUTES)
    epochs: int = Field(ge=1, le=MAX_COUNT)
    epoch_images: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    pacing: tuple[tuple[Count, Annotated[int, Field(ge=0, le=MAX_COUNT)], Count], ...] = Field((), max_length=1000)
    patience: int = Field(ge=1, le=MAX_COUNT)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    average_decay: float = Field(ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16"]
    expected_seconds: float | None = Field(default=None, ge=0)
    expected_memory_mb: float | None = Field(default=None, ge=0)
    expected_disk_mb: float | None = Field(default=None, ge=0)
    reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The kind of truth that is trained on."""
        return family_of(self.task)

    @classmethod
    def decided(cls, decisions: Mapping[str, Decision[Any]]) -> Self:
        """The plan of some decisions, by field, with the reason of each."""
        values = {name: decision.value for name, decision in decisions.items()}
        reasons = {name: decision.why for name, decision in decisions.items() if decision.why}
        return cls.model_validate(values | {"reasons": reasons})

    @classmethod
    def settable(cls) -> tuple[str, ...]:
        """The fields that can be set by hand."""
        return tuple(name for name in cls.model_fields if name != "reasons")

    @model_validator(mode="before")
    @classmethod
    def _read_old_weights(cls, values: Any) -> Any:
        return with_weights(values)

    @field_validator("pipeline", mode="before")
    @classmethod
    def _read_pipeline(cls, value: Any) -> Any:
        pipeline = value if isinstance(value, Pipeline) else Pipeline.from_dict(value)
        if not pipeline.steps:
            raise ValueError("a plan needs preprocessing steps that bring an image to the input of the network")
        return pipeline

    def changed(self, assignments: Sequence[str]) -> Self:
        """The plan with some fields set by hand, each as ``field=value`` with a YAML value.

        ``augmentation`` also takes the name of a strength, which keeps what the planner knows of symmetries.

        Raises:
            PlanError: an assignment has another form, names no field, or gives a value out of its range.
        """
        values: dict[str, Any] = {}
        for assignment in assignments:
            name, sign, text = assignment.partition("=")
            if not sign or name not in self.settable():
                raise PlanError(
                    f"'{assignment}' does not set a field of the plan. Write field=value; the fields are "
                    f"{', '.join(self.settable())}."
                )
            values[name] = (
                self._named(name, text) if text in self.named_values.get(name, {}) else _read_value(name, text)
            )
        reasons = self.reasons | dict.fromkeys(values, "set by hand")
        if {"epochs", "minutes"} & values.keys():
            values["pacing"] = ()
        if "epochs" in values and self.minutes is not None and "minutes" not in values:
            values["minutes"], reasons["minutes"] = None, "no limit, since the epochs are set by hand"
            if self.epoch_images is not None and "epoch_images" not in values:
                values["epoch_images"], reasons["epoch_images"] = None, "all: there is no limit of time"
        return self.from_yaml(self.to_yaml(), overrides=values, origin="The changed plan").model_copy(
            update={"reasons": reasons}
        )

    def decided_epochs(self, network: int) -> tuple[tuple[int, int], ...]:
        """What the pace decided for a network, counted from 1: epochs that were trained, and epochs in all."""
        return tuple((after, epochs) for number, after, epochs in self.pacing if number == network)

    def with_epochs(self, network: int, decided: Sequence[tuple[int, int]]) -> Self:
        """The plan with what the pace decided for a network."""
        others = tuple(each for each in self.pacing if each[0] != network)
        pacing = (*others, *((network, after, epochs) for after, epochs in decided))
        why = "epochs that the measured pace left time for: (network, after epoch, epochs in all)"
        return self.model_copy(update={"pacing": pacing, "reasons": self.reasons | {"pacing": why}})

    def settled(self) -> Self:
        """The plan without a limit of time, with the epochs that its first network was given."""
        decided = self.decided_epochs(1)
        epochs = decided[-1][1] if decided else self.epochs
        return self.model_copy(update={"minutes": None, "pacing": (), "epochs": epochs})

    def expecting(self, seconds: float, memory_mb: float, disk_mb: float, *, work: str, num_prepared: int) -> Self:
        """The plan with what its training should take on this machine.

        ``work`` says what the time was computed from, ``num_prepared`` how many images the disk holds.
        """
        reasons = {
            "expected_seconds": work,
            "expected_memory_mb": (
                "the backend, one batch's activations, weights and optimiser; it does not grow with the cohort"
            ),
            "expected_disk_mb": f"about {num_prepared:,} prepared images: those of all splits",
        }
        return self.model_copy(
            update={
                "expected_seconds": float(round(seconds)),
                "expected_memory_mb": float(round(memory_mb)),
                "expected_disk_mb": float(round(disk_mb, 1)),
                "reasons": self.reasons | reasons,
            }
        )

    def _named(self, name: str, text: str) -> dict[str, Any]:
        """The values that a name stands for, with what the planner knows of the symmetries of this cohort."""
        kept = {key: value for key, value in getattr(self, name).model_dump().items() if key in SYMMETRIES}
        return self.named_values[name][text].model_dump() | kept

    def to_yaml(self) -> str:
        """The plan as YAML, each field under a comment that gives its reason."""
        values = self.model_dump(mode="json", exclude={"reasons", "pipeline"}) | {"pipeline": self.pipeline.to_dict()}
        lines = ["# A plan of Hounsfield. Edit it, then: hounsfield train DATA --plan THIS_FILE", ""]
        for name in self.settable():
            lines += [f"# {line}" for line in textwrap.wrap(self.reasons.get(name, ""), COMMENT_WIDTH)]
            lines.append(_yaml_field(name, values[name]))
        return "\n".join(lines) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the plan into a folder that is made if need be; never half a file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.to_yaml())

    @classmethod
    def from_yaml(cls, text: str, *, overrides: Mapping[str, Any] | None = None, origin: str = "the plan") -> Self:
        """Read a plan; comments above a field become its reason, ``overrides`` replace fields.

        Raises:
            PlanError: the text is no YAML mapping, or a field is missing, unknown or out of its range.
        """
        try:
            values = parse_yaml(text)
        except yaml.YAMLError as error:
            raise PlanError(
                f"{origin} is not YAML: {' '.join(str(error).split())}. Correct the line it names, or make a new plan "
                "with 'hounsfield plan DATA'."
            ) from error
        if not isinstance(values, dict):
            raise PlanError(
                f"{origin} holds no mapping of fields. A plan as 'hounsfield plan DATA -o plan.yaml' writes it was "
                "expected."
            )
        try:
            return cls.model_validate(values | dict(overrides or {}) | {"reasons": _comments(text)})
        except ValidationError as error:
            raise PlanError(
                f"{origin} cannot be used: {'; '.join(map(_problem, error.errors()))}. Correct these fields, or make a "
                "new plan with 'hounsfield plan DATA'."
            ) from error

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a plan from a file.

        Raises:
            PlanError: the file is missing, unreadable or no plan.
        """
        return cls.from_yaml(cls.read_text(path), origin=f"The plan {path}")

    @staticmethod
    def read_text(path: Path | str) -> str:
        """The text of a plan's file.

        Raises:
            PlanError: the file is missing or unreadable.
        """
        path = Path(path)
        try:
            return read_text(path, limit=MAX_YAML_BYTES)
        except (OSError, ValueError) as error:
            raise PlanError(
                f"The plan {path} cannot be read ({error}). Give the path of a file that "
                f"'hounsfield plan DATA -o {path.name}' wrote."
            ) from error


def _yaml_field(name: str, value: Any) -> str:
    """One field: lists on one line, mappings and the pipeline's steps below each other."""
    if isinstance(value, dict):
        style = False if name == "pipeline" else None
        return yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=style, allow_unicode=True).rstrip()
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return f"{name}: {text.removesuffix('...' + chr(10)).rstrip()}"


def _read_value(name: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise PlanError(
            f"The value of '{name}={text}' is not YAML ({' '.join(str(error).split())}). Write a number, true, "
            "false, null or a list."
        ) from error


def _problem(item: Mapping[str, Any]) -> str:
    """One of pydantic's errors; one of several fields names them itself."""
    told = str(item["msg"]).removeprefix("Value error, ")
    place = ".".join(map(str, item["loc"]))
    return f"'{place}': {told} (found {item['input']!r:.60})" if place else told


def _comments(text: str) -> dict[str, str]:
    reasons: dict[str, str] = {}
    pending: list[str] = []
    for line in text.splitlines():
        key = re.match(r"([a-z_]+):", line)
        if line.startswith("# "):
            pending.append(line[2:])
        elif key:
            if pending:
                reasons[key[1]] = " ".join(pending)
            pending = []
        elif not line.strip():
            pending = []
    return reasons
