"""Full disks, few file handles, little memory: ``scarce.py`` runs commands under them in a process of its own."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from families import hounsfield
from hounsfield.cli.train import resumable
from hounsfield.cohorts.files import FileSource
from hounsfield.errors import ImageError, ResourceError, require
from hounsfield.hardware import out_of_files
from hounsfield.images import Reference, read_image
from hounsfield.images.reading import image_files
from hounsfield.runs.folder import RunFolder
from plans import write_pair

if sys.platform != "linux":
    pytest.skip("these limits are Linux's", allow_module_level=True)


def test_what_is_missing_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    script = Path(__file__).with_name("scarce.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FAULT" not in done.stdout, done.stdout
    # Each kind of shortage was felt.
    refusals = re.findall(r"(\w+): (\d+) refusals", done.stdout)
    assert [kind for kind, _ in refusals] == ["disk", "handles", "memory"]
    assert all(int(count) > 0 for _, count in refusals), done.stdout


def refusing(number: int) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


def test_an_image_is_not_left_out_for_want_of_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    source = FileSource(tmp_path)
    assert [image.shape for image in source.stream([Reference("a.png")])] == [(4, 4)]  # type: ignore[union-attr]
    monkeypatch.setattr(os, "open", refusing(errno.EMFILE))
    for read in (lambda: read_image(path), lambda: list(source.stream([Reference("a.png")]))):
        with pytest.raises(ResourceError, match=r"limit of [\d,]+ open files per process \(ulimit -n\)"):
            read()
    monkeypatch.setattr(os, "open", refusing(errno.EACCES))
    assert isinstance(next(iter(source.stream([Reference("a.png")]))), ImageError)


def test_few_handles_are_named_whatever_readers_take_them_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_pair(tmp_path)
    monkeypatch.setattr(np, "load", refusing(errno.EMFILE))
    assert hounsfield(monkeypatch, "inspect", data) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("hounsfield: No more files can be opened: the limit of ")
    assert "ulimit -n" in said
    assert "pickle" not in said


def test_a_library_that_cannot_be_opened_for_want_of_handles_is_not_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(name: str) -> NoReturn:
        raise ImportError(f"{name}.so: cannot open shared object file: Too many open files")

    monkeypatch.setattr("importlib.import_module", load)
    with pytest.raises(Exception, match="openvino") as missing:
        require("openvino", "predicting")
    assert "ulimit -n" in (out_of_files(missing.value) or "")
    assert out_of_files(ValueError("too many")) is None


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "closed", "lost+found"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "open" / "a.png"), np.zeros((4, 4), np.uint8))
    scandir, closed, number = os.scandir, ["lost+found"], errno.EACCES

    def look(path: Any) -> Any:
        if Path(path).name in closed:
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    assert image_files(tmp_path) == [tmp_path / "open" / "a.png"]
    closed.append("closed")
    with pytest.raises(ImageError, match=r"closed cannot be read: Permission denied"):
        image_files(tmp_path)
    number = errno.EMFILE
    with pytest.raises(ResourceError, match="ulimit -n"):
        image_files(tmp_path)


@pytest.mark.parametrize("call", ["mkdir", "open", "pwrite"])
def test_a_run_that_a_full_disk_stops_at_its_start_leaves_no_folder(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, run = getattr(os, call), tmp_path / "runs" / "run"

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if call == "pwrite" or str(path).endswith(("run", ".lock")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, *args, **options)

    monkeypatch.setattr(os, call, refuse)

    def begin() -> None:
        folder = RunFolder.create(run)
        with folder.removed_if_empty(), folder.locked():
            pytest.fail("the disk was not full")

    with pytest.raises(OSError, match="No space left"):
        begin()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Free space"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (MemoryError(), "memory of this machine is too small"),
    ],
)
def test_a_training_that_had_begun_says_how_it_is_continued(error: Exception, said: str, tmp_path: Path) -> None:
    def train() -> None:
        with resumable(tmp_path, "train"):
            raise error

    with pytest.raises(type(error)):
        train()
    (tmp_path / "environment.json").touch()
    with pytest.raises(ResourceError, match=re.escape(said)) as refusal:
        train()
    assert f"continue with: hounsfield train --resume {tmp_path}." in str(refusal.value)
