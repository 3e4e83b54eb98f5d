"""Options of the commands that plan a training."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="SOURCE",
        help="Start from weights: imagenet, hf:ORG/NAME, hub:PRESET of KerasHub, a folder in the form of Hugging Face, "
        "timm or KerasHub, a run, or what 'hounsfield pretrain' wrote.",
    ),
]
AdaptOption = Annotated[
    Literal["probe", "lora", "finetune"] | None,
    typer.Option(
        help="With --weights: fit the last layer alone, train low-rank matrices beside the attention of a vision "
        "transformer, or all layers in stages; else the planner decides.",
        show_default=False,
    ),
]
LicenceOption = Annotated[
    str, typer.Option("--accept-licence", metavar="NAME", help="With --weights: a licence whose terms you accept.")
]
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
