"""From the labels found in data to the task, the class order, and what looks misspelt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hounsfield.cohorts.words import composed
from hounsfield.errors import CohortError
from hounsfield.tasks import SEPARATOR, TASKS, Task, labels_in

# Texts that stand for "no label was given"; "none" is not among them, since it can be a finding's absence.
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "?"})
NEGATIVE = re.compile(
    r"(normal|negative|neg|healthy|benign|controls?|ctrl|ctl|none|no|not|without|absent|absence|false|0|-1|unaffected"
    r"|cn|nc|hc|td|uninfected|uninvolved|wild[ _\-]?type|wt|survived|survivors?|alive|lgg|low[ _\-]?grade|clear|typical"
    r"|unauff[aä]llig|gesund|sain|sano|sana|non[ _\-]?case)(\b|(?=_))"
    r"|(no|not|non|without|un)[\s_\-]"
    r"|(?-i:[nN]on?(?=[A-Z]))"
    r"|(no|non)(tumou?rs?|findings?|disease|demented|covid|cancer|lesions?|pneumonia|fracture|event|defect)"
    r"|(正常|阴性|陰性|对照|對照|健康|无|無|未见|非)",
    re.IGNORECASE,
)
# Two labels as close as this count as one word written in two ways (1 is equal).
LIKENESS = 0.8
# A misspelling is rare: at most this part of the rows that the word it is close to has.
RARE = 0.05


def tidy(labels: pd.Series[str]) -> tuple[pd.Series[str], list[str]]:
    """Labels as stripped text, whole numbers without a decimal point, missing ones empty; with notes on changes.

    Accents that stand as signs of their own (Unicode NFD), as names of files from some Macs have them, are joined to
    their letters (NFC): two words that look the same are the same.
    """
    text = labels.astype(object).where(labels.notna(), "").astype(str)
    stripped = text.str.strip()
    notes = []
    if (num_stripped := int((stripped != text).sum())) > 0:
        notes.append(f"Spaces around {num_stripped} labels were taken away.")
    stripped = stripped.map({value: composed(value) for value in stripped.unique()})
    stripped = stripped.where(~stripped.str.lower().isin(MISSING), "")
    distinct = [value for value in stripped.unique() if value]
    if distinct and all(re.fullmatch(r"[+-]?\d+\.0+", value) or re.fullmatch(r"[+-]?\d+", value) for value in distinct):
        stripped = stripped.str.replace(r"\.0+$", "", regex=True)
    return stripped, notes


def split_labels(text: str) -> list[str]:
    """The labels of one cell, stripped, in the order given."""
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]


def class_order(found: Sequence[str]) -> tuple[str, ...]:
    """Labels in class order: numbers by value, else by alphabet; of two, the one that reads as negative is first."""
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", label) for label in found):
        order = sorted(set(found), key=float)
    else:
        order = sorted(set(found))
    if len(order) == 2 and reads_as_negative(order[1], order[0]) and not reads_as_negative(order[0], order[1]):
        order.reverse()
    return tuple(order)


def reads_as_negative(label: str, other: str) -> bool:
    """Whether a label of two means that nothing was found; ``no`` before the other label counts."""
    if NEGATIVE.match(label):
        return True
    if re.fullmatch(rf"(no|non|not|un)[ _\-]?{re.escape(other)}s?", label, re.IGNORECASE):
        return True
    # What both begin with says nothing, as in CT_NonCOVID beside CT_COVID.
    words, others = re.split(r"[ _\-]", label), re.split(r"[ _\-]", other)
    shared = next((n for n, (a, b) in enumerate(zip(words, others, strict=False)) if a != b), 0)
    return shared > 0 and bool(NEGATIVE.match("_".join(words[shared:])))


def task_of(labels: Sequence[str], *, several: bool) -> Task:
    """The task that a set of labels makes."""
    if several:
        return "multi-label"
    return "binary" if len(labels) == 2 else "multi-class"


def check_labels(table: pd.DataFrame, task: Task, name: str) -> list[str]:
    """Hold the labels to what can be learned from: two classes, two patients in each, no word written in two ways.

    A label of fewer than two patients that is like a more frequent one is called a misspelling; a label of more
    patients, but of few rows, is only mentioned.

    Args:
        table: columns ``label`` and ``patient``; a row without a patient counts as a patient of its own.
        task: how the labels are to be read.
        name: of the data, for messages.

    Returns:
        Notes on labels that are rare and like another one.

    Raises:
        CohortError: one class only, fewer than two patients in a class, or a label that is misspelt.
    """
    patients = table["patient"].astype(object).where(table["patient"].notna(), pd.Series(table.index, table.index))
    long = pd.DataFrame({"label": table["label"], "patient": patients})
    long = long.assign(label=long["label"].map(lambda text: labels_in(text, task))).explode("label")
    grouped = long.groupby("label")["patient"]
    sizes = {str(label): int(size) for label, size in grouped.size().sort_values(ascending=False).items()}
    patients_of = {str(label): int(number) for label, number in grouped.nunique().items()}
    notes = misspellings(sizes, patients_of, name)
    if len(sizes) < TASKS[task].least:
        found = f"only the label '{next(iter(sizes))}'" if sizes else "no label at all"
        raise CohortError(
            f"Found {found} in {name} ({len(table)} rows): expected at least two classes to tell apart. Add images of "
            "another class, or check that the labels were read from the right column or folder."
        )
    few = [label for label in sizes if patients_of[label] < 2]
    if few:
        listed = ", ".join(f"'{label}' ({_images(sizes[label])})" for label in few)
        raise CohortError(
            f"Found fewer than two patients in a class of {name}: {listed}. Expected at least two patients in each, so "
            "that one can be learned from and another tested on. Add images of further patients, or leave the class "
            "out."
        )
    return notes


def misspellings(sizes: dict[str, int], patients_of: dict[str, int], name: str) -> list[str]:
    """Notes on labels that may be misspelt; raises for one that surely is. ``sizes`` is in descending order."""
    notes = []
    frequent: list[str] = []
    for label, size in sizes.items():
        nearest = nearest_label(label, frequent)
        if patients_of[label] >= 2:
            frequent.append(label)
        if nearest is None:
            continue
        if patients_of[label] < 2 or nearest.casefold() == label.casefold():
            raise CohortError(
                f"Found the label '{label}' on {_images(size)} of {name}, which looks like another spelling of "
                f"'{nearest}' ({_images(sizes[nearest])}). Expected one spelling a class: correct the label, or give "
                "the class a name that is further from the other."
            )
        if size <= RARE * sizes[nearest]:
            notes.append(f"The label '{label}' ({_images(size)}) is spelt much like '{nearest}': is it its own class?")
    return notes


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def nearest_label(label: str, known: Sequence[str]) -> str | None:
    """The known label that a label is most like, or None when it is like none of them.

    Likeness is Ratcliff and Obershelp's (``difflib``) on case-folded text. Labels that differ in a number, such as
    T1 and T2, are different on purpose and never alike.
    """
    folded = {other.casefold(): other for other in known if _numbers(other) == _numbers(label)}
    matches = difflib.get_close_matches(label.casefold(), folded, n=1, cutoff=LIKENESS)
    return folded[matches[0]] if matches else None


def check_known(found: Sequence[str], known: Sequence[str], name: str) -> None:
    """Refuse labels that are not among the known ones, with the nearest known one as a suggestion.

    Raises:
        CohortError: a label is unknown.
    """
    for label in found:
        if label not in known:
            nearest = nearest_label(label, known)
            remedy = f"Did you mean '{nearest}'? Correct it" if nearest else "Correct it, or leave these rows out"
            raise CohortError(f"Found the label '{label}' in {name}: expected one of {', '.join(known)}. {remedy}.")


def positive_note(labels: Sequence[str], *, chosen: bool = False) -> str:
    """Which of two labels is the positive one, and by which rule where it was not chosen."""
    told = f"Binary task: '{labels[1]}' is the positive class, '{labels[0]}' the negative one."
    if chosen or reads_as_negative(labels[0], labels[1]):
        return told
    return f"{told} Their names do not say so: the last in order was taken. Choose with --positive LABEL."


def join_columns(columns: pd.DataFrame) -> pd.Series[str]:
    """One text a row from several zero-one columns: the names of the columns that are one, ``;`` between them."""
    matrix = columns.to_numpy(dtype=bool)
    distinct, inverse = np.unique(matrix, axis=0, return_inverse=True)
    names = np.asarray([str(column) for column in columns.columns], dtype=object)
    texts = np.asarray([SEPARATOR.join(names[row]) for row in distinct], dtype=object)
    return pd.Series(texts[inverse.reshape(-1)], index=columns.index, dtype=object).astype(str)


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+|\b[IVX]+\b", text)
