"""Weights that others have written: safetensors, and the files of PyTorch, read without PyTorch and without any code.

Safetensors is a JSON header and the values behind it (https://huggingface.co/docs/safetensors). A file of PyTorch is a
pickle, which could name any function: here it is read by an unpickler that knows three names, those of tensors.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.errors import UsageError
from hounsfield.textfiles import parse_json, require_regular

Tensors = Mapping[str, npt.NDArray[Any]]
# Bytes of a file of weights, and of the header of one: a large vision transformer has 1.3 GB.
MAX_BYTES, MAX_HEADER = 2**33, 2**25
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bf16", "I64": "<i8", "I32": "<i4"}
STORAGES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}
# The pickles before that of the tensors in PyTorch's older form: a number, the version, and the machine.
PREAMBLE = 3


def read_tensors(path: Path) -> Tensors:
    """The tensors of a file by name, float32 where they are numbers with a fraction.

    Raises:
        UsageError: the file is missing, damaged, or holds anything but tensors.
    """
    try:
        require_regular(path, MAX_BYTES)
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        return _read_zipped(path) if zipfile.is_zipfile(path) else _read_stream(path)
    except Exception as error:
        # The file is anyone's, and the errors of all that reads it share no base.
        raise UsageError(
            f"The weights {path} cannot be read ({error}): expected tensors in the form of safetensors or PyTorch. "
            "Fetch the file again."
        ) from error


def _read_safetensors(path: Path) -> Tensors:
    content = memoryview(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]  # a map of bytes has a buffer
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MAX_HEADER, len(content) - 8):
        raise ValueError(f"its header claims {length:,} bytes")
    header = parse_json(bytes(content[8 : 8 + length]))
    values = content[8 + length :]
    facts = {name: each for name, each in header.items() if name != "__metadata__"}
    if sum(end - begin for begin, end in (each["data_offsets"] for each in facts.values())) > len(values):
        raise ValueError("its tensors claim more bytes than it has")
    return {name: _tensor(each, values) for name, each in facts.items()}


def _tensor(facts: dict[str, Any], values: memoryview) -> npt.NDArray[Any]:
    begin, end = facts["data_offsets"]
    shape, name = tuple(facts["shape"]), facts["dtype"]
    size = 2 if DTYPES[name] == "bf16" else np.dtype(DTYPES[name]).itemsize
    if not 0 <= begin <= end <= len(values) or end - begin != math.prod(shape) * size:
        raise ValueError(f"a tensor claims {shape} in {end - begin:,} bytes")
    if DTYPES[name] == "bf16":
        # The upper half of a float32.
        raw = np.frombuffer(values[begin:end], "<u2").astype("<u4") << 16
        return raw.view("<f4").reshape(shape)
    return _as_float32(np.frombuffer(values[begin:end], DTYPES[name]).reshape(shape))


def _as_float32(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float32) if array.dtype.kind == "f" else array.copy()


class _Storage(NamedTuple):
    key: str
    dtype: str


class _View(NamedTuple):
    """A tensor as PyTorch stores it: where it begins in a storage, and its shape and strides in values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Its values, from those of the storage."""
        last = self.offset + sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > len(values):
            raise ValueError(f"a tensor of {self.shape} has more values than its storage")
        if min((*self.shape, *self.strides, self.offset), default=0) < 0 or (
            0 not in self.shape and last >= len(values)
        ):
            raise ValueError(f"a tensor of {self.shape} reaches beyond its storage")
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return _as_float32(np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps))


def _view(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _View:
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries of tensors; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that weights need."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in STORAGES:
            return name
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no tensor")

    def persistent_load(self, identity: Any) -> _Storage:
        """A storage: its kind and its key."""
        _, kind, key, *_ = identity
        return _Storage(str(key), STORAGES[kind])


def _tensors(content: Any, values_of: Callable[[_Storage], npt.NDArray[Any]]) -> Tensors:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise TypeError("it holds no dictionary of tensors")
    views = {str(name): view for name, view in content.items() if isinstance(view, _View)}
    # Many tensors, or strides of 0, can claim far more than the file holds.
    if sum(abs(math.prod(view.shape)) * 4 for view in views.values()) > MAX_BYTES:
        raise ValueError("its tensors claim more than any network has")
    return {name: view.of(values_of(view.storage)) for name, view in views.items()}


def _read_zipped(path: Path) -> Tensors:
    """The form of PyTorch since 1.6: an archive with a pickle, and a file for each storage."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError("it unpacks to more than any network has")
        (name,) = [each for each in archive.namelist() if each.endswith("/data.pkl")]
        content = _Unpickler(io.BytesIO(archive.read(name))).load()
        folder = name.removesuffix("data.pkl")
        return _tensors(
            content, lambda storage: np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)
        )


def _read_stream(path: Path) -> Tensors:
    """The older form: pickles one after the other, then the values of each storage behind their number."""
    with path.open("rb") as file:
        for _ in range(PREAMBLE):
            _Unpickler(file).load()
        content = _Unpickler(file).load()
        keys = _Unpickler(file).load()
        offsets = {str(key): _skip(file, content, str(key)) for key in keys}
    raw = np.memmap(path, np.uint8, "r")

    def values_of(storage: _Storage) -> npt.NDArray[Any]:
        begin, count = offsets[storage.key]
        return np.frombuffer(raw[begin : begin + count * np.dtype(storage.dtype).itemsize], storage.dtype)

    return _tensors(content, values_of)


def _skip(file: BinaryIO, content: Any, key: str) -> tuple[int, int]:
    """Where the values of the next storage begin, and how many there are; the file is behind them then."""
    (count,) = struct.unpack("<q", file.read(8))
    dtype = next(view.storage.dtype for view in content.values() if isinstance(view, _View) and view.storage.key == key)
    begin = file.tell()
    if not 0 <= count <= MAX_BYTES:
        raise ValueError(f"a storage claims {count:,} values")
    file.seek(count * np.dtype(dtype).itemsize, io.SEEK_CUR)
    return begin, count
