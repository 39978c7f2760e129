"""The fuzzer: its files, its judgement, and a few hundred files of it."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from agr.audio.formats import recognised
from agr.errors import AudioError

pytest.importorskip("resource")
SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "fuzz.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("bench_fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


def test_a_few_hundred_spoiled_files_do_no_harm(tmp_path: Path) -> None:
    """As a command: Linux counts the memory of the process that starts another one to that one's peak."""
    few = ["--files", "400", "--seed", "11", "--every", "20", "--keep", str(tmp_path / "kept")]
    done = subprocess.run([sys.executable, str(SCRIPT), *few], capture_output=True, text=True, cwd=tmp_path)
    *lines, last = done.stdout.splitlines()
    verdict = "400 files decoded, 20 of them also by agr.predict, seed 11: no crash, no hang, no traceback, no failure"
    assert (done.returncode, last) == (0, verdict), done.stdout + done.stderr
    counts = {name: int(count) for count, name in (line.split() for line in lines if len(line.split()) == 2)}
    assert counts["decoded"] > 50  # else nothing behind the headers was reached
    assert {"UnreadableAudio", "ShortAudio"} < counts.keys()
    assert not (tmp_path / "kept").exists()


def test_seeds_are_whole_files_of_all_formats_and_files_repeat(bench: ModuleType) -> None:
    seeds = bench.seeds()
    kinds = set()
    for data in seeds:
        kind = recognised(lambda at, size, data=data: data[at : at + size])  # type: ignore[misc]
        assert kind is not None
        kinds.add(kind.name)
        assert len(bench.audio.load(data, 8_000)) > 800  # the least that is a clip
    assert kinds > {"WAV", "W64", "AIFF", "AU", "CAF", "FLAC", "Ogg", "MP3", "MPEG-4", "Matroska", "AMR", "ASF", "AC-3"}
    files = [bench.mutated(seeds, 3, number) for number in range(60)]
    again = bench.seeds()
    assert files == [bench.mutated(again, 3, number) for number in range(60)]
    assert len(set(files)) > 55
    assert not set(files) & {bench.mutated(seeds, 4, number) for number in range(60)} - set(seeds) - {b""}


def test_checksums_of_ogg_pages_are_those_of_libogg(bench: ModuleType) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, 8_000), 8_000, format="OGG")
    import _mutations

    pages = _mutations.ogg_pages(buffer.getvalue())
    assert len(pages) > 2
    assert [_mutations.checksummed(page) for page in pages] == pages


@pytest.mark.parametrize(
    ("raised", "outcome", "part"),
    [
        (AudioError("clip: too long; expected less"), "AudioError", ""),
        (AudioError("too long; expected less"), "AudioError", "message"),
        (AudioError("clip: too\nlong; expected less"), "AudioError", "message"),
        (ZeroDivisionError("oh"), "ZeroDivisionError", "ZeroDivisionError: oh"),
    ],
)
def test_an_error_that_does_not_say_what_it_should_is_a_failure(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, raised: Exception, outcome: str, part: str
) -> None:
    def load(*_: object) -> None:
        raise raised

    monkeypatch.setattr(bench.audio, "load", load)
    kind, complaint = bench.attempt(b"")
    assert kind == outcome
    assert complaint.startswith(part) and bool(complaint) == bool(part)


@pytest.mark.parametrize("y", [np.array([0.1, np.nan], np.float32), np.ones(9), np.ones((9, 2), np.float32)])
def test_samples_that_are_none_are_a_failure(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, y: Any) -> None:
    monkeypatch.setattr(bench.audio, "load", lambda *_: y)
    monkeypatch.setattr(bench.voice_features, "extract", lambda *_: np.zeros((bench.voice_features.ROWS, 1)))
    monkeypatch.setattr(bench.speech, "speech_seconds", lambda *_: 0.0)
    assert bench.attempt(b"")[1].startswith("samples")


END = "agr: what was answered and what not\n"


def answers(*pairs: tuple[str, str | None]) -> str:
    return "".join(json.dumps({"path": path} | ({"error": error} if error else {})) + "\n" for path, error in pairs)


@pytest.mark.parametrize(
    ("status", "out", "err", "right"),
    [
        (0, answers(("a", None), ("b", None)), END, True),
        (1, answers(("a", "a: no"), ("b", None)), END, True),
        (0, answers(("a", "a: no"), ("b", None)), END, False),
        (1, answers(("a", None), ("b", None)), END, False),
        (0, answers(("a", None), ("b", None)), "", False),
        (-11, "", "", False),
        (2, "", "agr: no such model\n", False),
        (1, answers(("a", "a: no")), END, False),
        (1, answers(("a", "a: no"), ("b", None)), "agr: a: no\n" + END, False),
        (1, answers(("a", "a: no"), ("b", None)), "something else\n" + END, False),
        (1, answers(("a", "a: no"), ("b", None)), "Traceback (most recent call last)\n" + END, False),
        (1, answers(("a", "a: the decoder crashed"), ("b", None)), END, False),
    ],
)
def test_what_predict_must_not_do_is_found(bench: ModuleType, status: int, out: str, err: str, right: bool) -> None:
    assert (not list(bench.complaints_about(["a", "b"], status, out, err))) == right


def test_files_that_fail_are_kept_and_the_verdict_says_so(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = bench.Found()
    bench.note(found, 0, "decoded", "", 0.1, 10)
    bench.note(found, 1, "AudioError", "a message\nof two lines", 0.3, 20)
    bench.note(found, 2, "decoded", "", 0.2, bench.MEMORY + 1)
    assert bench.report(found, 4, 5, tmp_path / "kept") == 1
    out = capsys.readouterr().out
    assert "file 1: a message of two lines\nfile 2: peak memory 512 MiB\nslowest: file 1, 0.30 s" in out
    assert out.endswith("seed 5: 2 failures, 1 files missing\n")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    seeds = bench.seeds()
    assert kept == {f"5_{number}.bin": bench.mutated(seeds, 5, number) for number in (1, 2)}
