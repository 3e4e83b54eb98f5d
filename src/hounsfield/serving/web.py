"""The web server: the application with its routes, and the process that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.serving.calls import Caller
from hounsfield.serving.certificates import server_context
from hounsfield.serving.database import DATABASE, Reader
from hounsfield.serving.desk import Desk
from hounsfield.serving.directory import Directory
from hounsfield.serving.gateway import NOTED, RETRY_AFTER, Gateway, status_of
from hounsfield.serving.processes import Ready, wait_for
from hounsfield.serving.rates import Rates
from hounsfield.serving.settings import MEBIBYTE, Tls, is_loopback
from hounsfield.serving.specifications import WebSpecification
from hounsfield.serving.tokens import Tokens
from hounsfield.serving.web_dicom import add_dicom_routes
from hounsfield.serving.web_models import add_model_routes
from hounsfield.serving.web_page import ASSETS, add_page_routes
from hounsfield.serving.web_pictures import add_picture_routes
from hounsfield.serving.web_reading import add_reading_routes
from hounsfield.serving.web_status import add_status_routes
from hounsfield.version import __version__

logger = logging.getLogger(__name__)

# What anybody may ask: nothing about patients or models.
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


def build_app(gateway: Gateway) -> FastAPI:
    """The application: all routes with limits, headers, measures and errors."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.start()
        yield
        gateway.stop()

    app = FastAPI(title="Hounsfield", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    app.add_middleware(Limited, gateway=gateway, registry=registry)

    @app.exception_handler(HounsfieldError)
    async def refuse(_: Request, error: HounsfieldError) -> JSONResponse:
        status = status_of(error)
        headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
        return JSONResponse({"detail": str(error)}, status, headers)

    @app.exception_handler(OSError)
    async def fail(_: Request, error: OSError) -> JSONResponse:
        logger.error("a request failed: %s", error)
        said = "The service cannot write to its disk, or read from it. Its administrator has to free space."
        return JSONResponse({"detail": said}, status_of(error), {"Retry-After": str(RETRY_AFTER)})

    add_status_routes(app, gateway, registry)
    desk = Desk(gateway)
    add_model_routes(app, desk)
    add_dicom_routes(app, gateway)
    add_reading_routes(app, desk)
    add_picture_routes(app, desk)
    add_page_routes(app)
    return app


class Limited:
    """Around every request: who asks, the size of its body, requests at one time, headers, and what is measured.

    Whoever is not known is turned away before a byte of the body is read.

    Args:
        app: the application.
        gateway: knows limits and tokens.
        registry: of the measures.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway, registry: CollectorRegistry) -> None:
        self._app = app
        self._gateway = gateway
        self._limits = gateway.settings.limits
        self._active = 0
        self._rates = Rates(self._limits.per_minute)
        self._count = Counter(
            "hounsfield_http_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "hounsfield_http_seconds", "Seconds of a request by route.", ["route"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", [])
                names = {name for name, _ in own}
                message["headers"] = [*own, *(header for header in HEADERS if header[0] not in names)]
            await send(message)

        self._active += 1
        try:
            await (self._refusal(scope) or self._app)(scope, self._bounded(receive), send_with_headers)
        finally:
            self._active -= 1
            self._note(scope, status)
            # The pattern of the route, never the address itself, which may hold identifiers.
            route = getattr(scope.get("route"), "path", "other")
            self._count.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)

    def _bounded(self, receive: Receive) -> Receive:
        """The body, however its length was announced, up to the limit."""
        left = self._limits.body_mb * MEBIBYTE

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, "The body is too large.")
            return message

        return bounded

    def _note(self, scope: Scope, status: int) -> None:
        """Let the audit have a request that ended before its route did so itself."""
        if _is_open(scope) or scope.get(NOTED):
            return
        authorization = _headers(scope).get("authorization", "")
        identity = self._gateway.known(authorization)
        name, role = ("", "") if identity is None else (identity.name, identity.role)
        self._gateway.note(name, role, "ask", "", f"refused with status {status}")

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = _headers(scope)
        if _is_foreign(headers, local=self._gateway.tokens.is_local):
            return JSONResponse({"detail": "Pages of other sites may not ask this service."}, 403)
        return None if _is_open(scope) else self._unwelcome(scope, headers) or self._unfit(headers)

    def _unwelcome(self, scope: Scope, headers: Mapping[str, str]) -> JSONResponse | None:
        identity = self._gateway.known(headers.get("authorization", ""))
        host = (scope.get("client") or ("",))[0]
        if wait := self._rates.ask(f"at {host}" if identity is None else identity.name):
            return _too_many(wait)
        if identity is None:
            return JSONResponse({"detail": "A valid token is needed."}, 401, {"WWW-Authenticate": "Bearer"})
        return None

    def _unfit(self, headers: Mapping[str, str]) -> JSONResponse | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body_mb * MEBIBYTE:
            return JSONResponse({"detail": "The body is too large."}, 413)
        return _too_many(RETRY_AFTER) if self._active > self._limits.requests else None


def _is_open(scope: Scope) -> bool:
    return scope["path"] in OPEN or scope["path"].startswith(ASSETS)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _too_many(seconds: float) -> JSONResponse:
    return JSONResponse({"detail": "Too many requests."}, 429, {"Retry-After": str(math.ceil(seconds))})


def _is_foreign(headers: Mapping[str, str], *, local: bool) -> bool:
    """Whether a browser asks for a page of another site.

    Args:
        headers: of the request.
        local: whether everybody at this machine may ask, so that a name of another site for its address counts.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return True
    return local and urlsplit(f"//{host}").hostname not in LOCAL_NAMES


def main(specification: WebSpecification, ready: Ready, stop: threading.Event) -> None:
    """What the process of the web server does.

    Raises:
        ServingError: the address is taken.
    """
    settings = specification.settings
    gateway = Gateway(
        settings,
        Directory(specification.directory),
        Reader(settings.folder / DATABASE),
        Caller(specification.keeper, specification.secret, "The process that keeps the records"),
        Caller(specification.control, specification.secret, "The process that starts the others"),
        Tokens(settings.folder, alone=is_loopback(settings.http.host)),
    )
    tls = _tls(settings.http.tls) if settings.http.tls is not None else {}
    config = uvicorn.Config(
        build_app(gateway), log_level="warning", access_log=False, server_header=False, date_header=False, **tls
    )
    if not (wait_for(specification.directory, stop) and wait_for(specification.keeper, stop)):
        return
    listener = _listen(settings.http.host, settings.http.port)
    server = uvicorn.Server(config)
    threading.Thread(target=_stop_when_told, args=(server, stop), daemon=True).start()
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]

    async def serve() -> None:
        task = asyncio.create_task(server.serve([listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        ready({"port": listener.getsockname()[1]})
        await task

    # uvloop where it is installed: an eighth less of the processor for each request.
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


def _tls(tls: Tls) -> dict[str, Any]:
    """What uvicorn has to know; the files are tried first, for an error that names them."""
    server_context(tls)
    options: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.authority is not None:
        options |= {"ssl_ca_certs": str(tls.authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=2048)
        # Accepted connections inherit it; without, every answer waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise ServingError(
            f"The web server cannot listen at {host}:{port} ({error.strerror}). Stop what listens there, or choose "
            "another port (http.port)."
        ) from error
    return listener


def _stop_when_told(server: uvicorn.Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True
