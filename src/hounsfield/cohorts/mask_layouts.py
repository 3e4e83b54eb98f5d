"""Which files below a folder are masks, of which image, and of which label: by the names of folders and files.

A folder whose name speaks of masks holds masks of the images beside it; a file whose name does is the mask of the image
that is called the same but for that word. Names are evidence: what fits no image is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hounsfield.cohorts.channels import joined
from hounsfield.cohorts.map_channels import NUMBERED
from hounsfield.cohorts.mask_files import MaskFile
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.tree import every_image
from hounsfield.cohorts.words import FILLERS, MASK, SPLIT_WORDS, stem_of, tokens

# Words in the name of a folder or a file that holds masks, and of one that holds images.
MASK_WORDS = frozenset(
    {
        *("mask", "masks", "seg", "segs", "segm", "segmentation", "segmentations", "label", "labels", "labelmap"),
        *("gt", "groundtruth", "groundtruths", "truth", "annotation", "annotations", "roi", "rois", "manual"),
        *("labelstr", "labelsts", "labelsval"),
    }
)
IMAGE_WORDS = frozenset(
    {
        *("image", "images", "img", "imgs", "imaging", "input", "inputs", "volume", "volumes", "scan", "scans"),
        *("original", "originals", "orig", "data", "imagestr", "imagests", "imagesval"),
    }
)
# nnU-Net writes the split at the end of a word; the tokens of 'imagesTr' are 'images' and 'tr'.
SHORT_SPLITS = {"tr": "train", "ts": "test"} | SPLIT_WORDS
SEPARATORS = re.compile(r"[_\-. ]+")


@dataclass
class MaskLayout:
    """The images below a folder that have masks.

    Attributes:
        files: image → its masks, both relative to the folder.
        splits: image → split; empty where folders do not tell it of every image.
        without: images that have no mask.
        channels: files that make one image.
        notes: what was left out.
    """

    files: dict[str, list[MaskFile]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    without: int = 0
    channels: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Named:
    """A file by what its path says, without the words for images and masks.

    Attributes:
        path: relative to the folder.
        folders: that lead to it, without those that are called after images or masks alone.
        key: the words of its name.
        stem: its name without suffix.
    """

    path: str
    folders: tuple[str, ...]
    key: tuple[str, ...]
    stem: str


def mask_layout(
    root: Path, options: Options, folders: Collection[str] = (), *, asked: bool = False
) -> MaskLayout | None:
    """The images and masks below a folder; ``None`` where nothing looks like a mask.

    Args:
        root: the folder.
        options: what the user chose.
        folders: names of folders that hold masks, whatever they are called.
        asked: whether masks were asked for; else half of what looks like a mask must be one of an image.
    """
    paths = every_image(root, options.exclude)[0]
    masks = [path for path in paths if _in_mask_folder(path, folders) or _says_mask(path)]
    images = [_named(path, folders) for path in sorted(set(paths) - set(masks))]
    if not masks or not images:
        return None
    matcher = _Matcher(images)
    matched: dict[str, list[_Match]] = {}
    lost = []
    for path in masks:
        found = matcher.find(_named(path, folders))
        if found is None:
            lost.append(path)
        else:
            matched.setdefault(found.image, []).append(found)
    if not matched or (not asked and len(lost) > len(masks) / 2):
        return None
    return _with_channels(_layout(images, matched, lost), matcher)


def _layout(images: Sequence[_Named], matched: dict[str, list[_Match]], lost: Sequence[str]) -> MaskLayout:
    layout = MaskLayout()
    labels = _labels(matched)
    layout.files = {
        image: [MaskFile(each.mask, labels[each.mask]) for each in sorted(found, key=lambda one: one.mask)]
        for image, found in sorted(matched.items())
    }
    parts = {NUMBERED.sub("", stem_of(image)) for image in matched}
    without = [i.path for i in images if i.path not in matched and NUMBERED.sub("", stem_of(i.path)) not in parts]
    layout.without = len(without)
    if without:
        layout.notes.append(f"{len(without):,} images have no mask and were left out: {_some(without)}.")
    if lost:
        layout.notes.append(f"{len(lost):,} masks are of no image here and were left out: {_some(lost)}.")
    splits = {image: split for image in layout.files if (split := _split(image)) is not None}
    if len(splits) == len(layout.files) and len(set(splits.values())) > 1 and "train" in splits.values():
        layout.splits = splits
    return layout


def _with_channels(layout: MaskLayout, matcher: _Matcher) -> MaskLayout:
    """The layout whose images are all of their channels, where these lie in several files."""
    channels = {image: matcher.channels_of(image) for image in layout.files}
    count = max(map(len, channels.values()))
    if count == 1:
        return layout
    lacking = [image for image, files in channels.items() if len(files) < count]
    if lacking:
        layout.notes.append(
            f"{len(lacking):,} images have fewer than {count} channels and were left out: {_some(lacking)}."
        )
    references = {image: joined(files).text for image, files in channels.items() if image not in lacking}
    layout.files = {reference: layout.files[image] for image, reference in references.items()}
    layout.splits = {reference: layout.splits[image] for image, reference in references.items() if layout.splits}
    layout.channels = count
    return layout


def _labels(matched: dict[str, list[_Match]]) -> dict[str, str]:
    """Mask → its label; empty where the values of the mask tell it.

    Words that tell the images apart, and not what is marked in one of them, are no labels.
    """
    every = [each for found in matched.values() for each in found]
    for name in (lambda each: each.tag, lambda each: " ".join(filter(None, (each.folder, each.tag)))):
        if any(len({name(each) for each in found}) > 1 for found in matched.values()):
            return {each.mask: name(each) for each in every}
    single = {each.tag for each in every}
    return {each.mask: each.tag if len(single) == 1 else "" for each in every}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", …" if len(names) > NUM_NAMED else "")


@dataclass(frozen=True)
class _Match:
    """A mask with its image.

    Attributes:
        image: its path.
        mask: its path.
        tag: what the mask's path says beyond the image's.
        folder: what the name of its folder of masks says beyond that it is one.
    """

    image: str
    mask: str
    tag: str
    folder: str


class _Matcher:
    """Finds the image of a mask."""

    def __init__(self, images: Sequence[_Named]) -> None:
        # By the words of a name, and by the whole of it.
        self.by_key: dict[tuple[str, ...] | str, list[_Named]] = {}
        self.by_folders: dict[tuple[str, ...], list[_Named]] = {}
        for image in images:
            self.by_key.setdefault(image.key, []).append(image)
            self.by_key.setdefault(image.stem, []).append(image)
            numberless = NUMBERED.sub("", image.stem)
            if numberless != image.stem:
                self.by_key.setdefault(_words(numberless), []).append(image)
            self.by_folders.setdefault(image.folders, []).append(image)

    def find(self, mask: _Named) -> _Match | None:
        """The image of a mask, where there is one."""
        above = " ".join(_rest(folder) for folder in mask.path.split("/")[:-1] if set(tokens(folder)) & MASK_WORDS)
        for key, tag in _keys(mask):
            candidates = [image for image in self.by_key.get(key, []) if image.path != mask.path]
            if not candidates:
                continue
            shared = [_shared(mask.folders, image.folders) for image in candidates]
            best = [image for image, common in zip(candidates, shared, strict=True) if common == max(shared)]
            if len(best) == 1 or len({NUMBERED.sub("", image.stem) for image in best}) == 1:
                folders = [folder for folder in mask.folders if folder not in best[0].folders]
                words = [*map(_label_of_folder, folders), *([tag] if tag else [])]
                return _Match(best[0].path, mask.path, " ".join(words), above)
        # A folder of one image, and a mask for each label that is called after it.
        alone = self.by_folders.get(mask.folders, [])
        if mask.folders and len(alone) == 1:
            return _Match(alone[0].path, mask.path, mask.stem if mask.key else "", above)
        return None

    def channels_of(self, image: str) -> list[str]:
        """The numbered files that are the channels of one image, in their order; itself where there is one."""
        numberless = NUMBERED.sub("", PurePosixPath(stem_of(image)).name)
        folder = image.rpartition("/")[0]
        same = {
            other.path
            for other in self.by_key.get(_words(numberless), [])
            if NUMBERED.sub("", other.stem) == numberless and other.path.rpartition("/")[0] == folder
        }
        return sorted(path for path in same if NUMBERED.search(stem_of(path))) or [image]


def _keys(mask: _Named) -> Iterable[tuple[tuple[str, ...] | str, str]]:
    """The keys that the image of a mask may have, the likeliest first, each with the rest of the mask's name."""
    yield mask.stem, ""
    plain = MASK.fullmatch(mask.stem)
    if plain:
        yield plain["stem"], ""
        yield _words(plain["stem"]), ""
    yield mask.key, ""
    parts = SEPARATORS.split(mask.stem)
    for length in range(len(parts) - 1, 0, -1):
        rest = [part for part in parts[length:] if part.lower() not in MASK_WORDS]
        yield _words("_".join(parts[:length])), "_".join(rest)


