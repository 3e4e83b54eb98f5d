"""``about.yaml`` beside a bundle in its run: what only its author knows, and codes of the labels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hounsfield.bundle.bundle import Bundle
from hounsfield.errors import RunError
from hounsfield.textfiles import MAX_YAML_BYTES, parse_yaml, read_text

NAME = "about.yaml"
# Characters of a code (PS3.5, value representation SH), and of an answer.
_LENGTH, _MOST = 16, 4000
_EXAMPLE = "pneumonia: {value: '233604007', scheme: SCT, meaning: Pneumonia}"


def _text(value: Any) -> Any:
    """An answer as one line of text: YAML reads years and days as numbers and dates, and an empty value as nothing."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str | int | float | dt.date) for each in value):
        return "; ".join(str(_text(each)) for each in value)
    if isinstance(value, int | float | dt.date) and not isinstance(value, bool):
        return str(value)
    return " ".join(value.split()) if isinstance(value, str) else value


Answer = Annotated[str, BeforeValidator(_text), Field(max_length=_MOST)]


class Code(BaseModel):
    """The code of a label in a terminology.

    Attributes:
        value: such as "233604007".
        scheme: such as "SCT" or "RADLEX" (PS3.16, section 8).
        meaning: in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    value: str = Field(min_length=1, max_length=_LENGTH)
    scheme: str = Field(min_length=1, max_length=_LENGTH)
    meaning: str = Field(min_length=1, max_length=64)


def _asked(question: str) -> Any:
    return Field(default="", description=question)


class About(BaseModel):
    """The author's answers, each one line of text and empty where not given; their questions are in the template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Answer = _asked("Name of the model, with its version.")
    contact: Answer = _asked("Who answers questions about it.")
    intended_use: Answer = _asked("For which decision the output is meant, and at which step of care.")
    users: Answer = _asked("Who reads the output, with which training, and what they do with it.")
    not_for: Answer = _asked("What it must not be used for.")
    threshold_reason: Answer = _asked("Why the decision threshold suits this use.")
    rationale: Answer = _asked("Why such a model, and which others exist.")
    objectives: Answer = _asked("What the study was meant to show, with its hypotheses.")
    design: Answer = _asked("Prospective or retrospective; were the images taken for this study or in routine care?")
    population: Answer = _asked("Which patients: ages, complaints, how they came to be imaged.")
    setting: Answer = _asked("Hospitals or centres and their countries; the kind of care.")
    dates: Answer = _asked("When the images were taken, from and to.")
    inclusion: Answer = _asked(
        "Criteria of inclusion and exclusion; were patients consecutive, random or by convenience?"
    )
    data_sources: Answer = _asked("Where the data comes from: institutions, links, permissions.")
    acquisition: Answer = _asked("Scanners and protocols.")
    earlier_processing: Answer = _asked("What was done to the images before Hounsfield read them.")
    deidentification: Answer = _asked("How the data was de-identified.")
    demographics: Answer = _asked("Age, sex, severity, other diagnoses of the patients, where the data does not say.")
    reference_standard: Answer = _asked("How each label was determined, and why by this standard.")
    annotators: Answer = _asked("Who annotated, with which qualification and tools; on which data.")
    agreement: Answer = _asked("How well annotators agreed, and how differences were settled.")
    blinding: Answer = _asked("What annotators knew: clinical data, the output of the model.")
    interval: Answer = _asked("Time and treatment between the image and the reference standard.")
    sample_size: Answer = _asked("How the number of patients was decided on.")
    test_use: Answer = _asked("Whether anybody saw results on the test images before, or chose by them.")
    fairness: Answer = _asked("Which groups matter here and why; known inequalities.")
    ethics: Answer = _asked("The committee, its approval, and consent or waiver.")
    funding: Answer = _asked("The sources and their role.")
    conflicts: Answer = _asked("Conflicts of interest and commercial interests.")
    registration: Answer = _asked("Register and number, or that there is none.")
    protocol: Answer = _asked("Where the protocol can be found, or that there is none.")
    availability: Answer = _asked("Whether data and model can be had, and on which terms.")
    patients_involved: Answer = _asked("How patients and the public were involved, or not.")
    adverse_events: Answer = _asked("Harm from the imaging or the reference standard, or that there was none.")
    interpretation: Answer = _asked("What the results mean beside other studies.")
    implications: Answer = _asked("What they mean for care, what stands in the way, and what comes next.")
    codes: dict[str, Code] = Field(default_factory=dict)

    def given(self) -> list[str]:
        """The names of the questions that have an answer."""
        return [name for name in QUESTIONS if getattr(self, name)]

    def missing(self) -> list[str]:
        """The names of those that have none."""
        return [name for name in QUESTIONS if not getattr(self, name)]

    def answers(self, names: Sequence[str]) -> str:
        """The answers to some questions as sentences; empty where none of them has one."""
        found = [str(getattr(self, name)) for name in names]
        return " ".join(text if text[-1] in ".!?" else f"{text}." for text in found if text)


