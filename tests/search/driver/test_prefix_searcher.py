"""Ray Tune driving the searcher, played by a small simulation in made-up time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from agr.training.settings import STEP_SIZE, Settings
from search.driver.prefix_searcher import PrefixSearcher
from search.grid_search import grid
from search.optuna_search.searcher import common
from search.tasks.agr_task import FoldPoint
from search.tasks.base import distinct_epochs
from tests.search.fakes import progress_report

Rates = tuple[float, ...]
RETRIES = 2


@dataclass
class Simulation:
    """Workers, a stage store and a driver that hears of each epoch `lag` later; `dies` says when a worker does.

    `trained`: how often each epoch, named by the learning rates up to it, was trained. A trial that died is
    started again RETRIES times, from the deepest stage, without the searcher hearing of it: so does Ray Tune.
    """

    points: Sequence[Settings]
    workers: int
    duration: Callable[[], float] = lambda: 1.0
    lag: Callable[[], float] = lambda: 0.0
    dies: Callable[[], bool] = lambda: False
    share: bool = True
    trained: Counter[Rates] = field(default_factory=Counter)
    handed_out: list[Settings] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)  # epochs trained by each trial, in the order of the beginnings
    failed: int = 0
    now: float = 0.0
    most: int = 0

    def run(self) -> Simulation:
        self._searcher = PrefixSearcher(self.points, self.workers, share=self.share)
        self._store: set[Rates] = set()
        self._ends = {point.epochs for point in self.points}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._running: dict[str, Settings] = {}
        self._deaths: Counter[str] = Counter()
        self._said: dict[str, float] = {}
        self._ask()
        while self._events:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._ask()
        assert not self._running
        return self

    def _ask(self) -> None:
        """As often as Ray would, and more: until it is told to wait."""
        for _ in range(len(self.points) + 1):
            trial = f"t{len(self.handed_out)}"
            suggested = self._searcher.suggest(trial)
            if not isinstance(suggested, dict):
                break
            assert len(self._running) < self.workers, "more trials than there are workers"
            point = Settings(**suggested)
            self.handed_out.append(point)
            self.computed.append(0)
            self._running[trial] = point
            self.most = max(self.most, len(self._running))
            self._later(self.duration(), partial(self._begin, trial, point))
        waiting = len(self.points) - len(self.handed_out)
        assert (suggested == "FINISHED") == (waiting == 0)
        assert self._running or not waiting, "everybody waits and nobody runs"

    def _later(self, delay: float, what: Callable[[], None]) -> None:
        self._number = getattr(self, "_number", 0) + 1
        heapq.heappush(self._events, (self.now + delay, self._number, what))

    def _say(self, trial: str, what: Callable[[], None]) -> None:
        """The driver hears of one trial's news in their order."""
        at = max(self.now + self.lag(), self._said.get(trial, 0.0))
        self._said[trial] = at
        self._later(at - self.now, what)

    def _begin(self, trial: str, point: Settings) -> None:
        rates = point.rates()
        known = max((k for k in range(1, len(rates) + 1) if rates[:k] in self._store), default=0) if self.share else 0
        if known:
            self._say(trial, lambda: self._searcher.on_trial_result(trial, progress_report(known)))
        self._go_on(trial, point, known, known)

    def _go_on(self, trial: str, point: Settings, read: int, done: int) -> None:
        if self.dies():
            self._die(trial, point)
        elif done == point.epochs:
            self._say(trial, lambda: self._end(trial))
        else:
            self._later(self.duration(), lambda: self._train(trial, point, read, done + 1))

    def _train(self, trial: str, point: Settings, read: int, count: int) -> None:
        """One more epoch: keep its stage, drop one's own before it unless trials may start there, and tell."""
        rates = point.rates()
        self.trained[rates[:count]] += 1
        self.computed[int(trial[1:])] += 1
        self._store.add(rates[:count])
        if count - 1 > read and (count - 1) % STEP_SIZE and count - 1 not in self._ends:
            self._store.discard(rates[: count - 1])
        self._say(trial, lambda: self._searcher.on_trial_result(trial, progress_report(count)))
        self._go_on(trial, point, read, count)

    def _die(self, trial: str, point: Settings) -> None:
        self._deaths[trial] += 1
        if self._deaths[trial] <= RETRIES:
            self._later(self.duration(), partial(self._begin, trial, point))
        else:
            self.failed += 1
            self._say(trial, lambda: self._end(trial, error=True))

    def _end(self, trial: str, error: bool = False) -> None:
        self._searcher.on_trial_complete(trial, None if error else progress_report(1), error=error)
        del self._running[trial]


