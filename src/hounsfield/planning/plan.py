"""A plan: every decision of a training, as one file that a person can read, edit and rerun."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hounsfield.augmentation.policy import STRENGTHS, Augmentation
from hounsfield.errors import PlanError
from hounsfield.preprocessing import Pipeline

Effort = Literal["quick", "standard", "thorough"]
COMMENT_WIDTH = 100


class Plan(BaseModel):
    """Every decision of a training; ``reasons`` holds, by field, why the planner took it.

    Attributes:
        effort: the dial from which the planner derived the rest.
        seed: of the split, the initial weights, the order, the augmentation.
        task: "binary", "multi-class" or "multi-label".
        labels: in class order; for a binary task (negative, positive).
        input_shape: what the pipeline delivers and the network takes: spatial axes, then channels.
        pipeline: preprocessing steps; those that learn are fitted on training rows by the training.
        network: a name that ``models.build`` knows.
        width: channels of the first stage of a resnet; null for other networks.
        pretrained: start from ImageNet weights (networks of keras.applications only).
        dropout: share of the pooled features dropped in training.
        augmentation: limits of the random changes.
        batch_size: images a step.
        accumulate: batches whose gradients make one optimiser step.
        epochs: passes over the training rows, at most.
        patience: epochs without a better validation loss after which training stops.
        learning_rate: peak of the warm-up and cosine schedule.
        warmup: share of the steps in which the rate rises.
        weight_decay: of AdamW, decoupled (Loshchilov & Hutter, 2019).
        label_smoothing: share of each target that is spread over all labels.
        balance_classes: weight rows so that each label counts the same in the loss.
        balance_groups: a column of the table, or empty; weight rows so that, within each label, each group of this
            column counts the same in the loss, and the group does not tell the label.
        train_share: share of the training patients that is used; less than 1 shows what more data brings.
        average_decay: weight of the past in the average of the weights, epoch by epoch.
        folds: 1 trains one network on the training rows; k trains k networks, each on (k−1)/k of the training
            and validation rows, and averages their logits.
        test_time_flips: spatial axes along which the mirrored image is predicted too.
        precision: of the arithmetic in training.
        threshold: probability from which a label is called present (binary and multi-label tasks).
        expected_seconds: time that training should take here.
        expected_memory_mb: resident memory that training should need.
        expected_disk_mb: disk that the prepared images take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    effort: Effort
    seed: int = Field(ge=0)
    task: Literal["binary", "multi-class", "multi-label"]
    labels: tuple[str, ...] = Field(min_length=1)
    input_shape: tuple[int, ...] = Field(min_length=3, max_length=4)
    pipeline: Pipeline
    network: str
    width: int | None = Field(default=None, ge=1)
    pretrained: bool = False
    dropout: float = Field(ge=0, lt=1)
    augmentation: Augmentation
    batch_size: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    balance_classes: bool
    balance_groups: str = ""
    train_share: float = Field(default=1.0, gt=0, le=1)
    average_decay: float = Field(ge=0, lt=1)
    folds: int = Field(default=1, ge=1)
    test_time_flips: tuple[int, ...] = ()
    precision: Literal["float32", "mixed_bfloat16"]
    threshold: float = Field(default=0.5, gt=0, lt=1)
    expected_seconds: float | None = None
    expected_memory_mb: float | None = None
    expected_disk_mb: float | None = None
    reasons: dict[str, str] = Field(default_factory=dict)

    @field_validator("pipeline", mode="before")
    @classmethod
    def _read_pipeline(cls, value: Any) -> Any:
        return value if isinstance(value, Pipeline) else Pipeline.from_dict(value)

    def changed(self, assignments: Sequence[str]) -> Plan:
        """The plan with some fields set by hand, each as ``field=value`` with a YAML value.

        ``augmentation`` also takes the name of a strength, which keeps the axes of mirroring.

        Raises:
            PlanError: an assignment has another form, names no field, or gives a value out of its range.
        """
        values: dict[str, Any] = {}
        for assignment in assignments:
            name, sign, text = assignment.partition("=")
            if not sign or name not in type(self).model_fields or name == "reasons":
                known = ", ".join(field for field in type(self).model_fields if field != "reasons")
                raise PlanError(
                    f"'{assignment}' does not set a field of the plan. Write field=value; the fields are {known}."
                )
            values[name] = _read_value(name, text, self.augmentation)
        reasons = self.reasons | dict.fromkeys(values, "set by hand")
        return Plan.from_yaml(self.to_yaml(), overrides=values, origin="The changed plan").model_copy(
            update={"reasons": reasons}
        )

    def network_options(self) -> dict[str, Any]:
        """The keyword arguments that ``models.build`` needs beside name, shape and labels."""
        options: dict[str, Any] = {"dropout": self.dropout}
        if self.width is not None:
            options["width"] = self.width
        if self.pretrained:
            options["pretrained"] = True
        return options

    def to_yaml(self) -> str:
        """The plan as YAML, each field under a comment that gives its reason."""
        values = self.model_dump(mode="json", exclude={"reasons", "pipeline"}) | {"pipeline": self.pipeline.to_dict()}
        lines = ["# A plan of Hounsfield. Edit it, then: hounsfield train DATA --plan THIS_FILE", ""]
        for name in type(self).model_fields:
            if name == "reasons":
                continue
            lines += [f"# {line}" for line in textwrap.wrap(self.reasons.get(name, ""), COMMENT_WIDTH)]
            lines.append(_yaml_field(name, values[name]))
        return "\n".join(lines) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the plan; never half a file."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(self.to_yaml(), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def from_yaml(cls, text: str, *, overrides: Mapping[str, Any] | None = None, origin: str = "the plan") -> Plan:
        """Read a plan; comments above a field become its reason, ``overrides`` replace fields.

        Raises:
            PlanError: the text is no YAML mapping, or a field is missing, unknown or out of its range.
        """
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PlanError(
                f"{origin} is not YAML: {' '.join(str(error).split())}. Mend the line it names, or make a new plan "
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
            problems = "; ".join(
                f"'{'.'.join(map(str, item['loc']))}': {item['msg']} (found {item['input']!r:.60})"
                for item in error.errors()
            )
            raise PlanError(
                f"{origin} cannot be used: {problems}. Mend these fields, or make a new plan with "
                "'hounsfield plan DATA'."
            ) from error

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Read a plan from a file.

        Raises:
            PlanError: the file is missing, unreadable or no plan.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(
                f"The plan {path} cannot be read ({error}). Give the path of a file that "
                f"'hounsfield plan DATA -o {path.name}' wrote."
            ) from error
        return cls.from_yaml(text, origin=f"The plan {path}")


def _yaml_field(name: str, value: Any) -> str:
    """One field: lists on one line, mappings and the pipeline's steps below each other."""
    if isinstance(value, dict):
        style = False if name == "pipeline" else None
        return yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=style, allow_unicode=True).rstrip()
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return f"{name}: {text.removesuffix('...' + chr(10)).rstrip()}"


def _read_value(name: str, text: str, augmentation: Augmentation) -> Any:
    if name == "augmentation" and text in STRENGTHS:
        return STRENGTHS[text].model_copy(update={"flip_axes": augmentation.flip_axes}).model_dump()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlanError(
            f"The value of '{name}={text}' is not YAML ({' '.join(str(error).split())}). Write a number, true, "
            "false, null or a list."
        ) from error


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
