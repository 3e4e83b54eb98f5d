"""The options that every command taking DATA shares, declared once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest

Data = Annotated[
    str,
    typer.Argument(
        help="Class folders, a table, DICOM with a table, .npz, IMAGES.npy,LABELS.npy, boxes (COCO, VOC, YOLO, table), "
        "label maps, medmnist:NAME or phantom:NAME."
    ),
]
# Option, type and help of all that says how DATA is read, in the order of the help; named after their attributes.
READING: dict[str, Any] = {
    "kind": Annotated[str | None, typer.Option(help="Choose the kind of DATA instead of having it detected.")],
    "images": Annotated[Path | None, typer.Option(help="Folder of the images, where the table lies elsewhere.")],
    "label_columns": Annotated[
        list[str] | None,
        typer.Option("--label-column", help="Label column of the table; repeat for several (multi-label)."),
    ],
    "image_column": Annotated[
        str | None, typer.Option(help="Column that names the images; found by its values by default.")
    ],
    "patient_column": Annotated[str | None, typer.Option(help="Column that names the patients.")],
    "patient_pattern": Annotated[
        str | None, typer.Option(help="Regular expression that finds the patient in an image's path (first group).")
    ],
    "channels": Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME…",
            help="Channels of one image: columns of files, how file names end (t1,t2,flair), or volumes of each file.",
        ),
    ],
    "sample_column": Annotated[
        str | None,
        typer.Option(help="Column that says which images are judged together as one sample; or 'folder'."),
    ],
    "label_level": Annotated[
        int | None, typer.Option(min=1, help="Which folder of an image's path is its class, counted from 1.")
    ],
    "exclude": Annotated[
        list[str] | None, typer.Option(help="Folder, file or pattern such as '*_copy' to leave out; repeatable.")
    ],
    "positive": Annotated[str | None, typer.Option(help="The positive one of two labels.")],
    "class_names": Annotated[
        Path | None, typer.Option(help="File with a name for each label: a table, JSON, YAML or a name per line.")
    ],
    "join": Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:KEY]", help="Table to join by its key column, found by its values by default; repeatable."
        ),
    ],
    "test_on": Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE", help="Rows of the table to test on; the others train.")
    ],
    "uncertain": Annotated[
        str | None,
        typer.Option(help="What a label of -1 counts as: ignore (default), positive, negative or class (its own)."),
    ],
    "missing": Annotated[
        str | None, typer.Option(help="What an empty cell of a label column counts as: ignore (default) or negative.")
    ],
    "task": Annotated[
        str | None,
        typer.Option(
            help="Of a column of numbers: regression, ordinal (grades in order) or multi-class. multi-label takes the "
            "labels of all rows of an image."
        ),
    ],
    "readers": Annotated[
        str | None,
        typer.Option(
            help="Boxes by several readers: half (default: half of an image's readers agree), all, or a NAME."
        ),
    ],
    "allow_outside": Annotated[
        bool, typer.Option("--allow-outside", help="Let paths in the table lead out of the data folder.")
    ],
}
LEAKS: dict[str, Any] = {
    "drop_leaks": Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out training rows whose patient or picture is in test too.")
    ],
    "allow_leaks": Annotated[
        bool, typer.Option("--allow-leaks", help="Train although patients or pictures are in test too.")
    ],
    "extend": Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Add DATA to those of a finished run: its patients keep their splits, its test images stay the same.",
        ),
    ],
}
SWITCHES = frozenset({"allow_outside", "drop_leaks", "allow_leaks"})


def with_request(*, leaks: bool = False, data: Any = Data) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command DATA and its options, which it receives as one ``request``, at the place of that parameter.

    An option that the command has under the same name is its own and none of the request.

    Args:
        leaks: whether it also takes what is done about leaks.
        data: the argument DATA, where it is not the usual one; without an optional one there is no request.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        # The request itself is built below, and its class is imported only when a command runs.
        hints = typing.get_type_hints(command, localns={"DataRequest": object}, include_extras=True)
        given = inspect.signature(command).parameters
        chosen = {name: hint for name, hint in (READING | (LEAKS if leaks else {})).items() if name not in given}
        own = [
            _data(data) if name == "request" else _keyword(parameter.replace(annotation=hints[name]))
            for name, parameter in given.items()
        ]
        parameters = [*own, *(_option(name, hint) for name, hint in chosen.items())]

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            values = {name: given.pop(name) for name in ("data", *chosen)}
            command(request=_request(values), **given)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect looks for
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def _keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _data(annotation: Any) -> inspect.Parameter:
    optional = type(None) in typing.get_args(typing.get_args(annotation)[0])
    default = None if optional else inspect.Parameter.empty
    return inspect.Parameter("data", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(name: str, annotation: Any) -> inspect.Parameter:
    default = False if name in SWITCHES else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


OtherData = Annotated[str | None, typer.Argument(help="Other data to test on; by default the run's test split.")]


def require_data(request: DataRequest | None) -> None:
    """Refuse options that say how DATA is read where there is none.

    Raises:
        UsageError: there are such options and no DATA.
    """
    if request is None or request.data:
        return
    from hounsfield.errors import UsageError

    given = request.command_line().removeprefix("''").strip()
    raise UsageError(
        f"{given} says how DATA is read, and no DATA is given. Name "
        "it, or leave the option out: a run's own data are read as they were for its training."
    )


def _request(values: dict[str, Any]) -> DataRequest | None:
    if not any(values.values()) and values["data"] is None:
        return None
    from hounsfield.cohorts.request import DataRequest

    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value is not None
    }
    return DataRequest(**({"data": ""} | plain))