def _rest(folder: str) -> str:
    """The words of the name of a folder of masks that say more than that."""
    ordinary = MASK_WORDS | IMAGE_WORDS | FILLERS | frozenset(SHORT_SPLITS) | {"all", "and"}
    return " ".join(word for word in tokens(folder) if word not in ordinary and not word.isdecimal())


def _shared(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """How many folders two paths have in common, and how few they do not."""
    common = len(set(one) & set(other))
    return common, -len(set(one) ^ set(other))


def _named(path: str, known: Collection[str]) -> _Named:
    folders = tuple(
        folder
        for folder in path.split("/")[:-1]
        if folder not in known and not set(tokens(folder)) & (MASK_WORDS | IMAGE_WORDS)
    )
    stem = PurePosixPath(stem_of(path)).name
    return _Named(path, folders, _words(stem), stem)


def _words(stem: str) -> tuple[str, ...]:
    """The words of a name in lower case, without those for images and masks."""
    return tuple(word for word in tokens(stem) if word not in MASK_WORDS and word not in IMAGE_WORDS)


def _label_of_folder(folder: str) -> str:
    """The name of a folder without a number before it, as in '1. Microaneurysms'."""
    return re.sub(r"^\d+[. _\-]+", "", folder)


def _in_mask_folder(path: str, known: Collection[str]) -> bool:
    return any(folder in known or set(tokens(folder)) & MASK_WORDS for folder in path.split("/")[:-1])


def _says_mask(path: str) -> bool:
    return bool(set(tokens(PurePosixPath(stem_of(path)).name)) & MASK_WORDS)


def _split(image: str) -> str | None:
    """The split that the folders of an image speak of, if they speak of one."""
    found = {
        SHORT_SPLITS[word]
        for folder in image.split("/")[:-1]
        for word in re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder).lower())
        if word in SHORT_SPLITS
    }
    return found.pop() if len(found) == 1 else None
