"""Every setting of the service, as ``serve.yaml`` gives it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hounsfield.errors import ServingError
from hounsfield.serving.lifecycle import Timing
from hounsfield.textfiles import MAX_YAML_BYTES, parse_yaml, read_text

# A title of an application entity: PS3.5, 6.2, value representation AE.
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
MEBIBYTE = 2**20


def _title(value: str) -> str:
    if not _TITLE.fullmatch(value):
        raise ValueError("a title of an application entity has 1 to 16 characters of ASCII, without a backslash")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return value


def _place(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("no name of a file or folder has a NUL")
    return value


Title = Annotated[str, AfterValidator(_title)]
Name = Annotated[str, Field(pattern=_NAME)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Place = Annotated[Path, AfterValidator(_place)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rules(_Settings):
    """Which images a model takes; what is empty decides nothing.

    Attributes:
        modality: values of Modality.
        body_part: values of BodyPartExamined.
        series_description: a regular expression that is searched in SeriesDescription, whatever the case.
        view: values of ViewPosition.
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    series_description: Pattern | None = None
    view: tuple[str, ...] = ()


class Model(_Settings):
    """One model.

    Attributes:
        name: in addresses, lists and results.
        run: the folder of a run or bundle.
        rules: which images it takes; where there are none, those of the modality that it was trained on.
        destinations: that get its results; ``None`` for all.
        results: the kinds of objects that are made of its predictions.
    """

    name: Name
    run: Place
    rules: Rules = Rules()
    destinations: tuple[str, ...] | None = None
    results: tuple[Literal["report", "segmentation", "map", "capture"], ...] = ("report", "segmentation")


class Tls(_Settings):
    """Files of a server's certificate and key, and of the authority that its clients are signed by."""

    certificate: Place
    key: Place
    authority: Place | None = None


class Destination(_Settings):
    """Where results are sent: a DICOM node (``host``, ``port``, ``title``), or a DICOMweb server (``url``).

    Attributes:
        name: in lists.
        title: of the application entity that is called.
        host: its address.
        port: its port.
        url: of a DICOMweb server, up to where ``/studies`` follows.
        token: name of an environment variable that holds the bearer token of a DICOMweb server.
        commitment: whether storage commitment is asked for; a result counts as delivered once it is confirmed.
        quirk: what a viewer behind this destination needs; "ohif" puts a classification into a region that covers the
            whole image, without which that viewer shows none.
        tls: where the connection is encrypted.
    """

    name: Name
    title: Title | None = None
    host: str | None = None
    port: Port | None = None
    url: str | None = None
    token: str | None = None
    commitment: bool = False
    quirk: Literal["ohif"] | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        node = [self.title, self.host, self.port]
        if (self.url is None) == any(value is None for value in node):
            raise ValueError("give either title, host and port of a DICOM node, or the url of a DICOMweb server")
        if self.url is not None and (self.commitment or any(value is not None for value in node)):
            raise ValueError("title, host, port and commitment belong to a DICOM node, and this is a DICOMweb server")
        return self


class Http(_Settings):
    """The web server.

    Attributes:
        host: address that it listens at.
        port: 0 takes a free one.
        tls: without it the address has to be that of this machine alone.
    """

    host: str = "127.0.0.1"
    port: Port = 8042
    tls: Tls | None = None


class Node(_Settings):
    """The DICOM node.

    Attributes:
        title: of the application entity.
        host: address that it listens at.
        port: 0 takes a free one.
        callers: titles that may call; empty for all, where the address is that of this machine alone.
        associations: at one time, at most.
        tls: without it the address has to be that of this machine alone, unless ``plain`` allows it.
        plain: whether DICOM without TLS is allowed at other addresses, as inside a network that is trusted.
    """

    title: Title = "HOUNSFIELD"
    host: str = "127.0.0.1"
    port: Port = 11112
    callers: tuple[Title, ...] = ()
    associations: int = Field(default=20, ge=1, le=1000)
    tls: Tls | None = None
    plain: bool = False


class Limits(_Settings):
    """What one request or one study may take.

    Attributes:
        body_mb: of one request over HTTP, and of one DICOM instance.
        megapixels: of one image, before it is read.
        seconds: of one prediction.
        requests: over HTTP at one time; more are asked to come back later.
        per_minute: requests over HTTP of one user, on average and at most at once.
        queue: jobs that wait; more are refused.
        free_mb: that have to stay free on the disk; below it nothing is accepted.
    """

    body_mb: float = Field(default=512, gt=0)
    megapixels: float = Field(default=1024, gt=0)
    seconds: float = Field(default=600, gt=0)
    requests: int = Field(default=64, ge=1)
    per_minute: int = Field(default=6000, ge=1)
    queue: int = Field(default=10_000, ge=1)
    free_mb: float = Field(default=500, ge=0)


