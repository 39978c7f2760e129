"""Sound files of a request, kept in memory: a form with any number of `file`, or the body itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from agr.audio.decoder import Source
from agr.service.problems import Refused
from agr.service.settings import Settings

SILENT_SECONDS = 20.0  # that a client may send nothing
BODY = "-"  # what the file of a body without a form is called
NAME_LETTERS = 255  # of a file's name; the rest is cut off


class InMemory(MultiPartParser):
    """Forms whose files never touch the disk."""

    spool_max_size = 2**62


async def body(request: Request, settings: Settings) -> bytes:
    """The body of a request. Raises: Refused, with 408 or 413."""
    return b"".join([chunk async for chunk in chunks(request, settings)])


async def chunks(request: Request, settings: Settings) -> AsyncGenerator[bytes, None]:
    """The body of a request as it arrives. Raises: Refused, with 408 or 413."""
    too_large = Refused(413, f"over {settings.max_body} bytes; expected a body of at most {settings.max_body}")
    promised = request.headers.get("content-length", "")
    if promised.isdecimal() and int(promised) > settings.max_body:
        raise too_large
    arriving = aiter(request.stream())
    received = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    chunk = await anext(arriving, None)
                if chunk is None:
                    return
                received += len(chunk)
                if received > settings.max_body:
                    raise too_large
                yield chunk
    except TimeoutError:
        raise Refused(408, "the body did not arrive in time") from None


async def files(request: Request, settings: Settings) -> list[Source]:
    """The sound files of a request. Raises: Refused, with 400, 408, 413 or 422."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return [_limited(Source(BODY, await body(request, settings)), settings)]
    parser = InMemory(request.headers, chunks(request, settings), max_files=settings.max_files, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        many = error.message.startswith("Too many files")
        raise Refused(413 if many else 400, f"{error.message}") from None
    try:
        given = []
        for field, each in form.multi_items():
            if field != "file" or not isinstance(each, UploadFile):
                expected = "sound files alone, as `file=@memo.m4a`; options go behind the address, as `?timeline=true`"
                raise Refused(422, f"{name(field)}: found in the form; expected {expected}")
            given.append(each)
        if not given:
            raise Refused(422, "file: none in the form; expected one or more sound files")
        return [_limited(Source(name(each.filename), await each.read()), settings) for each in given]
    finally:
        await form.close()


def name(given: str | None) -> str:
    """What a client calls a file, as answers name it: on one line, never longer than NAME_LETTERS."""
    return " ".join((given or BODY).encode("utf-8", "replace").decode().split())[:NAME_LETTERS] or BODY


def _limited(source: Source, settings: Settings) -> Source:
    size = len(source.data or b"")
    if size > settings.max_bytes:
        raise Refused(413, f"{source.name}: {size} bytes; expected at most {settings.max_bytes}")
    return source
