"""The queue of points that wait for a worker; finding the next one does not visit all of them.

The epochs of all points form a tree, in which shared epochs are the same nodes. A point is filed under its first epoch
that is not done, and waits if that epoch is on the path of a running trial. Points on the longest remaining path run
first, as in critical-path scheduling. Its longest point trains the epochs of all others, which then only read them; its
shortest one lets another worker continue the path. `balanced_queue` tries when to change from longest to shortest.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from search.tasks.base import Point

NOTHING_LEFT = -1  # points are filed here when all of their epochs are done
FEW_EPOCHS = 10_000  # up to this many epochs of all points, `balanced_queue` tries
_Filed = tuple[int, int, int, int]  # negative path length; epochs left, of either sign; point; its epoch when queued


class PrefixQueue:
    """Points in the order in which they should run: longest remaining path first, ties in the given order."""

    def __init__(self, points: Sequence[Point], share: bool = True, long: int | None = None) -> None:
        """long: how many times the longest point on a path is taken before the shortest ones; None for always."""
        self.running = 0
        self._long = len(points) if long is None else long
        self._points = list(points)
        self._paths = epoch_paths([point.prefix() for point in points], share)
        self._length: dict[int, int] = {}  # of the longest path from each epoch to an end, itself included
        for path in self._paths:
            for left, epoch in enumerate(reversed(path), start=1):
                self._length[epoch] = max(self._length.get(epoch, 0), left)
        self._done: set[int] = set()
        self._taken: dict[str, int] = {}  # the point of each running trial
        self._busy: Counter[int] = Counter()  # the number of running trials with an epoch on their path
        self._branch: dict[int, int] = {}  # the epoch under which each waiting point is filed
        self._filed: defaultdict[int, set[int]] = defaultdict(set)
        self._longest, self._shortest = list[_Filed](), list[_Filed]()  # the same points, in either order
        for number in range(len(self._points)):
            self._file(number, 0)

    def __len__(self) -> int:
        """The number of waiting points."""
        return len(self._branch)

    def take(self, trial: str) -> Point | None:
        """Assign the next point to this trial; None if all remaining points have to wait."""
        candidates = self._longest if self._long > 0 else self._shortest
        while candidates:
            _, _, number, branch = heapq.heappop(candidates)
            if self._branch.get(number) != branch or self._busy[branch]:
                continue  # taken or filed again since; or it waits, and is queued again later
            del self._branch[number]
            self._filed[branch].remove(number)
            self._taken[trial] = number
            self._busy.update(self._paths[number])
            self.running += 1
            self._long -= 1
            return self._points[number]
        return None

    def reached(self, trial: str, count: int) -> None:
        """Mark the first `count` epochs of a trial as done, and file the points that share them under later ones."""
        new = [epoch for epoch in self._paths[self._taken[trial]][:count] if epoch not in self._done]
        self._done.update(new)
        for epoch in new:
            for number in self._filed.pop(epoch, ()):
                self._file(number, self._paths[number].index(epoch))

    def done(self, trial: str) -> int:
        """How many of the first epochs of a running trial are done, by whichever trial."""
        path = self._paths[self._taken[trial]]
        return next((count for count, epoch in enumerate(path) if epoch not in self._done), len(path))

    def end(self, trial: str) -> None:
        """Remove a trial, whether it finished or not, and file the points again that waited for it."""
        if (number := self._taken.pop(trial, None)) is None:
            return
        self.running -= 1
        self._busy.subtract(self._paths[number])
        for epoch in self._paths[number]:
            if not self._busy[epoch]:
                for other in tuple(self._filed.get(epoch, ())):
                    self._file(other, self._paths[other].index(epoch))

    def _file(self, number: int, known: int) -> None:
        """File a point, at least `known` epochs of which are done, under its first epoch that is not."""
        path = self._paths[number]
        known = next((k for k in range(known, len(path)) if path[k] not in self._done), len(path))
        branch = path[known] if known < len(path) else NOTHING_LEFT
        self._branch[number] = branch
        self._filed[branch].add(number)
        length, left = self._length.get(branch, 0), len(path) - known
        heapq.heappush(self._longest, (-length, -left, number, branch))
        heapq.heappush(self._shortest, (-length, left, number, branch))


def epoch_paths(prefixes: Sequence[Sequence[Hashable]], share: bool = True) -> list[tuple[int, ...]]:
    """Number the epochs of every point; shared epochs have the same number."""
    numbers: dict[tuple[int, Hashable], int] = {}
    found = []
    for order, prefix in enumerate(prefixes):
        at, path = -1 if share else -2 - order, []
        for entry in prefix:
            at = numbers.setdefault((at, entry), len(numbers))
            path.append(at)
        found.append(tuple(path))
    return found


def balanced_queue(points: Sequence[Point], workers: int, share: bool = True) -> PrefixQueue:
    """The queue with which `workers` workers are done first, if all epochs take equally long."""
    tries: list[int | None] = [None]
    if share and workers > 1 and sum(point.epochs for point in points) <= FEW_EPOCHS:
        tries += range(2 * workers + 1)
    return PrefixQueue(points, share, min(tries, key=lambda long: _duration(points, workers, long)))


def _duration(points: Sequence[Point], workers: int, long: int | None) -> int:
    """Simulate the search; returns its duration in epochs. Reading takes no time."""
    queue, names = PrefixQueue(points, long=long), itertools.count()
    running: dict[str, Point] = {}
    passed = 0
    while True:
        while len(running) < workers and (point := queue.take(trial := str(next(names)))):
            running[trial] = point
            _end_if_done(queue, running, trial)
        if not running:
            return passed
        for trial in list(running):
            queue.reached(trial, queue.done(trial) + 1)
            _end_if_done(queue, running, trial)
        passed += 1


def _end_if_done(queue: PrefixQueue, running: dict[str, Point], trial: str) -> None:
    if queue.done(trial) == running[trial].epochs:
        queue.end(trial)
        del running[trial]