class Retention(_Settings):
    """When studies are removed; only those of which nothing waits to be done or sent.

    Attributes:
        days: since a study changed the last time; ``None`` for no limit.
        gigabytes: of all instances together; the oldest studies go first. ``None`` for no limit.
    """

    days: float | None = Field(default=30, gt=0)
    gigabytes: float | None = Field(default=None, gt=0)


class ServeSettings(_Settings):
    """All settings.

    Attributes:
        folder: that holds the database and the files, and is made where it is not there.
        models: at least one.
        destinations: that get the results.
        http: the web server.
        dicom: the DICOM node; ``None`` for none.
        quiet_seconds: without a new image after which a study is complete.
        lease_seconds: that a prediction has before it counts as lost.
        commitment_seconds: that a destination has to confirm.
        attempts: tries of a job or delivery before it is laid aside.
        limits: of one request or study.
        retention: when studies are removed.
        blind_share: of the cases, drawn by their identifier, that are read without the models' answers.
    """

    folder: Place = Path("service")
    models: tuple[Model, ...] = Field(min_length=1)
    destinations: tuple[Destination, ...] = ()
    http: Http = Http()
    dicom: Node | None = Node()
    quiet_seconds: float = Field(default=30, gt=0)
    lease_seconds: float = Field(default=120, gt=0)
    commitment_seconds: float = Field(default=300, gt=0)
    attempts: int = Field(default=8, ge=1)
    limits: Limits = Limits()
    retention: Retention = Retention()
    blind_share: float = Field(default=0.1, ge=0, le=1)

    @property
    def timing(self) -> Timing:
        """How long is waited."""
        return Timing(
            quiet=self.quiet_seconds,
            lease=self.lease_seconds,
            commitment=self.commitment_seconds,
            attempts=self.attempts,
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("model", [model.name for model in self.models])
        names = [destination.name for destination in self.destinations]
        _unique("destination", names)
        for model in self.models:
            if unknown := [name for name in model.destinations or () if name not in names]:
                raise ValueError(f"model '{model.name}' sends to {unknown}, and the destinations are {names}")
        if self.http.tls is None and not is_loopback(self.http.host):
            raise ValueError(
                f"http listens at {self.http.host} without TLS: give http.tls, or the host 127.0.0.1 behind a proxy"
            )
        if self.dicom is not None and not is_loopback(self.dicom.host):
            if not self.dicom.callers:
                raise ValueError(f"dicom listens at {self.dicom.host} for all callers: list them in dicom.callers")
            if self.dicom.tls is None and not self.dicom.plain:
                raise ValueError(
                    f"dicom listens at {self.dicom.host} without TLS: give dicom.tls, or set dicom.plain where the "
                    "network is trusted"
                )
        return self

    def destinations_of(self, model: str) -> list[Destination]:
        """The destinations that get a model's results."""
        chosen = next(each.destinations for each in self.models if each.name == model)
        return [each for each in self.destinations if chosen is None or each.name in chosen]


def load_settings(path: Path | None, overrides: dict[str, Any]) -> ServeSettings:
    """Read ``serve.yaml``; what the command line gives replaces what stands there.

    Raises:
        ServingError: the file cannot be read, or a setting is unknown or out of its range.
    """
    values: Any = {}
    if path is not None:
        try:
            values = parse_yaml(read_text(path, limit=MAX_YAML_BYTES)) or {}
        except (yaml.YAMLError, OSError, ValueError) as error:
            raise ServingError(
                f"The settings {path} cannot be read: {' '.join(str(error).split())}. See docs/serving.md."
            ) from error
        if not isinstance(values, dict):
            raise ServingError(f"{path} holds no settings: expected lines such as 'quiet_seconds: 30'.")
    try:
        settings = ServeSettings.model_validate(values | overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise ServingError(f"The settings of the service are wrong: {problems}. See docs/serving.md.") from error
    return settings.model_copy(update={"folder": settings.folder.absolute()})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unique(what: str, names: Sequence[str]) -> None:
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are several {what}s called {', '.join(doubled)}")
