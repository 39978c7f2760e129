"""The process that decodes: it answers as `agr.audio.read.load` does, and what kills it costs one clip."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agr import predict
from agr.audio import decoder
from agr.audio import read as audio
from agr.audio.decoder import AHEAD, Decoder, Source
from agr.audio.recording import Recording, Stream
from agr.errors import AudioError, EmptyAudio, SilentAudio, UnreadableAudio

RATE = 8_000
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# The decoder's own program, but some names do what a decoder must never do.
PLANTED = """
import os, signal, sys
sys.path[:] = sys.argv[1:]
from agr.audio import read as audio; from agr.audio import decoder_process
decoder_process.SECONDS = 0.3
stream = audio.stream
def planted(source, sample_rate, name, alive, channel):
    if "torch" in sys.modules:
        os._exit(9)
    if "segv" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "abort" in name:
        os.abort()
    if "killed" in name and ("always" in name or not os.path.exists(f"{name}.tried")):
        open(f"{name}.tried", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if "leave" in name:
        os._exit(3)
    if "garble" in name:
        os.write(answers, b'{"samples": -5}\\n')
        signal.pause()
    if "spin" in name:
        while True:
            pass
    if "work" in name:
        for _ in range(8):
            until = sum(os.times()[:2]) + 0.15
            while sum(os.times()[:2]) < until:
                pass
            alive()
    if "swell" in name:
        bytearray(2**30)
    made = stream(source, sample_rate, name, alive, channel)
    if "midway" in name:
        def dying(blocks):
            yield next(blocks)
            os._exit(3)
        made = audio.Stream(sample_rate, lambda _: dying(made))
    return made
audio.stream = planted
answers = os.dup(1)
decoder_process.serve()
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


@pytest.fixture
def planted() -> Iterator[Decoder]:
    with Decoder(PLANTED) as made:
        yield made


def clip(path: Path, **_: object) -> Source:
    return Source(str(path))


def same(found: object, path: Path) -> bool:
    return isinstance(found, Recording) and np.array_equal(found.samples, audio.load(path, RATE))


def test_files_and_bytes_are_answered_in_order_as_in_this_process(running: Decoder, voices: list[Path]) -> None:
    paths = [*voices, *voices[:7]]
    assert len(paths) > 2 * AHEAD
    clips = [Source("given", path.read_bytes()) if at % 5 == 3 else Source(str(path)) for at, path in enumerate(paths)]
    found = list(running.load_all(clips, RATE))
    assert all(map(same, found, paths))
    assert len(found) == len(paths)


@pytest.mark.parametrize("start", [decoder.in_process, None], ids=["in process", "decoder"])
def test_errors_are_those_of_decoding_and_errors_given_pass(
    running: Decoder, start: object, voices: list[Path], tmp_path: Path
) -> None:
    silent, gone, odd = tmp_path / "silent.wav", tmp_path / "gone.wav", tmp_path / "nöt\udce9.wav"
    soundfile.write(silent, np.zeros(RATE), RATE)
    odd.write_bytes(b"no sound")
    given = AudioError("given before")
    load = decoder.in_process if start else running.load_all
    clips: list[Source | AudioError] = [
        given,
        clip(silent),
        clip(gone),
        Source("empty", b""),
        clip(odd),
        given,
        clip(voices[0]),
    ]
    found = list(load(clips, RATE))
    kinds = [AudioError, SilentAudio, UnreadableAudio, EmptyAudio, UnreadableAudio, AudioError]
    assert [type(error) for error in found[:-1]] == kinds
    assert str(found[2]) == f"{gone}: No such file or directory; expected a sound file"
    assert str(found[4]).startswith(f"{odd}: ")
    assert found[0] is found[5] is given
    assert same(found[6], voices[0])


def test_a_large_clip_passes_either_way(running: Decoder, tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(0, 0.1, 40 * 48_000).astype(np.float32)  # more than any pipe holds
    path, data = tmp_path / "large.wav", io.BytesIO()
    soundfile.write(path, y, 48_000, subtype="FLOAT")
    soundfile.write(data, y, 48_000, subtype="FLOAT", format="WAV")
    found = list(running.load_all([clip(path), Source("data", data.getvalue()), clip(path)], 48_000))
    assert all(isinstance(each, Recording) and np.array_equal(each.samples, y) for each in found)


def test_clips_are_taken_ahead_of_their_turn_but_not_all(running: Decoder, voices: list[Path]) -> None:
    taken = []
    clips = (taken.append(at) or clip(voices[at % 80]) for at in range(100))  # type: ignore[func-returns-value]
    found = running.load_all(clips, RATE)
    assert same(next(found), voices[0])
    assert 1 < len(taken) <= AHEAD + 1
    assert len(list(found)) == 99


@posix
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("segv", "the decoder crashed (signal 11)"),
        ("abort", "the decoder crashed (signal 6)"),
        ("leave", "the decoder crashed (exit status 3)"),
        ("spin", "the decoder found no further samples in "),
        ("garble", "the decoder's answer makes no sense"),
    ],
)
@pytest.mark.parametrize("places", [(0,), (2,), (0, 1, 5), (5,)], ids=str)
def test_what_kills_the_decoder_costs_one_clip(
    planted: Decoder, voices: list[Path], name: str, part: str, places: tuple[int, ...]
) -> None:
    clips = [clip(path) for path in voices[:6]]
    for at in places:
        clips[at] = Source(name, b"some bytes" if at == 1 else None)
    found = list(planted.load_all(clips, RATE))
    for at, (each, path) in enumerate(zip(found, voices, strict=False)):
        if at in places:
            assert type(each) is UnreadableAudio
            assert str(each).startswith(f"{name}: {part}")
            assert str(each).endswith("; expected a sound file")
        else:
            assert same(each, path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds it")
def test_more_memory_than_allowed_is_refused_without_a_crash(planted: Decoder, voices: list[Path]) -> None:
    first, second = planted.load_all([Source("swell"), clip(voices[0])], RATE)
    assert str(first) == "swell: too large to decode; expected a shorter clip"
    assert same(second, voices[0])


@posix
def test_work_that_brings_samples_may_take_long(planted: Decoder, voices: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "work.wav"
    path.write_bytes(voices[0].read_bytes())
    (found,) = planted.load_all([clip(path)], RATE)
    assert same(found, path)


@posix
@pytest.mark.parametrize(("name", "answered"), [("killed once", True), ("killed always", False)])
def test_a_clip_whose_process_somebody_else_killed_is_tried_once_more(
    planted: Decoder, voices: list[Path], tmp_path: Path, name: str, answered: bool
) -> None:
    path = tmp_path / f"{name}.wav"
    path.write_bytes(voices[0].read_bytes())
    before, found, after = planted.load_all(map(clip, (voices[1], path, voices[2])), RATE)
    assert same(before, voices[1]) and same(after, voices[2])
    if answered:
        assert same(found, path)
    else:
        assert str(found) == f"{path}: the decoder crashed (signal 9); expected a sound file"


@posix
def test_a_process_that_died_at_rest_is_replaced_at_no_clips_cost(voices: list[Path]) -> None:
    with Decoder() as made:
        assert all(map(same, made.load_all(map(clip, voices[:3]), RATE), voices))
        before = made.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
        assert all(map(same, made.load_all(map(clip, voices[:3]), RATE), voices))
        assert made.pid != before


@posix
def test_ctrl_c_does_not_end_it(voices: list[Path]) -> None:
    with Decoder() as made:
        assert len(list(made.load_all([clip(voices[0])], RATE))) == 1
        assert made.pid is not None
        os.kill(made.pid, signal.SIGINT)
        before = made.pid
        assert all(map(same, made.load_all(map(clip, voices[:3]), RATE), voices))
        assert made.pid == before


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('what is this?')", "syntax error"])
def test_where_it_does_not_come_up_this_process_decodes(program: str, voices: list[Path]) -> None:
    with Decoder(program) as made:
        found = list(made.load_all([*map(clip, voices[:3]), Source("empty", b"")], RATE))
        assert all(map(same, found[:3], voices))
        assert isinstance(found[3], EmptyAudio)
        assert made.pid is None


def test_where_no_process_can_be_started_this_one_decodes(voices: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Decoder() as made:
        assert made.pid is None
        assert all(map(same, made.load_all(map(clip, voices[:3]), RATE), voices))


def test_closing_twice_and_closing_at_work(voices: list[Path]) -> None:
    made = Decoder()
    found = made.load_all(map(clip, voices), RATE)
    next(found)
    made.close()
    made.close()
    assert made.pid is None


def test_abandoned_clips_are_not_taken_for_those_of_the_next_call(voices: list[Path]) -> None:
    with Decoder() as made:
        found = made.load_all(map(clip, voices), RATE)
        next(found)
        found.close()  # type: ignore[attr-defined]
        assert all(map(same, made.load_all(map(clip, voices[40:43]), RATE), voices[40:43]))


# --- recordings of any length


@pytest.fixture(scope="module")
def long_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 21 minutes: longer than what is held as a whole."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    y = np.random.default_rng(0).normal(0, 0.1, 21 * 60 * RATE).astype(np.float32)
    soundfile.write(path, y, RATE)
    return path


def test_a_stream_has_all_samples_in_blocks_of_half_a_minute(running: Decoder, long_wav: Path) -> None:
    expected, _ = soundfile.read(long_wav, dtype="float32")
    for made in (running.stream(clip(long_wav), RATE), decoder.stream_in_process(clip(long_wav), RATE)):
        blocks = list(made)
        assert {len(block) for block in blocks} == {audio.BLOCK_SECONDS * RATE}
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        assert (made.sample_rate, made.channels, made.warning) == (RATE, 1, None)


@pytest.mark.parametrize("process", [True, False])
def test_a_long_recording_among_others_comes_as_a_stream(
    running: Decoder, long_wav: Path, voices: list[Path], process: bool
) -> None:
    load = running.load_all if process else decoder.in_process
    paths = [voices[0], long_wav, voices[1], long_wav, voices[2]]
    taken: list[int] = []
    for path, found in zip(paths, load(map(clip, paths), RATE), strict=True):
        if path is long_wav:
            assert isinstance(found, Stream)
            taken.append(len(next(found)) if taken else sum(map(len, found)))  # of the second one only the beginning
        else:
            assert same(found, path)
    assert taken == [21 * 60 * RATE, audio.BLOCK_SECONDS * RATE]


def test_of_what_promises_to_be_long_nothing_is_held_even_if_it_is_short(
    running: Decoder, long_wav: Path, voices: list[Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.wav"
    with long_wav.open("rb") as file:
        cut.write_bytes(file.read(44 + 2 * 2 * RATE))  # the header, and two seconds of 16 bit
    for found, path in zip(running.load_all(map(clip, [cut, voices[0]]), RATE), [cut, voices[0]], strict=True):
        if path is cut:
            assert isinstance(found, Stream)
            assert sum(map(len, found)) == 2 * RATE
            assert found.warning == "2.0 s of the 1260.0 s that its header promises"
        else:
            assert same(found, path)


def test_what_was_not_taken_of_a_stream_is_not_taken_for_the_next_clip(
    running: Decoder, long_wav: Path, voices: list[Path]
) -> None:
    next(running.stream(clip(long_wav), RATE))
    assert all(map(same, running.load_all(map(clip, voices[:3]), RATE), voices))
    next(running.stream(clip(long_wav), RATE))
    assert len(next(running.stream(clip(voices[3]), RATE))) == len(audio.load(voices[3], RATE))


@posix
def test_a_crash_in_the_middle_of_a_stream_costs_that_recording_alone(
    planted: Decoder, long_wav: Path, voices: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "midway.wav"
    path.symlink_to(long_wav)
    message = rf"^{path}: the decoder crashed \(exit status 3\); expected a sound file$"
    with pytest.raises(UnreadableAudio, match=message):
        list(planted.stream(clip(path), RATE))
    assert all(map(same, planted.load_all(map(clip, voices[:3]), RATE), voices))


@pytest.mark.parametrize("process", [True, False])
def test_a_warning_and_a_channel_pass(running: Decoder, tmp_path: Path, process: bool) -> None:
    path = tmp_path / "cut.wav"
    y = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
    soundfile.write(path, y, RATE, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[: -RATE * 8])
    sources = [Source(str(path), channel=2), Source(str(path), channel=3)]
    cut, missing = (running.load_all if process else decoder.in_process)(sources, RATE)
    assert isinstance(cut, Recording)
    assert (cut.channels, cut.warning) == (2, "1.0 s of the 2.0 s that its header promises")
    np.testing.assert_array_equal(cut.samples, y[:RATE, 1])
    assert str(missing) == f"{path}: 2 channels; expected a channel 3"
    made = running.stream(sources[0], RATE) if process else decoder.stream_in_process(sources[0], RATE)
    assert sum(map(len, made)) == RATE
    assert made.warning == cut.warning


ORPHAN = """
import os, signal, sys
from agr.audio.decoder import Decoder, Source
made = Decoder()
list(made.load_all([Source("gone.wav")], 8000))
print(made.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_it_ends_with_its_caller() -> None:
    root = str(Path(decoder.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", ORPHAN], cwd=root, stdout=subprocess.PIPE, text=True)
    pid = int(done.stdout)
    for _ in range(1_000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z":  # nobody collects it here
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} outlived its caller")


@posix
def test_predict_answers_all_but_the_clip_that_crashes_the_decoder(
    bundle_folder: Path,
    voices: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(decoder, "PROGRAM", PLANTED)
    bad = tmp_path / "segv.wav"
    bad.write_bytes(voices[0].read_bytes())
    paths = [*voices[:40], bad, *voices[40:]]
    assert predict.main(["--model-uri", str(bundle_folder), *map(str, paths)]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == list(map(str, voices))
    note, error, count = err.splitlines()
    assert "synthetic" in note
    assert count == "agr: 80 answered, 0 mixed, 0 no speech, 0 unsure, 1 not read"
    assert error == f"agr: {bad}: the decoder crashed (signal 11); expected a sound file"
