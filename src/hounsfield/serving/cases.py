"""What a reader works through: studies, and files sent to be read; each with what the models found, in short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hounsfield.images.pseudonyms import pseudonym
from hounsfield.reading.doubt import doubt_of
from hounsfield.reading.ranking import value_of
from hounsfield.serving import statements as sql
from hounsfield.serving.database import Reader, Row
from hounsfield.serving.matching import NO_IMAGE

# Names of a label, of several, that mean that nothing was found.
NEGATIVE = frozenset({"normal", "negative", "none", "no finding", "no findings", "healthy", "benign", "absent", "no"})
PATIENT = {"name": "PatientName", "id": "PatientID", "birth": "PatientBirthDate", "sex": "PatientSex"}
# The folder of what pages lay over images, below that of the service; all of it can be made again.
OVERLAYS = "overlays"
OverlayKind = Literal["evidence", "masks"]


@dataclass(frozen=True)
class Case:
    """A study, or the files of one request.

    Attributes:
        key: in addresses; it names no patient.
        row: of the study or of the job.
        subject: for the audit.
    """

    key: str
    row: Row
    subject: str

    @property
    def identity(self) -> str:
        """By which cases are drawn for blind reading."""
        return str(self.row["uid"] if self.is_study else self.key)

    @property
    def is_study(self) -> bool:
        """Whether it is a study."""
        return self.key.startswith("s")

    @property
    def is_complete(self) -> bool:
        """Whether all of its images are there, as far as is known."""
        return not self.is_study or self.row["state"] == "complete"

    @property
    def revision(self) -> int:
        """Which of the states of a study; a late image makes the next."""
        return int(self.row["revision"])


def find_case(reader: Reader, key: str) -> Case | None:
    """The case of a key; ``None`` where there is none."""
    kind, number = key[:1], key[1:]
    if kind not in {"s", "u"} or not number.isdecimal() or int(number) >= 2**63:
        return None
    row = reader.row(sql.SELECT["study" if kind == "s" else "job"], (int(number),))
    if row is None or (kind == "u" and not _is_kept(row)):
        return None
    return Case(key, row, row["uid"] if kind == "s" else f"job {number}")


def files_of(reader: Reader, case: Case, folder: Path) -> dict[Path, str]:
    """The files of a case's images, each with the name that predictions have for it."""
    if case.is_study:
        instances = reader.rows(sql.INSTANCES_OF_STUDY, (case.row["id"],))
        images = [row for row in instances if not row["sop_class"].startswith(NO_IMAGE)]
        return {folder / row["path"]: f"{row['id']}.dcm" for row in images}
    upload = json.loads(case.row["upload"])
    return {folder / upload["place"] / ours: name for ours, name in upload["names"].items()}


# Name of a model → what its process says of it.
Models = Mapping[str, Mapping[str, Any]]


def worklist(
    reader: Reader, after: float, models: Models, key: bytes, *, with_patients: bool, owner: str | None
) -> list[dict[str, Any]]:
    """The cases that changed after a time, in seconds since 1970; with their patients for who may see them.

    Args:
        reader: of the records.
        after: the time.
        models: that are served.
        key: of the pseudonyms.
        with_patients: whether patients are named.
        owner: whose files that were opened on the page are listed; ``None`` for everybody's.
    """
    jobs: dict[int, list[Row]] = {}
    for job in reader.each(sql.JOBS_TO_READ, {"after": after}):
        jobs.setdefault(job["study"], []).append(job)
    studies = [
        _study(row, jobs.get(row["id"], []), models, key, with_patients=with_patients)
        for row in reader.each(sql.STUDIES_TO_READ, {"after": after})
    ]
    uploads = reader.each(sql.UPLOADS_TO_READ, {"after": after, "owner": owner})
    return studies + [_upload(row, models) for row in uploads]


def without_answers(row: dict[str, Any]) -> dict[str, Any]:
    """A case of the list as it is shown to who reads it without the models' answers."""
    return row | {"answers": [answer | summarised(()) | {"teaches": 0.0} for answer in row["answers"]]}


def described(case: Case, jobs: Sequence[Row], models: Models, key: bytes, *, with_patients: bool) -> dict[str, Any]:
    """One case as the list has it."""
    if case.is_study:
        return _study(case.row, jobs, models, key, with_patients=with_patients)
    return _upload(case.row, models)


