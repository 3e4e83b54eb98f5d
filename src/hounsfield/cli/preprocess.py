"""``hounsfield preprocess``: the steps of the pipeline on their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.cli.workers import Crew, RayAddress, TimeLimit, WorkerMemory, Workers, told_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hounsfield.distributed.preprocessing import PreprocessingWork
    from hounsfield.images.image import Image
    from hounsfield.preprocessing import Pipeline
    from hounsfield.preprocessing.batch import BatchResult, MasksOf

    # Of a file its masks, each with the name of its result.
    Masks = dict[Path, tuple[tuple[Path, Path], ...]]

# The options of the steps come from their registry, which is read when the command runs; until then they pass through.
CONTEXT_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}

_NUM_PAIRS = 16
# Files that a worker is given at once.
_PART = 8


def command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT... [--NAME[=ARG]]...", help="Files or folders, and steps in their order."),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    steps: Annotated[Path | None, typer.Option(help="YAML or JSON file of steps, applied before the options.")] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="Such as png, tif, npy, nii.gz or dcm; by default by the image."),
    ] = None,
    montage: Annotated[Path | None, typer.Option(help="PNG file for a picture of before and after.")] = None,
    save_steps: Annotated[Path | None, typer.Option(help="JSON file for the steps with all they learned.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier call.")] = False,
    list_steps: Annotated[bool, typer.Option("--list-steps", help="List every step with its values, and end.")] = False,
    workers: Workers = None,
    ray: RayAddress = None,
    time_limit: TimeLimit = None,
    worker_memory: WorkerMemory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Enhance, normalise, crop or resample images, for example: scans -o out --clahe=2 --gamma=0.8 --resize=256."""
    if list_steps:
        _print_steps()
        return
    from hounsfield.cli.console import print_json, progress_bars, say
    from hounsfield.images import input_path
    from hounsfield.preprocessing.batch import (
        check_format,
        fit_on_files,
        lies_inside,
        mark_results,
        named_sources,
        preprocess_files,
    )

    crew = Crew(workers, ray, time_limit, worker_memory)
    crew.check()
    if crew.is_wanted:
        crew.refuse({"--montage": montage})
    given = inputs or []
    pipeline = _pipeline([option for option in given if option.startswith("--")], steps)
    named = [input_path(path) for path in given if not path.startswith("--")]
    folder = _required_folder(out, named)
    inside = lies_inside(folder, named)
    sources = named_sources(named, results=folder if inside else None)
    sources, masks = _without_masks(sources, named)
    _check_files(montage, save_steps)
    _check_montage(montage, named, folder)
    check_format(file_format)
    if pipeline.needs_fit:
        say(f"Some steps learn from images: they are fitted on the {len(sources):,} images given.")
        pipeline = fit_on_files(pipeline, [source for source, _ in sources])
    if inside:
        say(f"The folder '{folder}' lies in the input and is left out of it.")
        mark_results(folder)
    if crew.is_wanted:
        result = _by_workers(sources, masks, _work(sources, folder, pipeline, file_format, overwrite=overwrite), crew)
    else:
        with progress_bars() as bars:
            result = preprocess_files(
                sources,
                folder,
                pipeline,
                format=file_format,
                overwrite=overwrite,
                num_pairs=_NUM_PAIRS if montage else 0,
                masks=_moved(masks) if masks else None,
                progress=bars,
            )
    if save_steps:
        save_steps.parent.mkdir(parents=True, exist_ok=True)
        pipeline.to_json(save_steps)
    if montage and result.pairs:
        _write_montage(result, montage)
    if as_json:
        print_json(_summary(result, pipeline))
    _report(result, folder, quiet=as_json)


def _work(
    sources: list[tuple[Path, Path]], folder: Path, pipeline: Pipeline, file_format: str | None, *, overwrite: bool
) -> PreprocessingWork:
    from hounsfield.distributed.preprocessing import PreprocessingWork

    protected = frozenset(source.resolve() for source, _ in sources)
    place = folder.absolute()
    older = frozenset[Path]() if overwrite else frozenset(path for path in place.rglob("*") if path.is_file())
    return PreprocessingWork(pipeline, place, file_format, older, protected)


def _by_workers(sources: list[tuple[Path, Path]], masks: Masks, work: PreprocessingWork, crew: Crew) -> BatchResult:
    """What workers write."""
    from hounsfield.distributed.preprocessing import FileItem
    from hounsfield.preprocessing.batch import BatchResult

    items = [FileItem(source, name, masks.get(source, ())) for source, name in sources]
    parts = [items[start : start + _PART] for start in range(0, len(items), _PART)]
    written: list[tuple[Path, Path]] = []
    bad: list[tuple[Path, str]] = []
    with crew.open(work) as pool:
        for part in told_parts(pool, parts):
            written += [(Path(row["source"]), Path(row["result"])) for row in part.rows]
            bad += [(Path(image.reference.path), image.reason) for image in part.bad]
    return BatchResult(tuple(written), tuple(bad), ())


