"""``hounsfield data``: public data sets and phantoms by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli import console

app = typer.Typer(
    help="Public data sets by name, checked by their MD5, and made-up ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_sets(
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """List the data sets that DATA can name."""
    from hounsfield.cohorts.public import MEDMNIST
    from hounsfield.phantoms import PHANTOMS

    if as_json:
        sets = {f"medmnist:{name}": _facts(name) for name in MEDMNIST}
        console.print_json(sets | {f"phantom:{name}": {"title": phantom.title} for name, phantom in PHANTOMS.items()})
        return
    rows = [("DATA", "task", "labels", "images", "sizes", "licence")]
    for name, entry in MEDMNIST.items():
        count = f"{sum(entry.samples.values()):,}"
        sizes = " ".join(map(str, entry.sizes))
        rows.append((f"medmnist:{name}", entry.task, str(len(entry.labels)), count, sizes, entry.license))
    for name, phantom in PHANTOMS.items():
        rows.append((f"phantom:{name}", phantom.title, "", f"{phantom.num_patients} patients", "", "made here"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        console.out.print("  ".join(map(str.ljust, row, widths)).rstrip())


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="For example pneumoniamnist, medmnist:pathmnist:64 or phantom:chest.")],
    size: Annotated[
        int | None, typer.Option(help="Rows and columns of a MedMNIST set; its smallest by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to put it in; the cache by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Download a public set, or make a phantom, and print where it lies."""
    from hounsfield.cohorts.public import get_medmnist, parse_name
    from hounsfield.cohorts.sources import cached_phantom
    from hounsfield.errors import UsageError
    from hounsfield.phantoms import make_phantom

    with console.progress_bars() as progress:
        if name.startswith("phantom:"):
            if size is not None:
                raise UsageError(f"'{name}' has no sizes. Leave --size out.")
            path = make_phantom(name, out, progress=progress) if out else cached_phantom(name, progress=progress)
        else:
            set_name, named_size = parse_name(name)
            if size is not None and named_size not in {None, size}:
                raise UsageError(f"'{name}' and --size {size} name two sizes. Leave one out.")
            path = get_medmnist(set_name, size or named_size, folder=out, progress=progress)
    if as_json:
        console.print_json({"name": name, "path": str(path)})
    else:
        console.out.print(str(path))


def _facts(name: str) -> dict[str, object]:
    from hounsfield.cohorts.public import MEDMNIST

    entry = MEDMNIST[name]
    return {
        "task": entry.task,
        "labels": entry.labels,
        "channels": entry.channels,
        "samples": entry.samples,
        "sizes": entry.sizes,
        "license": entry.license,
    }
