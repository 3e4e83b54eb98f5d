"""``hounsfield about``: what only the author of a model knows, in ``about.yaml`` of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path | None, typer.Argument(help="A run folder; none is needed with --template.")] = None,
    *,
    template: Annotated[bool, typer.Option("--template", help="Print an empty about.yaml.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers, and what is missing, as JSON.")] = False,
) -> None:
    """Write an about.yaml to be filled in (intended use, population, ethics, codes …) into a run, or check it.

    The report, the checklists, the model card and the model facts take in its answers, DICOM results its codes.
    """
    from hounsfield.bundle import Bundle
    from hounsfield.bundle import about as pages
    from hounsfield.cli.console import out, print_json, say
    from hounsfield.errors import UsageError

    if template and run is None:
        typer.echo(pages.template(["pneumonia"]), nl=False)
        return
    if run is None:
        raise UsageError("Name the run whose about.yaml is wanted: hounsfield about RUN. --template prints one.")
    bundle = Bundle.load(run)
    if template:
        typer.echo(pages.template(bundle.labels), nl=False)
        return
    if bundle.folder.name != "bundle":
        raise UsageError(f"{run} is a bundle by itself, and about.yaml belongs to a run. Give the run folder.")
    folder = bundle.folder.parent
    path = folder / pages.NAME
    if not path.exists():
        from hounsfield.atomic import write_text

        write_text(path, pages.template(bundle.labels))
        say(f"wrote {path}: fill it in, then run hounsfield report {folder}")
    about = pages.read_about(folder, bundle.labels)
    if as_json:
        answers = {name: getattr(about, name) for name in about.given()}
        codes = {label: code.model_dump() for label, code in about.codes.items()}
        print_json({"path": str(path), "answers": answers, "codes": codes, "missing": about.missing()})
        return
    given, missing = about.given(), about.missing()
    out.print(f"{path}: {len(given)} of {len(pages.QUESTIONS)} questions answered, {len(about.codes)} labels coded.")
    if missing:
        out.print(f"Missing: {', '.join(missing)}.")
