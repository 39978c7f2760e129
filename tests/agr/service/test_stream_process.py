"""Opus is decoded while it is spoken, whatever befalls the process that decodes it."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from agr.errors import UnreadableAudio
from agr.service import stream_process
from agr.service.stream_process import Decoding
from tests.agr.service.conftest import opus

RATE = 8_000


def kill(decoding: Decoding) -> None:
    """End its process as the system does for want of memory, once it works."""
    assert decoding.pid is not None
    os.kill(decoding.pid, signal.SIGKILL)
    while psutil.Process(decoding.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


@pytest.mark.parametrize("container", ["webm", "ogg"])
@pytest.mark.parametrize("at", [0, 2, 3])  # before the first piece, between two, before the end
def test_a_stream_whose_process_was_killed_goes_on_with_the_same_samples(
    voices: list[Path], container: str, at: int
) -> None:
    data = opus(voices[0], container)
    cuts = np.linspace(0, len(data), 4).astype(int)
    pieces = [data[start:end] for start, end in pairwise(cuts)] + [b""]
    with Decoding(RATE) as decoding:
        undisturbed = np.concatenate([decoding.add(piece) for piece in pieces])
    parts = []
    with Decoding(RATE) as decoding:
        for number, piece in enumerate(pieces):
            if number == at:
                kill(decoding)
            parts.append(decoding.add(piece))
    assert len(undisturbed) > RATE / 4
    np.testing.assert_array_equal(np.concatenate(parts), undisturbed)


def test_a_stream_too_long_to_begin_anew_ends_with_one_line(
    voices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_process, "MOST_KEPT", 100)
    data = opus(voices[0], "webm")
    with Decoding(RATE) as decoding:
        decoding.add(data[:-10])
        kill(decoding)
        with pytest.raises(UnreadableAudio, match=r"crashed \(signal 9\); expected Opus") as caught:
            decoding.add(data[-10:])
    assert "\n" not in str(caught.value)
