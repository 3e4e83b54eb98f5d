"""The reader's page: files that `make install` builds; none of them tells of patients or models."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

STATIC = Path(__file__).parent / "static"
ASSETS = "/assets/"
# Their names change with their content.
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def add_page_routes(app: FastAPI) -> None:
    """Add the page and what it is made of; none of it tells of patients or models."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        if not (STATIC / "index.html").is_file():
            raise HTTPException(404, "The page was not built: see CONTRIBUTING.md. Everything else is served.")
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @app.get(ASSETS + "{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        path = STATIC / "assets" / name
        if "/" in name or "\\" in name or not path.is_file():
            raise HTTPException(404, "There is no such file.")
        return FileResponse(path, media_type=mimetypes.guess_type(name)[0], headers=_FOREVER)
