"""``hounsfield verify``: whether a run or a bundle is whole, and who signed it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    *,
    verify_key: Annotated[
        Path | None, typer.Option("--verify-key", help="Demand a signature by this public key of Ed25519 (PEM).")
    ] = None,
    sign_key: Annotated[
        Path | None, typer.Option("--sign-key", help="Sign what is whole with this private key of Ed25519 (PEM).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare every file of a run or a bundle with the hashes that were kept; exit status 1 names what is not whole."""
    from hounsfield.cli.console import out, print_json, say
    from hounsfield.runs.manifest import verify
    from hounsfield.runs.signatures import check_signatures, sign_all

    found = verify(run)
    faults = list(found.faults)
    if verify_key is not None:
        faults += check_signatures(run, verify_key)
    signed = [str(path) for path in sign_all(run, sign_key)] if sign_key is not None and not faults else []
    if as_json:
        facts = {"whole": not faults, "identity": found.identity, "faults": faults, "notes": list(found.notes)}
        print_json(facts | ({"signed": signed} if sign_key is not None else {}))
    else:
        for text in found.notes:
            say(text)
        for text in faults:
            out.print(text)
        if not faults:
            out.print(f"{run} is whole. Identity of the bundle: {found.identity}")
        for text in signed:
            out.print(f"Signed: {text}")
    if faults:
        raise typer.Exit(1)
