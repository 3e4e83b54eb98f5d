"""What each process of the service has to know when it starts; imported without what the processes import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hounsfield.serving.settings import Model, ServeSettings


@dataclass(frozen=True)
class KeeperSpecification:
    """What the process of the keeper needs.

    Attributes:
        settings: of the service.
        directory: the file of the models that are served.
        address: of the socket at which it answers calls.
        secret: of all sockets.
    """

    settings: ServeSettings
    directory: Path
    address: str
    secret: bytes


@dataclass(frozen=True)
class ModelSpecification:
    """What the process of a model needs.

    Attributes:
        model: its settings.
        folder: of the service, below which results are written.
        address: of the socket.
        secret: that a client has to know.
        max_pixels: of one image.
        seconds: that one prediction may take; after them the process ends itself.
    """

    model: Model
    folder: Path
    address: str
    secret: bytes
    max_pixels: int
    seconds: float


@dataclass(frozen=True)
class WebSpecification:
    """What the process of the web server needs.

    Attributes:
        settings: of the service.
        directory: the file of the models that are served.
        keeper: the address of the keeper's socket.
        control: that of the supervisor.
        secret: of all sockets.
    """

    settings: ServeSettings
    directory: Path
    keeper: str
    control: str
    secret: bytes
