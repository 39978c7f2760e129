"""The command that compares public tools: the folds of the search, missing libraries, the table and the JSON."""

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
from agr.baselines.compare import join_train_and_test, read_recordings
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
    """An empty folder to work in, and extractors that need nothing but NumPy."""
    monkeypatch.chdir(tmp_path)
    for extractor in (TUNER, LEARNER, GHOST, replace(TUNER, name="praat", title="Praat, threshold trained")):
        monkeypatch.setitem(EXTRACTORS, extractor.name, extractor)


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
def test_folds_equal_those_of_the_search(demo_root: Path, images: ImageSet, seed: int) -> None:
    recordings = read_recordings([str(demo_root)], Path("data"))
    assert recordings.recordings.tolist() == images.recordings.tolist()
    assert recordings.speakers.tolist() == images.speakers.tolist()
    assert recordings.labels.tolist() == images.labels.tolist()
    for fold in range(4):
        ours, theirs = (splits.make(data, "folds", seed, 4, fold) for data in (recordings, images))
        assert (ours.name, ours.digest) == (theirs.name, theirs.digest)


def test_clips_that_the_search_leaves_out_are_left_out(
    people: Sequence[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    gone = replace(people[0], path=tmp_path / "gone.wav")
    odd = [Clip(tmp_path / "broken.wav", "", "00", "female"), gone]
    source = manifest(tmp_path / "odd.csv", [*odd, *people[::5]])
    recordings = read_recordings([source], Path("data"))
    preparation.prepare(corpus.open_corpus(source, tmp_path), tmp_path / "odd", MFCC)
    assert recordings.recordings.tolist() == load(tmp_path / "odd").recordings.tolist()
    assert "odd/00" not in recordings.speakers
    assert "agr: odd: 2 clip(s) left out, the first: " in capsys.readouterr().err


def test_several_corpora_are_read_in_the_given_order(people: Sequence[Clip], tmp_path: Path) -> None:
    one, two = manifest(tmp_path / "one.csv", people[:20]), manifest(tmp_path / "two.csv", people[60:])
    recordings = read_recordings([one, two], Path("data"))
    assert (recordings.name, len(recordings), len(recordings.paths), len(recordings.rows)) == ("one+two", 40, 40, 40)
    assert {str(name).split("/")[0] for name in recordings.speakers[:20]} == {"one"}
    assert {str(name).split("/")[0] for name in recordings.speakers[20:]} == {"two"}


def test_two_corpora_of_one_name_are_refused(demo_root: Path) -> None:
    with pytest.raises(CorpusError, match=r"^voices: 2 corpora have this name; expected different ones$"):
        read_recordings([str(demo_root), str(demo_root)], Path("data"))


def test_prepared_images_are_refused(prepared_root: Path) -> None:
    with pytest.raises(CorpusError, match="holds prepared images; expected recordings"):
        read_recordings([str(prepared_root)], Path("data"))


def test_corpus_without_a_readable_clip_is_refused(tmp_path: Path) -> None:
    source = manifest(tmp_path / "gone.csv", [Clip(tmp_path / "gone.wav", "", "1", "male")])
    with pytest.raises(CorpusError, match="none of 1 clips could be read"):
        read_recordings([source], Path("data"))


def test_one_corpus_trains_and_another_tests(people: Sequence[Clip], tmp_path: Path) -> None:
    one = read_recordings([manifest(tmp_path / "one.csv", people[:40])], Path("data"))
    two = read_recordings([manifest(tmp_path / "two.csv", people[40:])], Path("data"))
    both, split = join_train_and_test(one, two)
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
    one = read_recordings([manifest(tmp_path / "one.csv", people[:50])], Path("data"))
    (tmp_path / "other").mkdir()
    other = read_recordings([manifest(tmp_path / "other" / name, people[49:])], Path("data"))
    what = "speaker one/" if name == "one.csv" else "recording "
    with pytest.raises(SplitError, match=f"^{what}.* is in both --data and --test; expected different ones$"):
        join_train_and_test(one, other)


def test_training_corpus_of_one_gender_is_refused(people: Sequence[Clip], tmp_path: Path) -> None:
    men = of(people, *speakers(people, "male"))
    one = read_recordings([manifest(tmp_path / "men.csv", men[:20])], Path("data"))
    two = read_recordings([manifest(tmp_path / "others.csv", men[20:])], Path("data"))
    with pytest.raises(SplitError, match=r"^men: clips of one gender only; expected both to train on$"):
        join_train_and_test(one, two)


def test_json_output_lists_splits_and_scores(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    values = printed(capsys, "--data", str(demo_root), "--extractors", "tuner", "learner")
    assert set(values) == {"data", "clips", "speakers", "synthetic", "splits", "extractors", "missing"}
    assert (values["data"], values["clips"], values["speakers"], values["synthetic"]) == ("voices", 80, 8, True)
    assert [split["name"] for split in values["splits"]] == [f"folds4-fold{k}-seed0" for k in range(4)]
    assert [row["extractor"] for row in values["extractors"]] == ["tuner", "learner"]
    for row in values["extractors"]:
        folds = [fold["balanced_accuracy"] for fold in row["folds"]]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(folds))
        low, high = row["balanced_accuracy_ci95"]
        assert 0 <= low <= high <= 1
        assert row["library"] == f"numpy {np.__version__}"
        assert sum(fold["clips"] for fold in row["folds"]) == 80
    assert [len(row["threshold_hz"]) for row in values["extractors"]] == [4, 0]
    assert 0 < values["extractors"][0]["unanswered"] < 1


def test_single_fold_equals_that_fold_of_all_four(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = printed(capsys, "--data", str(demo_root), "--extractors", "tuner", "--seed", "2")
    third = printed(capsys, "--data", str(demo_root), "--extractors", "tuner", "--seed", "2", "--fold", "2")
    assert third["splits"] == every["splits"][2:3]
    assert third["extractors"][0]["folds"] == every["extractors"][0]["folds"][2:3]
    assert (
        third["extractors"][0]["balanced_accuracy_ci95"] == third["extractors"][0]["folds"][0]["balanced_accuracy_ci95"]
    )


def test_cached_features_are_not_extracted_again(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(demo_root), "--extractors", "tuner", "--workers", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert main(arguments) == 0
    second = capsys.readouterr()
    assert "extracting tuner features" in first.err
    assert "extracting" not in second.err
    assert first.out == second.out
    assert len(list(Path("data/baselines").rglob("*.npy"))) == 80


def test_praat_has_a_second_row_with_a_fixed_threshold(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, given = printed(capsys, "--data", str(demo_root), "--extractors", "praat", "praat")["extractors"]
    assert given["title"] == "Praat at 155 Hz, nothing trained"
    assert given["threshold_hz"] == [155.0] * 4
    assert trained["threshold_hz"] != given["threshold_hz"]


def test_table_shows_folds_mean_and_share_without_answer(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(demo_root), "--extractors", "tuner", "--workers", "1"]) == 0
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
    assert main(["--data", source, "--extractors", "tuner", "--workers", "1"]) == 0
    assert "[red]voices[bold], 4 folds: 80 test clips" in capsys.readouterr().out


def test_a_missing_library_is_one_line_and_the_others_still_run(
    demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "ghost_voice: not installed; pip install 'agr[baselines]'"
    assert main(["--data", str(demo_root), "--extractors", "ghost", "tuner", "--json", "--workers", "1"]) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == f"agr: {line}"
    values = json.loads(shown.out)
    assert values["missing"] == {"ghost": line}
    assert [row["extractor"] for row in values["extractors"]] == ["tuner"]


def test_without_any_installed_tool_nothing_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "nowhere", "--extractors", "ghost"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1


def test_test_corpus_may_have_one_gender(
    people: Sequence[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *men = speakers(people, "male")
    trains = manifest(tmp_path / "here.csv", of(people, first, *speakers(people, "female")))
    tests = manifest(tmp_path / "there.csv", of(people, *men))
    arguments = ["--data", trains, "--test", tests, "--extractors", "tuner"]
    (row,) = printed(capsys, *arguments)["extractors"]
    assert row["recall"]["female"] is None
    assert row["recall"]["male"] == row["balanced_accuracy"]
    assert (row["folds"][0]["clips"], row["folds"][0]["speakers"]) == (30, 3)
    assert main([*arguments, "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "here to there, across corpora: 30 test clips of 3 speakers" in out
    assert "of one gender only: its recall stands for the balanced accuracy" in out


def test_cache_and_flag_of_earlier_versions_still_work(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = printed(capsys, "--data", str(demo_root), "--extractors", "tuner")
    Path("data/baselines").rename("data/rivals")
    assert main(["--data", str(demo_root), "--rivals", "tuner", "--json", "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == before
    assert "extracting" not in shown.err


def test_features_are_cached_by_content_wherever_recordings_lie(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = printed(capsys, "--data", str(demo_root), "--extractors", "tuner")
    shutil.copytree(demo_root, tmp_path / "elsewhere" / "voices")
    assert main(["--data", "elsewhere/voices", "--extractors", "tuner", "--json", "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == before
    assert "extracting" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [("--fold", "1", "--test", "demo"), ("--extractors", "nobody"), ("--split", "random")],
    ids=["fold and test", "unknown extractor", "leaky split"],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", "demo", *arguments])
    assert ended.value.code == 2


@pytest.mark.parametrize("fold", [-1, 4])
def test_no_such_fold(demo_root: Path, fold: int) -> None:
    with pytest.raises(SplitError, match=f"^--fold {fold}: expected 0 to 3$"):
        main(["--data", str(demo_root), "--extractors", "tuner", "--fold", str(fold)])
