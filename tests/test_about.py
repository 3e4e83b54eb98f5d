"""``about.yaml``: the template reads back, answers are texts, and what is not known is refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from hounsfield.bundle.about import QUESTIONS, About, Code, read_about, template
from hounsfield.cli import main as cli
from hounsfield.errors import RunError
from networks import tiny_bundle


def test_the_template_has_every_question_and_no_answer(tmp_path: Path) -> None:
    text = template(["normal", "opacity"])
    (tmp_path / "about.yaml").write_text(text, encoding="utf-8")
    assert read_about(tmp_path, ["normal", "opacity"]) == About()
    assert list(yaml.safe_load(text)) == [*QUESTIONS, "codes"]
    for question in QUESTIONS.values():
        assert f"# {question}\n" in text


def test_answers_are_texts_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    (tmp_path / "about.yaml").write_text(
        "dates: 2019-01-01\nsample_size: 400\nusers: [radiologists, technicians]\npopulation: |\n  Adults,\n  cough\n"
        "codes: {opacity: {value: '233604007', scheme: SCT, meaning: Pneumonia}}\n",
        encoding="utf-8",
    )
    about = read_about(tmp_path, ["opacity"])
    assert (about.dates, about.sample_size, about.users, about.population) == (
        *("2019-01-01", "400", "radiologists; technicians", "Adults, cough"),
    )
    assert about.codes == {"opacity": Code(value="233604007", scheme="SCT", meaning="Pneumonia")}
    assert about.answers(("users", "ethics", "population")) == "radiologists; technicians. Adults, cough."
    assert set(about.given()) == {"dates", "sample_size", "users", "population"}
    assert set(about.given()) | set(about.missing()) == set(QUESTIONS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("intended_usage: x\nfoo: y\nethics: z", "unknown entries intended_usage, foo.*Known are .*intended_use"),
        ("ethics: {a: b}", "at 'ethics'"),
        ("ethics: true", "at 'ethics'"),
        (f"ethics: {'x' * 5000}", "4,000 characters"),
        ("- a\n- b", "no list of entries"),
        ("ethics: a\nethics: b", "stands twice"),
        ("codes: {lung: {value: x, scheme: SCT, meaning: Lung}}", "codes for lung.*labels of the bundle are opacity"),
        ("codes: {opacity: {value: x, scheme: SCT}}", "codes.opacity.meaning"),
        ("codes: {opacity: {value: x, scheme: SCT, meaning: y, version: 1}}", "codes.opacity.version"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "about.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=told):
        read_about(tmp_path, ["opacity"])


def test_the_command_writes_once_and_then_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle(tmp_path / "run" / "bundle")
    path = tmp_path / "run" / "about.yaml"

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["hounsfield", "about", *arguments])
        with pytest.raises(SystemExit) as outcome:
            cli.main()
        assert not outcome.value.code
        return capsys.readouterr().out

    assert f"0 of {len(QUESTIONS)} questions answered" in run(str(tmp_path / "run"))
    assert path.read_text(encoding="utf-8") == run(str(tmp_path / "run"), "--template")
    path.write_text("ethics: none needed\n", encoding="utf-8")
    found = json.loads(run(str(tmp_path / "run"), "--json"))
    assert found["answers"] == {"ethics": "none needed"}
    assert "intended_use" in found["missing"]
    assert "intended_use:" in run("--template")
