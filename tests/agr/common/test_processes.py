"""Work spread over processes: every result once, errors passed on, nothing left behind."""

from __future__ import annotations

import math
import multiprocessing
import operator
import os
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from agr.common import processes
from agr.common.processes import CHUNK, WORKER_ENVIRONMENT, map_unordered


def no_child_is_left(seconds: float = 20) -> bool:
    """Whether all processes that were started have ended within that time."""
    ends = time.monotonic() + seconds
    while multiprocessing.active_children() and time.monotonic() < ends:
        time.sleep(0.01)
    return not multiprocessing.active_children()


@pytest.mark.parametrize(("items", "workers"), [(0, 2), (1, 2), (CHUNK, 8), (5 * CHUNK, 1), (5 * CHUNK, 0)])
def test_little_work_or_one_worker_starts_no_process(monkeypatch: pytest.MonkeyPatch, items: int, workers: int) -> None:
    def refuse(*_: object, **__: object) -> ProcessPoolExecutor:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    assert list(map_unordered(operator.neg, range(items), workers)) == [-i for i in range(items)]


@pytest.mark.parametrize("items", [CHUNK + 1, 5 * CHUNK + 3])
def test_every_item_is_worked_on_once_by_other_processes(items: int) -> None:
    assert sorted(map_unordered(operator.neg, range(items), 2)) == sorted(-i for i in range(items))
    assert no_child_is_left()


def test_workers_use_one_thread_each_and_our_own_setting_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = WORKER_ENVIRONMENT
    monkeypatch.setenv(first, "7")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    assert set(map_unordered(os.getenv, [first, others[0]] * CHUNK, 2)) == {"1"}
    assert [os.environ.get(name) for name in WORKER_ENVIRONMENT] == ["7", *(None for _ in others)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_work_reaches_the_caller(workers: int) -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(map_unordered(math.sqrt, [4.0] * CHUNK + [-1.0] * CHUNK, workers))
    assert no_child_is_left()


def test_a_caller_who_stops_early_leaves_no_process() -> None:
    results = map_unordered(operator.neg, range(10 * CHUNK), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert no_child_is_left()
