"""Download one large file over HTTPS with pooch, which checks its hash, and resume interrupted downloads.

    download(url, Path("data/corpus.zip"), known_hash="sha256:9f86d0...")

Until the end, `target.part` holds the bytes received and `target.part.json` the URL, the total size and the server's
validator (ETag or Last-Modified). The validator is sent as If-Range, so that a server whose file has changed sends the
whole new one (RFC 9110, sections 13.1.5 and 14). Without a validator or Range support, a download starts over. Only one
download at a time may write to a target.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from agr.common.progress import Show
from agr.errors import FetchError

BLOCK_BYTES = 256 * 1024
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
TEMPORARY_STATUS = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
log = logging.getLogger(__name__)


class _Origin(NamedTuple):
    """The remote file that `target.part` begins; `total` in bytes, None if unknown."""

    url: str
    validator: str | None
    total: int | None


class _Interrupted(Exception):
    """A failed attempt that may be repeated; `unreachable` if no connection was made."""

    def __init__(self, reason: object, unreachable: bool = False) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.unreachable = unreachable


def download(
    url: str,
    target: Path,
    progress: Show | None = None,
    *,
    known_hash: str | None = None,
    advice: str = "",
    waits: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0),
    stall_seconds: float = 30.0,
    sleep: Callable[[float], object] = time.sleep,
) -> Path:
    """Download `url` to `target`, which appears only when it is complete and its hash is right.

    `url` is https, or http to this machine; `progress` gets the bytes received so far and the total, None if unknown;
    `known_hash` is hex digits, with pooch's prefix (`md5:`) if not SHA-256: a file that has it needs no request;
    `advice` ends the message if the server is unreachable or refuses; `waits` are the seconds before each further
    attempt, `stall_seconds` the timeout of a silent connection; tests replace `sleep`.
    Raises: FetchError for any other URL, an unreachable host, a refusal, a wrong hash (the file is removed), or after
    the last attempt: `target.part` then stays, and the next call resumes; OSError if the file cannot be written.
    """
    import pooch  # slow to import

    require_https(url)
    part, ending = target.with_name(target.name + ".part"), f"; {advice}" if advice else ""

    def receive_all(url: str, output_file: str, _: object) -> None:
        for attempt, wait in enumerate((*waits, None), start=1):
            try:
                _receive(url, part, progress or (lambda done, total: None), stall_seconds, ending)
                break
            except _Interrupted as error:
                if wait is None or (error.unreachable and attempt == 1):
                    kept = part.stat().st_size if part.exists() else 0
                    resume = f"; {kept} bytes are kept in {part}, run the same command again" if kept else ""
                    given_up = f"{url}: {error}, given up after {attempt} tries{resume}"
                    unreachable = f"could not reach {urlsplit(url).hostname} ({error}){resume}{ending}"
                    raise FetchError(unreachable if error.unreachable else given_up) from None
                log.warning("%s: %s; trying again in %g s", url, error, wait)
                sleep(wait)
        os.replace(part, output_file)
        _note(part).unlink(missing_ok=True)

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, known_hash, target.name, target.parent, downloader=receive_all)
    except ValueError as error:
        found = re.search(r"but got (\w+)", str(error))
        raise FetchError(f"{url}: hash {found[1] if found else error}; expected {known_hash}") from None
    return target


def require_https(url: str) -> None:
    """Raise FetchError unless `url` is https, or http to this machine."""
    pieces = urlsplit(url)
    here = pieces.scheme == "http" and pieces.hostname in THIS_MACHINE
    if not here and not (pieces.scheme == "https" and pieces.hostname):
        raise FetchError(f"{url}: found a {pieces.scheme or 'relative'} URL, expected https")


def _receive(url: str, part: Path, progress: Show, stall_seconds: float, ending: str) -> None:
    """One attempt: request what is missing and append it to `part`."""
    origin = _read_origin(url, part)
    done = part.stat().st_size if origin.validator else 0
    if done and done == origin.total:
        return
    headers = {"Range": f"bytes={done}-", "If-Range": origin.validator} if origin.validator and done else {}
    with _open(urllib.request.Request(url, headers=headers), part, stall_seconds, ending) as response:
        found = _Origin(url, _validator(response), response.length)
        if response.status == 206:
            found = _resumed(response, origin, part, done)
        elif response.status != 200:
            raise FetchError(f"{url}: the server answered {response.status} {response.reason}, expected 200 OK")
        else:
            _discard(part)
            _note(part).write_text(json.dumps(found), encoding="utf-8")
        _append(response, part, found.total, progress)


class _OnlyHttps(urllib.request.BaseHandler):
    """Checks the URL of every request, redirects included."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Raise FetchError unless `require_https` allows it."""
        require_https(request.full_url)
        return request

    ftp_request = http_request


def _open(request: urllib.request.Request, part: Path, timeout: float, ending: str) -> http.client.HTTPResponse:
    """Send a request. Raises: _Interrupted if a later one may succeed, else FetchError."""
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_OnlyHttps).open(request, timeout=timeout)
        return response
    except HTTPError as error:
        error.close()
        answer = f"the server answered {error.code} {error.reason}"
        if error.code not in TEMPORARY_STATUS:
            raise FetchError(f"{request.full_url}: {answer}{ending}") from None
        if error.code == 416:  # the part is longer than the server's file
            _discard(part)
        raise _Interrupted(answer) from None
    except URLError as error:
        raise _Interrupted(getattr(error.reason, "strerror", None) or error.reason, unreachable=True) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke ({error})") from None


def _resumed(response: http.client.HTTPResponse, origin: _Origin, part: Path, done: int) -> _Origin:
    """The origin, if the response continues its file at byte `done`; otherwise discard the part and try again."""
    found = response.headers.get("Content-Range", "")
    match = re.fullmatch(rf"bytes {done}-\d+/(\d+|\*)", found)
    total = int(match[1]) if match and match[1] != "*" else origin.total
    if not match or _validator(response) not in (None, origin.validator) or origin.total not in (None, total):
        _discard(part)
        raise _Interrupted(f"the server sent the range {found!r}, expected the same file from byte {done}")
    return origin._replace(total=total)


def _append(response: http.client.HTTPResponse, part: Path, total: int | None, progress: Show) -> None:
    with part.open("ab") as out:
        progress(out.tell(), total)
        while block := _read(response):
            out.write(block)
            progress(out.tell(), total)
        if total is not None and out.tell() != total:
            raise _Interrupted(f"the connection was cut at {out.tell()} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes as they arrive, empty at the end."""
    try:
        return response.read1(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection was cut ({error})") from None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """The strong ETag or else Last-Modified; a weak ETag is not allowed in If-Range (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_origin(url: str, part: Path) -> _Origin:
    """The origin noted by an earlier attempt, or one without a validator."""
    try:
        origin = _Origin(*json.loads(_note(part).read_text(encoding="utf-8")))
        return origin if origin.url == url and part.exists() else _Origin(url, None, None)
    except (OSError, ValueError, TypeError):
        return _Origin(url, None, None)


def _discard(part: Path) -> None:
    """Remove the note first, so that a part never stands beside the note of another file."""
    _note(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)
