"""Send the service many requests that are almost right: does any get an error of the service?

    python bench/spoiled.py [--requests 20000] [--seed 0] [--together 16]

Each request is made for an operation of the service's own OpenAPI document: a path, queries, headers and a body (a
form, a sound file damaged by `bench/_mutations.py`, JSON) in which one or more things are wrong. The service runs in
this process, with an untrained model. What must hold: a status below 500, and problem details with every status from
400 on. The same seed gives the same requests; what does not hold is printed with its number. Exit status 0 if all held.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import predict
from _mutations import mutated, seeds

from agr.common.progress import terminal_progress
from agr.recipes.voice import VOICE
from agr.service.app import create
from agr.service.settings import Settings

ODD = ("", "0", "-1", "1e999", "nan", "true", "maybe", "\0", "\x85", "ü", "a" * 5_000, "[]", "'\"<>", "0.5", "%ff%")
NAMES = ("Content-Length", "Transfer-Encoding", "Host", "Authorization", "Expect", "Range", "Content-Encoding")
POSTED = 5  # of so many requests one goes to any operation, the others to one that takes a body


@dataclass(frozen=True)
class Spoiled:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[bytes, bytes]]
    body: bytes


def requests(document: dict[str, Any], count: int, seed: int) -> Iterator[Spoiled]:
    """That many requests for the operations of an OpenAPI document."""
    operations = [(path, *each) for path, methods in document["paths"].items() for each in methods.items()]
    posted = [each for each in operations if "requestBody" in each[2]]
    clips = seeds()
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        path, method, operation = draw.choice(posted if number % POSTED else operations)
        if draw.random() < 0.05:
            method = draw.choice(("get", "put", "delete", "options", "patch"))
        known = [each["name"] for each in operation.get("parameters", ())]
        query = {name: draw.choice(ODD) for name in [*known, "other"] if draw.random() < 0.2}
        kind = draw.choice(list(operation.get("requestBody", {}).get("content", ["text/plain"])))
        body = _body(kind, [mutated(clips, seed, number + at) for at in range(draw.choice((1, 1, 2, 5)))], draw)
        if draw.random() < 0.5:
            body = spoiled(body, draw)
        if kind.startswith("multipart/"):
            kind += "; boundary=x"
        headers = [(b"content-type", kind.replace("*", "wav").encode())]
        if draw.random() < 0.1:
            headers = [(b"content-type", spoiled(headers[0][1], draw))]
        if draw.random() < 0.1:
            headers.append((draw.choice(NAMES).lower().encode(), draw.choice(ODD).encode("latin-1")))
        yield Spoiled(method.upper(), path, query, headers, body)


def spoiled(whole: bytes, draw: random.Random) -> bytes:
    """The same bytes with one fault: cut, changed, doubled or shuffled."""
    at, size = draw.randrange(len(whole) + 1), draw.randrange(1, 64)
    return draw.choice(
        (
            whole[:at],
            whole[at:],
            whole[:at] + draw.randbytes(size) + whole[at + size :],
            whole[:at] + whole[at : at + size] * 3 + whole[at + size :],
            whole[:at] + whole[at + size :],
            draw.randbytes(size) + whole,
        )
    )


def _body(kind: str, given: Sequence[bytes], draw: random.Random) -> bytes:
    """Sound files in a body as an operation takes it."""
    if kind.startswith("multipart/"):
        parts = (
            f'--x\r\nContent-Disposition: form-data; name="file"; filename="{draw.choice(ODD)}"\r\n\r\n'.encode(
                "latin-1"
            )
            + clip
            + b"\r\n"
            for clip in given
        )
        return b"".join(parts) + b"--x--\r\n"
    if kind == "application/json":
        texts = [base64.b64encode(clip).decode() for clip in given]
        forms = (
            {"inputs": {"audio": texts}},
            {"instances": [{"audio": text} for text in texts]},
            {"dataframe_split": {"columns": ["audio"], "data": [[text] for text in texts]}},
        )
        return json.dumps(draw.choice(forms)).encode()
    return given[0]


def wrong(response: httpx.Response) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if response.status_code >= 500:
        return f"status {response.status_code}"
    if response.status_code >= 400 and response.json().get("status") != response.status_code:
        return f"status {response.status_code} without problem details"
    return ""


async def sent(settings: Settings, options: argparse.Namespace) -> tuple[Counter[int], list[str]]:
    """Send all; returns how many had each status, and what was wrong."""
    app = create(settings)
    statuses, found = Counter[int](), list[str]()
    todo = enumerate(requests(app.openapi(), options.requests, options.seed))

    with terminal_progress("sending", options.requests, unit="requests") as meter:

        async def client(link: httpx.AsyncClient) -> None:
            for number, each in todo:
                response = await link.request(
                    each.method, each.path, params=each.query, headers=each.headers, content=each.body
                )
                statuses[int(response.status_code)] += 1
                if trouble := wrong(response):
                    found.append(f"request {number}, {each.method} {each.path} {each.query}: {trouble}")
                meter()

        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as link,
        ):
            await asyncio.gather(*(client(link) for _ in range(options.together)))
    return statuses, found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python bench/spoiled.py", description="Send the service spoiled requests.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=16, help="requests at a time (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(tracking_uri=predict.make_store(Path(scratch), VOICE))
        statuses, found = asyncio.run(sent(settings, options))
    print("\n".join(found))
    print(f"{statuses.total()} requests, {len(found)} wrong; by status: {dict(sorted(statuses.items()))}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
