"""Downloading from a local server that can cut, stall, refuse and change its file."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agr.data.download import download, require_https
from agr.errors import FetchError

BODY = bytes(range(256)) * 400
OTHER = BODY[::-1] + b"longer"
CUT = 40_000
LAST_MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"


class Server(ThreadingHTTPServer):
    """Serves ``body``; each answer takes the next of ``cuts``, the body bytes after which it breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"
        self.body = BODY
        self.validator: tuple[str, str] | None = ("ETag", '"one"')
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.ranges, self.chunked = True, False
        self.location = ""
        self.hold: threading.Event | None = None
        self.seen: list[tuple[str | None, str | None]] = []
        self.sent: list[int] = []


class Handler(BaseHTTPRequestHandler):
    """Answers GET with 206 if a Range is asked for and its If-Range holds, else with the whole body."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server, asked, condition = self.server, self.headers["Range"], self.headers["If-Range"]
        server.seen.append((asked, condition))
        self.close_connection = True
        status = server.statuses.pop(0) if server.statuses else 200
        start = 0
        if asked and server.ranges and server.validator and condition == server.validator[1]:
            status, start = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.body):
            status = 416
        self.send_response(status)
        rest = server.body[start:] if status in (200, 206) else b""
        self._send_headers(status, start, len(rest))
        piece = rest[: server.cuts.pop(0)] if server.cuts and rest else rest
        server.sent.append(len(piece))
        self.wfile.write(b"%x\r\n%b" % (len(rest), piece) if server.chunked else piece)
        if server.chunked and piece == rest:
            self.wfile.write(b"\r\n0\r\n\r\n")
        if server.hold:
            server.hold.wait(5)

    def _send_headers(self, status: int, start: int, size: int) -> None:
        whole = len(self.server.body)
        if self.server.location:
            self.send_header("Location", self.server.location)
        if self.server.validator:
            self.send_header(*self.server.validator)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep stderr quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "file"


def part_of(target: Path) -> Path:
    return target.with_name("file.part")


def no_sleep(seconds: float) -> None:
    """Go on at once."""


@pytest.mark.parametrize("chunked", [False, True])
def test_whole_file_arrives_and_nothing_else_is_left(server: Server, target: Path, chunked: bool) -> None:
    server.chunked = chunked
    reports: list[tuple[int, int | None]] = []
    assert download(server.url, target, lambda done, total: reports.append((done, total))) == target
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    total = None if chunked else len(BODY)
    assert reports[0] == (0, total) and reports[-1] == (len(BODY), total)
    assert reports == sorted(reports)


@pytest.mark.parametrize("validator", [("ETag", '"one"'), ("Last-Modified", LAST_MODIFIED)])
@pytest.mark.parametrize("chunked", [False, True])
def test_cut_connection_resumes_at_the_byte_reached(
    server: Server, target: Path, validator: tuple[str, str], chunked: bool
) -> None:
    server.validator, server.chunked, server.cuts = validator, chunked, [CUT, 100]
    waits: list[float] = []
    download(server.url, target, sleep=waits.append)
    assert target.read_bytes() == BODY
    assert server.seen[0] == (None, None)
    assert server.seen[1:] == [(f"bytes={byte}-", validator[1]) for byte in (CUT, CUT + 100)]
    assert sum(server.sent) == len(BODY), "no byte travels twice"
    assert len(waits) == 2 and waits == sorted(waits) and waits[0] > 0


def test_last_failed_attempt_keeps_the_part_and_the_next_call_resumes(server: Server, target: Path) -> None:
    server.cuts = [CUT, 0, 0]
    with pytest.raises(FetchError, match=f"cut at {CUT} of {len(BODY)} bytes, given up after 3 tries") as caught:
        download(server.url, target, waits=(1, 2), sleep=no_sleep)
    assert f"{CUT} bytes are kept in {part_of(target)}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists() and part_of(target).read_bytes() == BODY[:CUT]

    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.seen[-1] == (f"bytes={CUT}-", '"one"')
    assert sum(server.sent) == len(BODY)


def test_server_without_ranges_starts_over(server: Server, target: Path) -> None:
    server.ranges, server.cuts = False, [CUT]
    download(server.url, target, sleep=no_sleep)
    assert target.read_bytes() == BODY
    assert server.sent == [CUT, len(BODY)]


@pytest.mark.parametrize("validator", [None, ("ETag", 'W/"weak"')])
def test_without_a_strong_validator_no_range_is_requested(
    server: Server, target: Path, validator: tuple[str, str] | None
) -> None:
    server.validator, server.cuts = validator, [CUT]
    download(server.url, target, sleep=no_sleep)
    assert target.read_bytes() == BODY
    assert server.seen == [(None, None)] * 2


def test_file_changed_between_tries_is_downloaded_from_its_start(server: Server, target: Path) -> None:
    server.cuts = [CUT]

    def change(seconds: float) -> None:
        server.body, server.validator = OTHER, ("ETag", '"two"')

    download(server.url, target, sleep=change)
    assert server.seen[1] == (f"bytes={CUT}-", '"one"')
    assert target.read_bytes() == OTHER


def test_range_of_another_length_is_not_appended(server: Server, target: Path) -> None:
    server.cuts = [CUT]

    def change(seconds: float) -> None:
        server.body = OTHER  # under the same ETag: a server that does not keep its word

    download(server.url, target, sleep=change)
    assert target.read_bytes() == OTHER
    assert [asked for asked, _ in server.seen] == [None, f"bytes={CUT}-", None]


@pytest.mark.parametrize("surplus", [0, 1])
def test_part_longer_than_the_file_is_discarded(server: Server, target: Path, surplus: int) -> None:
    server.chunked, server.cuts = True, [CUT]  # chunked: the size is not known beforehand
    with pytest.raises(FetchError):
        download(server.url, target, waits=())
    part_of(target).write_bytes(BODY + b"?" * surplus)
    download(server.url, target, sleep=no_sleep)
    assert target.read_bytes() == BODY


def test_part_of_another_url_is_not_continued(server: Server, target: Path) -> None:
    server.cuts = [CUT]
    with pytest.raises(FetchError):
        download(server.url, target, waits=())
    download(server.url + "2", target)
    assert server.seen[1] == (None, None)


def test_whole_part_needs_no_request(server: Server, target: Path) -> None:
    server.cuts = [CUT]
    with pytest.raises(FetchError):
        download(server.url, target, waits=())
    part_of(target).write_bytes(BODY)
    download(server.url, target)
    assert target.read_bytes() == BODY and len(server.seen) == 1


def test_stalled_connection_counts_as_cut(server: Server, target: Path) -> None:
    server.cuts, server.hold = [CUT], threading.Event()
    try:
        with pytest.raises(FetchError, match="timed out"):
            download(server.url, target, waits=(), stall_seconds=0.1)
    finally:
        server.hold.set()
    assert part_of(target).read_bytes() == BODY[:CUT]


def test_busy_server_is_retried(server: Server, target: Path) -> None:
    server.statuses = [503, 429]
    download(server.url, target, sleep=no_sleep)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_is_not_retried_and_gives_advice(server: Server, target: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(FetchError, match=f"answered {status} .*; do this by hand$"):
        download(server.url, target, advice="do this by hand")
    assert len(server.seen) == 1


def test_refused_connection_fails_at_once_in_one_line(target: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    with pytest.raises(FetchError) as caught:
        download(url, target, advice="do this by hand", sleep=lambda seconds: pytest.fail("waited"))
    assert str(caught.value) == "could not reach 127.0.0.1 (Connection refused); do this by hand"


def test_unknown_host_fails_at_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(FetchError, match=r"^could not reach host\.invalid \(Name or service not known\)$"):
        download("https://host.invalid/file", target)


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]/x"]
)
def test_https_and_this_machine_are_allowed(url: str) -> None:
    require_https(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "http://127.0.0.1.example.com/x",
        "ftp://example.com/x",
        "file:///etc/hosts",
        "x.zip",
    ],
)
def test_any_other_url_is_refused(url: str, target: Path) -> None:
    with pytest.raises(FetchError, match="expected https"):
        download(url, target)


def test_redirect_away_from_https_is_refused(server: Server, target: Path) -> None:
    server.statuses, server.location = [302], "http://example.com/file"
    with pytest.raises(FetchError, match=r"^http://example\.com/file: found a http URL, expected https$"):
        download(server.url, target)


DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("known", [DIGEST, f"sha256:{DIGEST}", f"md5:{hashlib.md5(BODY).hexdigest()}"])
def test_file_with_the_known_hash_is_kept(server: Server, target: Path, known: str) -> None:
    server.cuts = [CUT]
    for _ in range(2):
        download(server.url, target, known_hash=known, sleep=no_sleep)
    assert target.read_bytes() == BODY
    assert len(server.seen) == 2, "the file that is there is not requested again"


def test_progress_of_a_resumed_download_continues_and_its_hash_is_checked(server: Server, target: Path) -> None:
    server.cuts = [CUT]
    with pytest.raises(FetchError):
        download(server.url, target, waits=(), known_hash=DIGEST)
    reports: list[tuple[int, int | None]] = []
    download(server.url, target, lambda done, total: reports.append((done, total)), known_hash=DIGEST)
    assert reports[0] == (CUT, len(BODY)) and reports[-1] == (len(BODY), len(BODY))
    assert reports == sorted(reports)
    server.cuts = [CUT]
    with pytest.raises(FetchError, match=f"^{server.url}2: hash {DIGEST}; expected {64 * '0'}$"):
        download(server.url + "2", target, known_hash=64 * "0", sleep=no_sleep)


def test_file_with_another_hash_is_one_line_and_leaves_nothing(server: Server, target: Path) -> None:
    server.body = OTHER
    with pytest.raises(FetchError) as caught:
        download(server.url, target, known_hash=DIGEST)
    assert str(caught.value) == f"{server.url}: hash {hashlib.sha256(OTHER).hexdigest()}; expected {DIGEST}"
    assert list(target.parent.iterdir()) == []
    server.body = BODY
    download(server.url, target, known_hash=DIGEST)
    assert target.read_bytes() == BODY


def test_download_prints_nothing(server: Server, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(server.url, target)
    assert capfd.readouterr() == ("", "")
