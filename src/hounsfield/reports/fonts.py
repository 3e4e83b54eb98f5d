"""Names of any script in figures: in a font that has their letters, or where there is none as numbers with a note.

Matplotlib's own font has no Chinese, Japanese or Korean letters: it would draw boxes, and warn.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

logger = logging.getLogger(__name__)

# Beginnings of the names of fonts with Chinese letters, best first, and of their files where these differ.
FAMILIES = (
    *("Noto Sans CJK", "Noto Sans SC", "Source Han Sans", "WenQuanYi", "PingFang", "Hiragino Sans GB", "Heiti"),
    *("STHeiti", "Microsoft YaHei", "SimHei", "SimSun", "Noto Serif CJK", "Droid Sans Fallback", "Arial Unicode"),
)
FILES = re.compile(
    r"(noto(sans|serif).*cjk|notosanssc|sourcehan|wqy|pingfang|hiragino|heiti|msyh|simhei|simsun)", re.IGNORECASE
)
# Names that a note spells by their code points.
MOST_SPELLED = 6
# The number of each name that could not be drawn, the same in all figures of a process.
_numbers: dict[str, int] = {}


def letter(figure: Figure) -> list[str]:
    """Make every text of a figure drawable, for a file that holds no fonts.

    Texts keep their letters where an installed font has them. Otherwise each name is replaced by its number in
    brackets, a note below the figure gives their code points, and the log their letters.

    Args:
        figure: drawn, but not saved yet.

    Returns:
        The names that were replaced.
    """
    known, replaced = set(_numbers), []

    def numbered(name: str) -> str:
        replaced.append(name)
        return f"[{_numbers.setdefault(name, len(_numbers) + 1)}]"

    _rewrite(figure, numbered)
    names = list(dict.fromkeys(replaced))
    if names:
        figure.text(0.01, -0.01, _note(names), va="top", fontsize=7)
    if new := [f"[{_numbers[name]}] {name}" for name in names if name not in known]:
        logger.warning(
            "No installed font has the letters of some names, so figures show their numbers: %s. Install a font such "
            "as Noto Sans CJK, and draw the figures again.",
            ", ".join(new),
        )
    return names


def letter_page(figure: Figure) -> Callable[[str], str]:
    """Make every text of a figure measurable, for an SVG that a browser draws with fonts of its own.

    Args:
        figure: drawn, but not saved yet.

    Returns:
        Restores the names in the saved SVG, which has blanks of about their width in their place.
    """
    names: list[str] = []

    def held(name: str) -> str:
        names.append(name)
        # The brackets and the number are about two letters wide.
        return f"⟦{len(names) - 1}⟧" + "\u2003" * max(0, len(name) - 2)

    _rewrite(figure, held)
    return lambda text: re.sub("⟦(\\d+)⟧\u2003*", lambda found: html.escape(names[int(found[1])]), text)


def _note(names: Sequence[str]) -> str:
    spelled = [
        f"[{_numbers[name]}] {' '.join(f'U+{ord(letter):04X}' for letter in name)}" for name in names[:MOST_SPELLED]
    ]
    more = [f"and {len(names) - MOST_SPELLED} more"] if len(names) > MOST_SPELLED else []
    return "\n".join(["No installed font has the letters of these names (code points):", *spelled, *more])


def _rewrite(figure: Figure, replace: Callable[[str], str]) -> None:
    """Give texts the fonts that they need, and replace names that no font can draw."""
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            _choose_font(text)
            text.set_text(_drawable(text.get_text(), replace))
    # The labels of ticks are written anew with each drawing, from the axis.
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        drawable = [_drawable(label, replace) for label in labels]
        if drawable != labels:
            axis.set_ticks(axis.get_ticklocs(), drawable)


def _choose_font(text: Text) -> None:
    content = text.get_text()
    if "$" in content and not content.startswith("$\\mathdefault"):
        # A name with dollars is a name and not a formula.
        text.set_parse_math(False)
    needed = set(content) - _own_letters()
    for name, path in installed():
        if needed & _letters(path):
            text.set_fontfamily([*text.get_fontfamily(), name])
            needed -= _letters(path)


def _drawable(content: str, replace: Callable[[str], str]) -> str:
    """The text with each run of letters that no font has replaced."""
    if content.isascii():
        return content
    known = _own_letters().union(*(_letters(path) for _, path in installed()))
    runs = ((missing, "".join(run)) for missing, run in groupby(content, lambda letter: letter not in known))
    return "".join(replace(run) if missing else run for missing, run in runs)


@cache
def installed() -> tuple[tuple[str, str], ...]:
    """Name and file of the installed fonts with Chinese letters, best first."""
    # Most of these fonts have one weight only, which Matplotlib would log for every text.
    logging.getLogger("matplotlib.font_manager").addFilter(lambda record: "font weight" not in str(record.msg))
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        # Matplotlib lists fonts once; one that was installed later is added here.
        if path not in known and FILES.search(Path(path).name):
            font_manager.fontManager.addfont(path)
    found = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist}
    return tuple((name, path) for family in FAMILIES for name, path in sorted(found.items()) if name.startswith(family))


def _own_letters() -> frozenset[str]:
    """The letters of the font that Matplotlib uses."""
    return _letters(font_manager.findfont(font_manager.FontProperties()))


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters that a font has, and the breaks of lines, which need none."""
    return frozenset(map(chr, font_manager.get_font(path).get_charmap())) | {"\n"}
