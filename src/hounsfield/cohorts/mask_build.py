"""From images and their masks as a source found them to a segmentation cohort: names, labels, and what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts.build import read_class_names
from hounsfield.cohorts.cohort import Cohort, ImageSource
from hounsfield.cohorts.files import FileSource, typed_places
from hounsfield.cohorts.image_rows import image_rows
from hounsfield.cohorts.labels import check_known
from hounsfield.cohorts.map_channels import several_volumes
from hounsfield.cohorts.mask_scan import scan_masks
from hounsfield.cohorts.masks import BACKGROUND, UNLABELLED, MaskFacts, Masks, MaskSource
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED, Options
from hounsfield.errors import CohortError, ImageError, SeveralVolumes
from hounsfield.images.reference import Reference
from hounsfield.masks import IGNORE, MAX_LABELS
from hounsfield.tasks import SEPARATOR

# What a mask without names marks where it has one value alone.
FOREGROUND = "foreground"
# A label that takes so much of an image leaves nothing to be told apart.
COVERS = 0.995
# Of the pixels of a label, how many another one may share before each gets a channel of its own.
TOUCHING = 0.01
# Values that almost every image counts from 1 on are numbers of objects, where there are so many, and so many different
# ends of the count. Some images may have gaps, from objects that were removed.
OBJECTS, COUNTED, COUNTING = 5, 3, 0.9
NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """What a source found, before it is checked.

    Attributes:
        images: see ``image_rows``; each has a mask.
        source: of the masks, by the text of the image.
        mask: image → where its mask is, for people.
        order: the labels in the source's own order, where it has one.
        notes: what was decided so far.
        image_source: reads the images; by default files below the root.
        listed: images that stand for several files and have no path of their own.
        channels: names of the channels, where they lie in several files or volumes.
    """

    images: pd.DataFrame
    source: MaskSource
    mask: Mapping[str, str]
    order: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image_source: ImageSource | None = None
    listed: frozenset[str] = frozenset()
    channels: tuple[str, ...] = ()


def build_mask_cohort(found: FoundMasks, options: Options, *, root: Path, kind: str, name: str) -> Cohort:
    """Look at every mask, name what it marks, and put the cohort together.

    Args:
        found: images and masks.
        options: what the user chose.
        root: the folder that the images' paths are relative to.
        kind: of the data.
        name: of the cohort.

    Raises:
        CohortError: more than 5 % of the masks cannot be used, nothing is marked at all, or a label is not known.
    """
    where = f"the data {name}"
    table, notes = image_rows(found.images, options, root, where, listed=found.listed)
    places = typed_places(table["image"], root)
    source = found.image_source or FileSource(root)
    samples = [(image, places.get(image) or Reference(image)) for image in table["image"]]
    facts = scan_masks(source, found.source, samples, progress=options.progress)
    named, told = _named(facts, options)
    if not options.labels and options.class_names is None:
        _refuse_objects(facts, named, where)
    notes += told
    bad = {
        image: reason for image in table["image"] if (reason := facts[image].reason or _covered(facts[image], named))
    }
    if len(bad) == len(table):
        _refuse_volumes(source, samples, root)
    notes += _leave_out(bad, facts, where)
    table = table[~table["image"].isin(list(bad))].reset_index(drop=True)
    good = {image: facts[image] for image in table["image"]}
    labels, told = _labels(good, named, found.order, options, where)
    masks = Masks(found.source, named, _overlap(good, named, labels), good)
    table.insert(1, "label", [_marked(masks, image, labels) for image in table["image"]])
    table.insert(4, "mask", [found.mask[image] for image in table["image"]])
    told_all = (*found.notes, *notes, *told, *_remarks(table, masks, labels))
    return Cohort(
        table,
        "segmentation",
        labels,
        source,
        kind,
        name,
        told_all,
        None,
        places=places,
        masks=masks,
        channels=found.channels,
    )


def _named(facts: Mapping[str, MaskFacts], options: Options) -> tuple[dict[str, str], list[str]]:
    """Name in the source → label; the empty label is background, and a name that is left out is not known."""
    names = sorted({name for each in facts.values() for name in each.names})
    given = read_class_names(options.class_names) if options.class_names is not None else {}
    if given and (strange := [name for name in names if name not in given and name not in given.values()]):
        raise CohortError(
            f"The labels {', '.join(strange[:NUM_NAMED])} of the masks have no name in {options.class_names}: found "
            f"names for {', '.join(given)}. Add them to the file."
        )
    notes: list[str] = []
    labels = {name: given.get(name, name).strip() for name in names}
    if not given:
        labels, notes = _by_number(labels, options.labels)
    labels = {name: "" if label.lower() in BACKGROUND else label for name, label in labels.items()}
    ignored = [name for name, label in labels.items() if label.lower() in UNLABELLED]
    if ignored and not notes:
        notes.append(f"What the masks call {', '.join(ignored)} is not known: neither trained on nor judged.")
    for label in labels.values():
        if SEPARATOR in label:
            raise CohortError(f"The label '{label}' has '{SEPARATOR}' in its name, which separates labels. Rename it.")
    return {name: label for name, label in labels.items() if name not in ignored}, notes


def _by_number(labels: dict[str, str], expected: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What values without names mean: a single one is the foreground, and 255 above 1, 2, … is not known.

    Not where they are the labels that are expected.
    """
    if expected and set(labels) <= set(expected):
        return labels, []
    numbers = sorted(int(name) for name in labels if NUMBER.fullmatch(name))
    if len(numbers) < len(labels) or not numbers:
        return labels, []
    negative = [number for number in numbers if number < 0]
    others = [number for number in numbers if number not in {*negative, IGNORE}]
    unknown = [
        *negative,
        *([IGNORE] if IGNORE in numbers and others == [*range(1, len(others) + 1)] and others else []),
    ]
    kept = [number for number in numbers if number not in unknown]
    labels = labels | {str(number): "ignore" for number in unknown}
    if len(kept) == 1:
        labels[str(kept[0])] = FOREGROUND
    if not unknown:
        return labels, []
    note = (
        f"The value {', '.join(map(str, unknown))} of the masks was read as unlabelled: neither trained on nor judged. "
        "If it is a class, name it in a file with --class-names."
    )
    return labels, [note]


