"""Download a part of LibriSpeech: people reading English books aloud, 0.3 to 30 GB, CC BY 4.0 licence.

    root/LibriSpeech/SPEAKERS.TXT                  the readers
    root/LibriSpeech/PART/READER/CHAPTER/*.flac    what they read

`root/LibriSpeech` is complete or absent: the archive is checked against its published MD5 sum, unpacked beside it and
moved there in one step. Only one process at a time may write to a root.

Source: V. Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015;
https://www.openslr.org/12.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from agr.common.progress import Progress, silent_progress
from agr.data.download import download
from agr.errors import FetchError

URL = "https://www.openslr.org/resources/12"
MD5_SUMS = {  # https://www.openslr.org/resources/12/md5sum.txt
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
TOP = "LibriSpeech"  # the only folder in each archive
SPEAKERS = "SPEAKERS.TXT"
TEMPORARY_PREFIX = ".unpacking-"
DAMAGED = (tarfile.TarError, zlib.error, EOFError, ValueError)


def fetch_librispeech(
    part: str, root: Path, url: str | None = None, progress: Progress = silent_progress, md5: str | None = None
) -> Path:
    """Return the folder `root/LibriSpeech` once it holds the whole part; without a request if it already does.

    url: The folder of the archives, by default the publishers'. md5: The sum of the archive, by default the published.
    Raises: FetchError if there is no such part, the download fails or the archive has another sum (it is then
    removed), is damaged or unsafe, or if a file cannot be written.
    """
    if part not in MD5_SUMS:
        raise FetchError(f"librispeech:{part}: no such part; expected one of {', '.join(MD5_SUMS)}")
    folder, archive = root / TOP, root / f"{part}.tar.gz"
    try:
        if (folder / SPEAKERS).is_file() and (folder / part).is_dir():
            return folder
        root.mkdir(parents=True, exist_ok=True)
        address = f"{url or URL}/{archive.name}"
        by_hand = f"download {address} elsewhere to {archive}, then run the same command again"
        with progress(f"downloading LibriSpeech {part}", None, unit="bytes") as meter:
            download(address, archive, meter.at, known_hash=f"md5:{md5 or MD5_SUMS[part]}", advice=by_hand)
        _unpack(archive, folder, part, progress)
        archive.unlink()
    except OSError as error:
        raise FetchError(f"{error.filename or root}: {error.strerror or error}") from error
    return folder


def _unpack(archive: Path, out: Path, part: str, progress: Progress) -> None:
    """Unpack the folder `TOP` of an archive as `out`: all of it or nothing. What killed runs left is removed first.

    Raises: FetchError if the archive is damaged, or lacks the speakers or the part.
    """
    for stale in out.parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(stale)
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as temporary:
        try:
            with archive.open("rb") as packed, tarfile.open(fileobj=packed, mode="r:gz") as source:
                size = archive.stat().st_size
                with progress(f"unpacking LibriSpeech {part}", size, unit="bytes") as meter:
                    for member in source:
                        source.extract(member, temporary, filter="data")  # refuses what leads outside
                        meter.at(packed.tell(), size)
        except DAMAGED as error:
            raise FetchError(f"{archive}: not a whole and safe tar archive ({error})") from error
        folder = Path(temporary) / TOP
        if not ((folder / SPEAKERS).is_file() and (folder / part).is_dir()):
            raise FetchError(f"{archive}: no {TOP}/{SPEAKERS} with {TOP}/{part}/ found in it")
        os.rename(folder, out)
