"""The options that every command taking DATA shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        help="Class folders, a table, DICOM with a table, .npz, IMAGES.npy,LABELS.npy, boxes (COCO, VOC, YOLO, table), "
        "label maps, medmnist:NAME or phantom:NAME."
    ),
]
Kind = Annotated[str | None, typer.Option("--kind", help="Force the kind of DATA instead of detecting it.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images, where the table lies elsewhere.")]
LabelColumns = Annotated[
    list[str] | None,
    typer.Option("--label-column", help="Label column of the table; repeat for several (multi-label)."),
]
AllowOutside = Annotated[
    bool, typer.Option("--allow-outside", help="Let paths in the table lead out of the data folder.")
]
DropLeaks = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out training rows whose patient or picture is in test too.")
]
AllowLeaks = Annotated[bool, typer.Option("--allow-leaks", help="Train although patients or pictures are in test too.")]