def _study(row: Row, jobs: Sequence[Row], models: Models, key: bytes, *, with_patients: bool) -> dict[str, Any]:
    attributes: dict[str, str] = json.loads(row["attributes"])
    patient = {name: attributes.get(keyword, "") for name, keyword in PATIENT.items()}
    facts = [patient[name] for name in ("id", "birth", "name")]
    return {
        "key": f"s{row['id']}",
        "identity": row["uid"],
        "revision": row["revision"],
        "received": row["received"],
        "changed": max([row["changed"], *(job["changed"] for job in jobs)]),
        "complete": row["state"] == "complete",
        "patient": patient if with_patients else None,
        # Studies that name nobody are not all of one patient.
        "pseudonym": pseudonym("\0".join(facts), key) if any(facts) else "",
        "modality": attributes.get("Modality", ""),
        "body_part": attributes.get("BodyPartExamined", ""),
        "description": attributes.get("StudyDescription", "") or attributes.get("SeriesDescription", ""),
        "date": attributes.get("StudyDate", ""),
        "answers": [_answer(job, models) for job in jobs],
    }


def _upload(job: Row, models: Models) -> dict[str, Any]:
    names = list(json.loads(job["upload"])["names"].values())
    more = f" + {len(names) - 1}" if len(names) > 1 else ""
    return {
        "key": f"u{job['id']}",
        "identity": f"u{job['id']}",
        "revision": job["revision"],
        "received": job["made"],
        "changed": job["changed"],
        "complete": True,
        "patient": None,
        "pseudonym": "",
        "modality": "",
        "body_part": "",
        "description": f"{names[0] if names else ''}{more}",
        "date": "",
        "answers": [_answer(job, models)],
    }


def _answer(job: Row, models: Models) -> dict[str, Any]:
    predictions = json.loads(job["answer"]) if job["answer"] else []
    return {
        "model": job["model"],
        "state": job["state"],
        "reason": job["reason"],
        "bundle": job["bundle"],
        "teaches": _teaches(predictions, models.get(job["model"])),
        **summarised(predictions),
    }


def _teaches(predictions: Sequence[Mapping[str, Any]], info: Mapping[str, Any] | None) -> float:
    """How much a label may teach, 0 to 1: that of the image of which the model knows least."""
    if info is None:
        return 0.0
    threshold = info["threshold"]
    threshold = tuple(threshold) if isinstance(threshold, list) else float(threshold or 0.5)
    return max(
        (
            value_of(doubt_of(each, threshold, info["task"]), each.get("disagreement"), each.get("ood_score"))
            for each in predictions
            if "reason" not in each
        ),
        default=0.0,
    )


def summarised(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a list says of the predictions of a case: findings, the surest one's score, and the two warnings.

    Returns:
        ``findings``: names, the surest first; ``score``: 0 to 1, that of the surest finding, or how near the image
        is to one; ``unlike``: whether an image is out of distribution; ``unsure``: whether an answer was withheld, or
        several labels stay possible; ``failed``: images without a prediction.
    """
    found: dict[str, float] = {}
    nearest = 0.0
    for prediction in predictions:
        for label, score in _scores(prediction):
            nearest = max(nearest, score)
            if _is_found(prediction, label):
                found[label] = max(score, found.get(label, 0.0))
    return {
        "findings": sorted(found, key=lambda label: -found[label]),
        "score": max(found.values(), default=nearest),
        "unlike": any(prediction.get("out_of_distribution") for prediction in predictions),
        "unsure": any(_is_unsure(prediction) for prediction in predictions),
        "failed": sum("reason" in prediction for prediction in predictions),
    }


def _scores(prediction: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What may be found, with how sure it is."""
    if "findings" in prediction:
        return [(each["label"], each["score"]) for each in prediction["findings"]]
    if "labels" in prediction:
        return [(label, 1.0) for label, facts in prediction["labels"].items() if facts["pixels"]]
    if "value" in prediction:
        return []
    probabilities: dict[str, float] = prediction.get("probabilities", {})
    names = list(probabilities)
    # The first of two labels is the one without the finding.
    found = names[1:] if len(names) == 2 else [name for name in names if name.strip().lower() not in NEGATIVE]
    return [(label, probabilities[label]) for label in found]


def _is_found(prediction: Mapping[str, Any], label: str) -> bool:
    if "findings" in prediction or "labels" in prediction:
        return True
    return label in str(prediction.get("prediction", "")).split(";")


def _is_unsure(prediction: Mapping[str, Any]) -> bool:
    return prediction.get("answer") == "abstain" or len(prediction.get("set", ())) > 1


def _is_kept(job: Row) -> bool:
    return job["upload"] is not None and bool(json.loads(job["upload"]).get("kept"))
