"""Options of the commands that plan a training."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

EffortOption = Annotated[
    Literal["quick", "standard", "thorough"] | None,
    typer.Option(
        help="How much to spend: quick takes about 2 minutes, standard 20, thorough 2 hours. [default: standard]",
        show_default=False,
    ),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        help="Time for the whole training: network, image size and epochs are chosen to fit.",
        show_default=False,
    ),
]