def assert_each_point_once(done: Simulation) -> None:
    assert sorted(map(repr, done.handed_out)) == sorted(map(repr, done.points))


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 27, 100])
def test_27_trials_train_150_distinct_epochs_once(workers: int) -> None:
    done = Simulation(grid(), workers).run()
    assert set(done.trained.values()) == {1}
    assert sum(done.computed) == 150
    assert done.most <= workers
    assert_each_point_once(done)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(12))
def test_no_epoch_is_trained_twice_however_long_each_takes(workers: int, seed: int) -> None:
    draw = random.Random(seed)
    done = Simulation(grid(), workers, lambda: draw.expovariate(1.0), lambda: draw.choice([0.0, draw.random()])).run()
    assert set(done.trained.values()) == {1}
    assert sum(done.computed) == 150
    assert_each_point_once(done)


def random_grid(draw: random.Random) -> list[Settings]:
    """Lengths on and off the steps, gammas 0 and 1 among them, rates that reach each other by a gamma."""
    epochs = draw.sample([1, 2, 4, 5, 6, 9, 10, 11, 15, 16], draw.randint(1, 4))
    lr = draw.sample([1.0, 0.5, 0.25, 0.1, 0.01], draw.randint(1, 3))
    return grid(epochs, lr, draw.sample([0.0, 0.1, 0.25, 0.5, 1.0], draw.randint(1, 3)))


@pytest.mark.parametrize("seed", range(60))
def test_other_grids_train_each_distinct_epoch_once(seed: int) -> None:
    draw = random.Random(seed)
    points = random_grid(draw)
    done = Simulation(points, draw.randint(1, 8), draw.random, draw.random).run()
    assert set(done.trained.values()) == {1}
    assert sum(done.computed) == distinct_epochs(points)
    assert_each_point_once(done)


@pytest.mark.parametrize("seed", range(60))
def test_no_point_waits_forever_when_trials_die(seed: int) -> None:
    draw = random.Random(seed)
    points, chance = (grid() if seed % 2 else random_grid(draw)), draw.choice([0.02, 0.2, 0.6, 1.0])
    dies = lambda: draw.random() < chance  # noqa: E731
    done = Simulation(points, draw.randint(1, 8), draw.random, draw.random, dies).run()
    assert_each_point_once(done)
    assert done.failed == len(points) or chance < 1.0


@pytest.mark.parametrize("seed", range(20))
def test_no_epoch_is_trained_twice_after_restarts(seed: int) -> None:
    """A worker dies between two epochs here, so that none is lost: what is trained again would be the searcher's."""
    draw = random.Random(seed)
    left = [10]

    def dies() -> bool:
        left[0] -= draw.random() < 0.05
        return left[0] >= 0 and draw.random() < 0.05

    done = Simulation(grid(), draw.randint(1, 8), draw.random, draw.random, dies).run()
    assert set(done.trained.values()) == {1}
    assert done.failed or sum(done.computed) == 150


def test_the_longest_points_train_first_and_the_others_are_read() -> None:
    done = Simulation(grid(), 1).run()
    assert done.computed == [20] * 3 + [15] * 6 + [0] * 18
    assert [point.epochs for point in done.handed_out[:9]] == [20] * 9


def test_two_workers_are_always_busy() -> None:
    """150 epochs and 27 beginnings, each of a unit of time, on two workers: 88.5 units if none ever waited."""
    assert Simulation(grid(), 2).run().now <= 100


def test_no_point_waits_without_sharing() -> None:
    searcher = PrefixSearcher(grid(), 27, share=False)
    handed = [searcher.suggest(f"t{index}") for index in range(28)]
    assert all(isinstance(each, dict) for each in handed[:27])
    assert handed[27] == "FINISHED"
    done = Simulation(grid(), 4, share=False).run()
    assert sum(done.computed) == 315
    assert_each_point_once(done)


