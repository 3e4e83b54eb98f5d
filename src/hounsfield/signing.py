"""Signatures of manifests by Ed25519 (RFC 8032): who made a bundle or a run, not only that it is whole."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from hounsfield.atomic import write_json
from hounsfield.errors import SignatureError, require

logger = logging.getLogger(__name__)

# A signature by this public key is demanded of every bundle and run that is read, in this process and those that it
# starts; with this private key every manifest is signed that they write.
VARIABLE = "HOUNSFIELD_VERIFY_KEY"
SIGN_VARIABLE = "HOUNSFIELD_SIGN_KEY"
# What is signed begins so: a signature of something else never counts for a manifest.
_PURPOSE = b"hounsfield manifest 1\n"
_KEYS = "openssl genpkey -algorithm ed25519 -out private.pem; openssl pkey -in private.pem -pubout -out public.pem"


def sign(manifest: Path, key: Path, signature: Path) -> None:
    """Write the signature of a manifest by a private key.

    Args:
        manifest: the file that is signed, which holds the hash of every other.
        key: a private key of Ed25519, as PEM without a password.
        signature: the file to be written.

    Raises:
        SignatureError: the key cannot be read, or is of another kind.
        MissingDependency: the package cryptography is not installed.
    """
    private = _load(key, "private")
    write_json(signature, {"algorithm": "ed25519", "signature": private.sign(_PURPOSE + manifest.read_bytes()).hex()})


def check_signature(manifest: Path, key: Path, signature: Path) -> None:
    """Compare a manifest with its signature.

    Args:
        manifest: the file that was signed.
        key: the public key of Ed25519, as PEM.
        signature: the file beside it.

    Raises:
        SignatureError: there is no signature, it is not of this key, or not of this content.
        MissingDependency: the package cryptography is not installed.
    """
    public = _load(key, "public")
    if not signature.is_file():
        raise SignatureError(
            f"{manifest} has no signature, and one by the key {key} is demanded. Sign it where it was made: hounsfield "
            "verify RUN --sign-key KEY, or give --sign-key to the command that writes into the run."
        )
    invalid = require("cryptography.exceptions", "signatures").InvalidSignature
    try:
        value = bytes.fromhex(json.loads(signature.read_bytes())["signature"])
        public.verify(value, _PURPOSE + manifest.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, RecursionError, invalid) as error:
        raise SignatureError(
            f"{signature} is no valid signature of {manifest.name} by the key {key}: the files were changed after they "
            "were signed, or somebody else signed them. Use a copy from where they were made, or the key of the signer."
        ) from error


def demand_signature(manifest: Path, signature: Path) -> None:
    """Check the signature of a manifest where ``HOUNSFIELD_VERIFY_KEY`` or ``--verify-key`` demands one.

    Raises:
        SignatureError: see :func:`check_signature`.
        MissingDependency: the package cryptography is not installed.
    """
    if os.environ.get(VARIABLE):
        check_signature(manifest, Path(os.environ[VARIABLE]), signature)


def withdraw(signature: Path) -> bool:
    """Remove the signature of a manifest that is about to be written anew; whether there was one."""
    if not signature.exists():
        return False
    signature.unlink()
    return True


def renew(manifest: Path, signature: Path, *, was_signed: bool) -> None:
    """Sign a manifest that was written where ``HOUNSFIELD_SIGN_KEY`` or ``--sign-key`` names a key.

    Args:
        manifest: the file that was written.
        signature: the file beside it.
        was_signed: whether there was a signature before; that it is gone is logged, where there is no key.

    Raises:
        SignatureError: the key cannot be read, or is of another kind.
        MissingDependency: the package cryptography is not installed.
    """
    if os.environ.get(SIGN_VARIABLE):
        sign(manifest, Path(os.environ[SIGN_VARIABLE]), signature)
    elif was_signed:
        logger.warning(
            "%s was signed, and has changed: the signature was removed. Sign it anew with: hounsfield verify RUN "
            "--sign-key KEY",
            manifest,
        )


def check_key(path: Path, kind: str) -> None:
    """Refuse a key that cannot be used, before any work is done.

    Args:
        path: the file.
        kind: "private" or "public".

    Raises:
        SignatureError: the key cannot be read, or is of another kind.
        MissingDependency: the package cryptography is not installed.
    """
    _load(path, kind)


def _load(path: Path, kind: str) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization", "signatures")
    keys = require("cryptography.hazmat.primitives.asymmetric.ed25519", "signatures")
    wanted = keys.Ed25519PrivateKey if kind == "private" else keys.Ed25519PublicKey
    try:
        content = path.read_bytes()
        if kind == "private":
            key = serialization.load_pem_private_key(content, password=None)
        else:
            key = serialization.load_pem_public_key(content)
    except (OSError, ValueError, TypeError) as error:
        raise SignatureError(
            f"The key {path} cannot be read ({error}): expected a {kind} key. Make a pair: {_KEYS}"
        ) from error
    if not isinstance(key, wanted):
        raise SignatureError(
            f"The key {path} is of another kind: expected a {kind} key of Ed25519. Make a pair: {_KEYS}"
        )
    return key
