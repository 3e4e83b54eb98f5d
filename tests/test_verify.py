"""Whether a run is whole, and who signed it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from families import hounsfield
from hounsfield.bundle import Bundle
from hounsfield.errors import RunError, SignatureError
from hounsfield.runs import read_addition
from hounsfield.runs.manifest import adding, check_run, verify, write_run_manifest
from hounsfield.signing import SIGN_VARIABLE, VARIABLE
from networks import tiny_bundle

FILES = {
    "plan.yaml": "task: binary\n",
    "environment.json": "{}\n",
    "history.csv": "epoch,loss\n1,0.5\n",
    "log.jsonl": "{}\n",
    "metrics.json": "{}\n",
    "predictions.csv": "image\na.png\n",
    "figures/roc.png": "picture",
    "report.html": "<p>",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "figures").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    tiny_bundle(folder / "bundle")
    write_run_manifest(folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(key.public_key().public_bytes(*form))
    return private, public


def test_a_whole_run_has_the_identity_of_its_bundle(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify(run)
    assert found.whole
    assert found.identity == Bundle.load(run).identity
    check_run(run)
    assert hounsfield(monkeypatch, "verify", run) == 0
    assert hounsfield(monkeypatch, "verify", run / "bundle") == 0


def test_every_file_that_changes_or_goes_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [path for path in sorted(run.rglob("*")) if path.is_file()]
    assert len(names) == len(FILES) + 6
    generator = np.random.default_rng(0)
    for path in names:
        content = bytearray(path.read_bytes())
        for bit in generator.integers(8 * len(content), size=5):
            damaged = content.copy()
            damaged[bit // 8] ^= 1 << int(bit) % 8
            path.write_bytes(damaged)
            (fault, *_) = verify(run).faults
            assert path.name in fault
        path.unlink()
        faults = verify(run).faults
        left_out = path.parent.name == "bundle" and path.name in {"model.keras", "model.onnx"}
        assert not faults if left_out else any(path.name in fault for fault in faults)
        assert hounsfield(monkeypatch, "verify", run) == (0 if left_out else 1)
        path.write_bytes(content)
    assert verify(run).whole


def test_json_names_what_is_not_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "predictions.csv").write_text("image\nb.png\n")
    (run / "extra.txt").write_text("mine")
    assert hounsfield(monkeypatch, "verify", run, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] is False
    assert "predictions.csv is damaged or was changed" in found["faults"][0]
    assert found["notes"] == [f"{run / 'extra.txt'} is not listed."]


def test_a_run_of_changed_files_is_not_read_but_its_pages_may_change(run: Path) -> None:
    (run / "report.html").write_text("<p>edited")
    check_run(run)
    assert not verify(run).whole
    with adding(run, [run / "report.html"]):
        pass
    assert verify(run).whole
    (run / "history.csv").write_text("epoch,loss\n1,0.4\n")
    with pytest.raises(RunError, match=r"history\.csv is damaged or was changed"):
        check_run(run)


def test_a_run_without_a_manifest_is_read_and_says_so(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "manifest.json").unlink()
    check_run(run)
    assert "earlier version" in caplog.text
    assert any("has no manifest.json" in fault for fault in verify(run).faults)
    with adding(run, [run / "report.html"]):
        pass
    assert not (run / "manifest.json").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run nor a bundle"):
        verify(tmp_path)


def test_a_signature_is_checked_on_demand(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = write_keys(tmp_path, "own")
    other, other_public = write_keys(tmp_path, "other")
    assert hounsfield(monkeypatch, "verify", run, "--verify-key", public) == 1
    assert hounsfield(monkeypatch, "verify", run, "--sign-key", private) == 0
    assert hounsfield(monkeypatch, "verify", run, "--verify-key", public) == 0
    assert hounsfield(monkeypatch, "verify", run, "--verify-key", other_public) == 1
    monkeypatch.setenv(VARIABLE, str(public))
    bundle = Bundle.load(run)
    monkeypatch.setenv(VARIABLE, str(other_public))
    with pytest.raises(SignatureError, match="no valid signature"):
        Bundle.load(run)
    monkeypatch.delenv(VARIABLE)
    bundle.with_check("bfloat16", False)
    monkeypatch.setenv(VARIABLE, str(public))
    with pytest.raises(SignatureError, match="has no signature"):
        Bundle.load(run)
    monkeypatch.delenv(VARIABLE)
    with adding(run, [run / "bundle" / "bundle.json"]):
        pass
    assert hounsfield(monkeypatch, "verify", run, "--sign-key", public) == 1
    assert hounsfield(monkeypatch, "verify", run, "--verify-key", other) == 1


def test_a_damaged_run_is_not_signed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = write_keys(tmp_path, "own")
    (run / "metrics.json").write_text('{"test": {}}')
    assert hounsfield(monkeypatch, "verify", run, "--sign-key", private) == 1
    assert not list(run.rglob("*.sig"))


def test_a_command_that_is_stopped_half_way_leaves_a_whole_run(run: Path) -> None:
    with adding(run, [run / "robustness.json"]):
        (run / "robustness.json").write_text("{}")
    assert "robustness.json" in (run / "manifest.json").read_text()

    def stop() -> None:
        with adding(run, [run / "robustness.json", run / "figures" / "roc.png"]):
            (run / "robustness.json").write_text('{"half": true}')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    found = verify(run)
    assert found.whole
    assert [note.rpartition("/")[2] for note in found.notes] == [
        "roc.png is not listed.",
        "robustness.json is not listed.",
    ]
    check_run(run)


def test_what_lies_in_a_run_and_is_not_listed_is_not_read(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with adding(run, [run / "robustness.json"]):
        (run / "robustness.json").write_text('{"images": 9}')
    (run / "bias.json").write_text('{"lines": ["All groups are served alike."]}')
    assert read_addition(run, "robustness") == {"images": 9}
    assert read_addition(run, "bias") is None
    assert "bias.json is left out" in caplog.text


def test_what_is_written_under_a_key_is_signed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    private, public = write_keys(tmp_path, "own")
    monkeypatch.setenv(SIGN_VARIABLE, str(private))
    Bundle.load(run).with_check("bfloat16", False)
    with adding(run, [run / "bundle" / "bundle.json"]):
        pass
    assert hounsfield(monkeypatch, "verify", run, "--verify-key", public) == 0
    monkeypatch.setenv(VARIABLE, str(public))
    check_run(run)
    Bundle.load(run)
    monkeypatch.delenv(SIGN_VARIABLE)
    assert not caplog.text
    with adding(run, [run / "report.html"]):
        pass
    assert "the signature was removed" in caplog.text
    with pytest.raises(SignatureError, match=r"manifest\.json has no signature"):
        check_run(run)


def test_commands_demand_a_signature_and_refuse_a_key_at_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = write_keys(tmp_path, "own")
    # What an option sets holds for the process: it is taken back at the end of the test.
    for variable in (VARIABLE, SIGN_VARIABLE):
        monkeypatch.setenv(variable, "")
    assert hounsfield(monkeypatch, "predict", run, "scan.png", "--verify-key", public) == 1
    assert "has no signature" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, "")
    assert hounsfield(monkeypatch, "train", tmp_path, "--out", tmp_path / "new", "--sign-key", public) == 1
    assert "expected a private key" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv(SIGN_VARIABLE, "")
    assert hounsfield(monkeypatch, "export", run, "--to", "openvino", "--verify-key", private) == 1
    assert "expected a public key" in capsys.readouterr().err
