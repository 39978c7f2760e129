"""Open any SOURCE of recordings that `prepare`, `evaluate` and the search accept.

    corpus = open_corpus("demo", Path("data"))

SOURCE is `demo` (synthetic voices), `audiomnist` (downloaded), a folder in one of LAYOUTS, or a CSV manifest with the
columns path, speaker and gender.
"""

from __future__ import annotations

from pathlib import Path

from agr import __version__
from agr.audio import read as audio
from agr.data.clips import Corpus, Layout
from agr.data.layouts import audiomnist, manifest, paper_images
from agr.errors import CorpusError

LAYOUTS: tuple[Layout, ...] = (audiomnist, paper_images, manifest)  # the first that recognises a folder reads it
DEMO_SPEAKERS, DEMO_REPETITIONS = 40, 3


def open_corpus(source: str, workspace: Path, allow_outside: bool = False) -> Corpus:
    """List the clips of a SOURCE; `demo` and `audiomnist` are made or downloaded on first use below `workspace`.

    `allow_outside`: a manifest may name files outside its folder, by `..`, a full path or a link.
    Raises: CorpusError if the source is none of these or inconsistent, FetchError if AudioMNIST cannot be downloaded.
    """
    if source == "demo":
        return _demo(workspace / f"demo-voices-{__version__}")
    if source == "audiomnist":
        from agr.common.progress import terminal_progress
        from agr.data.audiomnist import fetch_audiomnist

        return audiomnist.read(fetch_audiomnist(workspace / source, progress=terminal_progress), source)
    path = Path(source)
    if path.is_dir():
        for layout in LAYOUTS:
            if layout.recognises(path):
                return layout.read(path, path.resolve().name, allow_outside)
        expected = "; or ".join([*(layout.EXPECTED for layout in LAYOUTS), "a folder that agr.prepare made"])
        raise CorpusError(f"{path}: no known corpus layout; expected {expected}")
    if path.is_file() and path.suffix.lower() == ".csv":
        return manifest.read_manifest(path, allow_outside=allow_outside)
    found = "a file" if path.exists() else "no such file or folder"
    raise CorpusError(f"{source}: {found}; expected demo, audiomnist, a corpus folder or a CSV manifest")


def _demo(root: Path) -> Corpus:
    from agr.common.progress import silent_progress, terminal_progress
    from agr.synth import demo

    total = DEMO_SPEAKERS * len(demo.WORDS) * DEMO_REPETITIONS
    show = silent_progress if len(audio.find(root)) == total else terminal_progress
    with show("synthesising demo voices", total, unit="clips") as meter:
        demo.write_demo(root, DEMO_SPEAKERS, DEMO_REPETITIONS, progress=meter.at)
    return audiomnist.read(root, "demo")
