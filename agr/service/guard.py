"""What every request passes: allowed hosts, the bearer token, a content security policy, and the count of it all."""

from __future__ import annotations

import hmac
import sys
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agr.common.cli import complain
from agr.service import metrics, problems

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PROBES = frozenset({"/health", "/ready", "/ping"})  # asked by the address of a container, and without a token
PROTECTED = ("/v1/", "/invocations", "/metrics")
BEARER = "bearer."  # of a stream's subprotocol: browsers cannot send a header with it


class Guard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str) -> None:
        """hosts: that a request may name, `*` for any; token: empty if anybody is answered."""
        self._app, self._hosts, self._token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            return
        await self._http(scope, receive, send, refusal)

    async def _http(self, scope: Scope, receive: Receive, send: Send, refusal: tuple[int, str] | None) -> None:
        started, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            if refusal is None:
                await self._app(scope, receive, counted)
            else:
                wanted = {"WWW-Authenticate": "Bearer"} if refusal[0] == 401 else None
                await problems.answer(*refusal, wanted)(scope, receive, counted)
        except Exception as error:
            complain(f"{_place(error)}: {type(error).__name__}")  # its message might name a client's file
            if not status:
                await problems.answer(500, "an error of the service; it is logged")(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            metrics.REQUESTS.labels(route, str(status or "none")).inc()
            metrics.LATENCY.labels(route).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and detail for what is not let in."""
        headers, path = Headers(scope=scope), scope["path"]
        host = _name(headers.get("host", ""))
        if "*" not in self._hosts and path not in PROBES and host not in self._hosts:
            return 421, f"host {host!r:.80}; expected one of {', '.join(sorted(self._hosts))}"
        origin = headers.get("origin")
        if scope["type"] == "websocket" and origin and urlsplit(origin).netloc != headers.get("host"):
            return 403, f"a page of {origin:.80}; expected one of this service"
        if (
            self._token
            and path.startswith(PROTECTED)
            and not hmac.compare_digest(_shown(headers), self._token.encode())
        ):
            return 401, "no bearer token, or a wrong one; expected `Authorization: Bearer TOKEN`"
        return None


def _name(host: str) -> str:
    """A host without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _shown(headers: Headers) -> bytes:
    """The token that a client shows, in a header or in the name of a stream's subprotocol."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode()
    named = (each.strip() for each in headers.get("sec-websocket-protocol", "").split(","))
    return next((each.removeprefix(BEARER).encode() for each in named if each.startswith(BEARER)), b"")


def _place(error: BaseException) -> str:
    """Where an error was raised, as `answering.py:87`."""
    trace = error.__traceback__ or sys.exc_info()[2]
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
