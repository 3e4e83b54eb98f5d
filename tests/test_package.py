"""The shape of the package: layers, lightness at start, what each package exports, what the wheel needs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hounsfield
from hounsfield.errors import MissingDependency, require

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "hounsfield"
FILES = sorted(SOURCE.rglob("*.py"))
PACKAGES = [path for path in FILES if path.name == "__init__.py"]

# What any room may import.
GROUND = {
    "atomic",
    "boxes",
    "containers",
    "delimiter",
    "errors",
    "hardware",
    "integrity",
    "masks",
    "object_masks",
    "progress",
    "signing",
    "tasks",
    "folder_lock",
    "textfiles",
    *("safe_text", "version"),
}
# Room -> rooms that it may import beside the ground; a room that is not here is not built yet.
LAYERS = {
    "errors": set(),
    "progress": set(),
    "version": set(),
    "atomic": set(),
    "folder_lock": set(),
    "boxes": set(),
    "delimiter": set(),
    "hardware": set(),
    "integrity": set(),
    "masks": set(),
    "object_masks": set(),
    "signing": set(),
    "safe_text": set(),
    "textfiles": set(),
    "containers": set(),
    "tasks": set(),
    "openvino_runtime": set(),
    "images": set(),
    "preprocessing": {"images"},
    "phantoms": {"images", "preprocessing"},
    "evaluation": set(),
    "quality": {"evaluation"},
    "cohorts": {"images", "preprocessing", "phantoms", "quality"},
    "plans": {"preprocessing"},
    "drawing": {"images", "evaluation"},
    "shares": set(),
    "augmentation": {"images", "preprocessing", "plans", "shares"},
    "models": {"augmentation", "plans", "shares"},
    "detection": {"augmentation", "models", "plans", "shares"},
    "segmentation": {"models", "shares"},
    "onnx_export": {"openvino_runtime"},
    "bundle": {"images", "preprocessing", "evaluation", "quality", "onnx_export"},
    "pretrained": {"preprocessing", "cohorts", "plans", "models", "bundle"},
    "planning": {
        *("images", "preprocessing", "cohorts", "plans", "augmentation", "models", "detection", "segmentation"),
        *("bundle", "pretrained"),
    },
    "runs": {"evaluation", "bundle", "plans"},
    "inference": {
        *("images", "preprocessing", "evaluation", "quality", "drawing", "onnx_export", "openvino_runtime", "bundle"),
    },
    "explanation": {"images", "preprocessing", "bundle", "inference"},
    "reading": {"images", "inference"},
    "testing": {"images", "preprocessing", "cohorts", "evaluation", "onnx_export", "bundle", "runs", "inference"},
    "reports": {
        *("images", "preprocessing", "cohorts", "evaluation", "bundle", "runs", "inference", "explanation"),
        *("plans", "testing", "drawing"),
    },
}
LAYERS["distributed"] = {
    *("images", "preprocessing", "cohorts", "bundle", "inference", "explanation", "reports"),
}
LAYERS["dicom_results"] = {"images", "bundle", "drawing", "inference", "explanation"}
LAYERS["training"] = set(LAYERS) - {"explanation", "dicom_results"}
LAYERS["tuning"] = set(LAYERS) - {"explanation", "dicom_results", "reports"}
LAYERS["pretraining"] = {
    *("images", "preprocessing", "cohorts", "plans", "augmentation", "models", "segmentation", "pretrained"),
    *("planning", "runs", "shares", "training"),
}
# Never training: what is served was trained elsewhere.
LAYERS["serving"] = {"images", "bundle", "inference", "explanation", "dicom_results", "reading", "runs", "testing"}
LAYERS["cli"] = set(LAYERS)
LAYERS["__main__"] = {"cli"}
# What predicts, tests, reports and serves needs no backend; below it only the rooms that build networks do.
HEAVY_ROOMS = {
    *("shares", "augmentation", "models", "detection", "segmentation", "pretrained", "planning", "training"),
    *("pretraining", "tuning", "cli", "__main__"),
}
LIGHT_ROOMS = set(LAYERS) - HEAVY_ROOMS
HEAVY = ("keras", "tensorflow", "jax", "torch")
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "python_multipart": "python-multipart",
    "charset_normalizer": "charset-normalizer",
    "cv2": "opencv-python-headless",
    "dicomweb_client": "dicomweb-client",
    "yaml": "pyyaml",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, for types too; of ours the module that holds the name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def test_rooms_import_down_only() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        for imported in imports_of(path)
        if imported.startswith("hounsfield.")
        and room_of(name)
        and room_of(imported) not in {room_of(name)} | GROUND | LAYERS[room_of(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_layer() -> None:
    assert {room_of(name) for name in MODULES} - {""} <= set(LAYERS)
    known: set[str] = set()
    for room, below in LAYERS.items():
        assert below <= known, f"{room} would import upwards"
        known.add(room)


def test_evaluation_imports_the_ground_alone() -> None:
    imported = {name for path in FILES if path.parent.name == "evaluation" for name in imports_of(path)}
    ours = {room_of(name) for name in imported if name.startswith("hounsfield")}
    assert ours <= {
        "evaluation",
        "errors",
        "boxes",
        "containers",
        "delimiter",
        "masks",
        "object_masks",
        "safe_text",
        "tasks",
        "textfiles",
    }
    others = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"hounsfield"}
    assert others <= {"numpy", "scipy", "sklearn", "pandas"}


def test_no_module_is_in_a_cycle() -> None:
    graph = {name: {found for found in imports_of(path) if found in MODULES} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_cycles_are_seen() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def python(code: str, *arguments: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


LOADED = f"\nprint(*(name for name in {HEAVY} if name in sys.modules))"


def test_import_loads_no_keras_and_nothing_heavy() -> None:
    code = "import sys, hounsfield\nprint(*(name for name in ('numpy', 'pandas', 'cv2') if name in sys.modules))"
    assert python(code + LOADED).split() == []


def test_light_rooms_load_no_keras() -> None:
    light = [name for name in MODULES if room_of(name) in LIGHT_ROOMS]
    assert len(light) > 50
    assert python(f"import sys, importlib\nfor name in {light}: importlib.import_module(name)" + LOADED).split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "list"]])
def test_command_line_starts_without_keras(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom hounsfield.cli.main import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
    )
    assert not set(python(code + LOADED, *arguments).splitlines()[-1].split()) & set(HEAVY)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom hounsfield.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    heavy = ("numpy", "pandas", "cv2", "scipy", "sklearn", "matplotlib", "pydicom", "pydantic")
    said = python(code + f"print(*(name for name in {heavy} if name in sys.modules))", "--help")
    assert said.splitlines()[-1].split() == []


def exports_only(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        names = {ast.unparse(target) for target in statement.targets}
        return all(name == "__all__" or name.isupper() for name in names)
    if isinstance(statement, ast.FunctionDef):
        return statement.name == "__getattr__"
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.If)


@pytest.mark.parametrize("path", PACKAGES, ids=module_name)
def test_package_only_exports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hounsfield"):
            imported |= {alias.asname or alias.name for alias in node.names}
    statements = tree.body[1:] if ast.get_docstring(tree) else tree.body
    assert all(exports_only(statement) for statement in statements)
    module = importlib.import_module(module_name(path))
    exported = set(getattr(module, "__all__", ()))
    assert exported == imported - {"require"}
    assert all(hasattr(module, name) for name in exported)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = hounsfield.nonsense


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=]", line)[0].lower() for line in project["dependencies"]}
    optional = {
        re.split(r"[\[<>=]", line)[0].lower() for lines in project["optional-dependencies"].values() for line in lines
    }
    outside = {name.partition(".")[0] for path in FILES for name in imports_of(path)} - set(sys.stdlib_module_names)
    needed = {DISTRIBUTIONS.get(name, name).lower() for name in outside - {"hounsfield"}}
    assert needed <= declared | optional
    # pydicom finds its decoders by itself, pandas its Excel engine; h5py is loaded where a file needs it.
    unseen = {"h5py", "openpyxl", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pyarrow"}
    assert declared - unseen <= needed


def test_data_files_are_where_the_wheel_takes_them() -> None:
    found = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    assert {"cohorts/medmnist.json", "py.typed"} <= found
    assert any(name.startswith("reports/templates/") for name in found)
    assert {name for _, name, _ in pkgutil.iter_modules([str(SOURCE)])} == {room_of(name) for name in MODULES} - {""}


def test_a_package_that_fails_while_it_is_imported_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_backend.py").write_text("raise ValueError('Unable to import backend : foo')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="Unable to import backend : foo"):
        require("broken_backend", "a test")


POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}


def test_no_module_of_posix_alone_is_imported_elsewhere() -> None:
    """One below ``if sys.platform …`` is not."""
    imported = {
        name.partition(".")[0]
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert "numpy" in imported
    assert not POSIX & imported
