"""The confidentiality profile of PS3.15 Annex E as data: the standard's table, and what this house adds to it.

The action codes of table E.1-1 are the standard's (PS3.15 section E.1):

    D       replace with a value that says nothing
    Z       replace with an empty value
    X       remove
    U       replace with another UID, the same one wherever it occurs
    A/B/…   the first action, unless the object's definition needs one of the later ones

The table keeps what it does not list. Some of that identifies nevertheless, and the part ``beyond_the_profile`` of the
file removes it. Private attributes, curves and overlays have no fixed tag and are handled where the table is applied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Profile:
    """What is done with each attribute, by its tag.

    Attributes:
        edition: the edition of the standard that the table was taken from.
        actions: the action of each attribute in table E.1-1.
        dates: attributes that the option Retain Longitudinal Temporal Information with Modified Dates changes.
        characteristics: attributes that the option Retain Patient Characteristics keeps.
        removed: attributes that the table does not list and that are removed all the same.
        removed_groups: groups whose unlisted attributes are removed.
        binary: unlisted attributes whose bytes are kept, because images, meshes or signals are made of them.
    """

    edition: str
    actions: dict[int, str]
    dates: frozenset[int]
    characteristics: frozenset[int]
    removed: frozenset[int]
    removed_groups: frozenset[int]
    binary: frozenset[int]


def read_profile(path: Path) -> Profile:
    """Read a profile from the form of ``confidentiality.json``."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = {int(tag, 16): row for tag, row in content["actions"].items()}
    beyond = content["beyond_the_profile"]
    return Profile(
        edition=content["edition"],
        actions={tag: row["action"] for tag, row in rows.items()},
        dates=frozenset(tag for tag, row in rows.items() if row.get("option") == "modified dates"),
        characteristics=frozenset(tag for tag, row in rows.items() if row.get("option") == "patient characteristics"),
        removed=frozenset(int(tag, 16) for tags in beyond["removed"].values() for tag in tags),
        removed_groups=frozenset(int(group, 16) for group in beyond["removed_groups"]),
        binary=frozenset(int(tag, 16) for tag in beyond["kept_binary"]),
    )


PROFILE = read_profile(Path(__file__).with_name("confidentiality.json"))
