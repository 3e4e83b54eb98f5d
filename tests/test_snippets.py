"""What README and docs say can be done: commands parse, Python runs, links and names lead somewhere."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

from detectors import tiny_detector_bundle
from hounsfield.cli import main as cli
from hounsfield.images import Image, write_image
from hounsfield.images.dicom_writer import write_series
from hounsfield.phantoms import PHANTOMS, make_phantom
from hounsfield.planning import budget
from networks import tiny_bundle

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(
            REPOSITORY / name
            for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md")
        ),
        *(REPOSITORY / "docs").rglob("*.md"),
    ]
)
PROGRAM = typer.main.get_command(cli.app)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)


def command_lines(page: Path) -> Iterator[str]:
    """Every command of ours in blocks and in running text; a line with [ ] is a synopsis and no call."""
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE))
    shown = re.findall(r"^(?:\$ )?(hounsfield .*)$", fenced, flags=re.MULTILINE)
    indented = re.findall(r"^    (hounsfield .*)$", text_of(page), flags=re.MULTILINE)
    inline = re.findall(r"`(hounsfield [^`]+)`", text_of(page))
    titles = re.findall(r"^# `(hounsfield \w+)`$", text_of(page), flags=re.MULTILINE)
    for line in [*shown, *indented, *inline]:
        if "[" not in line and " COMMAND" not in line and line not in titles:
            yield line


def parse(group: Any, context: Any, arguments: list[str]) -> None:
    """Parse a command line as the program would, without running it."""
    if not hasattr(group, "resolve_command"):
        return
    name, command, rest = group.resolve_command(context, arguments)
    below = command.make_context(name, rest, parent=context)
    parse(command, below, [*getattr(below, "_protected_args", []), *below.args])


def parse_line(line: str) -> None:
    context = PROGRAM.make_context("hounsfield", shlex.split(line)[1:])
    parse(PROGRAM, context, [*getattr(context, "_protected_args", []), *context.args])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for line in command_lines(page):
        parse_line(line)


def test_wrong_commands_do_not_parse() -> None:
    for line in (
        "hounsfield train chest-xray --effrot quick",
        "hounsfield trian chest-xray",
        "hounsfield data fetch x",
    ):
        with pytest.raises(Exception, match="No such"):
            parse_line(line)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_every_command_is_in_the_readme(name: str) -> None:
    table = re.findall(r"^\| `hounsfield (\w+)", text_of(REPOSITORY / name), flags=re.MULTILINE)
    assert table == list(cli.COMMANDS)


def test_the_chinese_readme_has_the_snippets_extras_and_links_of_the_other() -> None:
    english, chinese = (REPOSITORY / name for name in ("README.md", "README.zh-CN.md"))
    for language in ("sh", "python"):
        assert blocks(chinese, language) == blocks(english, language)
    for pattern in (r"^\| `([\w-]+)`", r"\]\((?!README)([^)#]+)\)"):
        found = [sorted(re.findall(pattern, text_of(page), flags=re.MULTILINE)) for page in (english, chinese)]
        assert found[0]
        assert found[0] == found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", text_of(page)):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_extras_and_targets_exist(page: Path) -> None:
    text = text_of(page)
    for path in re.findall(r"`(?:python )?((?:tests|bench|scripts|examples)/[\w-]+(?:\.py)?)\b", text):
        assert (REPOSITORY / path).exists(), path
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"(?:hounsfield|\.)\[([a-z,-]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets


def test_every_page_and_benchmark_has_its_row() -> None:
    index = text_of(REPOSITORY / "docs" / "README.md")
    pages = [page.relative_to(REPOSITORY / "docs") for page in (REPOSITORY / "docs").rglob("*.md")]
    assert all(f"]({page})" in index for page in pages if page.name != "README.md")
    scripts = text_of(REPOSITORY / "bench" / "README.md")
    assert all(f"`{script.name}`" in scripts for script in (REPOSITORY / "bench").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for source in blocks(page, "python"):
        compile(source, page.name, "exec")


def make_table() -> None:
    """``chest-xray/index.csv`` with twelve pictures of as many patients."""
    folder = Path("chest-xray")
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 1), dtype=np.uint8)
        write_image(Image(pixels), folder / f"{number}.png")
    rows = [(f"{number}.png", ("normal", "pneumonia")[number % 2], f"p{number}") for number in range(12)]
    pd.DataFrame(rows, columns=["image", "label", "patient"]).to_csv(folder / "index.csv", index=False)


def make_export() -> None:
    """A series of four CT slices, and one of them under another name."""
    pixels = np.random.default_rng(0).integers(-1000, 1000, (4, 8, 9, 1)).astype(np.int16)
    affine = np.array([[0, 0, 0.7, 0], [0, 0.7, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    Path("export/series-3").mkdir(parents=True)
    write_series(Image(pixels, affine=affine, spacing=(3.0, 0.7, 0.7), modality="CT"), Path("export/series-3"))
    shutil.copy(min(Path("export/series-3").iterdir()), "export/IM0001")


def make_bundle() -> None:
    tiny_bundle(Path("RUN/bundle"))
    Path("images").mkdir()
    write_image(Image(np.random.default_rng(0).integers(0, 256, (12, 10, 1), dtype=np.uint8)), Path("images/a.png"))


def make_detector() -> None:
    tiny_detector_bundle(Path("RUN/bundle"))
    Path("images").mkdir()
    write_image(Image(np.random.default_rng(0).integers(0, 256, (45, 52, 1), dtype=np.uint8)), Path("images/a.png"))


def nothing() -> None:
    pass


# Page -> what its snippets find in the current folder; preprocessing.md has a test of its own.
SETTINGS: dict[str, Callable[[], None]] = {
    "article.md": nothing,
    "bias.md": nothing,
    "convert.md": nothing,
    "data.md": make_table,
    "detection-data.md": nothing,
    "detection-evaluation.md": nothing,
    "dicom.md": make_export,
    "uncertainty.md": nothing,
    "evaluation.md": nothing,
    "geometry.md": nothing,
    "inspect.md": nothing,
    "phantoms.md": nothing,
    "segmentation-data.md": nothing,
}

# The same, of pages on what comes after training.
BUNDLED: dict[str, Callable[[], None]] = {
    "detection-prediction.md": make_detector,
    "detection.md": nothing,
    "explanation.md": make_bundle,
    "prediction.md": make_bundle,
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and cache, and phantoms of few patients."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    for name, phantom in PHANTOMS.items():
        monkeypatch.setitem(PHANTOMS, name, dataclasses.replace(phantom, num_patients=8))
    return tmp_path


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", SETTINGS)
def test_python_of_the_docs_runs(name: str) -> None:
    SETTINGS[name]()
    exec("\n".join(blocks(REPOSITORY / "docs" / name, "python")), {})  # noqa: S102 - our own page


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", BUNDLED)
def test_python_on_bundles_runs(name: str) -> None:
    BUNDLED[name]()
    exec("\n".join(blocks(REPOSITORY / "docs" / name, "python")), {})  # noqa: S102 - our own page


def run(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


@pytest.mark.usefixtures("workplace")
def test_main_job_of_the_readme_and_the_article_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dataclasses.replace(budget.BUDGETS["quick"], size={2: 32, 3: 16}, width={2: 4, 3: 4}, epochs=(1, 1))
    monkeypatch.setitem(budget.BUDGETS, "quick", tiny)
    make_phantom("chest", Path("chest-xray"), num_patients=40)
    Path("new-images").mkdir()
    for path in sorted(Path("chest-xray/images").iterdir())[:3]:
        shutil.copy(path, "new-images")
    (main_job,) = [source for source in blocks(REPOSITORY / "README.md", "sh") if "train chest-xray" in source]
    article = blocks(REPOSITORY / "docs" / "article.md", "sh")
    for line in dict.fromkeys("".join([main_job, *article]).splitlines()):
        assert run(monkeypatch, line) == 0, line
    assert len(pd.read_csv("predictions.csv")) == 3
    exec("\n".join(blocks(REPOSITORY / "README.md", "python")), {})  # noqa: S102 - our own page
    assert Path("runs/second/bundle/model.keras").is_file()
