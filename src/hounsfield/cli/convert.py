"""``hounsfield convert``: between formats, geometry kept; de-identified where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.errors import ImageError, UsageError

if TYPE_CHECKING:
    from hounsfield.images import Reference


def command(
    given: Annotated[
        str, typer.Argument(metavar="INPUT", help="An image, a volume, or a folder of one DICOM series; or PATH[N].")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A file; or a folder for a DICOM series.")],
    *,
    volume: Annotated[
        int | None, typer.Option(min=0, help="Which volume, from 0, of a file that holds several.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Which frame or slice, from 0; or which volume of several.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, help="Which level of a pyramid, such as a whole slide, from 0, the full size.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="CENTER,WIDTH or lung, bone, brain, 'soft tissue': for PNG and TIFF.")
    ] = None,
    orientation: Annotated[str | None, typer.Option(help="Turn a volume, for example to SPL.")] = None,
    deidentify: Annotated[bool, typer.Option("--deidentify", help="By the basic profile of DICOM PS3.15.")] = False,
    key_file: Annotated[Path | None, typer.Option(help="Secret of the pseudonyms; made where it is missing.")] = None,
    keep_characteristics: Annotated[
        bool, typer.Option("--keep-characteristics", help="Keep sex, age, size and weight when de-identifying.")
    ] = False,
    mask: Annotated[
        list[str] | None, typer.Option(help="Black out Y0,X0,Y1,X1 or 'outside-regions' when de-identifying.")
    ] = None,
    mask_rules: Annotated[Path | None, typer.Option(help="What to black out by device: a YAML file.")] = None,
    keep_pixels: Annotated[
        bool, typer.Option("--keep-pixels", help="De-identify images that are likely to show text as they are.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUTPUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert an image, a volume or a DICOM series to another format, its geometry kept."""
    from hounsfield.cli.console import out, print_json
    from hounsfield.images import Reference
    from hounsfield.images.conversion import holds_dicom

    reference = Reference.parse(given)
    if volume is not None or frame is not None:
        reference = reference.replace(volume=volume, frame=frame)
    source = Path(reference.path)
    _check_paths(source, target, overwrite=overwrite)
    if not deidentify and (key_file is not None or keep_characteristics or mask or mask_rules or keep_pixels):
        raise UsageError(
            "--key-file, --keep-characteristics, --mask, --mask-rules and --keep-pixels belong to --deidentify, which "
            "was not given: the output would name the patient. Say --deidentify as well, or leave them out."
        )
    if keep_pixels and (mask or mask_rules):
        raise UsageError("--keep-pixels leaves images as they are, and --mask changes them. Leave out one of them.")
    if deidentify and not holds_dicom(source):
        raise UsageError(
            f"--deidentify is for DICOM, and '{source}' is none: what else a file says of a patient would stay in it. "
            "Convert it without this option, or de-identify the DICOM object that it was made from."
        )
    if deidentify:
        asks_for_pixels = bool(reference.text != reference.path or window or orientation or level is not None)
        if asks_for_pixels or target.suffix.lower() not in {"", ".dcm"}:
            raise UsageError(
                f"De-identification keeps the pixels of a DICOM object as they are, and '{target.name}' or an option "
                "asks for other ones. De-identify to '.dcm' or to a folder first, then convert the result."
            )
        from hounsfield.images.burned_in import read_masks

        result = _deidentify(
            source,
            target,
            key_file,
            keep_characteristics=keep_characteristics,
            masks=read_masks(mask or [], mask_rules),
            keep_pixels=keep_pixels,
        )
    else:
        result = _convert(reference, target, level=level, window=window, orientation=orientation)
    if as_json:
        print_json(result)
    else:
        out.print("\n".join(f"{name.replace('_', ' ')}: {_in_words(value)}" for name, value in result.items()))


def _in_words(value: Any) -> str:
    """A result for a person: counted names, or what it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name} ({count})" for name, count in value.items()) or "none"
    return str(value)


def _check_paths(source: Path, target: Path, *, overwrite: bool) -> None:
    if not source.exists():
        raise ImageError(f"The input '{source}' does not exist. Give an image file or a folder with a DICOM series.")
    if source.resolve() == target.resolve():
        raise UsageError(f"INPUT and OUTPUT are both '{source}', and an input is never replaced. Name another output.")
    if target.suffix and not target.parent.is_dir():
        raise UsageError(f"The folder {target.parent} of OUTPUT does not exist. Make it first, or choose another.")
    if not overwrite and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
        raise UsageError(f"'{target}' exists and would be replaced. Name another output, or say --overwrite.")


def _convert(source: Reference, target: Path, **options: Any) -> dict[str, Any]:
    from hounsfield.cli.console import progress_bars, say
    from hounsfield.images.conversion import convert
    from hounsfield.images.orientation import orientation_of

    with progress_bars() as bars:
        done = convert(source, target, **options, progress=bars)
    for note in done.notes:
        say(note)
    image = done.image
    return {
        "output": str(target),
        "shape": list(image.pixels.shape),
        "type": str(image.pixels.dtype),
        "spacing": None if image.spacing is None else [round(length, 6) for length in image.spacing],
        "orientation": None if image.affine is None or image.rank != 3 else orientation_of(image.affine),
    }


def _deidentify(source: Path, target: Path, key_file: Path | None, **options: Any) -> dict[str, Any]:
    from hounsfield.cli.console import progress_bars, say
    from hounsfield.images.deidentify import deidentify_paths

    if source.is_dir() is bool(target.suffix):
        kinds = ("a folder", "a file") if source.is_dir() else ("one file", "a folder")
        raise UsageError(f"'{source}' is {kinds[0]} and '{target}' names {kinds[1]}. De-identify like into like.")
    with progress_bars() as bars:
        done = deidentify_paths(source, target, _key(key_file), **options, progress=bars)
    for path, reason in done.left_out:
        say(f"left out: {path}: {reason}")
    for path in done.repeated:
        say(f"the same as a file before it, and written once: {path}")
    for path, flag in done.flagged.items():
        say(f"look at {path}: burnt-in text is {flag}")
    return {
        "output": str(target),
        "files": len(done.written),
        "left_out": len(done.left_out),
        "repeated": len(done.repeated),
        "masked": len(done.masked),
        "burned_in": [str(path) for path in done.flagged],
        "kept_text": done.kept_text,
        "broken_values_removed": done.broken,
        "kept": done.kept,
    }


def _key(key_file: Path | None) -> bytes:
    from hounsfield.cli.console import say
    from hounsfield.images.deidentify import make_key, read_key

    if key_file is None:
        raise UsageError(
            "--deidentify was given without --key-file. Name the file that holds the secret of the pseudonyms, or is "
            "to hold it: the same key keeps a patient's objects together, and it must stay with the patients' data."
        )
    if not key_file.exists():
        make_key(key_file)
        say(
            f"A new key was made: {key_file}. Keep it with the patients' data; without it no later file can join these."
        )
    return read_key(key_file)
