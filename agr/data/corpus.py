"""Open any SOURCE of recordings that `prepare`, `evaluate` and the search accept.

    corpus = open_corpus("demo", Path("data"))

SOURCE is `demo` (synthetic voices), `audiomnist` or `librispeech:dev-clean` (downloaded), a folder in one of LAYOUTS,
or a table of recordings, their speakers and genders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agr import __version__
from agr.audio import read as audio
from agr.data.clips import Corpus, Layout, Reading
from agr.data.image_set import is_prepared
from agr.data.layouts import (
    audiomnist,
    common_voice,
    crema_d,
    gender_folders,
    hugging_face,
    kaldi,
    librispeech,
    manifest,
    paper_images,
    vctk,
)
from agr.errors import CorpusError

LAYOUTS: tuple[Layout, ...] = (  # the first that recognises a folder reads it
    audiomnist,
    common_voice,
    librispeech,
    vctk,
    crema_d,
    kaldi,
    paper_images,
    manifest,
    hugging_face,
    gender_folders,
)
DEMO_SPEAKERS, DEMO_REPETITIONS = 40, 3
LIBRISPEECH = "librispeech:"  # before the name of a part
DEEPEST = 2  # folders that hold nothing but one folder, as archives unpack


def open_corpus(
    source: str, workspace: Path, allow_outside: bool = False, columns: Mapping[str, str] | None = None
) -> Corpus:
    """List the clips of a SOURCE; what is made or downloaded on first use is kept below `workspace`.

    allow_outside, columns: as in `Reading`.
    Raises: CorpusError if the source is none of these or cannot be used, FetchError if it cannot be downloaded.
    """
    reading = Reading(workspace, allow_outside, columns or {})
    if source == "demo":
        return _demo(workspace / f"demo-voices-{__version__}")
    if source == "audiomnist":
        from agr.common.progress import terminal_progress
        from agr.data.audiomnist import fetch_audiomnist

        return audiomnist.read(fetch_audiomnist(workspace / source, progress=terminal_progress), source, reading)
    if source.startswith(LIBRISPEECH):
        from agr.common.progress import terminal_progress
        from agr.data.librispeech import fetch_librispeech

        part, name = source.removeprefix(LIBRISPEECH), source.replace(":", "-")
        return librispeech.read(fetch_librispeech(part, workspace / name, progress=terminal_progress), name, reading)
    if source.startswith(hugging_face.HUB):
        return hugging_face.read_hub(source, reading)
    path = Path(source)
    if path.is_dir():
        if is_prepared(path):
            raise CorpusError(f"{path}: holds prepared images; expected recordings")
        return _folder(path, reading)
    if path.is_file() and path.suffix.lower() == hugging_face.SUFFIX:
        return hugging_face.read_parquet([path], path, path.stem, reading)
    if path.is_file() and common_voice.is_table(path):
        return common_voice.read_tables([path], path.resolve().parent.name)
    if path.is_file() and path.suffix.lower() in manifest.SUFFIXES:
        return manifest.read_manifest(path, allow_outside=allow_outside, columns=columns)
    found = "a file" if path.exists() else "no such file or folder"
    raise CorpusError(
        f"{source}: {found}; expected demo, audiomnist, librispeech:PART, a corpus folder or a table (CSV)"
    )


def _folder(folder: Path, reading: Reading) -> Corpus:
    """The corpus in a folder, or in the only folder that it holds."""
    inner = folder
    for _ in range(DEEPEST + 1):
        for layout in LAYOUTS:
            if layout.recognises(inner):
                found = layout.read(inner, inner.resolve().name, reading)
                note = f"{folder}: read as {layout.NAME}, for which --columns says nothing"
                return replace(found, notes=(*found.notes, note)) if reading.columns and not layout.TABLE else found
        visible = [path for path in inner.iterdir() if not path.name.startswith(".")]
        if len(visible) != 1 or not visible[0].is_dir():
            break
        inner = visible[0]
    expected = "; or ".join([*(layout.EXPECTED for layout in LAYOUTS), "a folder that agr.prepare made"])
    raise CorpusError(f"{folder}: no known corpus layout; expected {expected}")


def _demo(root: Path) -> Corpus:
    from agr.common.progress import silent_progress, terminal_progress
    from agr.synth import demo

    total = DEMO_SPEAKERS * len(demo.WORDS) * DEMO_REPETITIONS
    show = silent_progress if len(audio.find(root)) == total else terminal_progress
    with show("synthesising demo voices", total, unit="clips") as meter:
        demo.write_demo(root, DEMO_SPEAKERS, DEMO_REPETITIONS, progress=meter.at)
    return audiomnist.read(root, "demo", Reading())
