"""What a family has to say of its bundles: which networks they hold, and what they keep of validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.onnx_export.ends import Ends
from hounsfield.tasks import Task


class Part(NamedTuple):
    """One network of a bundle.

    Attributes:
        file: of its ONNX form.
        exact: whether it runs in float32 always; others run in bfloat16 where that was found to decide the same.
    """

    file: str
    exact: bool = False


class Kept(Protocol):
    """What a bundle keeps of its validation images, in ``uncertainty.npz``."""

    @property
    def novelty(self) -> Novelty | None:
        """Where images like those of training lie; ``None`` where it was not fitted."""

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave; raises ``KeyError`` where an array is missing."""


class Form(Protocol):
    """One entry of ``FORMS``: a module with these names.

    Attributes:
        PARTS: the networks, in the order in which they run; the last ones may be missing, see ``outputs``.
        KEPT: the class of what is kept of validation images.
        LAYERS: the module that makes the layers of its networks known to Keras; ``None`` where these are Keras's own.
    """

    PARTS: tuple[Part, ...]
    KEPT: type[Kept]
    LAYERS: str | None

    def check(self, network: Any, labels: Sequence[str], task: Task) -> None:
        """Refuse to save a network that does not fit its labels.

        Raises:
            BundleError: it does not, or lacks what prediction needs.
        """

    def deployed(self, network: Any) -> Any:
        """The network as it is saved: uncompiled, every layer computing in float32."""

    def settings(self, network: Any, given: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
        """The shape of the input, and what prediction has to know of the network beside its labels.

        Args:
            network: a Keras model.
            given: what the network itself does not know.
        """

    def ends(self, network: Any) -> list[tuple[Any, Ends]]:
        """The ``keras.Model`` of each part, with the names of its input and outputs in an ONNX file."""

    def export_note(self, settings: Mapping[str, Any]) -> str:
        """What a user has to know who exports the networks, from the settings of a bundle; "" for nothing."""

    def outputs(self, settings: Mapping[str, Any]) -> list[list[str]]:
        """The names of the outputs of each part that a bundle has, from its settings."""
