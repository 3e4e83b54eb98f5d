"""Routes about the service itself: health, measures, what waits, what was laid aside, the audit."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from hounsfield.errors import ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.audit import verify
from hounsfield.serving.gateway import Gateway, Number
from hounsfield.serving.lifecycle import LAID_ASIDE
from hounsfield.serving.overview import overview


def add_status_routes(app: FastAPI, gateway: Gateway, registry: CollectorRegistry) -> None:
    """Add the routes to an application."""
    _add_health(app, gateway, registry)
    _add_overview(app, gateway)


def _add_health(app: FastAPI, gateway: Gateway, registry: CollectorRegistry) -> None:
    gauge = Gauge("hounsfield_records", "Records by kind and state.", ["kind", "state"], registry=registry)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the web server answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        """Whether studies can be taken and predicted."""
        try:
            gateway.reader.row(sql.AUDIT_HEAD)
            models = list(gateway.directory.all())
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
            return JSONResponse({"status": "not ready", "reason": type(error).__name__}, 503)
        return JSONResponse({"status": "ready", "models": models})

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Measures in Prometheus's form; they name no patient, study or user."""
        gateway.identify(request, "reader", "read measures", is_noted=False)
        for kind, statement in sql.COUNTS.items():
            for row in gateway.reader.rows(statement):
                gauge.labels(kind, row["state"]).set(row["count"])
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_overview(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/api/status")
    async def status(request: Request) -> dict[str, Any]:
        """Counts by state, and the latest of what a person has to look at."""
        gateway.identify(request, "reader", "show status")
        return overview(gateway.reader)

    @app.post("/api/{kind}s/{number}/release")
    async def release(request: Request, kind: str, number: Number) -> dict[str, str]:
        """Let a job or delivery that was laid aside be tried again."""
        gateway.identify(request, "admin", f"release {kind}", str(number))
        if kind not in LAID_ASIDE:
            raise HTTPException(404, "There is no such record.")
        try:
            await gateway.call(gateway.keeper, "release", kind, number)
        except ServingError as error:
            raise HTTPException(409, str(error)) from error
        return {"state": "waiting"}

    @app.get("/api/audit")
    async def audit(
        request: Request, after: int = Query(0, ge=0, lt=2**62), limit: int = Query(100, ge=1, le=1000)
    ) -> dict[str, Any]:
        """Records of the audit in their order."""
        gateway.identify(request, "admin", "read audit")
        return {"rows": gateway.reader.rows(sql.AUDIT_PAGE, (after, limit))}

    @app.get("/api/audit/verify")
    async def verify_audit(request: Request) -> dict[str, Any]:
        """Whether the chain is whole; all of it is read."""
        gateway.identify(request, "admin", "verify audit")
        try:
            return {"whole": True, "records": await asyncio.to_thread(verify, gateway.reader)}
        except ServingError as error:
            return {"whole": False, "fault": str(error)}
