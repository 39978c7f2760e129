"""Corpora and folders for the tests of preparation and evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agr.data import corpus
from agr.data.layouts.audiomnist import METADATA
from tests.folders import Row

SPEAKERS = ("01", "02", "03")


@pytest.fixture
def three_speakers(demo_root: Path, tmp_path: Path) -> Path:
    """30 clips of three synthetic speakers, in a folder that the test may change."""
    root = tmp_path / "voices"
    for speaker in SPEAKERS:
        shutil.copytree(demo_root / "data" / speaker, root / "data" / speaker)
    shutil.copy(demo_root / "data" / METADATA, root / "data" / METADATA)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where `prepare` writes."""
    return tmp_path / "out"


@pytest.fixture(scope="module")
def people(demo_root: Path) -> list[Row]:
    """Path, speaker and gender of two clips of each of the eight demo speakers."""
    clips = corpus.open_corpus(str(demo_root), demo_root).clips
    return [(clip.path, clip.speaker, clip.gender) for at, clip in enumerate(clips) if at % 10 < 2]
