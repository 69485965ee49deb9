"""The page over HTTP: one static file, what draws for it, and what makes files of a collection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import StarletteHTTPException
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.page.exports import EXPORTS, read_collection
from kanji_diffusion.page.model import PageModel
from kanji_diffusion.page.queue import DrawingQueue, Event, QueueFull
from kanji_diffusion.page.settings import PageRequest, PageSettings

logger = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page.html")
_LARGEST_REQUEST, _LARGEST_PICTURE = 10_000, 200_000


def create_app(model: PageModel, settings: PageSettings) -> FastAPI:
    """The page as an ASGI application.

    Args:
        model: What draws.
        settings: Limits.
    """
    html = _PAGE.read_text(encoding="utf-8")
    queue = DrawingQueue(settings.waiting, model.prepare)
    # By another one the page sees that the server has started anew.
    started = secrets.token_hex(8)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    app.add_middleware(_SafeHeaders, policy=_content_policy(html, settings.frame_ancestors))
    app.add_exception_handler(KanjiDiffusionError, _told)
    app.add_exception_handler(StarletteHTTPException, _told)

    @app.get("/")
    async def page() -> Response:
        return Response(html, media_type="text/html", headers={"Cache-Control": "no-cache"})

    @app.get("/api/about")
    async def about() -> dict[str, Any]:
        exports = [(name, export.label, export.of_one) for name, export in EXPORTS.items()]
        return model.describe() | {"started": started, "exports": exports, "collected": settings.collected}

    @app.post("/api/draw")
    async def draw(request: Request) -> Response:
        asked = PageRequest.read(await _sent(request, _LARGEST_REQUEST))
        events = queue.enter(lambda tell: model.answer(asked, tell))
        return StreamingResponse(_lines(events), media_type="application/x-ndjson", headers={"X-Accel-Buffering": "no"})

    @app.post("/api/export/{name}")
    async def export(name: str, request: Request) -> Response:
        if name not in EXPORTS:
            raise KanjiDiffusionError(f"There is no export '{name}': choose among {', '.join(EXPORTS)}.")
        sent = await _sent(request, settings.collected * _LARGEST_PICTURE)
        pictures = await asyncio.to_thread(read_collection, sent.get("pictures"), settings.collected)
        content = await asyncio.to_thread(EXPORTS[name].write, pictures)
        disposition = {"Content-Disposition": f'attachment; filename="{EXPORTS[name].file}"'}
        return Response(content, media_type=EXPORTS[name].media_type, headers=disposition)

    return app


async def _sent(request: Request, most: int) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        KanjiDiffusionError: If it is none, or larger than `most` bytes.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        # Other sites cannot send this type without being asked first.
        raise StarletteHTTPException(415, "Send JSON, with the content type application/json.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise StarletteHTTPException(413, f"The request is larger than {most:,} bytes: send less.")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KanjiDiffusionError(f"The request is no JSON ({error}): send an object.") from error
    if not isinstance(sent, dict):
        raise KanjiDiffusionError("The request is no JSON object: send one.")
    return sent


async def _lines(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    async for event in events:
        yield json.dumps(event) + "\n"


async def _told(_: Request, error: Exception) -> Response:
    """An error as JSON with its sentence."""
    if isinstance(error, QueueFull):
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(error.seconds)})
    if isinstance(error, StarletteHTTPException):
        sentence = error.detail if error.detail.endswith(".") else f"{error.detail}: there is nothing here."
        return JSONResponse({"error": sentence}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)


def _content_policy(html: str, frame_ancestors: str) -> str:
    """A content security policy that allows the page its own script and style, and nothing else."""
    allowed = {}
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.S)
        allowed[kind] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{allowed['script']}'; style-src 'sha256-{allowed['style']}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {frame_ancestors}"
    )


class _SafeHeaders:
    """Adds the security headers to every answer.

    Starlette's own base for middleware would keep the streams from seeing that a visitor is gone.
    """

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)
