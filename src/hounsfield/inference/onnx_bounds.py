"""What an ONNX file would do, read from its bytes before any engine opens it.

Only the few fields of ``onnx.proto3`` that matter are walked (protobuf's wire format: a key of field and type, then a
number, eight bytes, a length with so many bytes, or four bytes), so that neither the package onnx nor an engine is
needed to refuse a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from hounsfield.errors import BundleError

# Values of a tensor for one image: the largest of a network for the largest image has fewer.
MAX_TENSOR = 2**32
# Graphs within a graph: none of our networks has any, and they may run without end.
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
DOMAINS = frozenset({"", "ai.onnx"})
# Fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
GRAPH, FUNCTIONS = 7, 25
NODES, INITIALIZERS = 1, 5
TYPE, ATTRIBUTES, DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
DIMS, DATA_TYPE, INT64_DATA, TENSOR_NAME, RAW_DATA, EXTERNAL, LOCATION = 1, 2, 7, 8, 9, 13, 14
INT64 = 7
# Elements of the longest shape, with some to spare.
MAX_RANK = 16


def require_bounded_file(path: Path) -> None:
    """Refuse a file that reads others, runs graphs of its own, or holds shapes without end.

    Raises:
        BundleError: it does, or is no ONNX file.
    """
    try:
        _check_model(memoryview(path.read_bytes()))
    except (ValueError, IndexError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}): it is damaged, or was made to do harm. Copy the bundle again from where "
            "it was made, or make it anew with `hounsfield export RUN --to onnx`."
        ) from error


def _check_model(model: memoryview) -> None:
    for field, value in _fields(model):
        if field == FUNCTIONS:
            raise ValueError("it defines functions of its own")
        if field == GRAPH and isinstance(value, memoryview):
            _check_graph(value)


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph):
        if field == INITIALIZERS and isinstance(value, memoryview):
            _check_tensor(value)
        if field == NODES and isinstance(value, memoryview):
            _check_node(value)


def _check_node(node: memoryview) -> None:
    for field, value in _fields(node):
        if field == TYPE and _text(value) in CONTROL:
            raise ValueError(f"it has the operator {_text(value)}")
        if field == DOMAIN and _text(value) not in DOMAINS:
            raise ValueError(f"it has operators of '{_text(value):.40}'")
        if field == ATTRIBUTES and isinstance(value, memoryview):
            for kind, content in _fields(value):
                if kind in {ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS}:
                    raise ValueError("it has graphs within its graph")
                if kind in {ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS} and isinstance(content, memoryview):
                    _check_tensor(content)


def _check_tensor(tensor: memoryview) -> None:
    """Its content is in this file, is as large as its shape says, and is no shape without end."""
    found: dict[int, list[int | memoryview]] = {}
    for field, value in _fields(tensor):
        found.setdefault(field, []).append(value)
    if EXTERNAL in found or found.get(LOCATION, [0]) != [0]:
        raise ValueError("it reads other files")
    dims = [number for value in found.get(DIMS, []) for number in _numbers(value)]
    name = "".join(map(_text, found.get(TENSOR_NAME, [])))
    count = math.prod(dims)
    if min(dims, default=1) < 0 or count > min(MAX_TENSOR, 2 * len(tensor)):
        raise ValueError(f"the tensor '{name:.80}' claims {' × '.join(map(str, dims[:8]))} values, and has not so many")
    if found.get(DATA_TYPE) != [INT64] or count > MAX_RANK:
        return
    numbers = [number for value in found.get(INT64_DATA, []) for number in _numbers(value)]
    for raw in found.get(RAW_DATA, []):
        if isinstance(raw, memoryview):
            numbers += [int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8)]
    # Ends of slices are as large as they can be.
    if math.prod(number for number in numbers if 1 < number < 2**31 - 1) > MAX_TENSOR:
        raise ValueError(f"the tensor '{name:.80}' is the shape {' × '.join(map(str, numbers))}")


def _numbers(value: int | memoryview) -> list[int]:
    """A repeated number, alone or packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(_signed(number))
    return found


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _text(value: int | memoryview) -> str:
    return "" if isinstance(value, int) else bytes(value).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in their order, with numbers or bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, size = key & 7, 0
        if kind == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no ONNX file")
        if place + size > len(message):
            raise ValueError("it is cut short")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError("it is no ONNX file")