def _moved(masks: Masks) -> MasksOf:
    """What moves the masks of a file with its image."""
    from hounsfield.cohorts.mask_folders import mask_on

    def masks_of(source: Path, image: Image) -> Iterator[tuple[Path, Path, Image]]:
        return ((mask, name, mask_on(mask, image)) for mask, name in masks.get(source, ()))

    return masks_of


def _without_masks(sources: list[tuple[Path, Path]], inputs: list[Path]) -> tuple[list[tuple[Path, Path]], Masks]:
    """The files without those that are masks of others, and of each file its masks with their names."""
    from hounsfield.cli.console import say
    from hounsfield.cohorts.mask_folders import masks_below

    of_image = {image: masks for given in inputs if given.is_dir() for image, masks in masks_below(given).items()}
    names = dict(sources)
    known = {mask for masks in of_image.values() for mask in masks if mask in names}
    if not known:
        return sources, {}
    say(f"{len(known):,} files are masks of other ones: they are moved with their images, by the nearest label.")
    kept = [pair for pair in sources if pair[0] not in known]
    moved = {
        source: tuple((mask, names[mask]) for mask in of_image.get(source, ()) if mask in known) for source, _ in kept
    }
    return kept, {source: masks for source, masks in moved.items() if masks}


def _print_steps() -> None:
    from hounsfield.cli.console import out as results
    from hounsfield.preprocessing.arguments import steps_table

    for option, fields, summary in steps_table():
        results.print(f"{option}" + (f"={fields}" if fields else ""), style="bold")
        results.print(f"    {summary}")


def _pipeline(options: list[str], steps: Path | None) -> Pipeline:
    from hounsfield.errors import UsageError
    from hounsfield.preprocessing import Pipeline
    from hounsfield.preprocessing.arguments import pipeline_from_file, step_from_option

    chosen = [*(pipeline_from_file(steps).steps if steps else ()), *(step_from_option(option) for option in options)]
    if not chosen:
        raise UsageError(
            "No step was given. Name at least one, for example --clahe or --resize=256, or a file with --steps; "
            "'hounsfield preprocess --list-steps' lists them."
        )
    return Pipeline(steps=tuple(chosen))


def _required_folder(out: Path | None, inputs: list[Path]) -> Path:
    from hounsfield.cli.console import check_folder
    from hounsfield.errors import UsageError

    if not inputs:
        raise UsageError("No input was given. Give files or folders with images.")
    if out is None:
        raise UsageError("No folder for the results was given. Name one with -o.")
    check_folder(out)
    return out


def _check_files(montage: Path | None, steps: Path | None) -> None:
    from hounsfield.cli.console import check_folder
    from hounsfield.errors import UsageError

    if montage is not None and montage.suffix.lower() != ".png":
        raise UsageError(f"The montage '{montage}' ends in '{montage.suffix}': a .png is expected. Name one.")
    for path in (montage, steps):
        check_folder(path.parent if path is not None else None)
        if path is not None and path.is_dir():
            raise UsageError(f"'{path}' is a folder, and a file is expected. Name one.")


def _check_montage(montage: Path | None, inputs: list[Path], results: Path) -> None:
    """Refuse a montage in the input, where it would replace an image or be taken for one next time."""
    from hounsfield.errors import UsageError

    if montage is None or montage.resolve().is_relative_to(results.resolve()):
        return
    for given in inputs:
        if montage.resolve().is_relative_to(given.resolve()):
            raise UsageError(
                f"The montage '{montage}' lies in the input '{given}', and a file elsewhere is expected, which is no "
                "image to be preprocessed. Name one, such as a file beside the folder of the results."
            )


def _write_montage(result: BatchResult, path: Path) -> None:
    from hounsfield.images.writers import write_image
    from hounsfield.preprocessing.display import contact_sheet

    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(contact_sheet(result.pairs), path)


def _summary(result: BatchResult, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "written": [{"source": str(source), "result": str(target)} for source, target in result.written],
        "bad": [{"source": str(source), "reason": reason} for source, reason in result.bad],
        **pipeline.to_dict(),
    }


def _report(result: BatchResult, folder: Path, *, quiet: bool) -> None:
    from hounsfield.cli.console import out as results
    from hounsfield.cli.console import say
    from hounsfield.errors import PreprocessingError

    if not quiet:
        for _, target in result.written:
            results.print(str(target))
    for source, reason in result.bad:
        # Readers name the file themselves.
        say(reason if str(source) in reason else f"{source}: {reason}")
    total = len(result.written) + len(result.bad)
    if result.bad:
        raise PreprocessingError(
            f"{len(result.bad):,} of {total:,} images could not be preprocessed and are named above; the other "
            f"{len(result.written):,} are in '{folder}'. Repair or leave out the bad ones."
        )
    say(f"{total:,} images are in '{folder}'.")
