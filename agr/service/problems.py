"""What goes wrong, as problem details (RFC 9457): `application/problem+json` with type, title, status and detail."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agr.errors import AudioError

CLIENT_LEFT = 499  # nginx's status for a client that leaves before it is answered; nobody reads it


class Problem(BaseModel):
    """Problem details, as OpenAPI describes them."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Refused(HTTPException):
    """A request that is not answered."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """detail: what was found and what was expected."""
        super().__init__(status, detail, headers)


def body(status: int, detail: str) -> dict[str, Any]:
    """The problem details themselves."""
    title = HTTPStatus(status).phrase if status != CLIENT_LEFT else "Client Closed Request"
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response that tells of a problem."""
    return JSONResponse(body(status, detail), status, headers, "application/problem+json")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: that a route may answer with these problems."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Let the application answer with problem details."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(found))

    @app.exception_handler(AudioError)
    async def unusable(_: Request, error: AudioError) -> JSONResponse:
        return answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: ClientDisconnect) -> JSONResponse:
        return answer(CLIENT_LEFT, "the client left")
