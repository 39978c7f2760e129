"""The end of a search: calibrated on validation speakers, tested once, drawn, written up, registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray

from agr import card
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import AgrError
from agr.inference import bundle, model_card, predictor
from agr.metrics import calibration, scoring
from agr.registry import resolve
from agr.registry.records import Version
from agr.registry.tracker import Tracker
from agr.registry.uri import BEST, CHALLENGER
from agr.training.model import build
from agr.training.settings import Settings
from search.outbox.outbox import Outbox
from search.results.champion import SearchResult, conclude
from search.session.session import Session
from tests.search.fakes import FakeTracker, epoch, made_report, small_split
from tests.stores import new_store

POINT = Settings(epochs=2, lr=0.01, gamma=0.5)
TAGS = {"device": "cpu", "commit": "abc", "synthetic": "true"}
PICTURES = {"grid.png", "learning_curves.png", "confusion.png", "speakers.png", "reliability.png", "coverage.png"}


@dataclass
class Registry(FakeTracker):
    """A FakeTracker that registers, too: versions and logged files as they are when they are handed over."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    best: Path | None = None

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        self.files.setdefault(run_id, set()).update(path.name for path in folder.iterdir())

    def version_by_alias(self, alias: str) -> Version | None:
        assert alias == BEST
        return Version(1, self.best) if self.best else None

    def register(self, run_id: str, folder: Path, tags: Mapping[str, object], description: str = "") -> int:
        text = (folder / model_card.FILE).read_text(encoding="utf-8")
        known = {"run": run_id, "tags": dict(tags), "description": description, "text": text}
        self.versions.append(known | {"loaded": bundle.load(folder), "seen": bundle.read_seen(folder)})
        return len(self.versions)

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases[alias] = version

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        now = self.version_by_alias(alias)
        if expected != (now.version if now else None):
            return False
        self.set_alias(alias, version)
        return True


def finished(tracker: FakeTracker | Outbox, points: Mapping[int, float], weights: bool = True) -> Session:
    """A session of trials that all ended: seeds of their weights, and their validation accuracy."""
    parent = tracker.start_run("a search", {}, {})
    session = Session("a search", tracker, parent, TAGS, planned=len(points))
    for seed, accuracy in points.items():
        session.start(str(seed), asdict(replace(POINT, seed=seed)))
        last = epoch(2, val_balanced_accuracy=accuracy)
        session.add_report(str(seed), made_report([epoch(1), last], [session.id] * 2))
        session.end(str(seed), build("cnn", seed=seed).state_dict if weights else None)
    return session


def ended(tracker: FakeTracker, data: ImageSet, split: Split) -> tuple[Session, SearchResult]:
    session = finished(tracker, {1: 0.6, 2: 0.9, 3: 0.7})
    return session, conclude(session, data, split, TAGS, promote=False)


@pytest.fixture
def tracker() -> Registry:
    return Registry()


@dataclass(frozen=True)
class Done:
    """A search that is over, and what it was of."""

    tracker: Registry
    session: Session
    ending: SearchResult
    data: ImageSet
    split: Split

    @property
    def version(self) -> dict[str, Any]:
        """The one that it registered."""
        (version,) = self.tracker.versions
        return version


@pytest.fixture(scope="module")
def done() -> Done:
    data, split = small_split()
    tracker = Registry()
    return Done(tracker, *ended(tracker, data, split), data, split)


