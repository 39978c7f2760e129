"""Which point is next, against the rule said in full: every waiting point compared with every running trial."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from agr.training.settings import Settings
from search.driver.prefix_queue import PrefixQueue, balanced_queue, epoch_paths
from search.grid_search import grid

CHANCES = (0.6, 0.3, 0.05)  # of a worker asking, of a report of several epochs, of a trial that dies


@dataclass
class Rule:
    """The slow way. A point waits if a running trial has yet to do an epoch that both need and nobody did."""

    waiting: list[Settings]
    share: bool
    long: int
    running: dict[str, tuple[Settings, int]] = field(default_factory=dict)
    done: set[tuple[object, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.every = list(self.waiting)

    def take(self, trial: str) -> Settings | None:
        free = [point for point in self.waiting if not (self.share and self._must_wait(point))]
        if not free:
            return None
        sign = 1 if self.long > 0 else -1
        self.long -= 1
        point = max(free, key=lambda each: (self._way(each), sign * self._left(each)))
        self.waiting.remove(point)
        self.running[trial] = point, 0
        return point

    def reached(self, trial: str, count: int) -> None:
        point, _ = self.running[trial]
        self.running[trial] = point, count
        self.done.update(point.prefix()[: k + 1] for k in range(count))

    def _must_wait(self, point: Settings) -> bool:
        for other, count in self.running.values():
            both = 0
            while point.prefix()[: both + 1] == other.prefix()[: both + 1] and both < min(point.epochs, other.epochs):
                both += 1
            if count < both and point.prefix()[:both] not in self.done:
                return True
        return False

    def _way(self, point: Settings) -> int:
        """The longest that is left of any point that shares this one's next epoch."""
        left = self._left(point)
        known = point.epochs - left
        if not (self.share and left):
            return left
        begin = point.prefix()[: known + 1]
        return max(other.epochs - known for other in self.every if other.prefix()[: known + 1] == begin)

    def _left(self, point: Settings) -> int:
        return point.epochs - self.share * sum(point.prefix()[: k + 1] in self.done for k in range(point.epochs))


def some_points(rng: random.Random) -> list[Settings]:
    rates = rng.sample([0.1, 0.01, 0.001], rng.randint(1, 3))
    gammas = rng.sample([0.1, 0.3, 0.5, 0.7], rng.randint(1, 4))
    points = grid(rng.sample(range(1, 13), rng.randint(1, 3)), rates, gammas)
    rng.shuffle(points)
    return points


@pytest.mark.parametrize("seed", range(40))
def test_the_next_point_follows_the_rule(seed: int) -> None:
    rng = random.Random(seed)
    ask, several, death = CHANCES
    points, share, workers = some_points(rng), rng.random() < 0.8, rng.randint(1, 5)
    long = rng.randint(0, 6)
    rule, fast, asked = Rule(list(points), share, long), PrefixQueue(points, share, long), 0
    while rule.waiting or rule.running:
        if len(rule.running) < workers and (rng.random() < ask or not rule.running):
            expected = rule.take(f"t{asked}")
            assert fast.take(f"t{asked}") is expected
            asked += 1
        for trial, (point, count) in list(rule.running.items()):
            if count == point.epochs or rng.random() < death:
                del rule.running[trial]
                fast.end(trial)
            elif rng.random() < 0.5:
                further = rng.randint(count, point.epochs) if rng.random() < several else count + 1
                rule.reached(trial, further)
                fast.reached(trial, further)
        assert (len(fast), fast.running) == (len(rule.waiting), len(rule.running))


@pytest.mark.parametrize(("workers", "epochs"), [(1, 150), (2, 75), (3, 50), (4, 40), (5, 35), (6, 30), (16, 20)])
def test_duration_of_the_default_grid_by_number_of_workers(workers: int, epochs: int) -> None:
    """150 epochs, 20 of them one after the other; counted here anew, an epoch of every worker at a time."""
    waiting, trained = balanced_queue(grid(), workers), set[tuple[object, ...]]()
    running: dict[str, Settings] = {}
    passed, asked = 0, 0
    while waiting or running:
        before = len(trained)
        for slot in [f"w{k}" for k in range(workers)]:
            while True:
                if slot not in running:
                    point = waiting.take(slot)
                    if not isinstance(point, Settings):
                        break
                    running[slot], asked = point, asked + 1
                point = running[slot]
                known = waiting.done(slot)
                if known < point.epochs:
                    break
                waiting.end(slot)
                del running[slot]
        for slot, point in running.items():
            known = waiting.done(slot)
            assert point.prefix()[: known + 1] not in trained
            trained.add(point.prefix()[: known + 1])
            waiting.reached(slot, known + 1)
        passed += len(trained) > before
    assert (passed, len(trained), asked) == (epochs, 150, 27)


def test_an_exhausted_queue_returns_no_point() -> None:
    waiting = PrefixQueue([Settings(epochs=1, lr=0.1, gamma=0.5)])
    assert waiting.take("a") is not None
    assert waiting.take("b") is None
    waiting.end("a")
    assert waiting.take("b") is None
    waiting.end("a")  # Ray may say so twice
    assert waiting.running == 0


def test_shared_epochs_have_the_same_number() -> None:
    assert epoch_paths(["ab", "ac", "bb"]) == [(0, 1), (0, 2), (3, 4)]
    assert epoch_paths(["ab", "ac", "bb"], share=False) == [(0, 1), (2, 3), (4, 5)]


def test_the_work_for_ten_thousand_points_is_not_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is queued once for every epoch at most; comparing all with all would be a hundred million times."""
    points = grid((5, 10, 20), [0.1 * 0.9**k for k in range(58)], [k / 59 for k in range(1, 59)])[:10_000]
    queued = 0
    plain = heapq.heappush

    def counted(heap: list[tuple[int, ...]], item: tuple[int, ...]) -> None:
        nonlocal queued
        queued += 1
        plain(heap, item)

    monkeypatch.setattr(heapq, "heappush", counted)
    waiting = PrefixQueue(points)
    for trial in map(str, range(len(points))):
        point = waiting.take(trial)
        assert point is not None
        for count in range(1, point.epochs + 1):
            waiting.reached(trial, count)
        waiting.end(trial)
    assert 0 < queued <= 2 * sum(point.epochs + 1 for point in points), "in two orders"
