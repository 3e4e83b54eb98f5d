"""The page on preprocessing says what is so: its snippets run and its table names every step."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from hounsfield.cli.main import main
from hounsfield.images.image import Image
from hounsfield.images.writers import write_image
from hounsfield.preprocessing import STEPS
from hounsfield.preprocessing.arguments import pipeline_from_file

PAGE = (Path(__file__).parent.parent / "docs" / "preprocessing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_python_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) == 2
    exec("\n".join(blocks("python")), {})  # noqa: S102 - our own page


def test_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    write_image(Image(np.random.default_rng(0).integers(0, 256, (40, 30, 1), dtype=np.uint8)), "scans/one.png")
    (command,) = blocks("sh")
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert Path("prepared/one.png").exists()


def test_steps_file_is_read(tmp_path: Path) -> None:
    (content,) = blocks("yaml")
    (tmp_path / "steps.yaml").write_text(content)
    assert [step.name for step in pipeline_from_file(tmp_path / "steps.yaml").steps] == [
        "percentile",
        "clahe",
        "resize",
    ]


def test_table_names_every_step() -> None:
    table = PAGE.split("## The steps")[1].split("What they do")[0]
    assert {
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    } == set(STEPS)
