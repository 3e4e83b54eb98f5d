"""Files that somebody made up to do harm, by kind and name; ``bench/attacks.py`` reads all of them, within bounds.

Those of bundles are forged by somebody who can write hashes: everything is as its manifest says. What is large is made
when the file is written, and not before.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import shutil
import sqlite3
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hounsfield.bundle import Bundle, read_known_answer
from hounsfield.bundle.keras_file import require_plain_network
from hounsfield.cohorts import load_cohort
from hounsfield.evaluation.predictions import read_predictions
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.images import read_image
from hounsfield.inference.engines import open_engine
from hounsfield.integrity import digest, sealed
from hounsfield.plans.loading import load_plan
from hounsfield.preprocessing.arguments import pipeline_from_file
from hounsfield.runs.manifest import verify
from kills import in_child
from plans import hand_made_plan

DIGITS = "9" * 5000
MAX_PIXELS = 2**24
Write = Callable[[Path], Path]
# Of a file, or how it is made.
Content = bytes | str | Callable[[], bytes]
ATTACKS: dict[tuple[str, str], Write] = {}


def use_bundle(folder: Path) -> None:
    """All that a prediction reads of a bundle, but for Keras."""
    bundle = Bundle.load(folder)
    read_known_answer(bundle)
    _ = bundle.uncertainty
    open_engine(bundle, "openvino")


READERS: dict[str, Callable[[Path], object]] = {
    "table": load_cohort,
    "predictions": read_predictions,
    "plan": load_plan,
    "pipeline": pipeline_from_file,
    "bundle": use_bundle,
    "network": require_plain_network,
    "run": verify,
    "image": partial(read_image, max_pixels=MAX_PIXELS),
}


def _add(kind: str, name: str, write: Write) -> None:
    ATTACKS[kind, name] = write


def _made(content: Content) -> bytes:
    made = content() if callable(content) else content
    return made.encode() if isinstance(made, str) else made


def _file(name: str, content: Content) -> Write:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(_made(content))
        return path

    return write


def _link(name: str, target: str) -> Write:
    def write(folder: Path) -> Path:
        os.mkfifo(folder / "pipe")
        (folder / name).symlink_to(folder / "pipe" if target == "pipe" else target)
        return folder / name

    return write


# Tables

CELLS = {
    "NUL": "a\0b.png,1\n",
    "outside": "../../../etc/passwd,1\n",
    "absolute": "/etc/shadow,1\n",
    "a device": "/dev/zero,1\n",
    "a network path": "\\\\host\\share\\x.png,1\n",
    "a URL": "https://example.org/x.png,1\n",
    "5,000 digits": f"{DIGITS},1\n",
    "a huge index": f"x.npy[{DIGITS}],1\n",
    "a negative index": "x.npy[-1],1\n",
    "nested indices": "x.npy" + "[1]" * 5000 + ",1\n",
    "a long name": "x" * 5000 + ".png,1\n",
    "a deep path": "a/" * 5000 + "x.png,1\n",
    "control characters": "\x1b[31m\x07\x08.png,1\n",
    "a formula": "=cmd|' /C calc'!A0,1\n",
    "a label of 1 MB": "x.png," + "y" * 2**20 + "\n",
    "quotes without end": 'x.png,"' + "y" * 2**20,
    "infinite labels": "x.png,1e999\n",
    "NaN labels": "x.png,nan\n",
    "only line breaks": "\n" * 2**20,
    "carriage returns": "x.png,1\r" * 1000,
    "a home folder": "~root/x.png,1\n",
    "a variable": "$HOME/x.png,1\n",
    "a pattern": "*.png,1\n",
}


def _table(row: str, suffix: str) -> bytes:
    text = f"image,label\n{row}"
    return (text.replace(",", "\t") if suffix == ".tsv" else text).encode()


for cell, row in CELLS.items():
    for table_suffix in (".csv", ".tsv"):
        _add("table", f"{cell} in {table_suffix}", _file(f"table{table_suffix}", partial(_table, row, table_suffix)))
    _add("predictions", cell, _file("table.csv", f"image,truth,p_0,p_1\n{row.strip()},.5,.5\n"))
TEXTS: dict[str, Content] = {
    "nothing": b"",
    "one byte": b"\xff",
    "zeros": partial(bytes, 2**20),
    "noise": np.random.default_rng(0).bytes(2**16),
    "a mark of UTF-16 alone": b"\xff\xfe",
    "half a character": "image,label\nä".encode()[:-1],
    "a million columns": lambda: ",".join(map(str, range(1_000_000))).encode() + b"\n" + b"1," * 999_999 + b"1\n",
    "a million columns in the second row": lambda: b"image,label\n" + b"1," * 999_999 + b"1\n",
    "a column twice": b"image,label,label\nx.png,1,2\n",
    "a billion laughs": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">]><l>&a;</l>',
}
for what, content in TEXTS.items():
    for table_suffix in (".csv", ".tsv", ".parquet", ".xlsx", ".csv.gz"):
        _add("table", f"{what} in {table_suffix}", _file(f"table{table_suffix}", content))
    for table_suffix in (".csv", ".parquet", ".json"):
        _add("predictions", f"{what} in {table_suffix}", _file(f"table{table_suffix}", content))
for target in ("pipe", "/dev/zero", "/dev/urandom", "/proc/kmsg", "/proc/self/mem"):
    for kind, names in {
        "table": ("table.csv", "table.parquet", "table.xlsx"),
        "predictions": ("table.csv", "table.parquet", "table.json"),
        "plan": ("plan.yaml",),
        "pipeline": ("pipeline.json",),
        "network": ("model.keras",),
        "image": ("x.png", "x.dcm", "x.nii.gz", "x.npy", "x.tif"),
    }.items():
        for file_name in names:
            _add(kind, f"{file_name} is {target}", _link(file_name, target))


def _parquet(table: Callable[[], pa.Table], **options: Any) -> Write:
    def write(folder: Path) -> Path:
        pq.write_table(table(), folder / "table.parquet", **options)
        return folder / "table.parquet"

    return write


def _same_value(count: int) -> pa.Table:
    return pa.table({"image": pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), ["x.png"]).cast(pa.string())})


def _repeated(count: int) -> Write:
    """One value in a few bytes, in row groups that all are one."""

    def write(folder: Path) -> Path:
        path = folder / "table.parquet"
        group = pa.table({"image": pa.array(np.zeros(10**6, np.int64))})
        with pq.ParquetWriter(path, group.schema, compression="zstd") as writer:
            for _ in range(count // 10**6):
                writer.write_table(group)
        return path

    return write


for reader in ("table", "predictions"):
    _add(reader, "100 million rows of one value", _repeated(10**8))
    _add(reader, "pickled column", _parquet(lambda: pa.table({"image": [b"cos\nsystem\n(S'x'\ntR."], "label": [1]})))
    _add(reader, "nested lists", _parquet(lambda: pa.table({"image": [[[["x"]]]], "label": [1]})))
    _add(reader, "a row group a row", _parquet(lambda: pa.table({"image": ["x"] * 2000}), row_group_size=1))
    _add(reader, "20,000 columns", _parquet(lambda: pa.table({f"c{number}": [1] for number in range(20_000)})))
    _add(reader, "column names twice", _parquet(lambda: pa.table([[1], [2]], names=["image", "image"])))
    _add(reader, "no rows", _parquet(lambda: pa.table({"image": pa.array([], pa.string())})))


def _zipped(name: str, members: dict[str, Content], *, repeat: bool = False) -> Write:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member, content in members.items():
                archive.writestr(member, _made(content))
                if repeat:
                    with warnings.catch_warnings(action="ignore"):
                        archive.writestr(member, _made(content))
        return folder / name

    return write


SHEET = b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
_add(
    "table",
    "xlsx that unpacks to 200 MB",
    _zipped("table.xlsx", {"xl/worksheets/sheet1.xml": lambda: SHEET + bytes(2 * 10**8)}),
)
_add("table", "xlsx of nothing", _zipped("table.xlsx", {}))
_add(
    "table",
    "gz that unpacks to 300 MB",
    _file("table.csv.gz", lambda: gzip.compress(b"image,label\n" + b"x,1\n" * 75_000_000, 1)),
)
_add("table", "gz that is cut", _file("table.csv.gz", gzip.compress(b"image,label\nx,1\n" * 1000)[:-20]))
_add("table", "database", lambda folder: (sqlite3.connect(folder / "table.csv").close(), folder / "table.csv")[1])
for what, records in {
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "one number": DIGITS,
    "names twice": '[{"image": "a", "image": "b"}]',
    "NaN": '[{"image": "a", "truth": NaN}]',
    "a string": '"x"',
    "null": "null",
    "numbers": "[1, 2, 3]",
    "mixed": '[{"image": "a"}, 1, null]',
    "an escape": '[{"image": "\\ud800"}]',
}.items():
    _add("predictions", f"JSON: {what}", _file("table.json", records))

# Plans and pipelines

FIELDS: dict[str, list[str]] = {
    "width": ["1000000", "0", "-1", "1.5", "x", DIGITS],
    "input_shape": ["[1e52, 2, 1]", f"[{DIGITS}, 1, 1]", "[0, 1, 1]", "[65536, 65536, 3]", "[28]", "[]", "x"],
    "labels": ["[a, a]", "[]", "{}", "null", "[1, 1]", "[a]", "[a, b, c]"],
    "pipeline": ["{steps: []}", "{}", "{steps: [{name: ../x}]}", "{steps: x}", "[]", "null"],
    "network": ["/srv/evil.keras", "../../evil", "''", "x y", "https://example.org/net", "[resnet18]", '"a\\nb"'],
    "batch_size": ["0", "10000000", DIGITS, "nan"],
    "epochs": ["0", "1e300", DIGITS],
    "minutes": ["0", "-1", "1e300", ".inf", ".nan", "x", DIGITS],
    "epoch_images": ["0", "-1", "1e300", DIGITS, "x"],
    "pacing": ["[[1, 2]]", f"[[1, 1, {DIGITS}]]", "[[1, 1, 0]]", "[[0, 1, 1]]", "[[1, -1, 1]]", "x", "{a: 1}"],
    "learning_rate": [".inf", ".nan", "-1", "0", "x"],
    "weight_decay": [".inf", "-1"],
    "seed": ["-1", DIGITS],
    "task": ["x", "[]", "null", "{}", "detection", "regression"],
    "dropout": ["1", ".nan", "-.1"],
    "folds": ["0", "1000000"],
    "train_share": ["0", "2", ".nan"],
    "expected_seconds": [".inf", "-1"],
    "test_time_flips": ["[x]", "x", f"[{DIGITS}]"],
    "patience": ["0", DIGITS],
    "unknown": ["1"],
}


def _plan(field: str, value: str) -> Write:
    def write(folder: Path) -> Path:
        lines = hand_made_plan().to_yaml().splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith(f"{field}:")]
        if starts:
            end = next((n for n in range(starts[0] + 1, len(lines)) if not lines[n].startswith((" ", "-"))), len(lines))
            del lines[starts[0] : end]
        return _file("plan.yaml", "\n".join([*lines, f"{field}: {value}"]))(folder)

    return write


for field, values in FIELDS.items():
    for value in values:
        _add("plan", f"{field}: {value[:20]}", _plan(field, value))
LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
DOCUMENTS: dict[str, Content] = {
    "laughs": LAUGHS,
    "digits": f"width: {DIGITS}",
    "no day": "day: 2026-13-45",
    "deep": "[" * 100_000,
    "deep mappings": "{a: " * 50_000,
    "8 MB": lambda: b"x" * 2**23,
    "empty": "",
    "a tag": "!!python/object:os.system x",
    "a tag of a call": "!!python/object/apply:os.system [id]",
    "a tag of a name": "!!python/name:os.system",
    "a module": "!!python/module:os",
    "merge": "<<: {a: 1}\na: 2",
    "a name twice": hand_made_plan().to_yaml() + "\nepochs: 9\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a NUL": "a: \0",
    "a surrogate": 'a: "\\ud800"',
    "binary": "a: !!binary aGFsbG8=",
    "a set": "a: !!set {x, y}",
    "sexagesimal": "a: 190:20:30:" + "1:" * 2000 + "1",
    "a complex key": "? [a, b]\n: c",
}
for what, document in DOCUMENTS.items():
    _add("plan", what, _file("plan.yaml", document))
    _add("pipeline", what, _file("pipeline.yaml", document))
PIPELINES: dict[str, Content] = {
    "deep": "[" * 100_000,
    "a million steps": lambda: json.dumps({"steps": [{"name": "min_max"}] * 10**6}).encode(),
    "resize without end": json.dumps({"steps": [{"name": "resize", "size": [10**9, 10**9]}]}),
    "pad without end": json.dumps({"steps": [{"name": "pad", "size": [10**9, 10**9]}]}),
    "a name twice": '{"steps": [{"name": "min_max", "name": "resize"}]}',
    "an unknown step": '{"steps": [{"name": "os.system"}]}',
    "NaN": '{"steps": [{"name": "window", "center": NaN, "width": NaN}]}',
}
for what, document in PIPELINES.items():
    _add("pipeline", f"JSON: {what}", _file("pipeline.json", document))

# Bundles


@cache
def _bundle() -> Path:
    """A whole bundle, made in a process of its own: what has computed in TensorFlow does not outlive a fork."""
    folder = Path(tempfile.mkdtemp()) / "bundle"

    def make() -> int:
        # Keras is imported there alone.
        bundle = importlib.import_module("networks").tiny_bundle(folder)
        scores = np.random.default_rng(0).random((8, 1))
        bundle.with_uncertainty(Uncertainty(np.arange(8) % 2, scores, np.arange(8)), threshold=0.5)
        return 0

    if in_child(make, folder.parent / "output.txt"):
        raise AssertionError((folder.parent / "output.txt").read_text())
    return folder


def _forged(change: Callable[[Path], dict[str, Any] | None]) -> Write:
    """A bundle in which something was changed, with right hashes; what ``change`` returns goes into the manifest."""

    def write(folder: Path) -> Path:
        place = folder / "bundle"
        shutil.copytree(_bundle(), place)
        values = json.loads((place / "bundle.json").read_text())
        more = change(place) or {}
        files = {path.name: path for path in place.iterdir() if path.name != "bundle.json" and path.is_file()}
        values["sizes"] = {name: path.stat().st_size for name, path in files.items()}
        values["hashes"] = {name: digest(path) for name, path in files.items()}
        values.pop("seal", None)
        for name, value in more.items():
            values[name] = values[name] | value if isinstance(value, dict) and name in {"sizes", "hashes"} else value
        (place / "bundle.json").write_text(sealed(values))
        return place

    return write


def _arrays(file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    def changed(place: Path) -> None:
        with np.load(place / file) as archive:
            arrays = change(dict(archive))
        np.savez(place / file, **arrays)

    return _forged(changed)


def _member(file: str, content: Content, *, encrypted: bool = False) -> Write:
    """An archive whose first array is what a header claims."""

    def changed(place: Path) -> None:
        with zipfile.ZipFile(place / file) as archive:
            members: dict[str, Content] = {name: archive.read(name) for name in archive.namelist()}
        first = next(iter(members))
        members[first] = content
        (place / file).unlink()
        _zipped(file, members)(place)
        if encrypted:
            data = bytearray((place / file).read_bytes())
            for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
                start = data.find(signature)
                data[start + at] |= 1
            (place / file).write_bytes(data)

    return _forged(changed)


def _npy(shape: str, descr: str = "<f4", content: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


ARRAYS: dict[str, Content] = {
    "10^12 values": _npy("(1000000000000,)"),
    "10^30 values": _npy(f"({10**30},)"),
    "negative": _npy("(-1,)"),
    "256 MB of zeros": lambda: _npy("(67108864,)", content=bytes(2**28)),
    "objects": _npy("(1,)", "|O", b"cos\nsystem\n(S'id'\ntR."),
    "no header": b"x" * 100,
    "empty": b"",
    "a header of code": b"\x93NUMPY\1\0\x40\0" + b"__import__('os').system('id')".ljust(64),
    "text": _npy("(1,)", "<U4", "text".encode("utf-32-le")),
    "NaN": _npy("(1, 12, 10, 1)", content=np.full(120, np.nan, "<f4").tobytes()),
}
for archive_name in ("known_answer.npz", "uncertainty.npz"):
    for what, member_content in ARRAYS.items():
        _add("bundle", f"{archive_name}: {what}", _member(archive_name, member_content))
    _add("bundle", f"{archive_name}: encrypted", _member(archive_name, b"x", encrypted=True))
    for what, change in {
        "cut": lambda arrays: {name: value[:1] for name, value in arrays.items()},
        "scalars": lambda arrays: dict.fromkeys(arrays, np.float32(0)),
        "transposed": lambda arrays: {name: np.asarray(value).T for name, value in arrays.items()},
        "without the first": lambda arrays: dict(list(arrays.items())[1:]),
        "complex": lambda arrays: {name: np.asarray(value).astype(np.complex128) for name, value in arrays.items()},
        "infinite": lambda arrays: {
            name: np.full(np.shape(value), np.inf, np.float32) for name, value in arrays.items()
        },
        "another first": lambda arrays: {**arrays, next(iter(arrays)): np.zeros((3, 5, 7, 1), np.float32)},
    }.items():
        _add("bundle", f"{archive_name}: {what}", _arrays(archive_name, change))


def _without(name: str, content: bytes | None = None) -> Write:
    def changed(place: Path) -> None:
        (place / name).unlink()
        if content is not None:
            (place / name).write_bytes(content)

    return _forged(changed)


for what, manifest in {
    "labels twice": {"labels": ["a", "a"]},
    "one label": {"labels": ["a"]},
    "a hundred labels": {"labels": [str(number) for number in range(100)]},
    "another shape": {"input_shape": [5, 5, 1]},
    "a shape without end": {"input_shape": [10**52, 1, 1]},
    "a shape of 4 G": {"input_shape": [65536, 65536, 3]},
    "threshold NaN": {"threshold": float("nan")},
    "threshold 2": {"threshold": 2},
    "thresholds": {"threshold": [0.1] * 1000},
    "task x": {"task": "x"},
    "task detection": {"task": "detection"},
    "task regression": {"task": "regression"},
    "task multi-class": {"task": "multi-class"},
    "scaling": {"scaling": {"method": "os.system"}},
    "scaling NaN": {"scaling": {"method": "temperature", "temperature": float("nan")}},
    "a file outside": {"hashes": {"../../x": "0" * 64}},
    "an absolute file": {"hashes": {"/proc/kmsg": "0" * 64}},
    "a name in capitals": {"hashes": {"MODEL.ONNX": "0" * 64}},
    "a name with NUL": {"hashes": {"a\0b": "0" * 64}},
    "a hash of text": {"hashes": {"model.onnx": "x"}},
    "a negative size": {"sizes": {"model.onnx": -1}},
    "settings": {"settings": {"a": [[[["x"] * 1000]]]}},
    "a later format": {"format_version": 10**9},
    "a source range": {"source_range": {"smallest": [10**400]}},
    "surprise": {"surprise": 1},
}.items():
    _add("bundle", f"manifest: {what}", _forged(lambda _, values=manifest: values))
for name in ("model.onnx", "model.keras", "pipeline.json", "known_answer.npz", "uncertainty.npz"):
    _add("bundle", f"{name} is missing", _without(name))
    _add("bundle", f"{name} is empty", _without(name, b""))
    _add("bundle", f"{name} is noise", _without(name, np.random.default_rng(0).bytes(4096)))
    _add("bundle", f"{name} is a zip of nothing", _without(name, b"PK\5\6" + bytes(18)))


def _linked(name: str, target: str) -> Write:
    def write(folder: Path) -> Path:
        place = folder / "bundle"
        shutil.copytree(_bundle(), place)
        (place / name).unlink()
        if target == "pipe":
            os.mkfifo(place / name)
        else:
            (place / name).symlink_to(target)
        return place

    return write


for name in ("bundle.json", "model.onnx", "pipeline.json", "known_answer.npz"):
    for target in ("pipe", "/dev/zero", "/proc/kmsg", "/etc/passwd", "bundle.json", "/nowhere"):
        _add("bundle", f"{name} is {target}", _linked(name, target))


def _duplicated(folder: Path) -> Path:
    place = _forged(lambda _: None)(folder)
    text = (place / "bundle.json").read_text().replace('"threshold"', '"threshold": 0.1,\n  "threshold"', 1)
    values = text.rpartition('"seal"')[0]
    (place / "bundle.json").write_text(values + f'"seal": "{"0" * 64}"\n}}\n')
    return place


_add("bundle", "a name twice in the manifest", _duplicated)


def _onnx(change: Callable[[Any, Any], None]) -> Write:
    def changed(place: Path) -> None:
        onnx = importlib.import_module("onnx")
        model = onnx.load(place / "model.onnx")
        change(model, onnx)
        (place / "model.onnx").write_bytes(model.SerializeToString())

    return _forged(changed)


def _external(location: str) -> Callable[[Any, Any], None]:
    def change(model: Any, onnx: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location

    return change


def _grown(operator: str, numbers: list[int]) -> Callable[[Any, Any], None]:
    """The input passes through an operator that makes much of it, and back."""

    def change(model: Any, onnx: Any) -> None:
        shape = onnx.numpy_helper.from_array(np.array(numbers, np.int64), "harm")
        model.graph.initializer.append(shape)
        if operator == "ConstantOfShape":
            made = onnx.helper.make_node(operator, ["harm"], ["grown"])
        else:
            made = onnx.helper.make_node(operator, [model.graph.input[0].name, "harm"], ["grown"])
        total = onnx.helper.make_node("ReduceMax", ["grown"], ["most"], keepdims=0)
        added = onnx.helper.make_node("Add", ["most", model.graph.input[0].name], ["harmed"])
        for node in model.graph.node:
            for number, given in enumerate(node.input):
                if given == model.graph.input[0].name:
                    node.input[number] = "harmed"
        for number, node in enumerate((made, total, added)):
            model.graph.node.insert(number, node)

    return change


def _dims(model: Any, onnx: Any) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def _many(model: Any, onnx: Any) -> None:
    for number in range(20_000):
        model.graph.node.insert(0, onnx.helper.make_node("Identity", [model.graph.input[0].name], [f"x{number}"]))


def _branch(model: Any, onnx: Any) -> None:
    graph = onnx.helper.make_graph([], "g", [], [])
    model.graph.node.insert(0, onnx.helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph))


def _domain(model: Any, onnx: Any) -> None:
    model.graph.node.insert(0, onnx.helper.make_node("Evil", [model.graph.input[0].name], ["y"], domain="com.evil"))


for what, harm in {
    "data of ../../etc/passwd": _external("../../../etc/passwd"),
    "data of /dev/zero": _external("/dev/zero"),
    "a shape of 10^11": _grown("ConstantOfShape", [10**11]),
    "a shape of 10^5 · 10^5 · 10^5": _grown("ConstantOfShape", [10**5] * 3),
    "expanded without end": _grown("Expand", [10**4, 10**4, 10**4, 1]),
    "tiled without end": _grown("Tile", [1, 10**4, 10**4, 10**4]),
    "a tensor of 2^40": _dims,
    "20,000 nodes": _many,
    "a branch": _branch,
    "a foreign operator": _domain,
}.items():
    _add("bundle", f"ONNX: {what}", _onnx(harm))

# Networks of Keras


def _keras(config: Any, **members: Content) -> Write:
    text = config if isinstance(config, str) else json.dumps(config)
    return _zipped(
        "model.keras", {"metadata.json": b"{}", "config.json": text.encode(), "model.weights.h5": b"x"} | members
    )


def _layer(**values: Any) -> dict[str, Any]:
    layer = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}, "registered_name": None} | values
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}


def _activated(**values: Any) -> dict[str, Any]:
    return _layer(config={"units": 1, "activation": {"class_name": "function", "registered_name": None} | values})


for what, layer in {
    "Lambda": _layer(class_name="Lambda", config={"function": "x"}),
    "a lambda": _layer(config={"activation": {"class_name": "__lambda__", "config": {"value": "4wAA"}}}),
    "os.system": _layer(module="os", class_name="function", config="system"),
    "subprocess": _layer(module="subprocess", class_name="Popen", config={"args": ["id"]}),
    "keras.utils.get_file": _layer(module="keras.utils", class_name="function", config="get_file"),
    "keras.src.utils": _layer(module="keras.src.utils.file_utils", class_name="function", config="extract_archive"),
    "keras_evil": _layer(module="keras_evil.layers"),
    "layers.StringLookup": _layer(
        module="keras", class_name="layers.StringLookup", config={"vocabulary": "/etc/passwd"}
    ),
    "layers.TFSMLayer": _layer(module="keras", class_name="layers.TFSMLayer", config={"filepath": "/etc"}),
    "utils.get_file": _activated(module="keras", config="utils.get_file"),
    "models.load_model": _activated(module="keras.models", config="load_model"),
    "load_img": _activated(module="keras.preprocessing.image", config="load_img"),
    "ops.vectorize": _activated(module="keras", config="ops.vectorize"),
    "load_img as a class": _activated(module="keras.preprocessing.image", class_name="load_img", config={}),
    "a network with its weights": _activated(module="keras.applications", class_name="VGG16", config={}),
    "a type": _activated(module="os", class_name="__typespec__", spec_name="system", config=[]),
    "a function of operations": _activated(module="keras.src.ops.numpy", config="vectorize"),
    "TFSMLayer": _layer(class_name="TFSMLayer", config={"filepath": "/etc"}),
    "TorchModuleWrapper": _layer(class_name="TorchModuleWrapper", config={"module": "gASVBQ"}),
    "StringLookup": _layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
    "TextVectorization": _layer(class_name="TextVectorization", config={"vocabulary": "/etc/passwd"}),
    "10^9 units": _layer(config={"units": 10**9}),
    "10^9 filters": _layer(class_name="Conv2D", config={"filters": 10**9, "kernel_size": [3, 3]}),
    "a kernel of 10^6": _layer(class_name="Conv2D", config={"filters": 1, "kernel_size": [10**6, 10**6]}),
    "an embedding of 10^9": _layer(class_name="Embedding", config={"input_dim": 10**9, "output_dim": 10**4}),
}.items():
    _add("network", what, _keras(layer))
_add("network", "deep", _keras("[" * 100_000))
_add("network", "names twice", _keras('{"class_name": "Dense", "class_name": "Lambda"}'))
_add("network", "a file outside", _keras(_layer(), **{"../../evil": b"x"}))
_add("network", "another file", _keras(_layer(), **{"assets/x": b"x"}))
_add("network", "200 MB of zeros", _keras(_layer(), **{"model.weights.h5": lambda: bytes(2 * 10**8)}))
_add("network", "members twice", _zipped("model.keras", {"config.json": b"{}"}, repeat=True))
_add("network", "noise", _file("model.keras", np.random.default_rng(0).bytes(4096)))
_add("network", "a pickle", _file("model.keras", b"cos\nsystem\n(S'id'\ntR."))

# Runs


def _run(hashes: dict[str, Any], **values: Any) -> Write:
    def write(folder: Path) -> Path:
        (folder / "plan.yaml").write_text("task: binary\n")
        (folder / "manifest.json").write_text(sealed({"format_version": 1, "files": hashes} | values))
        return folder

    return write


for what, hashes in {
    "outside": {"../../etc/passwd": "0" * 64},
    "absolute": {"/etc/passwd": "0" * 64},
    "/proc/kmsg": {"/proc/kmsg": "0" * 64},
    "backslashes": {"..\\x": "0" * 64},
    "NUL": {"a\0b": "0" * 64},
    "long": {"x" * 5000: "0" * 64},
    "deep": {"a/" * 5000 + "x": "0" * 64},
    "numbers": {"plan.yaml": 1},
    "lists": {"plan.yaml": [1]},
    "a folder": {"bundle": "0" * 64},
}.items():
    _add("run", what, _run(hashes))
_add("run", "files as a list", _run({}, files=[1, 2]))
_add("run", "a later format", _run({}, format_version=99))
_add("run", "no files", _run({}, files=None))

# Images: headers that claim more than there is


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(2**20)))
        + chunk(b"IEND", b"")
    )


def _nifti(shape: list[int]) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


PICTURES: dict[str, Content] = {
    "x.png": _png(60_000, 60_000),
    "y.png": _png(2**31 - 1, 1),
    "x.nii": _nifti([32767, 32767, 32767]),
    "x.nii.gz": lambda: gzip.compress(_nifti([32767, 32767, 32767]) + bytes(2 * 10**8), 1),
    "x.npy": _npy("(1000000, 1000000)"),
    "y.npy": _npy("(1,)", "|O", b"cos\nsystem\n(S'id'\ntR."),
    "x.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**30, 2**30, 1, 24, 0) + bytes(24),
    "x.tif": b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0xFFFF) + bytes(64),
    "loop.tif": b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 8),
    "x.nrrd": b"NRRD0004\ntype: float\ndimension: 3\nsizes: 99999 99999 99999\nencoding: gzip\n\n"
    + gzip.compress(b"x"),
    "outside.nhdr": b"NRRD0004\ntype: uchar\ndimension: 1\nsizes: 9\nencoding: raw\ndata file: ../../../etc/passwd\n",
    "x.mhd": b"NDims = 3\nDimSize = 99999 99999 99999\nElementType = MET_FLOAT\nElementDataFile = /dev/zero\n",
    "x.jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\1\x11\0\2\x11\1\3\x11\1\xff\xd9",
    "x.dcm": bytes(128) + b"DICM" + b"\x02\0\0\0UL\4\0\xff\xff\xff\xff",
    "x.webp": b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff\x2f\xff\xff\xff\xff",
    "x.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 64,
    "x.mgz": gzip.compress(struct.pack(">7i", 1, 2**30, 2**30, 2**30, 1, 3, 0) + bytes(300)),
}
for what, picture in PICTURES.items():
    _add("image", f"{what}: claims", _file(what, picture))
_add("image", "npz of 10^12", _zipped("x.npz", {"image.npy": _npy("(1000000, 1000000)")}))
_add(
    "image",
    "npz of 256 MB of zeros",
    _zipped("x.npz", {"image.npy": lambda: _npy("(67108864,)", content=bytes(2**28))}),
)


def _named(name: str) -> Write:
    def write(folder: Path) -> Path:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((4, 4), np.float32))
        path = folder / os.fsdecode(name.encode("latin-1")) if "\xff" in name else folder / name
        path.write_bytes(buffer.getvalue())
        return path

    return write


for name in ("a\nb.npy", "scan-\xff.npy", "red\x1b[31m.npy", "a[3].npy", "=1+1.npy", "'\";--.npy", "%s%n.npy", "~.npy"):
    _add("image", f"named {name!r}", _named(name))
