from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from agr.data import corpus, preparation
from agr.data.image_set import ImageSet
from agr.errors import SettingsError, SplitError
from agr.recipes.voice import VOICE
from agr.synth import demo
from agr.training import augmentation

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "augmentation.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_augmentation", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = loaded()


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six other synthetic speakers, prepared."""
    root = tmp_path_factory.mktemp("others")
    demo.write_demo(root / "voices", speakers=6, repetitions=1, seed=5)
    preparation.prepare(corpus.open_corpus(str(root / "voices"), root), root / "strangers", VOICE)
    return root / "strangers"


def test_a_part_is_switched_off_alone_and_used_alone() -> None:
    rows = bench.strengths(augmentation.DEFAULT, ["room"], ["pitch=0.4,noise=0"])
    assert list(rows) == ["everything", "nothing", "without room", "only room", "pitch=0.4,noise=0"]
    assert rows["without room"] == augmentation.parse(["room=0"])
    assert rows["only room"] == replace(augmentation.NONE, room=augmentation.DEFAULT.room)
    assert rows["pitch=0.4,noise=0"] == augmentation.parse(["pitch=0.4", "noise=0"])


def test_other_strengths_change_what_everything_was_set_to() -> None:
    rows = bench.strengths(augmentation.parse(["line=0.9"]), [], ["pitch=0.4"])
    assert rows["pitch=0.4"] == augmentation.parse(["line=0.9", "pitch=0.4"])


def test_an_unknown_part_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="--parts loudness: expected some of speed, pitch"):
        bench.strengths(augmentation.DEFAULT, ["loudness"], [])


@pytest.mark.parametrize(
    ("row", "other"),
    [("everything", None), ("nothing", "everything"), ("without room", "everything"), ("only room", "nothing")],
)
def test_each_row_is_compared_with_everything_or_nothing(row: str, other: str | None) -> None:
    assert bench.against(row) == other


def test_a_part_counts_as_harmful_only_if_every_set_is_surely_better_without() -> None:
    everything, better, unsure = np.array([0.8, 0.9, 0.7]), np.array([0.85, 0.94, 0.75]), np.array([0.9, 0.8, 0.75])
    clear = {"everything": everything, "without room": better, "without line": better}
    mixed = {"everything": everything, "without room": better, "without line": unsure}
    assert bench.better_without([clear, clear]) == ["room", "line"]
    assert bench.better_without([clear, mixed]) == ["room"]


def test_the_error_of_a_mean_is_that_of_a_sample() -> None:
    assert bench.error(np.array([1.0, 2.0, 3.0])) == pytest.approx(1 / 3**0.5)


def test_every_clip_trains_without_folds_and_none_tests(voice_images: ImageSet) -> None:
    split = bench.divide(voice_images, 0, 0, 0)
    assert (len(split.train), len(split.test)) == (len(voice_images), 0)


def test_clips_are_heard_as_they_are_too(voice_images: ImageSet) -> None:
    rows = np.arange(5, 15)
    clips = bench.heard(voice_images, rows)
    assert np.array_equal(clips.pictures["as recorded"], voice_images.pixels[rows])
    assert len({clips.pictures[way].tobytes() for way in bench.HEARD}) == 3


def test_images_without_voice_features_are_refused(images: ImageSet) -> None:
    with pytest.raises(SettingsError, match="images of recipe mfcc; expected voice"):
        bench.heard(images, np.arange(4))


def test_a_second_call_goes_on_where_the_first_ended(
    voice_root: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.md"
    given = ["--train", str(voice_root), "--test", str(others), "--epochs", "1", "--out", str(out)]
    given += ["--folds", "4", "--seeds", "1"]
    assert bench.main([*given, "--parts"]) == 0
    kept = json.loads(out.with_suffix(".json").read_text())
    assert len(kept) == 4 * 2
    printed = capsys.readouterr()
    assert out.read_text().count("| nothing |") == 2 and out.read_text() in printed.out
    assert bench.main([*given, "--parts", "room"]) == 0
    after = json.loads(out.with_suffix(".json").read_text())
    assert len(after) == 4 * 4 and all(after[key] == kept[key] for key in kept)
    assert "nothing" not in capsys.readouterr().err


def test_clips_that_train_are_not_tested_on(voice_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"--test .*recordings are also in --train"):
        bench.main(["--train", str(voice_root), "--test", str(voice_root), "--out", str(tmp_path / "x.md")])


def test_something_must_be_tested_on(voice_root: Path) -> None:
    with pytest.raises(SettingsError, match="0 without --test"):
        bench.main(["--train", str(voice_root), "--folds", "0"])


def test_results_that_cannot_be_read_are_refused_by_name(voice_root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{half")
    with pytest.raises(SettingsError, match=r"x\.json: .*expected what an earlier call wrote"):
        bench.main(["--train", str(voice_root), "--seeds", "1", "--out", str(tmp_path / "x.md")])
