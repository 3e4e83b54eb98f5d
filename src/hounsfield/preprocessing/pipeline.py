"""An ordered list of steps: fitted on training images, saved as JSON, identified by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hounsfield.atomic import write_json
from hounsfield.errors import ImageError, PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.registry import STEPS, AnyStep
from hounsfield.preprocessing.step import Step, require_finite
from hounsfield.textfiles import parse_json, read_text


class Pipeline(BaseModel):
    """The preprocessing of every image before the network.

    A pipeline is a value: frozen, equal to another with the same steps, and fully described by ``to_dict``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    steps: tuple[AnyStep, ...] = ()

    @property
    def needs_fit(self) -> bool:
        """Whether a step has yet to learn from training images."""
        return any(step.needs_fit for step in self.steps)

    def apply_steps(self, image: Image) -> Image:
        """Return the image after all steps, in the pixel type of the last one."""
        for step in self.steps:
            image = step.apply(image)
        return image

    def apply(self, image: Image) -> Image:
        """Return the image after all steps with contiguous float32 pixels, as networks take them.

        Raises:
            PreprocessingError: a step cannot be applied to the image, or was never fitted.
        """
        result = self.apply_steps(image)
        pixels = np.ascontiguousarray(result.pixels, dtype=np.float32)
        return result if pixels is result.pixels else result.replace(pixels=pixels)

    def fit(self, images_factory: Callable[[], Iterable[Image]]) -> Pipeline:
        """Return the pipeline with every learning step fitted on the images as the steps before it produce them.

        Images with NaN or infinite values, or that a step refuses, are left out; ``apply`` reports them later.

        Args:
            images_factory: opens the training images anew at each call; it is called once for each step that has
                yet to learn, so the images never have to be in memory together.

        Raises:
            PreprocessingError: all images are refused, or a step cannot learn from the others.
        """
        fitted: list[Any] = []
        for step in self.steps:
            if step.needs_fit:
                before = Pipeline(steps=tuple(fitted))
                fitted.append(step.fit(before._accepted(images_factory(), step.name)))
            else:
                fitted.append(step)
        return Pipeline(steps=tuple(fitted))

    def _accepted(self, images: Iterable[Image], learner: str) -> Iterator[Image]:
        """The images after all steps, without those that a step refuses or that the learning step after them would."""
        num_refused, num_accepted, first_reason = 0, 0, ""
        for image in images:
            try:
                result = self.apply_steps(image)
                require_finite(result.pixels, learner)
            except (ImageError, PreprocessingError) as error:
                num_refused += 1
                first_reason = first_reason or str(error)
            else:
                num_accepted += 1
                yield result
        if num_refused and not num_accepted:
            raise PreprocessingError(
                f"The step '{learner}' has no image to learn from: all {num_refused:,} training images are refused "
                f"by it or by a step before it, the first because: {first_reason}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as plain values that JSON and YAML can hold."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a pipeline from ``to_dict``'s values.

        Raises:
            PreprocessingError: a step or a parameter is unknown, or a value does not fit.
        """
        try:
            # Step by step first: building the union of all steps takes longer than a prediction.
            steps: Any = _steps(values)
            return cast("Self", cls.model_construct(steps=steps))
        except (ValidationError, KeyError, TypeError, AttributeError):
            pass
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise PreprocessingError(
                f"The preprocessing steps are not valid: {describe(error)}. Correct or remove them."
            ) from error

    def to_json(self, path: str | Path) -> None:
        """Write the pipeline to a file; an interrupted write leaves the old file unchanged."""
        write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a pipeline from a file that ``to_json`` wrote.

        Raises:
            PreprocessingError: the file is missing, is not JSON, or holds no pipeline.
        """
        try:
            values = parse_json(read_text(Path(path)))
        except (OSError, ValueError) as error:
            raise PreprocessingError(
                f"No pipeline can be read from '{path}': {error}. A JSON file written by Pipeline.to_json is expected."
            ) from error
        return cls.from_dict(values)

    def digest(self) -> str:
        """Return a SHA-256 of all steps and parameters, including learned ones."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema of ``to_dict``'s values, for editors and other programs."""
        return cls.model_json_schema()


def _steps(values: dict[str, Any]) -> tuple[Step, ...]:
    """The steps of ``to_dict``'s values; any error otherwise, which ``model_validate`` then explains."""
    if set(values) - {"steps"}:
        raise KeyError
    return tuple(STEPS[each["name"]].model_validate(each) for each in values.get("steps", ()))


def describe(error: ValidationError) -> str:
    """Return the faults of a pydantic error in plain words, without its headings."""
    faults = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"])
        found = f" (got {fault['input']!r:.80})" if place and fault["type"] != "missing" else ""
        faults.append((f"{place}: " if place else "") + fault["msg"].removeprefix("Value error, ") + found)
    return "; ".join(faults)
