"""The command that predicts: its answers, its output lines, its exit statuses."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agr import predict
from agr.audio import read as audio
from agr.errors import ModelError
from agr.inference import bundle, predictor
from agr.inference.answers import BATCH
from agr.predict import main
from agr.recipes.mfcc import MFCC, windows

NOTE = "agr: this model was trained on synthetic voices and proves nothing about people\n"
SUMMARY = re.compile(r"agr: \d+ answered, \d+ mixed, \d+ no speech, \d+ unsure, \d+ not read\n")
Say = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def say(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call `main` with --json: exit status, the objects of stdout, and stderr without the note and the summary."""

    def called(*clips: object, uri: object = bundle_folder) -> tuple[int, list[Any], str]:
        status = main(["--json", "--model-uri", str(uri), *map(str, clips)])
        out, err = capsys.readouterr()
        assert err.startswith(NOTE)
        lines = [json.loads(line) for line in out.splitlines()]
        said = err.removeprefix(NOTE).splitlines(keepends=True)
        if len(lines) > 1:
            assert SUMMARY.fullmatch(said.pop())
        return status, lines, "".join(said)

    return called


@pytest.fixture(scope="module")
def loaded(bundle_folder: Path) -> bundle.Bundle:
    return bundle.load(bundle_folder)


def probability(loaded: bundle.Bundle, path: Path) -> float:
    """A woman's, of one clip by itself."""
    return float(predictor.predict_proba([audio.load(path, MFCC.sample_rate)], loaded)[0, 0])


def women(lines: Sequence[dict[str, Any]]) -> list[float]:
    return [line["probability"]["female"] for line in lines]


def long_clip(voices: Sequence[Path], path: Path) -> Path:
    parts = [audio.load(voice, 16_000) for voice in voices]
    soundfile.write(path, np.concatenate(parts), 16_000, subtype="FLOAT")
    return path


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    line = [sys.executable, "-m", "agr.predict", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, **{"text": True} | options)


def test_a_json_line_has_path_label_probability_and_model(say: Say, voices: list[Path]) -> None:
    status, (line,), err = say(voices[0])
    assert (status, err) == (0, "")
    assert list(line) == ["path", "label", "probability", "speech_seconds", "model"]
    assert line["path"] == str(voices[0])
    assert list(line["probability"]) == ["female", "male"]
    assert math.isclose(sum(line["probability"].values()), 1, abs_tol=1e-9)
    assert line["label"] == max(line["probability"], key=line["probability"].__getitem__)
    assert line["model"] == {"name": None, "version": None}


