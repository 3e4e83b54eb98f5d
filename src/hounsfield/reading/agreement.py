"""How far two readers of one case agree."""

from __future__ import annotations

from typing import Any

from hounsfield.reading.content import Content, Mark

# Two boxes are the same finding from this intersection over union on.
SAME = 0.5


def agreement(one: Content, other: Content) -> dict[str, Any]:
    """What two readings have in common.

    Returns:
        ``labels`` and ``same_labels``: how many labels, grades and values both judged, and how many alike; ``boxes``
        and ``same_boxes``: how many findings either drew, and how many both.
    """
    judged = [
        (mine, theirs)
        for model in one.opinions
        if model in other.opinions
        for mine, theirs in _pairs(one, other, model)
    ]
    mine, theirs = _boxes(one), _boxes(other)
    matched = _matched(mine, theirs)
    return {
        "labels": len(judged),
        "same_labels": sum(first == second for first, second in judged),
        "boxes": len(mine) + len(theirs) - matched,
        "same_boxes": matched,
    }


def _pairs(one: Content, other: Content, model: str) -> list[tuple[object, object]]:
    mine, theirs = one.opinions[model], other.opinions[model]
    pairs: list[tuple[object, object]] = [
        (value, theirs.labels[label]) for label, value in mine.labels.items() if label in theirs.labels
    ]
    return pairs + ([(mine.grade, theirs.grade)] if mine.grade and theirs.grade else [])


def _boxes(content: Content) -> list[Mark]:
    return [mark for mark in content.marks if mark.kind == "box"]


def _matched(mine: list[Mark], theirs: list[Mark]) -> int:
    """Pairs of boxes of one label, the best first, each box in one of them."""
    scores = sorted(
        (
            (_overlap(one, other), first, second)
            for first, one in enumerate(mine)
            for second, other in enumerate(theirs)
        ),
        reverse=True,
    )
    used_mine, used_theirs = set[int](), set[int]()
    for score, first, second in scores:
        if score >= SAME and first not in used_mine and second not in used_theirs:
            used_mine.add(first)
            used_theirs.add(second)
    return len(used_mine)


def _overlap(one: Mark, other: Mark) -> float:
    """Intersection over union; 0 of other labels or places."""
    if (one.label, one.stack) != (other.label, other.stack):
        return 0.0
    sides = [_common(first, second) for first, second in zip(_extents(one), _extents(other), strict=True)]
    shared = 1.0
    for side in sides:
        shared *= side
    volumes = [_volume(one), _volume(other)]
    return shared / (sum(volumes) - shared)


def _extents(mark: Mark) -> list[tuple[float, float]]:
    slices = mark.slices or (mark.frame, mark.frame + 1)
    return [slices, (mark.start[0], mark.end[0]), (mark.start[1], mark.end[1])]


def _common(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _volume(mark: Mark) -> float:
    volume = 1.0
    for low, high in _extents(mark):
        volume *= high - low
    return volume
