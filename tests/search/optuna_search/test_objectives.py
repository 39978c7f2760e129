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
from search.tasks.agr_task import VOICES
from search.tasks.base import Objective
from tests.search.parts import epoch

KIND = replace(VOICES, best_epoch=True, prunes=True)
ACCURACY, CALIBRATION, LATENCY = OBJECTIVES["balanced_accuracy"], OBJECTIVES["calibration"], OBJECTIVES["latency"]


def record(name: str, *history: Epoch, width: float = 1.0) -> Record:
    return Record(Settings(epochs=9, lr=0.01, gamma=0.5, width=width), name, KIND, "FINISHED", list(history))


def names(records: Sequence[Record]) -> str:
    return " ".join(each.run_id for each in records)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["speed"], "--objective speed: unknown; expected one of balanced_accuracy, loss, calibration, latency"),
        (["loss", "loss"], "--objective loss loss: one of them twice; expected each once"),
        (
            ["latency", "loss"],
            "--objective latency: the first aim; expected one that every epoch has, such as loss, before",
        ),
    ],
)
def test_what_cannot_be_aimed_at_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(given)


def test_aims_are_known_by_name_in_the_order_given() -> None:
    assert parse(["loss", "latency"]) == (OBJECTIVES["loss"], LATENCY)
    assert [aim.highest for aim in parse(list(OBJECTIVES)[:3])] == [True, False, False]


def test_an_epochs_aims_are_its_metrics_and_latency_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("cnn", 0.5): 1.25, ("pooled", 1.0): 0.5}
    monkeypatch.setattr(objectives, "latency", lambda model, width: known[model, width])
    one = epoch(1, val_balanced_accuracy=0.75, val_ece=0.125)
    assert measured(ACCURACY, {}, one) == 0.75
    assert measured(CALIBRATION, {}, one) == 0.125
    assert measured(LATENCY, {"model": "cnn", "width": 0.5}, one) == 1.25
    assert measured(LATENCY, {"model": "pooled"}, one) == 0.5


def test_latency_is_measured_once_for_a_model_and_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    objectives.latency.cache_clear()
    milliseconds = iter((0.25, 0.5))
    monkeypatch.setattr("agr.training.model.latency_ms", lambda model: next(milliseconds))
    assert [objectives.latency("cnn", 0.25), objectives.latency("cnn", 0.25), objectives.latency("cnn", 0.5)] == [
        0.25,
        0.25,
        0.5,
    ]
    objectives.latency.cache_clear()


def test_of_one_aim_the_best_epoch_decides_then_the_loss_then_length() -> None:
    records = [
        record("low", epoch(1, val_balanced_accuracy=0.6), epoch(2, val_balanced_accuracy=0.7)),
        record("high", epoch(1, val_balanced_accuracy=0.9), epoch(2, val_balanced_accuracy=0.1)),
        record("tie", epoch(1, val_balanced_accuracy=0.9, val_loss=0.9)),
    ]
    assert names(rank(records, [ACCURACY])) == "high tie low"


def test_of_two_aims_the_second_decides_among_those_close_to_the_best_of_the_first() -> None:
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


def test_latency_may_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("cnn", 1.0): 2.0, ("cnn", 0.5): 1.0}
    monkeypatch.setattr(objectives, "latency", lambda model, width: known[model, width])
    wide = record("wide", epoch(1, val_balanced_accuracy=0.9))
    narrow = record("narrow", epoch(1, val_balanced_accuracy=0.895), width=0.5)
    assert names(rank([wide, narrow], [ACCURACY, LATENCY])) == "narrow wide"
    assert names(rank([wide, narrow], [ACCURACY])) == "wide narrow"


@pytest.mark.parametrize("given", [[ACCURACY], [ACCURACY, CALIBRATION]])
def test_of_nothing_nothing_is_best(given: list[Objective]) -> None:
    assert rank([], given) == []


def test_the_rule_looks_at_a_third_aim_where_two_are_the_same() -> None:
    scores = [(0.9, -0.2, -3.0), (0.9, -0.2, -1.0), (0.895, -0.2, -1.0), (0.8, 0.0, 0.0)]
    assert rank_by_scores(list("abcd"), scores) == list("bcad")
