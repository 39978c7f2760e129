"""Download AudioMNIST: 30,000 recordings of 60 speakers saying the digits 0 to 9, about 1 GB, MIT licence.

    root/data/audioMNIST_meta.txt     the speakers
    root/data/SS/D_SS_R.wav           speaker SS (01 to 60), digit D (0 to 9), repetition R (0 to 49)

`root/data` is complete or absent: the archive is unpacked beside it, checked and moved there in one step. GitHub
promises no fixed digest of the archive, so the check is the CRC-32 of every member and the number of clips of each
speaker; for a mirror pass its `known_hash`. Only one process at a time may write to a root.

Source: S. Becker et al., "AudioMNIST: Exploring Explainable Artificial Intelligence for audio analysis on a
simple benchmark", Journal of the Franklin Institute 361 (2024); https://github.com/soerenab/AudioMNIST.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from agr.common.progress import Progress, silent_progress
from agr.data.download import download
from agr.errors import FetchError

AUDIOMNIST_URL = "https://github.com/soerenab/AudioMNIST/archive/refs/heads/master.zip"
ARCHIVE_NAME = "AudioMNIST-master.zip"
META_NAME = "audioMNIST_meta.txt"
MAX_UNPACKED_BYTES = 8 * 10**9
MAX_MEMBERS = 200_000
MAX_RATIO, RATIO_COUNTS_FROM = 50, 10**7  # unpacked : packed (2 for recordings), from this size on
TEMPORARY_PREFIX = ".unpacking-"
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError)
Members = dict[PurePosixPath, zipfile.ZipInfo]


def fetch_audiomnist(
    root: Path,
    url: str = AUDIOMNIST_URL,
    progress: Progress | None = None,
    speakers: int = 60,
    clips_per_speaker: int = 500,
    known_hash: str | None = None,
) -> Path:
    """Return `root` once `root/data` holds the whole corpus; without a request if it already does.

    An archive at `root/AudioMNIST-master.zip` is used instead of a download, unless it lacks the known hash.
    Raises: FetchError if the download fails; if the archive is damaged, unsafe, too large or incomplete (it is then
    removed); if `root/data` is incomplete (it stays); or if a file cannot be written.
    """
    archive, data, show = root / ARCHIVE_NAME, root / "data", progress or silent_progress
    try:
        if data.is_dir() and any(data.iterdir()):
            check(root, speakers, clips_per_speaker)
            return root
        root.mkdir(parents=True, exist_ok=True)
        if known_hash or not archive.exists():
            wav = data / "01" / "0_01_0.wav"
            by_hand = f"download {url} elsewhere and unpack it so that {wav} exists, then run the same command again"
            with show("downloading AudioMNIST", None, unit="bytes") as meter:
                download(url, archive, meter.at, known_hash=known_hash, advice=by_hand)
        try:
            unpack(archive, data, lambda folder: shortfall(folder, speakers, clips_per_speaker), show)
        except FetchError as error:
            archive.unlink()
            raise FetchError(f"{error}; the archive was removed, run the same command again") from error
        archive.unlink()
    except OSError as error:
        raise FetchError(f"{error.filename or root}: {error.strerror or error}") from error
    return root


def check(root: Path, speakers: int = 60, clips_per_speaker: int = 500) -> None:
    """Raise FetchError unless `root/data` has the metadata and every speaker's clips."""
    if problem := shortfall(root / "data", speakers, clips_per_speaker):
        raise FetchError(f"{root / 'data'}: {problem}; complete the folder or move it away to fetch it anew")


def shortfall(data: Path, speakers: int, clips_per_speaker: int) -> str | None:
    """A message about what the folder `data` lacks, None if nothing; counts files, further speakers are ignored."""
    if not (data / META_NAME).is_file():
        return f"{META_NAME} not found"
    names = [f"{number:02d}" for number in range(1, speakers + 1)]
    counts = [(name, sum(1 for _ in (data / name).glob(f"[0-9]_{name}_*.wav"))) for name in names]
    wrong = [f"speaker {name}: {count} clips found" for name, count in counts if count != clips_per_speaker]
    others = f" ({len(wrong)} of {speakers} speakers differ)" if wrong[1:] else ""
    return f"{wrong[0]}, {clips_per_speaker} expected{others}" if wrong else None


def unpack(
    archive: Path,
    out: Path,
    problem: Callable[[Path], str | None] = lambda folder: None,
    progress: Progress = silent_progress,
    limit_bytes: int = MAX_UNPACKED_BYTES,
) -> Path:
    """Unpack the folder `TOP/NAME` of a zip (any TOP, NAME from `out`) as `out`: all of it or nothing.

    The files are written to a temporary folder, which is then renamed; those of killed runs are removed first. If that
    folder is unusable, `problem` returns a message. `limit_bytes` is the greatest total size of the files.
    Raises: FetchError if the archive is damaged, lacks the folder or is too large; if a member is a link, appears
    twice, is larger than declared or leads outside; or if `problem` returns a message.
    """
    for stale in out.parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(stale)
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        try:
            with zipfile.ZipFile(archive) as source:
                members = members_of(source, out.name, limit_bytes)
                with progress("unpacking AudioMNIST", len(members), unit="files") as advance:
                    for path, info in members.items():
                        _extract(source, info, folder / path)
                        advance(1)
        except DAMAGED as error:
            raise FetchError(f"{archive}: not a whole zip archive ({error})") from error
        if found := problem(folder):
            raise FetchError(f"{archive}: {found}")
        if out.exists():
            out.rmdir()
        os.rename(folder, out)
    return out


def members_of(source: zipfile.ZipFile, inside: str, limit_bytes: int) -> Members:
    """The files below `TOP/inside/`, by their path there; all names and sizes are checked before anything is written.

    Raises: FetchError as `unpack` does.
    """
    members: Members = {}
    if (count := len(source.infolist())) > MAX_MEMBERS:
        raise FetchError(f"{source.filename}: {count} members, expected at most {MAX_MEMBERS}")
    for info in source.infolist():
        name, parts = info.orig_filename, PurePosixPath(info.orig_filename).parts
        if name.startswith("/") or ".." in parts or any(sign in name for sign in "\\:\0"):
            raise FetchError(f"{source.filename}: member {name!r} leads outside the archive's folder")
        if len(parts) < 3 or parts[1] != inside or info.is_dir():
            continue
        path = PurePosixPath(*parts[2:])
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise FetchError(f"{source.filename}: member {info.filename!r} is no plain file")
        if path in members:
            raise FetchError(f"{source.filename}: member {info.filename!r} appears twice")
        members[path] = info
    size, packed = sum(info.file_size for info in members.values()), os.path.getsize(source.filename or os.devnull)
    if size > limit_bytes:
        raise FetchError(f"{source.filename}: {size} bytes when unpacked, expected at most {limit_bytes}")
    if size > max(MAX_RATIO * packed, RATIO_COUNTS_FROM):
        found = f"{size} bytes when unpacked of an archive of {packed}"
        raise FetchError(f"{source.filename}: {found}, expected at most {MAX_RATIO} times as many")
    if not members:
        raise FetchError(f"{source.filename}: no folder {inside}/ with files found in it")
    return members


def _extract(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one member; zipfile returns no more bytes than declared and compares their CRC-32."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(info) as stream, target.open("xb") as out:
        shutil.copyfileobj(stream, out)
        if (size := out.tell()) != info.file_size:
            found = f"{size} bytes found, {info.file_size} declared"
            raise FetchError(f"{source.filename}: member {info.filename!r}: {found}")
