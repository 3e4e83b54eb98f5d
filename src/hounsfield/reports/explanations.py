"""An explanation as files: the picture of the evidence over the image, and the evidence at each pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.explanation import Explanation
from hounsfield.images import write_image
from hounsfield.reports.figures import save_figure
from hounsfield.reports.overlays import overlay_figure


def write_explanation(found: Explanation, folder: Path, name: str, maps: str) -> dict[str, Any]:
    """Write the files of one explanation.

    Args:
        found: the explanation.
        folder: exists.
        name: of the files, without suffix.
        maps: the format of the evidence at each pixel, or "none".

    Returns:
        The row of the table of explanations.
    """
    picture = folder / f"{name}.png"
    save_figure(overlay_figure(found, title=f"{Path(found.image).name}{found.of_several}"), picture)
    row = {
        **({"sample": found.prediction.image, "weight": round(found.view.weight, 6)} if found.view else {}),
        "image": found.image,
        "prediction": found.prediction.label,
        "label": found.label,
        **found.prediction.degree(found.label),
        "peak": "×".join(map(str, found.peak)),
        "picture": str(picture),
    }
    if maps != "none":
        path = folder / f"{name}.{maps}"
        write_image(found.original.replace(pixels=found.heat[..., None]), path)
        row["map"] = str(path)
    return row
