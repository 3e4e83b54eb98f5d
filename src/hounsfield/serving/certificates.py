"""TLS for the servers and clients of the service."""

from __future__ import annotations

import ssl

from hounsfield.errors import ServingError
from hounsfield.serving.settings import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """For a server; clients need a certificate where an authority is given.

    Raises:
        ServingError: a file cannot be read.
    """
    context = _context(tls, ssl.Purpose.CLIENT_AUTH)
    if tls.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a client that shows its certificate, and trusts servers of the authority.

    Raises:
        ServingError: a file cannot be read.
    """
    return _context(tls, ssl.Purpose.SERVER_AUTH)


def _context(tls: Tls, purpose: ssl.Purpose) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=tls.authority)
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(
            f"The certificate {tls.certificate} with the key {tls.key} cannot be used ({error}). Give PEM files that "
            "belong together."
        ) from error
    return context
