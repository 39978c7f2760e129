"""Fetching a part of LibriSpeech from a local server: whole, broken off, changed, damaged and unsafe archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agr.data import librispeech
from agr.data.corpus import open_corpus
from agr.data.librispeech import MD5_SUMS, fetch_librispeech
from agr.errors import FetchError
from tests.folders import tree

PART = "dev-clean"
SPEAKERS = (
    ";ID |SEX| SUBSET |MINUTES| NAME\n84 | F | dev-clean | 8.0 | Christie Nowak\n174 | M | dev-clean | 8.0 | Peter\n"
)
FILES = {
    "LibriSpeech/SPEAKERS.TXT": SPEAKERS.encode(),
    f"LibriSpeech/{PART}/84/121123/84-121123-0000.flac": bytes(range(256)) * 40,
    f"LibriSpeech/{PART}/174/50561/174-50561-0000.flac": b"a recording",
}


def packed(files: dict[str, bytes]) -> bytes:
    """A tar.gz archive of these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `body` at any address; the first answer breaks off after `cut` bytes, if that is not 0."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.cut, self.asked = body, 0, list[str]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/12"

    @property
    def md5(self) -> str:
        """Of the body."""
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        body = self.server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        self.end_headers()
        self.wfile.write(body[: self.server.cut or None])
        self.server.cut = 0

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the small archive."""
    with Server(packed(FILES)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, root: Path, md5: str | None = None) -> Path:
    return fetch_librispeech(PART, root, server.url, md5=md5 or server.md5)


def test_a_part_is_fetched_once_and_its_archive_removed(server: Server, tmp_path: Path) -> None:
    folder = fetch(server, tmp_path)
    assert tree(tmp_path) == FILES
    assert fetch(server, tmp_path) == folder == tmp_path / "LibriSpeech"
    assert server.asked == [f"/12/{PART}.tar.gz"]


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut = 100
    fetch(server, tmp_path)
    assert tree(tmp_path) == FILES
    assert len(server.asked) == 2


def test_an_archive_with_another_sum_is_removed(server: Server, tmp_path: Path) -> None:
    expected = f"{PART}.tar.gz: hash {server.md5}; expected md5:{MD5_SUMS[PART]}"
    with pytest.raises(FetchError, match=expected):
        fetch_librispeech(PART, tmp_path, server.url)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (packed(FILES)[:-300], r"not a whole and safe tar archive"),
        (packed({"../outside": b"x"} | FILES), r"not a whole and safe tar archive .*outside"),
        (
            packed({"LibriSpeech/SPEAKERS.TXT": b""}),
            rf"no LibriSpeech/SPEAKERS\.TXT with LibriSpeech/{PART}/ found in it",
        ),
        (b"no archive", "not a whole and safe tar archive"),
    ],
)
def test_an_archive_that_cannot_be_used_leaves_nothing_unpacked(
    server: Server, tmp_path: Path, body: bytes, message: str
) -> None:
    server.body = body
    with pytest.raises(FetchError, match=message):
        fetch(server, tmp_path / "root")
    assert not (tmp_path / "root" / "LibriSpeech").exists()
    assert not (tmp_path / "outside").exists()


def test_what_a_killed_run_unpacked_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".unpacking-x" / "LibriSpeech").mkdir(parents=True)
    fetch(server, tmp_path)
    assert tree(tmp_path) == FILES
    assert not (tmp_path / ".unpacking-x").exists()


def test_an_unknown_part_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="librispeech:dev: no such part; expected one of dev-clean, dev-other"):
        open_corpus("librispeech:dev", tmp_path)


def test_a_part_is_a_source(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librispeech, "URL", server.url)
    monkeypatch.setitem(MD5_SUMS, PART, server.md5)
    found = open_corpus(f"librispeech:{PART}", tmp_path)
    assert found.name == f"librispeech-{PART}"
    people = {(clip.speaker, clip.gender, clip.path.name) for clip in found.clips}
    assert people == {("84", "female", "84-121123-0000.flac"), ("174", "male", "174-50561-0000.flac")}
