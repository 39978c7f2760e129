"""The strategy of `run_optuna.py`: what goes together, what a study is, which trial is the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from agr.errors import SettingsError
from search.driver.context import SearchContext
from search.optuna_search import objectives, warm_start
from search.optuna_search.ask_tell import Budget
from search.optuna_search.ranges import Choices, Range
from search.optuna_search.samplers import study_storage
from search.optuna_search.searcher import scheduler
from search.optuna_search.space import Space
from search.optuna_search.strategy import OptunaStrategy, best_over_folds, with_stored_champion
from search.session.session import Record
from search.tasks.agr_task import FoldPoint, agr_point
from search.tasks.base import EpochMetrics
from tests.search.fakes import epoch
from tests.search.optuna_search.fakes import (
    BASE,
    OPTUNA_SCHEMA,
    SPACE,
    FakeTrackerWithTrials,
    ask_tell,
    context,
    keep,
    strategy,
)

BOTH = (objectives.OBJECTIVES["balanced_accuracy"], objectives.OBJECTIVES["calibration"])

# What goes together


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"objectives": BOTH, "scheduler": "asha"}, "--scheduler asha: found 2 objectives; expected none with several"),
        ({"folds": 4, "scheduler": "hyperband"}, "--scheduler hyperband: expected none with --score-folds"),
        (
            {"objectives": BOTH, "sampler": "cmaes"},
            "--sampler cmaes: found 2 objectives; expected tpe, random or nsga2",
        ),
        ({"folds": 4, "budget": Budget(3)}, "--budget 3: expected --score-folds 4 or more"),
        ({"space": Space({"lr": Range(0.1, 0.2)}, {})}, "--space: no epochs; expected a line epochs = ..."),
    ],
)
def test_incompatible_settings_are_refused(others: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        strategy("nowhere", **others)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("space", "most"),
    [
        (SPACE, 6),
        (Space({"epochs": Choices((5, 9, 3))}, {}), 9),
        (Space({"lr": Range(0.1, 0.2)}, {"epochs": 7}), 7),
    ],
)
def test_most_epochs_come_from_the_space(space: Space, most: int) -> None:
    assert strategy("nowhere", space=space).most_epochs == most


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_scheduler_does_not_prune_finished_trials(name: str) -> None:
    made = scheduler(name, 20)
    assert type(made).__name__ == "AsyncHyperBandScheduler"
    trial = Trial("made", stub=True)
    made.on_trial_add(None, trial)
    told = [
        made.on_trial_result(None, trial, {"epoch": n, "score": 0.5, "training_iteration": n}) for n in (19, 20, 21)
    ]
    assert told == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]
    for made in (scheduler("none", 20), scheduler(name, 2)):
        assert type(made).__name__ == "FIFOScheduler"


# Studies


def test_equal_searches_share_a_study(tmp_path: Path) -> None:
    where, other = context(tmp_path / "a").problem, context(tmp_path / "b").problem
    first = strategy(tmp_path / "journal").study(where).study_name
    assert strategy(tmp_path / "journal", epochs=500, repeat_best=3, warm_start=False).study(where).study_name == first
    changed = [
        strategy(tmp_path / "journal", seed=1).study(where),
        strategy(tmp_path / "journal", scheduler="asha").study(where),
        strategy(tmp_path / "journal", sampler="tpe").study(where),
        strategy(tmp_path / "journal", folds=2).study(where),
        strategy(tmp_path / "journal", objectives=BOTH).study(where),
        strategy(tmp_path / "journal", base=BASE | {"batch_size": 64}).study(where),
        strategy(tmp_path / "journal", space=Space({"epochs": Range(2, 6)}, SPACE.fixed)).study(where),
        strategy(tmp_path / "journal").study(replace(other, digest="other")),
        strategy(tmp_path / "journal").study(replace(other, tags=dict(other.tags) | {"split_digest": "x"})),
    ]
    assert len({first, *(study.study_name for study in changed)}) == len(changed) + 1


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random", "nsga2"])
def test_every_sampler_proposes_within_the_space_without_warnings(tmp_path: Path, name: str) -> None:
    where = context(tmp_path / "stages")
    book = ask_tell(strategy(tmp_path / "journal", epochs=None, sampler=name), where)
    for turn in range(8):
        asked = book.ask()
        assert asked is not None
        assert not SPACE.outside(asked.config)
        book.advance(asked, 0, [epoch(1, val_balanced_accuracy=0.5 + turn / 20)], read=False)
        book.advance(asked, 0, [epoch(n) for n in range(2, asked.epochs + 1)], read=False)
        book.end(asked, 0)
    assert {trial.state for trial in book.study.trials} == {TrialState.COMPLETE}


def test_a_study_may_be_kept_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[RDBStorage] = []

    class Storage(RDBStorage):
        def __init__(self, url: str) -> None:
            super().__init__(url)
            opened.append(self)

    monkeypatch.setattr("optuna.storages.RDBStorage", Storage)
    where = context(tmp_path / "stages").problem
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    study = strategy(url).study(where)
    study.enqueue_trial({"lr": 0.01})
    assert len(strategy(url).study(where).trials) == 1
    assert len(opened) == 2
    for each in opened:
        each.remove_session()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nodatabase://somewhere", "--study-storage nodatabase://somewhere: "),
        ("nodatabase://me:secret@somewhere/db", "--study-storage nodatabase://***@somewhere/db: "),
    ],
)
def test_unusable_study_storage_is_one_line_without_passwords(url: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        study_storage(url)
    assert str(caught.value).startswith(reason)
    assert str(caught.value).endswith("; expected a file, or a database's URL")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_unwritable_study_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"--study-storage .*/file/studies.journal: .*; expected a file, or"):
        study_storage(str(tmp_path / "file" / "studies.journal"))


# Champions


def trial(study: optuna.Study, score: float, *values: float) -> None:
    attrs = {"chosen": 1, "score": score, "config": {}}
    state = TrialState.COMPLETE if values else TrialState.PRUNED
    study.add_trial(optuna.trial.create_trial(state=state, values=values or None, user_attrs=attrs))


def test_best_over_folds_may_be_a_pruned_trial() -> None:
    study = optuna.create_study(direction="maximize")
    assert best_over_folds(study) is None
    trial(study, 0.7, 0.7)
    trial(study, 0.8)
    study.add_trial(optuna.trial.create_trial(value=0.99, user_attrs={"run_id": "another search's"}))
    best = best_over_folds(study, BOTH[:1])
    assert best is not None
    assert best.number == 1


def test_several_objectives_rank_folds_too() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for accuracy, error in ((0.9, 0.5), (0.895, 0.1), (0.8, 0.01)):
        trial(study, accuracy, accuracy, error)
    best = best_over_folds(study, BOTH)
    assert best is not None
    assert best.number == 1
    first = best_over_folds(study)
    assert first is not None
    assert first.number == 0


def ended(where: SearchContext, made: OptunaStrategy, params: dict[str, Any], *scores: Sequence[float]) -> None:
    """A trial of the study, one fold after another, its stages stored."""
    study = made.study(where.problem)
    study.enqueue_trial(params)
    book = ask_tell(made, where)
    asked = book.ask()
    assert asked is not None
    for fold, series in enumerate(scores):
        epochs = [epoch(number, val_balanced_accuracy=score) for number, score in enumerate(series, start=1)]
        book.advance(asked, fold, epochs, read=False)
        keep(where, asked.points[fold], series)
        book.end(asked, fold)


def searched(where: SearchContext, made: OptunaStrategy) -> optuna.Study:
    """What `OptunaStrategy.train` does, with epochs that cost no time."""
    study = made.study(where.problem)
    book = made.ask_tell(where, study)
    made.begin(where, study, warm_start.replay_study(where, book, made.expand(where.problem)))
    while asked := book.ask():
        for fold in range(len(asked.points)):
            for number in range(1, asked.epochs + 1):
                score = 0.9 - float(asked.config["lr"]) - abs(number - 3) / 100
                book.advance(asked, fold, [epoch(number, val_balanced_accuracy=score)], read=False)
            book.end(asked, fold)
        assert best_over_folds(study, made.objectives) is not None
    return study


@pytest.mark.parametrize("more", [{}, {"folds": 2}, {"objectives": BOTH}], ids=["one fold", "folds", "objectives"])
def test_a_search_killed_after_any_record_of_its_study_goes_on(more: dict[str, Any], tmp_path: Path) -> None:
    """The last trial has any number of its epochs and may be told or not; then the second search is killed too."""

    def goes_on(records: Sequence[str], kept: int) -> list[str]:
        cut = tmp_path / "cut"
        cut.write_text("".join(records[:kept]))
        study = searched(context(tmp_path / "stages"), strategy(cut, epochs=10, **more))
        assert all(trial.state.is_finished() for trial in study.trials)
        assert sum(trial.user_attrs.get("spent", 0) for trial in study.trials) <= 10
        assert any(trial.params == first and "chosen" in trial.user_attrs for trial in study.trials) or kept < 3
        return cut.read_text().splitlines(keepends=True)

    whole = tmp_path / "whole"
    first = searched(context(tmp_path / "stages"), strategy(whole, epochs=10, **more)).trials[0].params
    records = whole.read_text().splitlines(keepends=True)
    assert len(records) > 20
    for kept in range(len(records)):
        goes_on(records, kept)
    again = goes_on(records, 5)
    for kept in range(5, 15):
        goes_on(again, kept)


def test_a_study_whose_budget_is_spent_is_ranked_without_training(tmp_path: Path) -> None:
    where, made = context(tmp_path / "stages"), strategy(tmp_path / "journal", epochs=5)
    ended(where, made, {"epochs": 3, "lr": 0.01}, (0.5, 0.9, 0.6))
    ended(where, made, {"epochs": 2, "lr": 0.02}, (0.7, 0.8))
    ranking = made.train(where)
    assert [(record.settings.config()["lr"], record.chosen.epoch, record.score) for record in ranking] == [
        (0.01, 2, 0.9),
        (0.02, 2, 0.8),
    ]
    assert where.session.trained == 0
    tracker = where.session.tracker
    assert isinstance(tracker, FakeTrackerWithTrials)
    assert len(tracker.runs[where.session.parent]["folders"]) == 1


def test_the_best_over_folds_is_trained_on_the_searchs_own_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, made = context(tmp_path / "stages"), strategy(tmp_path / "journal", epochs=10, folds=2)
    ended(where, made, {"epochs": 3, "lr": 0.01}, (0.5, 0.6, 0.9), (0.5, 0.8, 0.1))
    ended(where, made, {"epochs": 2, "lr": 0.02}, (0.5, 0.6), (0.6, 0.6))
    champion = agr_point(BASE | dict(SPACE.fixed) | {"epochs": 2, "lr": 0.01})
    keep(where, champion, (0.4, 0.3))  # so that it need not be trained here
    ranking = made.train(where)
    assert [(record.settings, record.chosen.epoch) for record in ranking] == [(champion, 2)]
    assert not any(isinstance(record.settings, FoldPoint) for record in ranking)
    assert "best mean over 2 folds: val balanced accuracy 0.7000\n" in capsys.readouterr().out


def test_champion_without_a_stage_is_trained_again(tmp_path: Path) -> None:
    where = context(tmp_path / "stages")
    point = agr_point(BASE | dict(SPACE.fixed) | {"epochs": 4, "lr": 0.01})
    history: list[EpochMetrics] = [
        epoch(number, val_balanced_accuracy=score) for number, score in enumerate((0.5, 0.9, 0.6), start=1)
    ]
    record = Record(point, "run", OPTUNA_SCHEMA, "FINISHED", history)
    with pytest.raises(AssertionError, match="neither Ray"):
        with_stored_champion(where, [record])
    keep(where, point, (0.5, 0.9))
    assert with_stored_champion(where, [record]) == [record]
    assert with_stored_champion(where, []) == []
