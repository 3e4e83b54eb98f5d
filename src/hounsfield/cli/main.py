"""Binds the commands and turns every expected error into one paragraph and an exit status."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
import typer.main
from typer.core import TyperGroup

from hounsfield.cli.settings import with_settings
from hounsfield.cli.supervision import require_address_space, supervise
from hounsfield.errors import HounsfieldError
from hounsfield.hardware import out_of_files
from hounsfield.safe_text import shown
from hounsfield.version import __version__


class Place(NamedTuple):
    """Where a command is found, and what it does in the words of the list of commands.

    Attributes:
        module: holds a function ``command`` with Typer annotations, or a Typer group ``app``.
        summary: a short line.
        trains: whether networks are trained, or steps of it are measured.
    """

    module: str
    summary: str
    trains: bool = False


COMMANDS: dict[str, Place] = {
    "demo": Place("hounsfield.cli.demo", "Go from made-up radiographs to a report, in some 90 s.", trains=True),
    "inspect": Place("hounsfield.cli.inspection", "Check DATA before training: balance, leaks, shortcuts."),
    "plan": Place("hounsfield.cli.plan", "Decide how to train on DATA, with reasons.", trains=True),
    "tune": Place("hounsfield.cli.tune", "Search for better values of a plan's fields.", trains=True),
    "pretrain": Place("hounsfield.cli.pretrain", "Let a network learn from images without labels.", trains=True),
    "train": Place("hounsfield.cli.train", "Train a network on DATA, evaluate and bundle it.", trains=True),
    "evaluate": Place("hounsfield.cli.evaluate", "Test a run, or evaluate a table of predictions."),
    "compare": Place("hounsfield.cli.compare", "Compare two models on the same cases, or readers."),
    "samplesize": Place("hounsfield.cli.samplesize", "Compute the patients that a test or a training needs."),
    "robustness": Place("hounsfield.cli.robustness", "Test a run on images that get worse."),
    "forecast": Place("hounsfield.cli.forecast", "Estimate what more patients would bring.", trains=True),
    "ablate": Place("hounsfield.cli.ablate", "Measure each remedy against overfitting.", trains=True),
    "assay": Place("hounsfield.cli.assay", "Count and type particles of preparations."),
    "recalibrate": Place("hounsfield.cli.recalibrate", "Fit probabilities to another hospital."),
    "monitor": Place("hounsfield.cli.monitor", "Watch predictions over time for drift."),
    "predict": Place("hounsfield.cli.predict", "Predict images, folders or arrays."),
    "features": Place("hounsfield.cli.features", "Write the feature vectors of images."),
    "explain": Place("hounsfield.cli.explain", "Draw heat maps over images."),
    "about": Place("hounsfield.cli.about", "Write or check about.yaml: what only the author knows."),
    "report": Place("hounsfield.cli.report", "Write a run's report and model card."),
    "export": Place("hounsfield.cli.export", "Write the network for another runtime."),
    "verify": Place("hounsfield.cli.verify", "Check that a run or bundle is whole; sign it."),
    "serve": Place("hounsfield.cli.serve", "Serve models to a PACS and to programs."),
    "label": Place("hounsfield.cli.label", "Say which images to label next."),
    "readings": Place("hounsfield.cli.readings", "Write what readers said as DATA."),
    "audit": Place("hounsfield.cli.audit", "Check who did what to a service."),
    "preprocess": Place("hounsfield.cli.preprocess", "Enhance, normalise, crop or resample images."),
    "convert": Place("hounsfield.cli.convert", "Convert images to another format."),
    "data": Place("hounsfield.cli.data", "List and fetch public data sets."),
}


class _Commands(MutableMapping[str, Any]):
    """The commands by name, each imported when it is asked for: none of them waits for the others."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, COMMANDS[name].module)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _load(name: str, place: str) -> Any:
    module = importlib.import_module(place)
    if hasattr(module, "app"):
        group = typer.main.get_command(module.app)
        group.name = name
        return group
    single = typer.Typer(**STYLE)
    single.command(name, context_settings=getattr(module, "CONTEXT_SETTINGS", None))(
        with_settings(name, module.command)
    )
    return typer.main.get_command(single)


class _Group(TyperGroup):
    """Lists the commands without importing them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": _Commands()})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature of Click
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature of Click
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])


STYLE: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
# Set to anything, unexpected faults show where they happened.
TRACEBACK = "HOUNSFIELD_TRACEBACK"

app = typer.Typer(
    name="hounsfield",
    cls=_Group,
    help="From a folder of medical images to a trained, evaluated and explained network.",
    no_args_is_help=True,
    **STYLE,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a folder of medical images to a trained, evaluated and explained network."""


def main() -> None:
    """Run the command line; the entry point of the ``hounsfield`` script."""
    # Looking for plugins, of which Hounsfield has none, pydantic reads the metadata of everything that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Model conversion, which no command uses, is a good part of OpenVINO's import; it does without.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # None makes the import of a name fail
    try:
        _prepare(*sys.argv[1:])
        app(standalone_mode=True)
    except HounsfieldError as error:
        _refuse_few_files(error)
        sys.stderr.write(f"hounsfield: {shown(str(error))}\n")
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except MemoryError:
        _end("the memory of this machine is too small for this. Close other programs, or give fewer or smaller images")
    except OSError as error:
        _refuse_few_files(error)
        _end(
            f"the operating system refused: {error}. Free space, change the permissions or name a place that exists, "
            "then run the command again; nothing that was there has been changed"
        )
    except Exception as error:
        # A fault of ours; its place in the program is shown to whoever asks for it.
        if os.environ.get(TRACEBACK):
            raise
        _refuse_few_files(error)
        _end(
            f"an unexpected fault: {type(error).__name__}: {' '.join(str(error).split()):.500}. Please report it with "
            f"the output of the same command under {TRACEBACK}=1. Files are written whole or not at all"
        )


def _prepare(name: str = "", *options: str) -> None:
    """Check what a command needs before it is loaded, and go on in a child process where it trains."""
    if name in COMMANDS and "--help" not in options:
        require_address_space(f"'hounsfield {name}'")
        if COMMANDS[name].trains:
            supervise("pretrain" if name == "pretrain" else "train")


def _refuse_few_files(error: Exception) -> None:
    """End with what was missing where that were handles of files, whatever readers and imports took it for."""
    if (missing := out_of_files(error)) and "ulimit -n" not in str(error):
        _end(f"{missing}, and run the command again; nothing that was there has been changed")


def _end(text: str) -> NoReturn:
    sys.stderr.write(f"hounsfield: {shown(text)}.\n")
    sys.exit(1)
