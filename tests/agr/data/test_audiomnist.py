"""Downloading a corpus of 2 speakers with 3 clips each from a local server."""

from __future__ import annotations

import hashlib
import socket
import stat
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from agr.common.progress import Meter, silent_progress
from agr.data import audiomnist
from agr.data.audiomnist import check, fetch_audiomnist, unpack
from agr.errors import CorpusError, FetchError

SPEAKERS, CLIPS = 2, 3
CLIP = b"RIFF" + bytes(range(200)) * 3
CORPUS = {f"data/{s:02d}/{d}_{s:02d}_0.wav": CLIP for s in range(1, SPEAKERS + 1) for d in range(CLIPS)}
CORPUS["data/audioMNIST_meta.txt"] = b"{}"


def write_zip(path: Path, members: dict[str, bytes], top: str = "AudioMNIST-master/") -> Path:
    """A deflated zip with ``members`` below ``top``, and a file outside data/ as the real archive has."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, "README.md": b"read me"}.items():
            archive.writestr(top + name, content)
    return path


def add_member(path: Path, name: str, content: bytes, mode: int = stat.S_IFREG | 0o644) -> Path:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, content)
    return path


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class QuietHandler(SimpleHTTPRequestHandler):
    """Python's own file server: Content-Length and Last-Modified, no Range."""

    def log_message(self, *args: object) -> None:
        """Keep stderr quiet."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where ``tmp_path/web/master.zip`` is served."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    web = tmp_path / "web"
    web.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(web))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/master.zip"
        server.shutdown()
        thread.join()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "corpus.zip", CORPUS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "corpora" / "audiomnist"


def small_fetch(root: Path, url: str) -> Path:
    return fetch_audiomnist(root, url, speakers=SPEAKERS, clips_per_speaker=CLIPS)


def test_corpus_is_fetched_and_only_the_corpus_stays(root: Path, url: str, tmp_path: Path) -> None:
    write_zip(tmp_path / "web" / "master.zip", CORPUS)
    opened: list[tuple[str, int | None, str]] = []

    def progress(description: str, total: int | None, unit: str = "bytes") -> AbstractContextManager[Meter]:
        opened.append((description, total, unit))
        return silent_progress(description, total, unit)

    assert fetch_audiomnist(root, url, progress, SPEAKERS, CLIPS) == root
    assert files_below(root) == CORPUS
    assert opened == [
        ("downloading AudioMNIST", None, "bytes"),
        ("unpacking AudioMNIST", len(CORPUS), "files"),
    ]


def test_corpus_already_there_needs_no_request(root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(parents=True)
    unpack(archive, root / "data")
    monkeypatch.setattr(audiomnist, "download", lambda *args, **kwargs: pytest.fail("a request was made"))
    assert small_fetch(root, "https://host.invalid/master.zip") == root


def test_archive_put_there_by_hand_is_used(root: Path, archive: Path) -> None:
    root.mkdir(parents=True)
    archive.rename(root / audiomnist.ARCHIVE_NAME)
    small_fetch(root, "https://host.invalid/master.zip")
    assert files_below(root) == CORPUS


def test_unreachable_host_says_how_to_put_the_corpus_in_place(root: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/master.zip"
    with pytest.raises(FetchError) as caught:
        small_fetch(root, url)
    assert str(caught.value) == (
        f"could not reach 127.0.0.1 (Connection refused); download {url} elsewhere and unpack it so that "
        f"{root}/data/01/0_01_0.wav exists, then run the same command again"
    )


def test_folder_that_cannot_be_created_is_a_fetch_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FetchError, match=r"file.*(Not a directory|File exists)"):
        small_fetch(tmp_path / "file", "https://host.invalid/master.zip")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (["data/02/1_02_0.wav"], "speaker 02: 2 clips found, 3 expected"),
        ([name for name in CORPUS if "_01_" in name], "speaker 01: 0 clips found, 3 expected"),
        (
            ["data/01/1_01_0.wav", "data/02/1_02_0.wav"],
            "speaker 01: 2 clips found, 3 expected (2 of 2 speakers differ)",
        ),
        (["data/audioMNIST_meta.txt"], "audioMNIST_meta.txt not found"),
    ],
)
def test_incomplete_archive_is_refused(root: Path, url: str, tmp_path: Path, lost: list[str], message: str) -> None:
    left = {name: content for name, content in CORPUS.items() if name not in lost}
    write_zip(tmp_path / "web" / "master.zip", left)
    with pytest.raises(FetchError) as caught:
        small_fetch(root, url)
    assert f": {message}; the archive was removed" in str(caught.value)
    assert list(root.iterdir()) == []


def test_incomplete_folder_is_reported_and_left_alone(root: Path, archive: Path) -> None:
    root.mkdir(parents=True)
    unpack(archive, root / "data")
    (root / "data" / "02" / "0_02_0.wav").unlink()
    before = files_below(root)
    with pytest.raises(CorpusError, match="speaker 02: 2 clips found, 3 expected"):
        small_fetch(root, "https://host.invalid/master.zip")
    assert files_below(root) == before


def test_files_that_are_not_clips_do_not_count(root: Path, archive: Path) -> None:
    root.mkdir(parents=True)
    unpack(archive, root / "data")
    (root / "data" / "01" / "._0_01_0.wav").write_bytes(b"")
    check(root, SPEAKERS, CLIPS)
    (root / "data" / "01" / "7_01_0.wav").write_bytes(CLIP)
    with pytest.raises(FetchError, match="speaker 01: 4 clips found, 3 expected"):
        check(root, SPEAKERS, CLIPS)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_archive_leaves_nothing(root: Path, archive: Path, share: float) -> None:
    root.mkdir(parents=True)
    whole = archive.read_bytes()
    (root / audiomnist.ARCHIVE_NAME).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FetchError, match="not a whole zip archive"):
        small_fetch(root, "https://host.invalid/master.zip")
    assert list(root.iterdir()) == []


def test_archive_with_a_flipped_bit_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[content.index(b"0_01_0.wav") + 20] ^= 1
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="not a whole zip archive"):
        unpack(archive, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.wav",
        "AudioMNIST-master/data/../../../escaped.wav",
        "/escaped.wav",
        "AudioMNIST-master/data/..\\..\\escaped.wav",
        "C:/escaped.wav",
    ],
)
def test_member_that_leads_outside_is_refused_before_anything_is_written(
    archive: Path, tmp_path: Path, name: str
) -> None:
    add_member(archive, name, b"escaped")
    with pytest.raises(FetchError, match="leads outside"):
        unpack(archive, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.zip"]
    assert not (tmp_path.parent / "escaped.wav").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644])
def test_link_or_pipe_is_refused(archive: Path, tmp_path: Path, mode: int) -> None:
    add_member(archive, "AudioMNIST-master/data/01/link.wav", b"/etc/hostname", mode)
    with pytest.raises(FetchError, match=r"'AudioMNIST-master/data/01/link\.wav' is no plain file"):
        unpack(archive, tmp_path / "data")


def test_same_path_twice_is_refused(archive: Path, tmp_path: Path) -> None:
    add_member(archive, "AudioMNIST-master//data/01/0_01_0.wav", b"other")
    with pytest.raises(FetchError, match="appears twice"):
        unpack(archive, tmp_path / "data")


def test_archive_without_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no folder data/"):
        unpack(write_zip(tmp_path / "other.zip", {"src/a.py": b""}), tmp_path / "data")


def test_zip_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"data/zeros": bytes(1_000_000)})
    with pytest.raises(FetchError, match="1000000 bytes when unpacked, expected at most 999999"):
        unpack(bomb, tmp_path / "data", limit_bytes=999_999)
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_zip_bomb_is_refused_by_its_compression_ratio(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"data/zeros": bytes(11_000_000)})
    with pytest.raises(
        FetchError, match=r"11000000 bytes when unpacked of an archive of \d+, expected at most 50 times"
    ):
        unpack(bomb, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_zip_bomb_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    """Each of 80 names leads to the same packed megabyte of noise: every member by itself is honest."""
    content = np.random.default_rng(0).bytes(1_000_000)
    bomb = write_zip(tmp_path / "bomb.zip", {f"data/{k:02d}": content if k == 0 else b"" for k in range(80)})
    with zipfile.ZipFile(bomb, "a") as archive:
        first = archive.infolist()[0]
        for info in archive.infolist()[1:]:
            info.header_offset, info.CRC, info.compress_type = first.header_offset, first.CRC, first.compress_type
            info.file_size, info.compress_size = first.file_size, first.compress_size
        archive.comment = b"written anew"
    with pytest.raises(FetchError, match="80000000 bytes when unpacked of an archive of"):
        unpack(bomb, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_archive_of_too_many_members_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(archive) as source:
        count = len(source.infolist())
    monkeypatch.setattr(audiomnist, "MAX_MEMBERS", count - 1)
    with pytest.raises(FetchError, match=f"{count} members, expected at most {count - 1}"):
        unpack(archive, tmp_path / "data")
    monkeypatch.setattr(audiomnist, "MAX_MEMBERS", count)
    unpack(archive, tmp_path / "data")


def test_zip_bomb_with_a_false_size_is_not_unpacked(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "bomb.zip", {"data/zeros": bytes(1_000_000)})
    declared = (1_000_000).to_bytes(4, "little")
    bomb.write_bytes(bomb.read_bytes().replace(declared, (1000).to_bytes(4, "little")))
    with pytest.raises(FetchError, match="not a whole zip archive"):
        unpack(bomb, tmp_path / "data", limit_bytes=2000)
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_temporary_folder_of_a_killed_run_is_removed(archive: Path, tmp_path: Path) -> None:
    (tmp_path / f"{audiomnist.TEMPORARY_PREFIX}old" / "data" / "01").mkdir(parents=True)
    (tmp_path / "data").mkdir()  # an empty folder is as good as none
    unpack(archive, tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.zip", "data"]


def test_interrupted_unpacking_leaves_no_folder(archive: Path, tmp_path: Path) -> None:
    def interrupt(folder: Path) -> str | None:
        assert folder.parent.parent == tmp_path and folder.parent.name.startswith(audiomnist.TEMPORARY_PREFIX)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "data", interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.zip"]


def test_archive_must_have_the_known_hash(root: Path, url: str, tmp_path: Path) -> None:
    served = write_zip(tmp_path / "web" / "master.zip", CORPUS)
    right, wrong = hashlib.sha256(served.read_bytes()).hexdigest(), 64 * "0"
    with pytest.raises(FetchError, match=f"^{url}: hash {right}; expected {wrong}$"):
        fetch_audiomnist(root, url, None, SPEAKERS, CLIPS, wrong)
    assert list(root.iterdir()) == []
    (root / audiomnist.ARCHIVE_NAME).write_bytes(b"another archive")
    fetch_audiomnist(root, url, None, SPEAKERS, CLIPS, right)
    assert files_below(root) == CORPUS


def test_disk_error_while_unpacking_keeps_the_archive(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", "clip.wav")

    root.mkdir(parents=True)
    archive.rename(root / audiomnist.ARCHIVE_NAME)
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(FetchError, match=r"^clip\.wav: No space left on device$"):
        small_fetch(root, "https://host.invalid/master.zip")
    assert [path.name for path in root.iterdir()] == [audiomnist.ARCHIVE_NAME]