def _refuse_objects(facts: Mapping[str, MaskFacts], named: Mapping[str, str], where: str) -> None:
    """Refuse values that seem to be numbers of objects: each would be a class of its own."""
    marked = [names for each in facts.values() if (names := {name for name in each.names if named.get(name)})]
    found = _counted(marked) or _seldom(marked)
    if found:
        raise CohortError(
            f"The masks of {where} {found}: these may be numbers of objects and not of classes. To find "
            'and outline each object, give --kind "instance maps"; to outline all objects of one kind together, a '
            "file with --class-names that gives every value the same name (1,cell and 2,cell …); and where they are "
            "classes, one with a name for each."
        )


def _counted(marked: Sequence[set[str]]) -> str:
    """How the values count from 1 on in almost every image; empty where they do not."""
    ends = [len(names) for names in marked if names == {str(number) for number in range(1, len(names) + 1)}]
    if len(ends) < COUNTING * len(marked) or len(set(ends)) < COUNTED or max(ends) < OBJECTS:
        return ""
    each = "each image" if len(ends) == len(marked) else f"{len(ends):,} of {len(marked):,} images"
    return f"number what they mark from 1 on in {each}, up to {min(ends)} in one and up to {max(ends)} in another"


def _seldom(marked: Sequence[set[str]]) -> str:
    """How many values without names are in one image alone, where most of many are; no class could be learned so."""
    images = Counter(name for names in marked for name in names)
    alone = sum(count == 1 for count in images.values())
    are_numbers = len(images) >= 2 * OBJECTS and all(map(NUMBER.fullmatch, images))
    if not are_numbers or len(marked) < COUNTED or 2 * alone <= len(images):
        return ""
    return f"hold {len(images):,} values, {alone:,} of them in one image alone"


def _covered(facts: MaskFacts, named: Mapping[str, str]) -> str | None:
    """Why a mask that marks all of its image cannot be used; ``None`` for any other one."""
    known = facts.pixels - sum(c for n, c in zip(facts.names, facts.counts, strict=True) if n not in named)
    counts: Counter[str] = Counter()
    for each, count in zip(facts.names, facts.counts, strict=True):
        if named.get(each):
            counts[named[each]] += count
    label, most = max(counts.items(), key=lambda pair: pair[1], default=("", 0))
    if most < COVERS * max(known, 1):
        return None
    return f"'{label}' covers {most / known:.1%} of the image, so that there is nothing to tell it from"


def _refuse_volumes(source: ImageSource, samples: Sequence[tuple[str, Reference]], root: Path) -> None:
    """Say which volumes there are, where the images hold several each."""
    try:
        source.read(samples[0][1])
    except SeveralVolumes as error:
        raise several_volumes(len(samples), len(error.volumes), root) from error
    except ImageError:
        return


