"""`/docs`: the OpenAPI document as a plain page, without the scripts from elsewhere that FastAPI's own would load."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(page(request.app.openapi()))


def page(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = (
        part
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for part in _operation(f"{method.upper()} {path}", operation)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><link rel="stylesheet" href="/static/style.css"><main><h1>{title}</h1>'
        f'<p>{escape(document["info"]["description"])} As <a href="/openapi.json">OpenAPI</a>. Streams are at '
        f"<code>WS /v1/stream?format=pcm16&amp;rate=48000</code> and <code>?format=opus</code>.</p>"
        f"{''.join(parts)}</main>"
    )


def _operation(name: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(name)}</code></h2><p>{escape(operation.get('description', ''))}</p><ul>"
    for each in operation.get("parameters", ()):
        about = (
            f"{each['schema'].get('type', '')}, default {each['schema'].get('default')}: {each.get('description', '')}"
        )
        yield f"<li><code>{escape(each['name'])}</code> ({escape(about)})"
    if kinds := operation.get("requestBody", {}).get("content"):
        yield f"<li>body: {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}"
    for status, response in operation["responses"].items():
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in response.get("content", ()))
        yield f"<li>{escape(status)} {escape(response['description'])} {kinds}"
    yield "</ul>"
