"""When two searches are the same one, and which of them counts as done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from agr.errors import StoreError
from agr.registry.records import VERSION, FinishedSearch, Store
from agr.training.settings import Settings
from search import run_grid
from search.driver.earlier import TAG, find, identity, mark
from search.grid_search import grid
from search.options import plan_of
from search.plan import Plan
from search.problems.problem import Problem
from search.results.champion import SearchResult
from search.session.session import FAILED, FINISHED, Record, Session
from search.tasks.agr_task import AgrTask
from tests.search.fakes import FakeTracker, small_images, small_split

POINTS = grid((1, 2), (0.1, 0.01), (0.5,))
DONE = FinishedSearch("run0", "grid", 0, {}, {}, (), 3, ("challenger",))


def plan(*arguments: str) -> Plan:
    return plan_of(run_grid.parse(arguments), "search/run_grid.py")


def problem(clips: int = 5, model: str = "agr", **tags: object) -> Problem:
    data, (_, split) = small_images(clips=clips), small_split()

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("no result is wanted here")

    task = AgrTask(data, split)
    return Problem(task, "made", tags, {}, data.digest, "made", (), forbidden, forbidden, model=model)


def test_the_same_points_in_another_order_are_the_same_search() -> None:
    assert identity(plan(), problem(), POINTS, "cpu") == identity(plan("--again"), problem(), POINTS[::-1], "cpu") != ""


def test_whatever_changes_the_champion_or_is_named_by_the_user_makes_another_search() -> None:
    other: list[tuple[Plan, Problem, list[Settings], str]] = [
        (plan(), problem(), POINTS, "cpu"),
        (plan("--name", "mine"), problem(), POINTS, "cpu"),
        (plan(), problem(clips=6), POINTS, "cpu"),
        (plan(), problem(model="mine"), POINTS, "cpu"),
        (plan(), problem(scored_on_folds=3), POINTS, "cpu"),
        (plan(), problem(), POINTS[:-1], "cpu"),
        (plan(), problem(), [*POINTS[:-1], replace(POINTS[-1], dropout=0.5)], "cpu"),
        (plan(), problem(), POINTS, "cuda"),
    ]
    assert len({identity(*each) for each in other}) == len(other)


def test_another_training_code_makes_another_search(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(plan(), problem(), POINTS, "cpu")
    monkeypatch.setattr("search.stages.store.VERSION", "another")
    assert identity(plan(), problem(), POINTS, "cpu") != before


def test_a_search_whose_epochs_are_not_known_by_their_content_is_never_the_same() -> None:
    class Unknown(AgrTask):
        def lineage(self, point: Any, device: str) -> Any:
            return None

    data, split = small_split()
    assert identity(plan(), replace(problem(), task=Unknown(data, split)), POINTS, "cpu") == ""
    assert identity(plan(), problem(), (), "cpu") == ""


class Asked:
    """A store that has one search, or answers with an error."""

    def __init__(self, answer: FinishedSearch | StoreError | None) -> None:
        self.answer, self.aliases = answer, dict[str, int]()

    def finished_search(self, tags: Mapping[str, str]) -> FinishedSearch | None:
        assert tags == {TAG: "abc"}
        if isinstance(self.answer, StoreError):
            raise self.answer
        return self.answer

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases[alias] = version


def ask(answer: FinishedSearch | StoreError | None, promote: bool = False) -> tuple[FinishedSearch | None, Asked]:
    store = Asked(answer)
    return find("abc", cast(Store, store), promote), store


def test_a_finished_search_is_found_and_its_champion_promoted_if_that_is_asked() -> None:
    assert ask(DONE)[0] == DONE
    found, store = ask(DONE, promote=True)
    assert found is not None
    assert (found.alias, store.aliases) == ("best", {"best": 3})
    assert ask(replace(DONE, aliases=("best",)), promote=True)[1].aliases == {}


@pytest.mark.parametrize("answer", [None, StoreError("refused", passing=False), StoreError("away", passing=True)])
def test_a_store_without_an_answer_has_no_such_search(answer: StoreError | None) -> None:
    assert ask(answer)[0] is None
    assert find("", cast(Store, None), promote=False) is None


def searched(*statuses: str, refused: int = 0, version: int | None = 3) -> Mapping[str, object]:
    """The tags of a search whose trials ended so, and of which MLflow refused so many calls."""
    tracker = FakeTracker(refused=refused)
    run = tracker.start_run("grid", {}, {})
    session = Session("grid", tracker, run, {}, planned=2)
    for number, status in enumerate(statuses):
        session.records[str(number)] = Record(POINTS[number], str(number), status=status)
    mark(session, "abc", SearchResult([], None, version, "best", ""))
    return cast(Mapping[str, object], tracker.runs[run]["tags"])


def test_only_a_search_that_is_whole_is_marked() -> None:
    assert searched(FINISHED, FINISHED) == {TAG: "abc", VERSION: 3}
    assert searched(FINISHED, FINISHED, version=None) == {TAG: "abc"}
    assert searched(FINISHED, FAILED) == {}
    assert searched(FINISHED) == {}
    assert searched(FINISHED, FINISHED, refused=1) == {}
