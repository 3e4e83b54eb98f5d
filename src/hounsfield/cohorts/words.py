"""What the names of folders and files say: splits, parts, patients, masks. Names are evidence, never proof."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "dev": "validation",
    "holdout": "test",
    "validierung": "validation",
    "训练": "train",
    "训练集": "train",
    "验证": "validation",
    "验证集": "validation",
    "测试": "test",
    "测试集": "test",
}
# Words that stand beside a split's name without changing it: train_images, test-set, stage_2_train.
FILLERS = frozenset(
    {
        "set",
        "images",
        "image",
        "imgs",
        "img",
        "data",
        "dataset",
        "auto",
        "stage",
        "split",
        "jpeg",
        "jpg",
        "png",
        "dicom",
    }
)
PART_WORDS = frozenset(
    {"part", "parts", "subset", "batch", "chunk", "shard", "fold", "archive", "images", "image", "imgs", "img", "disk"}
)
PATIENT_WORDS = frozenset(
    {"patient", "pat", "subject", "subj", "sub", "case", "study", "series", "person", "pid", "mrn", "session", "ses"}
)
# Of these, the words for a part of what one patient has.
NO_PATIENTS = frozenset({"study", "series", "session", "ses", "case"})
MASK = re.compile(
    r"(?P<stem>.+?)[ _\-](masks?|seg|segm|segmentation|gt|groundtruth|annotation|roi|labels?|labelmap)"
    r"(?P<number>[ _\-]?\d{1,3})?$",
    re.IGNORECASE,
)
# Folders of masks, beside which the images of the same names lie.
MASK_FOLDERS = frozenset(
    {"mask", "masks", "seg", "segmentation", "segmentations", "gt", "groundtruth", "ground_truth", "annotation", "roi"}
)
# Names of masks that lie in one folder with their image.
MASK_NAMES = frozenset({"mask", "seg", "segmentation", "label", "labels", "groundtruth", "ground_truth", "gt"})
# Folders of these are copies or left-overs of a set and no classes of it.
NO_CLASSES = frozenset(
    {
        *("augmented", "augmentation", "augmentations", "aug", "unlabeled", "unlabelled", "unannotated"),
        *("processed", "preprocessed", "resized", "cropped", "enhanced", "denoised", "normalized", "normalised"),
    }
)
# Names of what one patient or study has several of; where all folders are called so, they are no diagnoses.
KINDS_OF_IMAGE = (
    frozenset({"ap", "pa", "lat", "lateral", "frontal", "oblique"}),
    frozenset({"cc", "mlo", "lcc", "rcc", "lmlo", "rmlo"}),
    frozenset({"left", "right", "l", "r", "od", "os"}),
    frozenset({"axial", "coronal", "sagittal"}),
    frozenset({"t1", "t1w", "t1ce", "t1gd", "t1c", "t2", "t2w", "flair", "pd", "dwi", "adc", "swi"}),
    frozenset({"arterial", "venous", "portal", "delayed", "native", "noncontrast", "plain"}),
    frozenset({"raw", "original", "images", "image", "input", "source"}),
)
DATE = re.compile(r"(19|20)\d\d([-_.]?\d\d){0,2}")
# Folders with as many names that differ in their numbers alone are patients rather than classes.
FEWEST_PATIENTS = 10
FEWEST_IDENTIFIERS = 4
IDENTIFIER = re.compile(r"\d+(\.\d+){3,}|[0-9a-f]{8,}(-[0-9a-f]{4,})*|\d{5,}", re.IGNORECASE)


def tokens(name: str) -> list[str]:
    """The words of a name in lower case: letters and digits apart, cut also where a capital begins a word."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", spaced.lower())


def plain_name(column: object) -> str:
    """The letters and digits of a column's name in lower case: ``Patient ID`` and ``patient_id`` are the same."""
    return "".join(sign for sign in str(column).lower() if sign.isalnum())