def test_a_point_waits_only_for_shared_epochs() -> None:
    short, long, other = (Settings(epochs=n, lr=0.1, gamma=g) for n, g in ((10, 0.5), (20, 0.5), (10, 0.1)))
    searcher = PrefixSearcher([short, long, other], 3)
    assert searcher.suggest("a") == asdict(long)
    assert searcher.suggest("b") is None
    searcher.on_trial_result("a", progress_report(4))
    assert searcher.suggest("b") is None
    searcher.on_trial_result("a", progress_report(5))
    assert searcher.suggest("b") == asdict(other)
    assert searcher.suggest("c") is None
    searcher.on_trial_result("a", progress_report(10))
    assert searcher.suggest("c") == asdict(short)
    assert searcher.suggest("d") == "FINISHED"


def test_a_point_does_not_wait_for_one_that_only_reads_shared_epochs() -> None:
    searcher = PrefixSearcher([Settings(epochs=n, lr=0.1, gamma=g) for n, g in ((20, 0.1), (20, 0.5), (10, 0.3))], 2)
    searcher.suggest("a")
    for count in range(1, 21):
        searcher.on_trial_result("a", progress_report(count))
    searcher.on_trial_complete("a", progress_report(20))
    assert isinstance(searcher.suggest("b"), dict)
    assert isinstance(searcher.suggest("c"), dict)


def test_a_waiting_point_takes_over_from_a_failed_trial() -> None:
    long, other = Settings(epochs=20, lr=0.1, gamma=0.5), Settings(epochs=10, lr=0.1, gamma=0.1)
    searcher = PrefixSearcher([long, other], 2)
    searcher.suggest("a")
    searcher.on_trial_result("a", progress_report(2))
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("b") == asdict(other)


def test_folds_of_the_same_settings_do_not_wait_for_each_other() -> None:
    settings = Settings(epochs=6, lr=0.1, gamma=0.5)
    points = [FoldPoint(settings, 1), FoldPoint(settings, 2), FoldPoint(replace(settings, epochs=5), 2)]
    searcher = PrefixSearcher(points, 3)
    assert [searcher.suggest(trial) for trial in "ab"] == [asdict(settings) | {"fold": fold} for fold in (1, 2)]
    assert searcher.suggest("c") is None, "the same fold is shared"
    searcher.on_trial_result("a", progress_report(6))
    assert searcher.suggest("c") is None
    searcher.on_trial_result("b", progress_report(5))
    assert searcher.suggest("c") == asdict(settings) | {"epochs": 5, "fold": 2}


def test_the_searcher_is_exhausted_when_all_points_have_run() -> None:
    """Ray Tune answers Ctrl-C by returning while trials run, and says nothing of them to the searcher."""
    searcher = PrefixSearcher(grid((2,), (0.1, 0.2), (0.5,)), 2)
    assert not searcher.exhausted
    for trial in "ab":
        searcher.suggest(trial)
        assert not searcher.exhausted
    searcher.on_trial_complete("a", progress_report(2))
    assert not searcher.exhausted
    searcher.on_trial_complete("b", error=True)
    assert searcher.exhausted


def test_the_end_of_an_unknown_trial_is_ignored() -> None:
    searcher = PrefixSearcher(grid(), 1)
    searcher.on_trial_complete("never seen", error=True)
    assert isinstance(searcher.suggest("t"), dict)


def test_saving_and_restoring_change_nothing(tmp_path: Path) -> None:
    searcher = PrefixSearcher(grid(), 1)
    searcher.save(str(tmp_path / "x"))
    searcher.restore(str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []
    assert isinstance(searcher.suggest("t"), dict)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((), (), 0), ((1.0,), (), 0), ((1.0, 2.0), (1.0, 3.0), 1), ((1.0, 2.0), (1.0, 2.0, 3.0), 2), ((1.0,), (2.0,), 0)],
)
def test_common_counts_equal_leading_rates(a: Rates, b: Rates, expected: int) -> None:
    assert common(a, b) == common(b, a) == expected
