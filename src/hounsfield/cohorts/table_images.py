"""Which column of a table names the images, told by its values, and which file each of them means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.table_files import IMAGE_SUFFIX
from hounsfield.cohorts.words import composed, stem_of
from hounsfield.errors import CohortError

# Names that speak for a column, or against it, where the values of several fit.
GOOD_NAME = re.compile(r"image|path|file|scan|dicom|volume|img", re.IGNORECASE)
BAD_NAME = re.compile(r"mask|roi|seg|cropped|label|annotation|report", re.IGNORECASE)
# From this share of rows on, a column whose values are names of images is the one that names them.
LEAST_SHARE = 0.5
# So many values of each column are looked up first.
TRIED = 500
# From this share of rows on, a column whose values are parts of names, each of one place alone, names the images.
LEAST_PARTS = 0.95
# What may be such a part: it has a digit and is not so short that it occurs by chance.
PART = re.compile(r"(?=.*\d)[^\W_]{4,}")
TYPED = re.compile(r"(?:\[\d+\]){1,2}$")


class Names:
    """The images and folders below a folder, by path, by name, and by name without suffix.

    Names are compared with their accents joined to the letters, whichever way a system writes them.
    """

    def __init__(self, images: Sequence[str]) -> None:
        self.images = frozenset(images)
        self.by_name: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        self.by_folder: dict[str, list[str]] = {}
        folders: dict[str, None] = {}
        for image in images:
            parts = image.split("/")
            self.by_name.setdefault(composed(parts[-1]), []).append(image)
            self.by_stem.setdefault(composed(stem_of(parts[-1])), []).append(image)
            for depth in range(1, len(parts)):
                folders["/".join(parts[:depth])] = None
        self.folders = frozenset(folders)
        for folder in folders:
            self.by_folder.setdefault(composed(folder.rpartition("/")[2]), []).append(folder)

    @cached_property
    def by_part(self) -> dict[str, list[str]]:
        """The places in whose name a part between underscores, hyphens or spaces is this one.

        They are folders where one is called so, or where all files in one are; otherwise files.
        """
        files: dict[str, list[str]] = {}
        for image in self.images:
            for part in set(_parts_of(stem_of(image.rpartition("/")[2]))):
                files.setdefault(part, []).append(image)
        found: dict[str, list[str]] = {}
        for part, images in files.items():
            parents = {image.rpartition("/")[0] for image in images}
            parent = next(iter(parents))
            whole = len(parents) == 1 and len(images) > 1 and len(images) == self.num_inside.get(parent)
            found[part] = [parent] if whole and parent else sorted(images)
        for folder in self.folders:
            for part in set(_parts_of(folder.rpartition("/")[2])):
                inside = [place for place in found.get(part, []) if not f"{place}/".startswith(f"{folder}/")]
                found[part] = [*(place for place in inside if place != folder), folder]
        return found

    def inside(self, folder: str) -> list[str]:
        """The images below a folder, sorted."""
        return sorted(image for image in self.images if image.startswith(f"{folder}/"))

    @cached_property
    def num_inside(self) -> dict[str, int]:
        """How many images lie right in each folder."""
        return Counter(image.rpartition("/")[0] for image in self.images)

    def find(self, value: str) -> list[str]:
        """The images, or else the folders, that a value may mean: of several those that share most of its path."""
        number = TYPED.search(value)
        suffix = number.group() if number else ""
        plain = (value[: -len(suffix)] if suffix else value).replace("\\", "/").rstrip("/")
        relative = plain.removeprefix("./")
        if relative in self.images:
            return [relative + suffix]
        named = composed(relative)
        name = named.rpartition("/")[2]
        # The files may be of another form than the table says, such as PNG for DICOM.
        for known, key in ((self.by_name, name), (self.by_stem, name), (self.by_stem, IMAGE_SUFFIX.sub("", name))):
            if key in known:
                return [found + suffix for found in _nearest(relative, known[key])]
        if relative in self.folders:
            return [relative + suffix]
        # Some exports rename the files and keep the folders that their tables name.
        for part in reversed(named.split("/")):
            if part in self.by_folder:
                return [found + suffix for found in _nearest(relative, self.by_folder[part])]
        return []


def _parts_of(name: str) -> list[str]:
    return [part for part in re.split(r"[_\-. ]+", name) if PART.fullmatch(part)]


def _nearest(path: str, candidates: list[str]) -> list[str]:
    """Those of several places whose last folders agree most with the path."""
    if len(candidates) < 2:
        return candidates
    wanted = composed(path).split("/")[-2::-1]

    def shared(candidate: str) -> int:
        found = composed(candidate).split("/")[-2::-1]
        return next(
            (n for n, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found))
        )

    most = max(map(shared, candidates))
    return [candidate for candidate in candidates if shared(candidate) == most]


def one_of_several(folder: str, inside: Sequence[str]) -> str:
    """What to do where a name means a folder of several images: how to choose one by leaving the others out."""
    first, others = inside[0].rpartition("/")[2], [path.rpartition("/")[2] for path in inside[1:]]
    alike = min(next((n for n, (a, b) in enumerate(zip(first, o, strict=False)) if a != b), len(o)) for o in others)
    start = max(first.rfind("_", 0, alike), first.rfind("-", 0, alike), 0)
    patterns = " ".join(f"--exclude '*{name[start:]}'" for name in others[:NUM_NAMED])
    return (
        f"'{folder}' holds {len(inside):,} images such as {first} and {others[0]}: a folder stands for one image only "
        f"where it holds one DICOM series. Choose one image by leaving the others out, as in {patterns}; or name one "
        "file per row; or write slices into one volume with 'hounsfield convert'. Images that are judged together are "
        "read with --sample-column folder, the channels of one image with --channels NAME,NAME as their names end."
    )


@dataclass
class Match:
    """How the values of one column fit the images.

    Attributes:
        column: of the table.
        found: the place of each row; empty where there is none.
        ambiguous: row → the places that it may mean.
        num_distinct: different places that were found.
        num_files: of these, how many are files and not folders.
        part: an example, where the values are parts of the names.
    """

    column: str
    found: list[str] = field(default_factory=list)
    ambiguous: dict[int, list[str]] = field(default_factory=dict)
    num_distinct: int = 0
    num_files: int = 0
    part: str = ""

    @property
    def share(self) -> float:
        """Of the rows whose image was found."""
        return sum(map(bool, self.found)) / max(len(self.found), 1)


def match_column(table: pd.DataFrame, column: str, names: Names) -> Match:
    """Look up every value of a column."""
    match = Match(column)
    known: dict[str, list[str]] = {}
    values = table[column].astype(object).where(table[column].notna(), "").astype(str).str.strip()
    for row, value in enumerate(values):
        if value not in known:
            known[value] = names.find(value) if value else []
        places = known[value]
        match.found.append(places[0] if places else "")
        if len(places) > 1:
            match.ambiguous[row] = places
    distinct = set(match.found) - {""}
    match.num_distinct = len(distinct)
    match.num_files = len({TYPED.sub("", place) for place in distinct} & names.images)
    return match


def match_parts(table: pd.DataFrame, column: str, names: Names) -> Match | None:
    """Look up the values of a column as parts of names; ``None`` unless nearly each is part of one place's alone."""
    values = table[column].astype(object).where(table[column].notna(), "").astype(str).str.strip()
    places = {value: names.by_part.get(value, []) for value in values.unique() if value}
    single = {value: found[0] for value, found in places.items() if len(found) == 1}
    if len(single) < 2 or len(set(single.values())) < len(single) or len(single) < LEAST_PARTS * len(places):
        return None
    match = Match(column, [single.get(value, "") for value in values])
    match.num_distinct = len(single)
    match.num_files = len(set(single.values()) & names.images)
    value, place = next(iter(single.items()))
    match.part = f"'{value}' in '{place}'"
    return match if match.share >= LEAST_PARTS else None


