"""The command that puts the rivals into one table: the search's own folds, missing libraries, what it prints."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agr.baselines.__main__ import main
from agr.baselines.compare import across, listen
from agr.baselines.extractors import EXTRACTORS, SAMPLE_RATE, Extract, Extractor
from agr.data import corpus, preparation, splits
from agr.data.clips import Clip
from agr.data.image_set import ImageSet, load
from agr.errors import CorpusError, SplitError
from agr.recipes.mfcc import MFCC
from tests.nearby import beside


def load_crossings() -> Extract:
    """Crossings of zero a second, half of which pass for a pitch; none for clips below 0.6 s."""

    def extract(y: NDArray[np.float32]) -> NDArray[np.float64]:
        rate = np.count_nonzero(np.diff(np.signbit(y))) * SAMPLE_RATE / len(y) / 2
        return np.array([rate if len(y) > 0.6 * SAMPLE_RATE else np.nan])

    return extract


TUNER = Extractor("tuner", "Tuner, threshold trained", "numpy", ("numpy",), load_crossings, pitch=True)
LEARNER = Extractor("learner", "Learner", "numpy", ("sklearn",), load_crossings)
GHOST = Extractor("ghost", "Ghost", "ghost-voice", ("ghost_voice",), load_crossings)


@pytest.fixture(autouse=True)
def at_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to work in, and rivals that need nothing but NumPy."""
    monkeypatch.chdir(tmp_path)
    for rival in (TUNER, LEARNER, GHOST, replace(TUNER, name="praat", title="Praat, threshold trained")):
        monkeypatch.setitem(EXTRACTORS, rival.name, rival)


@pytest.fixture(scope="module")
def people(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Clip]:
    """All 80 demo clips, ten of each of four women and four men."""
    return corpus.open_corpus(str(demo_root), tmp_path_factory.mktemp("none")).clips


def manifest(path: Path, clips: Sequence[Clip]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(beside(path, clip.path), clip.speaker, clip.gender) for clip in clips]
        csv.writer(file).writerows([("path", "speaker", "gender"), *rows])
    return str(path)


def speakers(clips: Sequence[Clip], gender: str) -> list[str]:
    return sorted({clip.speaker for clip in clips if clip.gender == gender})


def of(clips: Sequence[Clip], *names: str) -> list[Clip]:
    return [clip for clip in clips if clip.speaker in names]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "--workers", "1"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


@pytest.mark.parametrize("seed", [0, 3])
def test_folds_are_those_of_the_search_clip_by_clip(demo_root: Path, images: ImageSet, seed: int) -> None:
    heard = listen([str(demo_root)], Path("data"))
    assert heard.recordings.tolist() == images.recordings.tolist()
    assert heard.speakers.tolist() == images.speakers.tolist()
    assert heard.labels.tolist() == images.labels.tolist()
    for fold in range(4):
        ours, theirs = (splits.make(data, "folds", seed, 4, fold) for data in (heard, images))
        assert (ours.name, ours.digest) == (theirs.name, theirs.digest)


