"""Figures as SVG within a page: text stays text, and colours follow the page's light or dark mode."""

from __future__ import annotations

import html
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from hounsfield.reports.figures import COLOURS, GREY
from hounsfield.reports.fonts import letter_page

# Colour of a figure -> its name in the page; black is the text colour of the page.
PAGE_COLOURS = {
    **{colour.lower(): f"var(--series{number})" for number, colour in enumerate(COLOURS[:-1], start=1)},
    GREY: "var(--soft)",
    **dict.fromkeys(("#cccccc", "#dddddd", "#eeeeee"), "var(--line)"),
    "#000000": "currentColor",
    "#ffffff": "var(--card)",
}
# What Matplotlib writes that a page does not need: the XML prologue, metadata, and a style that would affect the page.
PROLOGUE = re.compile(r"^.*?(?=<svg)", flags=re.DOTALL)
UNWANTED = re.compile(r"\s*<(metadata|defs)>\s*(<rdf:RDF.*?|<style.*?)</\1>", flags=re.DOTALL)
FONT = re.compile(r"(?:'[^']*', )+sans-serif")
SIZE = re.compile(r'width="([\d.]+)pt" height="[\d.]+pt"')


def svg_of(figure: Figure, name: str, description: str) -> str:
    """Write a figure as an ``<svg>`` element.

    Args:
        figure: drawn with the colours of ``figures``.
        name: distinguishes the identifiers of its elements from those of other figures of the page.
        description: for screen readers.
    """
    restored = letter_page(figure)
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = UNWANTED.sub("", PROLOGUE.sub("", text.getvalue()))
    svg = re.sub(r"#[0-9a-fA-F]{6}\b", lambda found: PAGE_COLOURS.get(found[0].lower(), found[0]), svg)
    svg = FONT.sub("sans-serif", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    # The page sets the width; the viewBox keeps the proportions.
    svg = SIZE.sub(r'style="max-width: \1pt"', svg, count=1)
    return restored(svg).replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1)