def stem_of(path: str) -> str:
    """A path without the suffix of its file, and without that of a compressed one."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.removesuffix(".gz").rpartition(".")[0] or name)


def composed(text: str) -> str:
    """A text with its accents joined to their letters (Unicode NFC)."""
    return unicodedata.normalize("NFC", text)


def split_word(name: str) -> str | None:
    """The split that a folder's whole name stands for, such as ``train`` or ``Testing``."""
    return SPLIT_WORDS.get(name.strip().lower())


def split_like(name: str) -> str | None:
    """The split that a name stands for once numbers and words such as ``images`` are set aside."""
    left = [word for word in tokens(name) if not word.isdecimal() and word not in FILLERS]
    return SPLIT_WORDS.get(left[0]) if len(left) == 1 else None


def without_digits(name: str) -> str:
    """A name with every number replaced by one sign."""
    return re.sub(r"\d+", "#", name)


def are_parts(names: Sequence[str]) -> bool:
    """Whether names are those of parts of one set: equal but for a number, which follows a word such as ``part``."""
    if len(names) < 2 or len({without_digits(name) for name in names}) > 1:
        return False
    words = tokens(names[0])
    numbered = [before for before, after in pairwise(words) if after.isdecimal()]
    return bool(numbered) and numbered[-1] in PART_WORDS


def are_patients(names: Sequence[str]) -> bool:
    """Whether names look like those of patients or studies.

    They do where each is a word such as ``patient`` and a number; and where there are many, which differ in their
    numbers alone or are identifiers.
    """
    if len(names) > 1 and all(_is_numbered_patient(name) for name in names):
        return True
    if len(names) >= FEWEST_IDENTIFIERS and all(IDENTIFIER.search(name) for name in names):
        return True
    if len(names) < FEWEST_PATIENTS:
        return False
    stems = {without_digits(name) for name in names}
    numbers = sum(name.strip().isdecimal() for name in names)
    # Grades and counts are numbers too, but few.
    return (
        len(stems) <= max(1, len(names) // FEWEST_PATIENTS)
        and "#" in "".join(stems)
        and (numbers < len(names) or len(names) >= 2 * FEWEST_PATIENTS)
    )


def _is_numbered_patient(name: str) -> bool:
    """Whether a name is a word for a patient and a number, such as ``patient 7`` or ``sub-01``."""
    words = tokens(name)
    return len(words) > 1 and words[0] in PATIENT_WORDS and all(word.isdecimal() for word in words[1:])


def patient_of_path(path: str) -> str | None:
    """The folder of a path that is named after a patient, such as ``patient00001`` or ``sub-01``."""
    folders = path.split("/")[:-1]
    return next((name for name in folders if _is_numbered_patient(name) and tokens(name)[0] not in NO_PATIENTS), None)


def are_kinds_of_image(names: Iterable[str]) -> bool:
    """Whether all names are views, sides, sequences or the like, of which one patient has several."""
    plain = {plain_name(name) for name in names}
    return len(plain) > 1 and any(plain <= kinds for kinds in KINDS_OF_IMAGE)


def are_dates(names: Sequence[str]) -> bool:
    """Whether all names are dates or years."""
    return len(names) > 1 and all(DATE.fullmatch(name.strip()) for name in names)


def mask_partners(names: Iterable[str]) -> set[str]:
    """The names, without their suffixes, that say they are the mask of another one that is there too."""
    present = set(names)
    matches = {name: match for name in present if (match := MASK.fullmatch(name))}
    # What lies beside a mask may have an ending of its own: x_flair and x_t1 beside x_seg.
    beginnings = {
        name[: end.start()] for name in present - set(matches) for end in re.finditer(r"[ _\-]", name) if end.start()
    }
    alone = {name for name in present if "/" in name and name.rpartition("/")[2].lower() in MASK_NAMES}
    beside = {name.rpartition("/")[0] for name in present - alone}
    return {name for name, match in matches.items() if match["stem"] in present | beginnings} | {
        name for name in alone if name.rpartition("/")[0] in beside
    }
