"""The reader's page in a browser, for the tests that use it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page

from services import Service, get_json, until

# What the browser says of tests that read what is on a canvas.
OURS = "willReadFrequently"


def keys(running: Service) -> dict[str, str]:
    """Description → key of the cases that are complete."""
    cases = get_json(f"{running.url}/api/cases")["cases"]
    return {row["description"]: row["key"] for row in cases if row["complete"]}


def watched(page: Page, url: str) -> list[str]:
    faults: list[str] = []
    allowed = (url, "blob:", "about:")
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text) if said.type in {"error", "warning"} and OURS not in said.text else None,
    )
    page.on("request", lambda asked: None if asked.url.startswith(allowed) else faults.append(asked.url))
    return faults


def opened(page: Page, running: Service, key: str) -> Locator:
    """The image of a case, once it is drawn; on a new page, so that nothing of another one is taken for it."""
    page.goto("about:blank")
    page.goto(f"{running.url}/#/case/{key}")
    drawn(page, "0/0")
    return page.get_by_role("application", name="Image viewer")


def drawn(page: Page, place: str) -> None:
    page.wait_for_function("place => document.querySelector('.pane')?.dataset.drawn === place", arg=place)


MATRIX = "document.querySelector('.pane canvas').dataset.matrix.split(' ').map(Number)"
# The pixels of the canvas around the middle, as text: numbers one by one would take seconds.
SHOWN = f"""([rows, columns]) => {{
    const canvas = document.querySelector(".pane canvas");
    const [left, top] = rows === 0 ? [0, 0] : {MATRIX}.slice(4).map(Math.round);
    const [width, height] = rows === 0 ? [canvas.width, canvas.height] : [columns, rows];
    const {{ data }} = canvas.getContext("2d").getImageData(left, top, width, height);
    return btoa(Array.from(data, value => String.fromCharCode(value)).join(""));
}}"""
ALL = (0, 0)


def shown(page: Page, image: Locator, rows: int, columns: int) -> np.ndarray:
    """(rows, columns, 3) uint8: what is on the screen, each pixel of the image as one of the screen."""
    image.press("1")
    page.wait_for_function(f"() => Math.abs({MATRIX}[0] - 1) < 1e-9")
    data = base64.b64decode(page.evaluate(SHOWN, (rows, columns)))
    return np.frombuffer(data, np.uint8).reshape(rows, columns, 4)[..., :3]


def place_of(page: Page, row: float, column: float) -> tuple[float, float]:
    """Where a point of the image lies in the page; the middle of pixel 0 is 0.5."""
    a, b, c, d, e, f = page.evaluate(f"() => {MATRIX}")
    box = page.locator(".pane").bounding_box()
    assert box is not None
    return box["x"] + a * column + c * row + e, box["y"] + b * column + d * row + f


def reading_of(running: Service, key: str) -> dict[str, Any]:
    """What the service has kept last."""
    return get_json(f"{running.url}/api/cases/{key}")["mine"] or {"id": 0, "state": "", "content": {}}


def kept(running: Service, key: str, condition: Any) -> dict[str, Any]:
    """The reading, as soon as a condition holds of it."""
    return until(lambda: condition(found := reading_of(running, key)) and found, "kept")


def predicted(running: Service, key: str) -> None:
    until(
        lambda: all(
            each["state"] in {"done", "refused"} for each in get_json(f"{running.url}/api/cases/{key}")["answers"]
        ),
        "the models have answered",
    )


def dragged(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A drag between two points of the image, each (row, column)."""
    page.mouse.move(*place_of(page, *start))
    page.mouse.down()
    page.mouse.move(*place_of(page, *end), steps=4)
    page.mouse.up()