def logits(seed: int, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    about = bundle.BundleInfo("cnn", small_split()[0].recipe, {}, {}, {}, {}, {}, {})
    return predictor.logits_of_images(pixels, bundle.Bundle(build("cnn", seed=seed), about))


def test_the_best_on_validation_is_calibrated_there_and_tested(done: Done) -> None:
    data, split, about = done.data, done.split, done.version["loaded"].info
    val, test = (logits(2, data.pixels[side]) for side in (split.val, split.test))
    expected = calibration.fit_temperature(val, data.labels[split.val])
    assert done.version["run"] == done.session.records["2"].run_id
    assert about.temperature == about.calibration["temperature"] == pytest.approx(expected, rel=1e-6)
    assert about.temperature != 1
    sure, labels = predictor.softmax(test / expected), data.labels[split.test]
    scores = scoring.score(labels, sure, data.speakers[split.test])
    assert done.ending.scores == scores
    assert about.test["balanced_accuracy"] == scores.balanced_accuracy
    assert "per_speaker" not in about.test
    assert about.calibration["ece_test"] == pytest.approx(calibration.bins(sure, labels).ece, abs=1e-9)
    known = {"ece_val_before", "ece_val_after", "nll_val_before", "nll_val_after", "nll_test"}
    assert known <= about.calibration.keys()
    assert done.version["seen"].speakers == set(data.speakers[np.concatenate([split.train, split.val])].tolist())


def test_the_registered_model_answers_with_its_temperature(done: Done) -> None:
    loaded, pixels = done.version["loaded"], done.data.pixels[done.split.test]
    assert predictor.logits_of_images(pixels, loaded) == pytest.approx(logits(2, pixels) / loaded.info.temperature)


def test_a_given_temperature_is_taken_instead(done: Done, tracker: Registry) -> None:
    session = finished(tracker, {1: 0.6, 2: 0.9, 3: 0.7})
    ending = conclude(session, done.data, done.split, TAGS, False, temperature=2.5)
    about = tracker.versions[0]["loaded"].info
    assert about.temperature == about.calibration["temperature"] == 2.5
    assert about.calibration["ece_test"] == ending.tested["test_ece"]
    assert ending.logits == pytest.approx(done.ending.logits), "as trained"


def test_the_temperature_knows_nothing_of_the_test_speakers(done: Done, tracker: Registry) -> None:
    test = done.split.test
    pixels, labels = np.array(done.data.pixels), done.data.labels.copy()
    pixels[test], labels[test] = 255 - pixels[test], 1 - labels[test]
    ended(tracker, replace(done.data, pixels=pixels, labels=labels), done.split)
    one, two = done.version["loaded"].info, tracker.versions[0]["loaded"].info
    assert one.temperature == two.temperature
    known = {key for key in one.calibration if "_val_" in key}
    assert len(known) == 4
    assert all(one.calibration[key] == two.calibration[key] for key in known)
    assert one.calibration["nll_test"] != two.calibration["nll_test"]


def test_test_speakers_are_read_after_the_temperature_and_by_the_champion_alone(
    tracker: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, split = small_split()
    read = []
    answer = predictor.logits_of_clips

    def spied(clips: ImageSet, rows: NDArray[np.int64], loaded: bundle.Bundle) -> NDArray[np.float64]:
        side = next(name for name in ("train", "val", "test") if np.array_equal(rows, getattr(split, name)))
        read.append((side, loaded.info.temperature != 1))
        return answer(clips, rows, loaded)

    monkeypatch.setattr(predictor, "logits_of_clips", spied)
    ended(tracker, data, split)
    assert read == [("val", False), ("test", True)]


def test_metrics_and_plots_are_logged_to_the_search(done: Done) -> None:
    metrics, about = done.tracker.runs[done.session.parent]["metrics"], done.version["loaded"].info
    assert done.ending.scores is not None
    assert metrics["temperature"] == about.temperature
    assert metrics["test_ece"] == about.calibration["ece_test"]
    assert metrics["test_balanced_accuracy"] == done.ending.scores.balanced_accuracy
    assert metrics["val_balanced_accuracy"] == 0.9
    assert done.tracker.files == {done.session.parent: PICTURES | {"ranking.csv"}}


def test_the_version_is_described_by_the_card_beside_its_weights(done: Done) -> None:
    text, about = done.version["text"], done.version["loaded"].info
    assert text.startswith("# Women's and men's voices: champion of a search\n")
    assert "SYNTHETIC" in text
    assert f"Temperature {about.temperature:.4f}" in text
    assert done.version["description"] == model_card.description(text)
    assert done.version["tags"]["search"] == "a search"


def test_a_leaky_split_is_neither_calibrated_nor_tested_nor_registered(tracker: Registry) -> None:
    data, split = small_split()
    session, ending = ended(tracker, data, replace(split, leaky=True))
    assert (ending.scores, ending.version, tracker.versions, tracker.aliases) == (None, None, [], {})
    assert ending.reason == "leaky split: nothing is tested or registered"
    assert not [key for key in tracker.runs[session.parent]["metrics"] if "test" in key or key == "temperature"]
    assert tracker.files[session.parent] == {"grid.png", "learning_curves.png", "ranking.csv"}


@pytest.mark.parametrize(("promote", "alias"), [(False, CHALLENGER), (True, BEST)])
def test_a_tie_challenges_unless_it_is_promoted(
    done: Done, tracker: Registry, tmp_path: Path, promote: bool, alias: str
) -> None:
    loaded = done.version["loaded"]
    bundle.save(tmp_path, loaded.model.state_dict(), loaded.info, done.version["seen"])
    tracker.best = tmp_path
    again = conclude(finished(tracker, {2: 0.9}), done.data, done.split, TAGS, promote)
    assert (again.version, again.alias, tracker.aliases) == (1, alias, {alias: 1})
    assert "a tie" in again.reason


def test_search_without_finished_trials_is_an_error(tracker: Registry) -> None:
    session = finished(tracker, {})
    with pytest.raises(AgrError, match="no champion: none of 0 trials finished"):
        conclude(session, *small_split(), TAGS, promote=False)


def test_champion_without_weights_is_an_error(tracker: Registry) -> None:
    session = finished(tracker, {1: 0.9}, weights=False)
    with pytest.raises(AgrError, match="no weights kept"):
        conclude(session, *small_split(), TAGS, promote=False)


def test_mlflow_shows_the_card_and_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = new_store(tmp_path)
    session = finished(Outbox(Tracker(uri), tmp_path / "outbox"), {1: 0.9})
    conclude(session, *small_split(), TAGS, promote=False)
    session.tracker.close()
    client = MlflowClient(uri, uri)
    version = client.get_model_version("agr", "1")
    text = (bundle.locate(resolve.resolve("models:/agr/best", uri).folder) / model_card.FILE).read_text(
        encoding="utf-8"
    )
    assert version.description == model_card.description(text)
    parent = client.get_run(session.tracker.run_id(session.parent))
    assert parent.data.metrics["temperature"] > 0
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= PICTURES
    assert card.main(["--tracking-uri", uri]) == 0
    assert capsys.readouterr().out == text
