"""The facts about a DICOM image beside its pixels, without the patient's name."""

from __future__ import annotations

from datetime import date

from hounsfield.images.dicom_header import Header
from hounsfield.images.image import Metadata

# PS3.5 section 6.2, value representation AS: the letter after the three digits, in years.
AGE_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def read_metadata(
    header: Header,
    windows: tuple[tuple[float, float], ...],
    units: str | None = None,
    rescale: tuple[float, float] | None = None,
) -> Metadata:
    """Collect what is known of an image's origin; what is missing or malformed is ``None``."""
    text = header.text
    study_date = _date(text("StudyDate"))
    sex = text("PatientSex")
    return Metadata(
        patient=text("PatientID"),
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        instance=text("SOPInstanceUID"),
        sex=sex if sex in {"M", "F", "O"} else None,
        age=_age(text("PatientAge"), text("PatientBirthDate"), study_date),
        view=text("ViewPosition"),
        laterality=text("ImageLaterality") or text("Laterality"),
        site=text("InstitutionName"),
        manufacturer=text("Manufacturer"),
        scanner=text("ManufacturerModelName"),
        body_part=text("BodyPartExamined"),
        date=study_date.isoformat() if study_date else None,
        windows=windows,
        bits=header.integer("BitsStored"),
        units=units,
        rescale=rescale,
    )


def _age(age: str | None, birth: str | None, study: date | None) -> float | None:
    if age and len(age) == 4 and age[:3].isdecimal() and age[3] in AGE_UNITS:
        return int(age[:3]) * AGE_UNITS[age[3]]
    born = _date(birth)
    if born is None or study is None or study < born:
        return None
    return (study - born).days / 365.25


def _date(text: str | None) -> date | None:
    """A DA value, also in the old form with points (PS3.5 section 6.2)."""
    digits = text.replace(".", "") if text else ""
    if len(digits) != 8 or not digits.isdecimal():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