QUESTIONS: dict[str, str] = {
    name: str(field.description) for name, field in About.model_fields.items() if name != "codes"
}


def read_about(folder: Path, labels: Sequence[str]) -> About:
    """The ``about.yaml`` of a run; without any answer where there is no such file.

    Args:
        folder: of the run.
        labels: of its bundle.

    Raises:
        RunError: the file is damaged, has a name that is not known, or codes of what is no label.
    """
    path = folder / NAME
    if not path.is_file():
        return About()
    try:
        found = About.model_validate(parse_yaml(read_text(path, limit=MAX_YAML_BYTES)) or {})
    except ValidationError as error:
        raise RunError(f"{path} {_fault(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path} cannot be read: {error}. Repair the file, or remove it.") from error
    if unknown := sorted(set(found.codes) - set(labels)):
        raise RunError(
            f"{path} has codes for {', '.join(unknown)}, and the labels of the bundle are {', '.join(labels)}. Correct "
            "the labels under codes."
        )
    return found


def read_codes(bundle: Bundle) -> dict[str, Code]:
    """Label → code, as the ``about.yaml`` beside the bundle in its run says; empty where there is none.

    Raises:
        RunError: the file is damaged, or maps what is no label of the bundle.
    """
    if bundle.folder.name != "bundle":
        return {}
    return read_about(bundle.folder.parent, bundle.labels).codes


def _fault(error: ValidationError) -> str:
    """What is wrong first, and what was expected in its place."""
    unknown = [
        str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden" and len(each["loc"]) == 1
    ]
    if unknown:
        known = ", ".join((*QUESTIONS, "codes"))
        return f"has the unknown {'entries' if unknown[1:] else 'entry'} {', '.join(unknown)}. Known are {known}."
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["loc"][:1] == ("codes",):
        return (
            f"has at '{place}': {first['msg']}. Expected codes: LABEL: {{value, scheme, meaning}}, such as {_EXAMPLE}."
        )
    if not place:
        return "is no list of entries. Expected lines of the form 'intended_use: …'; hounsfield about RUN writes them."
    return f"has at '{place}': {first['msg']}. Expected one text of at most {_MOST:,} characters."


def template(labels: Sequence[str]) -> str:
    """An ``about.yaml`` to be filled in: every question as a comment above its empty answer."""
    lines = [
        "# What only the author of this model knows. Every answer goes into the report, the checklists, the model card",
        "# or the model facts; what is left empty is named there as missing. One text each; quotation marks around a",
        "# text with ': ' or ' #' in it.",
        "",
    ]
    for name, question in QUESTIONS.items():
        lines += [f"# {question}", f"{name}:"]
    lines += [
        "",
        "# Codes of the labels in a terminology such as SNOMED CT (SCT) or RadLex (RADLEX), for DICOM results:",
        f"#   {_EXAMPLE}",
        "codes: {}",
        f"# Labels: {', '.join(map(repr, map(str, labels)))}",
    ]
    return "\n".join(lines) + "\n"
