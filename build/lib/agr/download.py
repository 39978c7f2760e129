"""Downloads one large file over HTTPS and, after a cut, goes on from the byte it has reached.

While a download is under way two files stand beside the target:

    target.part         the bytes received so far
    target.part.json    what they are the beginning of: URL, total size, and the server's validator

A validator is the server's ETag or Last-Modified. A later request sends it as If-Range, so a server whose
file has changed answers with the whole new file instead of the rest of another one (RFC 9110, sections 13.1.5
and 14). Without a validator, or without Range support, a cut download starts over; GitHub's archives are of
that kind when they are made on the fly. Two downloads to the same target at the same time are not supported.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from agr.errors import FetchError

BLOCK_BYTES = 256 * 1024
STALL_SECONDS = 30.0
RETRY_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Report = Callable[[int, int | None], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartNote:
    """What ``target.part`` is the beginning of; ``total`` in bytes, ``None`` if the server did not say."""

    url: str
    validator: str | None
    total: int | None


class _Cut(Exception):
    """This try failed and another one may not; ``unreached`` if no connection was made at all."""

    def __init__(self, reason: object, unreached: bool = False) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.unreached = unreached


def download(
    url: str,
    target: Path,
    progress: Report | None = None,
    *,
    advice: str = "",
    waits: tuple[float, ...] = RETRY_WAITS,
    stall_seconds: float = STALL_SECONDS,
    sleep: Callable[[float], object] = time.sleep,
) -> Path:
    """Download ``url`` to ``target``, which appears only once every byte is there.

    ``progress(done, total)`` hears the bytes received so far and, if the server says, the bytes in all.
    ``waits`` are the seconds before each further try. ``advice`` ends the message when the server does not
    give the file.

    Raises :class:`FetchError` if the URL is not https (plain http is taken from this machine only), if the
    host cannot be reached at the first try, if the server refuses, or if no try is left. What was received
    then stays in ``target.part`` and the next call goes on from there. Raises ``OSError`` if the disk does
    not take the bytes.
    """
    require_https(url)
    part = target.with_name(target.name + ".part")
    for tries, wait in enumerate((*waits, None), start=1):
        try:
            _receive(url, part, progress or (lambda done, total: None), stall_seconds, advice)
            break
        except _Cut as cut:
            if wait is None or (cut.unreached and tries == 1):
                raise FetchError(_farewell(url, part, cut, tries, advice)) from None
            log.warning("%s: %s; trying again in %g s", url, cut, wait)
            sleep(wait)
    os.replace(part, target)
    _note_path(part).unlink(missing_ok=True)
    return target


def require_https(url: str) -> None:
    """Raise :class:`FetchError` unless ``url`` is https, or http to this machine."""
    pieces = urlsplit(url)
    if pieces.scheme == "https" and pieces.hostname:
        return
    if pieces.scheme != "http" or not _is_loopback(pieces.hostname or ""):
        raise FetchError(f"{url}: found a {pieces.scheme or 'relative'} URL, expected https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _farewell(url: str, part: Path, cut: _Cut, tries: int, advice: str) -> str:
    kept = part.stat().st_size if part.exists() else 0
    resume = f"; {kept} bytes are kept in {part}, run the same command again" if kept else ""
    if cut.unreached:
        return f"could not reach {urlsplit(url).hostname} ({cut}){resume}" + (f"; {advice}" if advice else "")
    return f"{url}: {cut}, given up after {tries} tries{resume}"


def _receive(url: str, part: Path, report: Report, stall_seconds: float, advice: str) -> None:
    """One try: ask for what is missing and append it to ``part``."""
    note = _read_note(part, url)
    done = part.stat().st_size if note else 0
    if note and note.total == done:
        return
    request = urllib.request.Request(url, headers=_range_headers(note, done))
    with _open(request, part, stall_seconds, advice) as response:
        resumed = response.status == 206
        note = _continued(response, note, part, done) if resumed else _fresh(response, url, part)
        _append(response, part, note.total, report)


def _range_headers(note: PartNote | None, done: int) -> dict[str, str]:
    if note is None or note.validator is None or done == 0:
        return {}
    return {"Range": f"bytes={done}-", "If-Range": note.validator}


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where :func:`require_https` allows."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse ``newurl`` if it leaves https; :class:`FetchError`."""
        require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request, part: Path, timeout: float, advice: str) -> http.client.HTTPResponse:
    """Send ``request``; raise :class:`_Cut` for what may pass and :class:`FetchError` for what will not."""
    try:
        opener = urllib.request.build_opener(_HttpsRedirects)
        response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        answer = f"the server answered {error.code} {error.reason}"
        if error.code == 416:  # nothing follows what we hold: it is not the beginning of the file there now
            _drop(part)
        elif error.code not in PASSING_STATUS:
            raise FetchError(f"{request.full_url}: {answer}" + (f"; {advice}" if advice else "")) from None
        raise _Cut(answer) from None
    except URLError as error:
        raise _Cut(getattr(error.reason, "strerror", None) or error.reason, unreached=True) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection broke ({error})") from None
    return response


def _fresh(response: http.client.HTTPResponse, url: str, part: Path) -> PartNote:
    """Begin an empty part for a response that carries the whole file."""
    if response.status != 200:
        raise FetchError(f"{url}: the server answered {response.status} {response.reason}, expected 200 OK")
    note = PartNote(url, _validator(response.headers), response.length)
    _drop(part)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    _note_path(part).write_text(json.dumps(asdict(note)), encoding="utf-8")
    return note


def _continued(response: http.client.HTTPResponse, note: PartNote | None, part: Path, done: int) -> PartNote:
    """Return the note if the response goes on from the part; else drop the part, :class:`_Cut`."""
    found = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", found)
    total = int(match[2]) if match and match[2] != "*" else None
    if (
        note is None
        or not match
        or int(match[1]) != done
        or _validator(response.headers) not in (None, note.validator)
        or (total and note.total and total != note.total)
    ):
        _drop(part)
        raise _Cut(f"the server sent the range {found!r}, expected the same file from byte {done}")
    return replace(note, total=note.total or total)


def _append(response: http.client.HTTPResponse, part: Path, total: int | None, report: Report) -> None:
    with part.open("ab") as out:
        done = out.tell()
        report(done, total)
        while block := _read_some(response):
            out.write(block)
            done += len(block)
            report(done, total)
    if total is not None and done != total:
        raise _Cut(f"the connection was cut at {done} of {total} bytes")


def _read_some(response: http.client.HTTPResponse) -> bytes:
    """The next bytes as they arrive, empty at the end; :class:`_Cut` if they stop coming."""
    try:
        return response.read1(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection was cut ({error})") from None


def _validator(headers: Message) -> str | None:
    """The strong ETag or else Last-Modified; a weak ETag may not stand in If-Range (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path, url: str) -> PartNote | None:
    """What an earlier try wrote down, if it is for this URL and its part is there."""
    try:
        note = PartNote(**json.loads(_note_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return note if note.url == url and part.exists() else None


def _drop(part: Path) -> None:
    """Remove the note before the part, so that a part never stands under another file's note."""
    _note_path(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)