def _leave_out(bad: Mapping[str, str], facts: Mapping[str, MaskFacts], where: str) -> list[str]:
    if not bad:
        return []
    # Every kind of fault is named once, with the image that has it first.
    kinds: dict[str, list[str]] = {}
    for image, reason in bad.items():
        kinds.setdefault(re.sub(r"[\d.,]+|'[^']*'", "#", reason.replace(image, "#")), []).append(image)
    listed = "; ".join(
        f"{images[0]} ({bad[images[0]]})" + (f" and {len(images) - 1} more like it" if len(images) > 1 else "")
        for images in list(kinds.values())[:NUM_NAMED]
    )
    if len(bad) > MAX_BAD_FRACTION * len(facts):
        raise CohortError(
            f"Found {len(bad)} of {len(facts)} images of {where} whose mask cannot be used: {listed}. Expected for "
            "each image a mask on its grid, with a whole number for each class and 0 for the rest. Correct or remove "
            "them."
        )
    what = (
        "1 image was left out, since its mask"
        if len(bad) == 1
        else f"{len(bad)} images were left out, since their mask"
    )
    return [f"{what} cannot be used: {listed}."]


def _labels(
    facts: Mapping[str, MaskFacts], named: Mapping[str, str], order: Sequence[str], options: Options, where: str
) -> tuple[tuple[str, ...], list[str]]:
    used = {named[name] for each in facts.values() for name in each.names if named.get(name)}
    if options.labels:
        check_known(sorted(used), options.labels, where)
        return options.labels, []
    if not used:
        unknown = sorted({name for each in facts.values() for name in each.names if name not in named})
        listed = f" or not known ({', '.join(unknown[:NUM_NAMED])})" if unknown else ""
        raise CohortError(
            f"Found nothing marked in any of the {len(facts)} masks of {where}: all of their pixels are background"
            f"{listed}. Expected a number above 0 for each class. Check that these are the masks, or name their values "
            "with --class-names."
        )
    if len(used) > MAX_LABELS:
        raise CohortError(f"Found {len(used)} labels in the masks of {where}: expected at most {MAX_LABELS}.")
    own = [named.get(name, name) for name in order]
    unused = [label for label in own if label and label not in used and label.lower() not in UNLABELLED]
    notes = [f"The labels {', '.join(unused)} are marked in no image and were left out."] if unused else []
    numbers = {label: int(label) for label in used if NUMBER.fullmatch(label)}
    rest = sorted(used - set(own), key=lambda label: (label not in numbers, numbers.get(label, 0), label))
    return (*dict.fromkeys(label for label in own if label in used), *rest), notes


def _overlap(facts: Mapping[str, MaskFacts], named: Mapping[str, str], labels: Sequence[str]) -> bool:
    """Whether some label shares more of its pixels with others than what touches at a border."""
    counts, shared = Counter[str](), Counter[str]()
    for each in facts.values():
        for name, count, common in zip(each.names, each.counts, each.shared, strict=True):
            if label := named.get(name):
                counts[label] += count
                shared[label] += common
    return any(shared[label] > TOUCHING * counts[label] for label in labels)


def _marked(masks: Masks, sample: str, labels: Sequence[str]) -> str:
    counts = masks.counts(sample, labels)
    return SEPARATOR.join(label for label, count in zip(labels, counts, strict=True) if count)


def _remarks(table: pd.DataFrame, masks: Masks, labels: Sequence[str]) -> list[str]:
    """How often each label is marked, and what was done to the masks."""
    facts = [masks.facts[image] for image in table["image"]]
    present = np.array([masks.counts(image, labels) > 0 for image in table["image"]]).sum(axis=0)
    listed = ", ".join(f"{label} in {count:,}" for label, count in zip(labels, present, strict=True))
    notes = [f"Masks of {len(table):,} images: {listed}."]
    if empty := int((table["label"] == "").sum()):
        notes.append(f"{empty:,} of the masks mark nothing: their images are negatives.")
    if moved := sum(each.moved for each in facts):
        notes.append(
            f"{moved:,} masks lie on another grid than their image, and were brought onto it by the geometry of both "
            "files."
        )
    if outside := sum(each.outside > 0 for each in facts):
        most = max(each.outside for each in facts)
        notes.append(f"{outside:,} masks reach beyond their image, with up to {most:.1%} of what they mark.")
    if blurred := sum(each.blurred for each in facts):
        notes.append(
            f"{blurred:,} masks are black and white with smoothed edges, and were read at half of their range."
        )
    if masks.overlapping:
        notes.append("Some labels overlap: each has a channel of its own.")
    return notes