def image_matches(table: pd.DataFrame, names: Names, *, least: float = LEAST_SHARE) -> list[Match]:
    """The columns whose values name images, the best first."""
    matches = [match_column(table, column, names) for column in _candidates(table, names)]
    fitting = [match for match in matches if match.share >= least and match.num_distinct > 1]
    if not fitting or all(match.num_distinct < len(table) for match in fitting):
        most = max((match.num_distinct for match in fitting), default=0)
        parts = [match_parts(table, str(column), names) for column in table.columns]
        if better := [match for match in parts if match is not None and match.num_distinct > most]:
            return sorted(better, key=lambda match: (-_quality(match.column), -match.num_distinct))
    # A column of few values, such as 0 and 1, may be the names of some files by chance.
    most = max((match.num_distinct for match in fitting), default=0)
    fitting = [match for match in fitting if 2 * match.num_distinct > most]
    return sorted(fitting, key=lambda match: (-_quality(match.column), -match.num_files, -match.num_distinct))


def _quality(column: str) -> int:
    if column == "image":
        return 2
    return -1 if BAD_NAME.search(column) else int(bool(GOOD_NAME.search(column)))


def _candidates(table: pd.DataFrame, names: Names) -> Iterator[str]:
    for column in table.columns:
        values = table[column].dropna().astype(str).str.strip().unique()[:TRIED]
        if len(values) > 1 and 2 * LEAST_SHARE * sum(bool(names.find(value)) for value in values) >= LEAST_SHARE * len(
            values
        ):
            yield column


def find_image_column(table: pd.DataFrame, root: Path, names: Names, options: Options, where: str) -> Match:
    """The column that names the images, as chosen or by its values.

    Raises:
        CohortError: there is none, several fit as well, or a value may mean several files.
    """
    if options.image_column is not None:
        if options.image_column not in table.columns:
            raise CohortError(
                f"There is no column '{options.image_column}' in {where} (--image-column): found "
                f"{', '.join(table.columns)}. Name one of these."
            )
        best = match_column(table, options.image_column, names)
        if not any(best.found):
            best = match_parts(table, options.image_column, names) or best
    else:
        matches = image_matches(table, names)
        if not matches:
            raise CohortError(
                f"Found no column in {where} whose values name the {len(names.images):,} images below {root}: its "
                f"columns are {', '.join(map(str, table.columns))}. Name the folder of the images with --images, or "
                "the column with --image-column."
            )
        best = matches[0]
        same = [m for m in matches[1:] if _quality(m.column) == _quality(best.column) and m.num_files == best.num_files]
        other = [match.column for match in same if match.found != best.found]
        if other:
            raise CohortError(
                f"The values of several columns of {where} name images, and not the same ones: {best.column}, "
                f"{', '.join(other)}. Choose one with --image-column."
            )
    if best.ambiguous:
        row, places = next(iter(best.ambiguous.items()))
        raise CohortError(
            f"Found {len(best.ambiguous):,} of {len(table):,} values of the column '{best.column}' of {where} that may "
            f"mean several files: '{table[best.column].iloc[row]}' is {' and '.join(places[:NUM_NAMED])}. Give paths "
            "that tell them apart, or name the folder that is meant with --images."
        )
    return best