def test_clips_that_the_search_leaves_out_are_left_out(
    people: Sequence[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    gone = replace(people[0], path=tmp_path / "gone.wav")
    odd = [Clip(tmp_path / "broken.wav", "", "00", "female"), gone]
    source = manifest(tmp_path / "odd.csv", [*odd, *people[::5]])
    heard = listen([source], Path("data"))
    preparation.prepare(corpus.open_corpus(source, tmp_path), tmp_path / "odd", MFCC)
    assert heard.recordings.tolist() == load(tmp_path / "odd").recordings.tolist()
    assert "odd/00" not in heard.speakers
    assert "agr: odd: 2 clip(s) left out, the first: " in capsys.readouterr().err


def test_several_corpora_are_heard_one_after_the_other(people: Sequence[Clip], tmp_path: Path) -> None:
    one, two = manifest(tmp_path / "one.csv", people[:20]), manifest(tmp_path / "two.csv", people[60:])
    heard = listen([one, two], Path("data"))
    assert (heard.name, len(heard), len(heard.paths), len(heard.rows)) == ("one+two", 40, 40, 40)
    assert {str(name).split("/")[0] for name in heard.speakers[:20]} == {"one"}
    assert {str(name).split("/")[0] for name in heard.speakers[20:]} == {"two"}


def test_two_corpora_of_one_name_are_refused(demo_root: Path) -> None:
    with pytest.raises(CorpusError, match=r"^voices: 2 corpora have this name; expected different ones$"):
        listen([str(demo_root), str(demo_root)], Path("data"))


def test_images_cannot_be_heard(prepared_root: Path) -> None:
    with pytest.raises(CorpusError, match="holds images; expected recordings"):
        listen([str(prepared_root)], Path("data"))


def test_no_readable_clip_at_all(tmp_path: Path) -> None:
    source = manifest(tmp_path / "gone.csv", [Clip(tmp_path / "gone.wav", "", "1", "male")])
    with pytest.raises(CorpusError, match="none of 1 clips could be read"):
        listen([source], Path("data"))


def test_one_corpus_trains_and_another_tests(people: Sequence[Clip], tmp_path: Path) -> None:
    one = listen([manifest(tmp_path / "one.csv", people[:40])], Path("data"))
    two = listen([manifest(tmp_path / "two.csv", people[40:])], Path("data"))
    both, split = across(one, two)
    assert both.name == "one to two"
    assert both.recordings[split.train].tolist() == one.recordings.tolist()
    assert both.recordings[split.test].tolist() == two.recordings.tolist()
    assert both.labels[split.test].tolist() == two.labels.tolist()
    assert [both.paths[k] for k in split.test] == list(two.paths)
    assert (split.val.size, len(both.rows)) == (0, 80)


@pytest.mark.parametrize("name", ["one.csv", "two.csv"])
def test_corpora_that_share_a_person_or_a_recording_are_refused(
    people: Sequence[Clip], tmp_path: Path, name: str
) -> None:
    one = listen([manifest(tmp_path / "one.csv", people[:50])], Path("data"))
    (tmp_path / "other").mkdir()
    other = listen([manifest(tmp_path / "other" / name, people[49:])], Path("data"))
    what = "speaker one/" if name == "one.csv" else "recording "
    with pytest.raises(SplitError, match=f"^{what}.* is in both --data and --test; expected different ones$"):
        across(one, other)


def test_one_gender_alone_cannot_train(people: Sequence[Clip], tmp_path: Path) -> None:
    men = of(people, *speakers(people, "male"))
    one = listen([manifest(tmp_path / "men.csv", men[:20])], Path("data"))
    two = listen([manifest(tmp_path / "others.csv", men[20:])], Path("data"))
    with pytest.raises(SplitError, match=r"^men: clips of one gender only; expected both to train on$"):
        across(one, two)


def test_the_command_prints_one_json_object(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    values = printed(capsys, "--data", str(demo_root), "--rivals", "tuner", "learner")
    assert set(values) == {"data", "clips", "speakers", "synthetic", "splits", "rivals", "missing"}
    assert (values["data"], values["clips"], values["speakers"], values["synthetic"]) == ("voices", 80, 8, True)
    assert [split["name"] for split in values["splits"]] == [f"folds4-fold{k}-seed0" for k in range(4)]
    assert [row["rival"] for row in values["rivals"]] == ["tuner", "learner"]
    for row in values["rivals"]:
        folds = [fold["balanced_accuracy"] for fold in row["folds"]]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(folds))
        low, high = row["balanced_accuracy_ci95"]
        assert 0 <= low <= high <= 1
        assert row["library"] == f"numpy {np.__version__}"
        assert sum(fold["clips"] for fold in row["folds"]) == 80
    assert [len(row["threshold_hz"]) for row in values["rivals"]] == [4, 0]
    assert 0 < values["rivals"][0]["unanswered"] < 1


def test_one_fold_is_one_of_the_four(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = printed(capsys, "--data", str(demo_root), "--rivals", "tuner", "--seed", "2")
    third = printed(capsys, "--data", str(demo_root), "--rivals", "tuner", "--seed", "2", "--fold", "2")
    assert third["splits"] == every["splits"][2:3]
    assert third["rivals"][0]["folds"] == every["rivals"][0]["folds"][2:3]
    assert third["rivals"][0]["balanced_accuracy_ci95"] == third["rivals"][0]["folds"][0]["balanced_accuracy_ci95"]


def test_what_was_heard_once_is_not_listened_to_again(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(demo_root), "--rivals", "tuner", "--workers", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert main(arguments) == 0
    second = capsys.readouterr()
    assert "tuner listens" in first.err
    assert "listens" not in second.err
    assert first.out == second.out
    assert len(list(Path("data/rivals").rglob("*.npy"))) == 80


def test_praat_has_a_second_row_with_nothing_trained(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, given = printed(capsys, "--data", str(demo_root), "--rivals", "praat", "praat")["rivals"]
    assert given["title"] == "Praat at 155 Hz, nothing trained"
    assert given["threshold_hz"] == [155.0] * 4
    assert trained["threshold_hz"] != given["threshold_hz"]


def test_a_table_for_a_person(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(demo_root), "--rivals", "tuner", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "voices, 4 folds: 80 test clips of 8 speakers" in out
    (row,) = [line for line in out.splitlines() if "Tuner" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[0] == "Tuner, threshold trained"
    assert len(cells) == 11
    assert float(cells[5]) == pytest.approx(np.mean([float(cell) for cell in cells[1:5]]), abs=0.001)
    assert cells[9].endswith("%")
    assert "no answer counts as wrong" in out
    assert "synthetic: the result proves nothing about people" in out


def test_brackets_in_the_name_of_a_corpus_are_printed(
    people: Sequence[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = manifest(tmp_path / "[red]voices[bold].csv", people)
    assert main(["--data", source, "--rivals", "tuner", "--workers", "1"]) == 0
    assert "[red]voices[bold], 4 folds: 80 test clips" in capsys.readouterr().out


def test_a_missing_library_is_one_line_and_the_others_still_run(
    demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "ghost_voice: not installed; pip install 'agr[baselines]'"
    assert main(["--data", str(demo_root), "--rivals", "ghost", "tuner", "--json", "--workers", "1"]) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == f"agr: {line}"
    values = json.loads(shown.out)
    assert values["missing"] == {"ghost": line}
    assert [row["rival"] for row in values["rivals"]] == ["tuner"]


def test_with_no_library_at_all_nothing_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "nowhere", "--rivals", "ghost"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1


def test_the_other_corpus_may_have_one_gender(
    people: Sequence[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *men = speakers(people, "male")
    trains = manifest(tmp_path / "here.csv", of(people, first, *speakers(people, "female")))
    tests = manifest(tmp_path / "there.csv", of(people, *men))
    arguments = ["--data", trains, "--test", tests, "--rivals", "tuner"]
    (row,) = printed(capsys, *arguments)["rivals"]
    assert row["recall"]["female"] is None
    assert row["recall"]["male"] == row["balanced_accuracy"]
    assert (row["folds"][0]["clips"], row["folds"][0]["speakers"]) == (30, 3)
    assert main([*arguments, "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "here to there, across corpora: 30 test clips of 3 speakers" in out
    assert "of one gender only: its recall stands for the balanced accuracy" in out


def test_recordings_that_moved_are_still_known(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = printed(capsys, "--data", str(demo_root), "--rivals", "tuner")
    shutil.copytree(demo_root, tmp_path / "elsewhere" / "voices")
    assert main(["--data", "elsewhere/voices", "--rivals", "tuner", "--json", "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == before
    assert "listens" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [("--fold", "1", "--test", "demo"), ("--rivals", "nobody"), ("--split", "random")],
    ids=["fold and test", "unknown rival", "leaky split"],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", "demo", *arguments])
    assert ended.value.code == 2


@pytest.mark.parametrize("fold", [-1, 4])
def test_no_such_fold(demo_root: Path, fold: int) -> None:
    with pytest.raises(SplitError, match=f"^--fold {fold}: expected 0 to 3$"):
        main(["--data", str(demo_root), "--rivals", "tuner", "--fold", str(fold)])
