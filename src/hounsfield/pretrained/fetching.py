"""Weights of the Hugging Face hub: looked for in a folder of their own, and fetched into it once."""

from __future__ import annotations

import os
import re
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from hounsfield.atomic import replacing
from hounsfield.cohorts.public import cache_folder
from hounsfield.errors import UsageError
from hounsfield.pretrained.tensors import MAX_BYTES

ENDPOINT = "https://huggingface.co"
CARD = ("README.md", "LICENSE")
SECONDS, CHUNK = 30, 2**20
NOT_FOUND = 404
_NAME, _PRESET = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}"), re.compile(r"[\w.-]{1,96}")


class Files(NamedTuple):
    """The files of a model, by name.

    Attributes:
        weights: one of these; the first is fetched.
        further: those that a model may lack, beside its card and its licence.
    """

    weights: tuple[str, ...]
    further: tuple[str, ...]


CONFIG = "config.json"
HUGGING_FACE = Files(("model.safetensors", "pytorch_model.bin"), ("preprocessor_config.json", *CARD))
KERAS_HUB = Files(("model.weights.h5",), ("image_converter.json", "metadata.json", *CARD))
# KerasHub's organisation on the hub, where each of its presets has a place of its own.
PRESETS = "keras"


def hub_folder(name: str) -> Path:
    """The folder of a model of the Hugging Face hub, with its files.

    Args:
        name: "ORG/NAME".

    Raises:
        UsageError: it is no such name, or the files are neither there nor can be fetched.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"hf:{name} names no model. Expected hf:ORG/NAME, such as hf:microsoft/rad-dino.")
    return _filled(cache_folder() / "weights" / name, name, HUGGING_FACE)


def preset_folder(name: str) -> Path:
    """The folder of a preset of KerasHub, with its files.

    Raises:
        UsageError: as for ``hub_folder``.
    """
    if not _PRESET.fullmatch(name) or ".." in name:
        raise UsageError(f"hub:{name} names no preset. Expected hub:PRESET, such as hub:dinov2_base.")
    return _filled(cache_folder() / "weights" / PRESETS / name, f"{PRESETS}/{name}", KERAS_HUB)


def _filled(folder: Path, name: str, files: Files) -> Path:
    """The folder of a model, into which its files are fetched where it lacks them."""
    if (folder / CONFIG).is_file() and any((folder / each).is_file() for each in files.weights):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for each in files.further:
            _fetch(name, each, folder, needed=False)
        # The configuration last: a folder that has it is whole.
        for each in (files.weights[0], CONFIG):
            _fetch(name, each, folder, needed=True)
    except (OSError, URLError, HTTPException, ValueError) as error:
        wanted = ", ".join((CONFIG, files.weights[0], *files.further))
        raise UsageError(
            f"The weights {name} are not in {folder} and cannot be fetched from {_endpoint()} ({error}): connect to "
            f"the network, set HF_TOKEN where the model asks for one, or put {wanted} into that folder."
        ) from error
    return folder


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The token is for the hub alone, and not for the stores of files to which it points."""

    def redirect_request(self, req: urllib.request.Request, *others: Any) -> urllib.request.Request | None:
        """The next request; see the standard library."""
        found = super().redirect_request(req, *others)
        if found is not None:
            _require_safe(found.full_url)
            if urlsplit(found.full_url)[:2] != urlsplit(req.full_url)[:2]:
                found.remove_header("Authorization")
        return found


def _require_safe(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost")):
        raise ValueError(f"{address} is no address of https")


def _fetch(name: str, file: str, folder: Path, *, needed: bool) -> None:
    address = f"{_endpoint()}/{name}/resolve/main/{file}"
    _require_safe(address)
    token = os.environ.get("HF_TOKEN")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    try:
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=SECONDS) as answer, replacing(folder / file) as temporary:
            _copy(answer, temporary)
    except HTTPError as error:
        if needed or error.code != NOT_FOUND:
            raise


def _copy(answer: HTTPResponse, path: Path) -> None:
    expected = answer.headers.get("Content-Length")
    with path.open("wb") as out:
        while part := answer.read(CHUNK):
            out.write(part)
            if out.tell() > MAX_BYTES:
                raise ValueError(f"{path.name} is larger than any network")
        if expected is not None and out.tell() != int(expected):
            raise ValueError(f"the connection ended after {out.tell():,} of {int(expected):,} bytes")