@pytest.mark.parametrize(("uri", "version"), [("models:/agr/best", 1), ("models:/agr@challenger", 2)])
def test_a_registered_model_is_named_with_its_version(
    say: Say, voices: list[Path], store: str, uri: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    status, (line,), _ = say(voices[0], uri=uri)
    assert status == 0
    assert line["model"] == {"name": "agr", "version": version}


def test_the_store_may_be_named_on_the_command_line(
    voices: list[Path], store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--tracking-uri", store, str(voices[0])]) == 0
    path, label, value = capsys.readouterr().out.rstrip("\n").split("\t")
    assert path == str(voices[0])
    assert label in ("female", "male")
    assert 0.5 <= float(value) <= 1


def test_files_folders_and_duplicates_in_the_order_given(say: Say, voices: list[Path]) -> None:
    folder = voices[10].parent
    inside = [path for path in voices if path.parent == folder]
    status, lines, err = say(voices[5], folder, voices[5], voices[0], folder)
    assert (status, err) == (0, "")
    expected = [voices[5], *inside, voices[5], voices[0], *inside]
    assert [line["path"] for line in lines] == list(map(str, expected))
    assert lines[0] == lines[11]
    assert lines[1:11] == lines[13:]


def test_a_folder_within_a_folder_is_searched(say: Say, demo_root: Path, voices: list[Path]) -> None:
    others = sorted(str(path.relative_to(demo_root)) for path in demo_root.rglob("*.txt"))
    status, lines, err = say(demo_root)
    assert [line["path"] for line in lines] == [*map(str, voices), str(demo_root)]
    assert status == 1  # as there is a file that cannot be answered
    assert lines[-1]["error"] == f"{demo_root}: {len(others)} files are not sound (text): {', '.join(others)}"
    assert err == ""


def test_answers_in_batches_are_those_one_by_one(say: Say, voices: list[Path], loaded: bundle.Bundle) -> None:
    clips = voices[: BATCH + 1]
    _, lines, _ = say(*clips)
    alone = [probability(loaded, clip) for clip in clips]
    assert women(lines) == pytest.approx(alone, abs=1e-6)
    assert np.ptp(alone) > 0.01  # else the comparison would say nothing


def test_a_bad_clip_in_the_middle_changes_no_other_answer(say: Say, voices: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(voices[0].read_bytes()[:40])
    status, lines, err = say(*voices[:3], bad, *voices[3:6])
    assert status == 1
    assert list(lines[3]) == ["path", "error"]
    assert err == ""
    assert lines[3]["error"].startswith(f"{bad}: ")
    status, good, err = say(*voices[:6])
    assert (status, err) == (0, "")
    assert women(lines[:3] + lines[4:]) == pytest.approx(women(good), abs=1e-6)


def test_a_recording_of_which_a_part_is_missing_is_answered_with_a_warning(
    say: Say, voices: list[Path], bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = voices[0].read_bytes()
    cut = filled(tmp_path / "cut.wav", data[: len(data) * 3 // 4])
    status, (line,), err = say(cut)
    assert (status, line["label"] in ("female", "male")) == (0, True)
    assert re.fullmatch(r"\d\.\d s of the \d\.\d s that its header promises", line["warning"])
    assert err == ""
    assert main(["--model-uri", str(bundle_folder), str(cut)]) == 0
    assert f"agr: {cut}: {line['warning']}\n" in capsys.readouterr().err


def test_channels_that_are_asked_for_are_named(say: Say, voices: list[Path], tmp_path: Path) -> None:
    y, rate = soundfile.read(voices[0], dtype="float32")
    soundfile.write(tmp_path / "two.wav", np.stack([y, 0.5 * y[::-1]], axis=1), rate, subtype="FLOAT")
    two = tmp_path / "two.wav"
    _, (left, right), _ = say(two, "--channel", "each")
    assert (left["channel"], right["channel"]) == (1, 2)
    for asked, expected in (("left", left), ("1", left), ("right", right), ("2", right)):
        _, (line,), _ = say(two, "--channel", asked)
        assert line["channel"] == expected["channel"]
        assert women([line]) == pytest.approx(women([expected]), abs=1e-6)
    assert women([left]) != pytest.approx(women([right]), abs=1e-3)
    status, (line,), err = say(two, "--channel", "3")
    assert (status, line["error"]) == (1, f"{two}: 2 channels; expected a channel 3")
    assert err == ""


@pytest.mark.parametrize("channel", ["0", "-1", "both", "1.5", "²"])
def test_a_channel_that_cannot_be_is_refused(channel: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.parse(["a.wav", f"--channel={channel}"])
    assert f"{channel}: expected left, right, each or a number from 1" in capsys.readouterr().err


def filled(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def spoil(path: Path, samples: Sequence[float]) -> Path:
    soundfile.write(path, np.array(samples), 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path, "No such file"),
        (lambda path: filled(path, b""), "0 bytes"),
        (lambda path: filled(path, b"no sound at all"), "text; expected a sound file"),
        (lambda path: spoil(path, [0.1, -0.1] * 700), "expected at least 0.1 s"),
        (lambda path: spoil(path, [0.1, math.nan] * 8_000), "NaN or infinity"),
        (lambda path: path.mkdir() or path, "no sound files in it"),
        (lambda path: path.with_name("n" * 300), "File name too long"),
    ],
    ids=["missing", "empty", "text", "short", "nan", "empty folder", "endless name"],
)
def test_what_is_no_clip_is_one_line_and_status_1(
    say: Say, voices: list[Path], tmp_path: Path, make: Callable[[Path], Path], part: str
) -> None:
    path = make(tmp_path / "odd one.wav")
    status, (first, line, last), err = say(voices[0], path, voices[0])
    assert status == 1
    assert line == {"path": str(path), "error": line["error"]}
    assert part in line["error"]
    assert err == ""
    assert first == last


@pytest.mark.parametrize(
    "samples",
    [
        [0.25] * 16_000,
        (0.1 * np.random.default_rng(0).standard_normal(16_000)).tolist(),
        (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).tolist(),
    ],
    ids=["silence", "noise", "tone"],
)
def test_what_holds_no_speech_is_answered_so(
    say: Say, voices: list[Path], tmp_path: Path, samples: list[float]
) -> None:
    path = spoil(tmp_path / "odd one.wav", samples)
    status, (first, line, last), err = say(voices[0], path, voices[0])
    assert (status, err, first) == (0, "", last)
    assert (line["label"], line["probability"], line["speech_seconds"]) == ("no speech", None, 0.0)
    assert first["speech_seconds"] > 0.05


@pytest.mark.parametrize("share", ["0", "0.3", "1.5", "nan", "half"])
def test_a_share_that_no_answer_can_miss_or_reach_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.parse(["a.wav", "--abstain-below", share])
    assert f"--abstain-below: {share}: expected 0.5 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0.5", "1"])
def test_the_edges_of_what_may_be_asked_for(share: str) -> None:
    assert predict.parse(["a.wav", "--abstain-below", share]).abstain_below == float(share)


def test_an_unsure_answer_keeps_its_probability_and_the_exit_status(
    say: Say, voices: list[Path], loaded: bundle.Bundle
) -> None:
    status, lines, err = say(*voices[:8], "--abstain-below", "1")
    assert (status, err, {line["label"] for line in lines}) == (0, "", {"unsure"})
    assert women(lines) == pytest.approx([probability(loaded, voice) for voice in voices[:8]], abs=1e-6)
    assert all(line["speech_seconds"] > 0 for line in lines)


def test_a_person_reads_a_dash_where_there_is_no_speech(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoil(tmp_path / "hum.wav", [0.25] * 16_000)
    assert main(["--model-uri", str(bundle_folder), str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\tno speech\t-\n"


def test_one_clip_is_explained_beside_its_answer(say: Say, voices: list[Path], tmp_path: Path) -> None:
    status, (line,), err = say(voices[0], "--explain", tmp_path / "why.png")
    assert (status, line["path"]) == (0, str(voices[0]))
    assert err == f"agr: {tmp_path / 'why.png'}: what moved the answer to {voices[0]}\n"
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_where_nobody_speaks_there_is_nothing_to_explain(say: Say, tmp_path: Path) -> None:
    path = spoil(tmp_path / "hum.wav", [0.25] * 16_000)
    status, (line,), err = say(path, "--explain", tmp_path / "why.png")
    assert (status, line["label"]) == (1, "no speech")
    assert err.startswith(f"agr: {path}: no speech found")
    assert err.endswith("why.png was not drawn\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "why.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "--explain", "why.txt"], "why.txt: expected a name that ends in .png"),
        (["a.wav", "--explain", "why"], "why: expected a name that ends in .png"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_model_is_looked_for(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.parse(arguments)
    assert message in capsys.readouterr().err


def test_only_one_clip_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.parse(["a.wav", "b.wav", "--explain", "why.png"])
    assert "--explain why.png: expected one clip, a file" in capsys.readouterr().err


def test_nothing_but_bad_clips(say: Say, tmp_path: Path) -> None:
    status, lines, err = say(tmp_path / "a.wav", tmp_path / "b.wav")
    assert status == 1
    assert [set(line) for line in lines] == [{"path", "error"}] * 2
    assert err == ""


@pytest.mark.parametrize("name", ["two words.wav", "çəkiç ünü 声.wav", "-dash.wav", "'\"`$(x);.wav", "#50%20.wav"])
def test_awkward_names(
    say: Say, voices: list[Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nöt æscii"
    folder.mkdir()
    shutil.copy(voices[0], folder / name)
    _, (expected,), _ = say(voices[0])
    for argument in (folder / name, folder):
        status, (line,), err = say(argument)
        assert (status, err, line["path"]) == (0, "", str(folder / name))
        assert line["probability"] == expected["probability"]
    monkeypatch.chdir(folder)
    assert say("--", name)[1][0]["probability"] == expected["probability"]


def test_a_name_that_would_steer_the_terminal_is_shown_as_escapes_and_kept_in_json(
    bundle_folder: Path, voices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (tmp_path / f"\x1b[2J{name}\n.wav" for name in ("good", "bad"))
    shutil.copy(voices[0], good)
    model = ["--model-uri", str(bundle_folder)]
    assert main([*model, str(good), str(bad), str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert out.startswith(str(good).replace("\x1b", "\\x1b").replace("\n", "\\n") + "\t")
    assert "\\x1b[2Jbad" in err
    assert main([*model, "--json", str(good)]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(good)


def test_standard_input_is_one_clip(say: Say, voices: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(voices[1].read_bytes()))
    monkeypatch.setattr(sys, "stdin", given)
    status, lines, err = say(voices[0], "-", voices[2], "-")
    assert status == 1
    assert [line["path"] for line in lines] == [str(voices[0]), "-", str(voices[2]), "-"]
    assert lines[3]["error"] == "-: given again; expected standard input, which is one clip, once"
    assert err == ""
    assert women(lines[1:2]) == pytest.approx(women(say(voices[1])[1]), abs=1e-6)


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="needs /dev/fd")
def test_a_pipe_of_the_shell_is_read_by_the_command_itself(say: Say, voices: list[Path]) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(voices[1].read_bytes())

    with os.fdopen(reading):
        writer = threading.Thread(target=write)
        writer.start()
        status, lines, err = say(voices[0], f"/dev/fd/{reading}", voices[2])  # as <(command) in a shell
        writer.join()
    assert (status, err, lines[1]["path"]) == (0, "", f"/dev/fd/{reading}")
    assert women(lines) == pytest.approx(women(say(*voices[:3])[1]), abs=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_named_pipe_without_a_writer_is_refused_and_not_waited_for(
    say: Say, voices: list[Path], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    status, (first, line, last), _ = say(voices[0], pipe, voices[0])
    assert (status, first, line["error"]) == (1, last, f"{pipe}: a named pipe; expected a sound file")


def test_of_a_long_clip_the_log_odds_of_its_windows_are_averaged(
    say: Say, voices: list[Path], loaded: bundle.Bundle, tmp_path: Path
) -> None:
    clip = long_clip(voices[::10], tmp_path / "long.wav")
    y = audio.load(clip, MFCC.sample_rate)
    cut = windows(y, MFCC)
    assert len(cut) > 4
    each = [predictor.predict_proba([window], loaded)[0, 0] for window in cut]
    assert np.ptp(each) > 0.01
    odds = float(np.mean([math.log(p / (1 - p)) for p in each]))
    _, lines, _ = say(voices[0], clip, voices[1])
    assert women(lines)[1] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)
    assert women(lines)[::2] == pytest.approx([probability(loaded, voice) for voice in voices[:2]], abs=1e-6)


def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--nonsense", "x.wav"], ["--model-uri"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: python -m agr.predict" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, voices: list[Path]) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        main(["--model-uri", str(tmp_path / "none"), str(voices[0])])
    with pytest.raises(ModelError, match=r"no agr\.json in it"):
        main(["--model-uri", str(tmp_path), str(voices[0])])


def test_the_command_answers_and_complains(bundle_folder: Path, voices: list[Path], tmp_path: Path) -> None:
    shutil.copy(voices[1], tmp_path / "ünü.wav")
    arguments = ["--model-uri", bundle_folder, voices[0], tmp_path / "gone.wav", "-", tmp_path / "ünü.wav"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}  # a terminal that cannot show such a name
    done = command(*arguments, input=voices[1].read_bytes(), text=False, env=environment)
    assert done.returncode == 1
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == [str(voices[0]), "-", f"{tmp_path}{os.sep}\\xfcn\\xfc.wav"]
    assert lines[1][1:] == lines[2][1:]
    errors = f"agr: {tmp_path / 'gone.wav'}: No such file or directory; expected a sound file\n"
    assert done.stderr.decode() == f"{NOTE}{errors}agr: 3 answered, 0 mixed, 0 no speech, 0 unsure, 1 not read\n"


def test_an_unknown_alias_is_one_line_and_status_2(store: str, voices: list[Path]) -> None:
    done = command("--model-uri", "models:/agr/none", "--tracking-uri", store, voices[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"agr: models:/agr@none: Registered model alias none not found; expected a model in {store}\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_reader_that_goes_away_gets_no_traceback(bundle_folder: Path, demo_root: Path) -> None:
    script = '"$0" -m agr.predict --model-uri "$1" "$2" "$2" | head -1; echo "${PIPESTATUS[0]}"'
    line = ["bash", "-c", script, sys.executable, str(bundle_folder), str(demo_root)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stderr == NOTE
    answer, status = done.stdout.splitlines()
    assert answer.count("\t") == 2
    assert status == "1"


def test_timelines_are_written_in_every_format(
    bundle_folder: Path, voices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = long_clip(voices[:10], tmp_path / "memo.wav")
    files = [tmp_path / f"memo{ending}" for ending in (".TextGrid", ".csv", ".jsonl", ".txt", ".rttm", ".png")]
    wanted = [word for file in files for word in ("--timeline", str(file))]
    assert main(["--json", "--model-uri", str(bundle_folder), str(clip), *wanted]) == 0
    out, err = capsys.readouterr()
    (line,) = map(json.loads, out.splitlines())
    assert line["segments"] == [
        {key: value for key, value in json.loads(row).items() if key != "path"}
        for row in files[2].read_text().splitlines()
    ]
    assert sum(line["seconds"].values()) == pytest.approx(len(soundfile.read(clip)[0]) / 16_000, abs=0.05)
    assert all(file.stat().st_size > 0 for file in files)
    assert [text for text in err.splitlines() if "who speaks when" in text] == [
        f"agr: {file}: who speaks when" for file in files
    ]


@pytest.mark.parametrize("clips", [["a.wav", "b.wav"], ["."]])
def test_a_textgrid_of_several_recordings_is_wrong_usage(clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*clips, "--timeline", "all.TextGrid"])
    assert ended.value.code == 2
    assert "--timeline all.TextGrid: holds one recording; expected one" in capsys.readouterr().err


def test_without_a_recording_no_timeline_is_written(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    assert main(["--model-uri", str(bundle_folder), str(tmp_path / "gone.wav"), "--timeline", str(file)]) == 1
    assert f"agr: {file}: there is no sound to write of, so it was not written" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.png", "--explain", "a.png"], "a.png: is a clip; expected another file to write to"),
        (["./a.txt", "--timeline", "a.txt"], "a.txt: is a clip; expected another file to write to"),
        (["a.txt", "--timeline", "b.png", "--explain", "b.png"], "b.png: is to be written twice"),
        (["a.txt", "--timeline", "none/b.png"], "none/b.png: cannot be written; expected a file in a folder"),
        (["a.txt", "--timeline", "c.csv"], "c.csv: cannot be written; expected a file in a folder"),
    ],
)
def test_nothing_is_written_over_a_clip_or_where_it_cannot_be(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.txt"):
        Path(name).write_bytes(b"a recording")
    Path("c.csv").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert Path("a.txt").read_bytes() == Path("a.png").read_bytes() == b"a recording"
