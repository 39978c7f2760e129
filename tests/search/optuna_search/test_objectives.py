"""What a search objectives at, and which of several good trials is its champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agr.errors import SettingsError
from agr.training.loop import Epoch
from agr.training.settings import Settings
from search.optuna_search import objectives
from search.optuna_search.objectives import OBJECTIVES, TOLERANCE, measured, parse, rank, rank_by_scores
from search.session.session import Record
from search.tasks.agr_task import AGR_SCHEMA
from search.tasks.base import Objective
from tests.search.fakes import epoch

KIND = replace(AGR_SCHEMA, best_epoch=True, prunes=True)
ACCURACY, CALIBRATION, LATENCY = OBJECTIVES["balanced_accuracy"], OBJECTIVES["calibration"], OBJECTIVES["latency"]


def record(name: str, *history: Epoch, width: float = 1.0) -> Record:
    return Record(Settings(epochs=9, lr=0.01, gamma=0.5, width=width), name, KIND, "FINISHED", list(history))


def names(records: Sequence[Record]) -> str:
    return " ".join(each.run_id for each in records)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["speed"], "--objective speed: unknown; expected one of balanced_accuracy, loss, calibration, latency"),
        (["loss", "loss"], "--objective loss loss: found one of them twice; expected each once"),
        (
            ["latency", "loss"],
            "--objective latency: found first; expected one that is measured after every epoch, such as loss, before",
        ),
    ],
)
def test_invalid_objectives_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(given)


def test_objectives_keep_their_order() -> None:
    assert parse(["loss", "latency"]) == (OBJECTIVES["loss"], LATENCY)
    assert [aim.highest for aim in parse(list(OBJECTIVES)[:3])] == [True, False, False]


def test_objectives_are_metrics_of_the_epoch_or_latency_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("cnn", 0.5): 1.25, ("pooled", 1.0): 0.5}
    monkeypatch.setattr(objectives, "latency", lambda model, width: known[model, width])
    one = epoch(1, val_balanced_accuracy=0.75, val_ece=0.125)
    assert measured(ACCURACY, {}, one) == 0.75
    assert measured(CALIBRATION, {}, one) == 0.125
    assert measured(LATENCY, {"model": "cnn", "width": 0.5}, one) == 1.25
    assert measured(LATENCY, {"model": "pooled"}, one) == 0.5


def test_latency_is_measured_once_per_model_and_width(monkeypatch: pytest.MonkeyPatch) -> None:
    objectives.latency.cache_clear()
    milliseconds = iter((0.25, 0.5))
    monkeypatch.setattr("agr.training.model.latency_ms", lambda model, shape: next(milliseconds))
    assert [objectives.latency("cnn", 0.25), objectives.latency("cnn", 0.25), objectives.latency("cnn", 0.5)] == [
        0.25,
        0.25,
        0.5,
    ]
    objectives.latency.cache_clear()


def test_one_objective_ranks_by_score_then_loss_then_epochs() -> None:
    records = [
        record("low", epoch(1, val_balanced_accuracy=0.6), epoch(2, val_balanced_accuracy=0.7)),
        record("high", epoch(1, val_balanced_accuracy=0.9), epoch(2, val_balanced_accuracy=0.1)),
        record("tie", epoch(1, val_balanced_accuracy=0.9, val_loss=0.9)),
    ]
    assert names(rank(records, [ACCURACY])) == "high tie low"


def test_second_objective_ranks_trials_within_the_tolerance() -> None:
    def made(name: str, accuracy: float, ece: float) -> Record:
        return record(name, epoch(1, val_balanced_accuracy=accuracy, val_ece=ece))

    records = [
        made("best", 0.9, 0.3),
        made("close", 0.9 - 0.9 * TOLERANCE, 0.1),
        made("far", 0.9 - 1.1 * TOLERANCE, 0.01),
        made("equal", 0.9 - 0.5 * TOLERANCE, 0.1),
        made("worst", 0.5, 0.2),
    ]
    assert names(rank(records, [ACCURACY, CALIBRATION])) == "equal close best far worst"


def test_latency_ranks_trials_within_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("cnn", 1.0): 2.0, ("cnn", 0.5): 1.0}
    monkeypatch.setattr(objectives, "latency", lambda model, width: known[model, width])
    wide = record("wide", epoch(1, val_balanced_accuracy=0.9))
    narrow = record("narrow", epoch(1, val_balanced_accuracy=0.895), width=0.5)
    assert names(rank([wide, narrow], [ACCURACY, LATENCY])) == "narrow wide"
    assert names(rank([wide, narrow], [ACCURACY])) == "wide narrow"


@pytest.mark.parametrize("given", [[ACCURACY], [ACCURACY, CALIBRATION]])
def test_empty_ranking(given: list[Objective]) -> None:
    assert rank([], given) == []


def test_third_objective_breaks_ties() -> None:
    scores = [(0.9, -0.2, -3.0), (0.9, -0.2, -1.0), (0.895, -0.2, -1.0), (0.8, 0.0, 0.0)]
    assert rank_by_scores(list("abcd"), scores) == list("bcad")
