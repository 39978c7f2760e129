"""The points of a search that wait for a worker, filed so that the next one is found without looking at all of them.

    waiting = PrefixQueue(points)
    point = waiting.take("trial 1")                   # None if all that are left have to wait
    waiting.reached("trial 1", 5)
    waiting.end("trial 1")

Points are filed under the first of their epochs that is not done. Those under an epoch that lies on the way of a
running trial have to wait. A point is filed anew at most once for each of its epochs, however many points there are.

The longest way left comes first, as in critical-path scheduling. Any point on it may run: the longest one trains the
epochs of all others, which then only read them; the shortest one lets another worker go on with the rest of the way, so
that several workers end at the same time. `balanced` tries out when to change from the longest to the shortest.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from search.tasks.base import Point

NOTHING_LEFT = -1  # where points are filed whose every epoch is done
FEW_EPOCHS = 10_000  # of all points together, up to which `balanced` tries
_Filed = tuple[int, int, int, int]  # way, negative; epochs left, of either sign; point; where it was filed by then


class PrefixQueue:
    """Points in the order in which they should run: the longest way first, then as given."""

    def __init__(self, points: Sequence[Point], share: bool = True, long: int | None = None) -> None:
        """share: whether trials read each other's epochs; if not, none has to wait.

        long: how often the longest point on a way is taken before it is the shortest; None for always.
        """
        self.running = 0
        self._long = len(points) if long is None else long
        self._points = list(points)
        self._paths = paths([point.prefix() for point in points], share)
        self._way = _ways(self._paths)
        self._done: set[int] = set()
        self._taken: dict[str, int] = {}  # by trial
        self._busy: Counter[int] = Counter()  # how many running trials have an epoch on their way
        self._branch: dict[int, int] = {}  # where each waiting point is filed
        self._filed: defaultdict[int, set[int]] = defaultdict(set)
        self._longest, self._shortest = list[_Filed](), list[_Filed]()  # the same points, on a way in either order
        for number in range(len(self._points)):
            self._file(number, 0)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._branch)

    def take(self, trial: str) -> Point | None:
        """The next point, from now on run by this trial; None if all that are left have to wait."""
        queue = self._longest if self._long > 0 else self._shortest
        while queue:
            _, _, number, branch = heapq.heappop(queue)
            if self._branch.get(number) != branch or self._busy[branch]:
                continue  # taken or filed elsewhere meanwhile; or it waits, and is queued again when it need not
            del self._branch[number]
            self._filed[branch].remove(number)
            self._taken[trial] = number
            self._busy.update(self._paths[number])
            self.running += 1
            self._long -= 1
            return self._points[number]
        return None

    def reached(self, trial: str, count: int) -> None:
        """A trial has done its first `count` epochs: points that share them are filed under later ones."""
        new = [epoch for epoch in self._paths[self._taken[trial]][:count] if epoch not in self._done]
        self._done.update(new)
        for epoch in new:
            for number in self._filed.pop(epoch, ()):
                self._file(number, self._paths[number].index(epoch))

    def done(self, trial: str) -> int:
        """How many of a running trial's first epochs are done, whoever did them."""
        path = self._paths[self._taken[trial]]
        return next((count for count, epoch in enumerate(path) if epoch not in self._done), len(path))

    def end(self, trial: str) -> None:
        """A trial has ended, finished or not; no other waits for it any longer."""
        number = self._taken.pop(trial, None)
        if number is None:
            return
        self.running -= 1
        self._busy.subtract(self._paths[number])
        for epoch in self._paths[number]:
            if not self._busy[epoch]:
                for other in tuple(self._filed.get(epoch, ())):
                    self._file(other, self._paths[other].index(epoch))

    def _file(self, number: int, known: int) -> None:
        """Put a point, of which `known` epochs at least are done, where it belongs."""
        path = self._paths[number]
        known = next((k for k in range(known, len(path)) if path[k] not in self._done), len(path))
        branch = path[known] if known < len(path) else NOTHING_LEFT
        self._branch[number] = branch
        self._filed[branch].add(number)
        way, left = self._way.get(branch, 0), len(path) - known
        heapq.heappush(self._longest, (-way, -left, number, branch))
        heapq.heappush(self._shortest, (-way, left, number, branch))


def paths(prefixes: Sequence[Sequence[Hashable]], share: bool = True) -> list[tuple[int, ...]]:
    """A number for every epoch of every point, the same where points share it."""
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
    """The points in that order in which so many workers are done first, if all epochs last equally long."""
    tries: list[int | None] = [None]
    if share and workers > 1 and sum(point.epochs for point in points) <= FEW_EPOCHS:
        tries += range(2 * workers + 1)
    return PrefixQueue(points, share, min(tries, key=lambda long: _duration(points, workers, long)))


def _duration(points: Sequence[Point], workers: int, long: int | None) -> int:
    """How many epochs pass until the last of the points is done; reading takes no time."""
    waiting, names = PrefixQueue(points, long=long), itertools.count()
    running: dict[str, Point] = {}
    passed = 0
    while True:
        while len(running) < workers and (point := waiting.take(trial := str(next(names)))):
            running[trial] = point
            _end_if_done(waiting, running, trial)
        if not running:
            return passed
        for trial in list(running):
            waiting.reached(trial, waiting.done(trial) + 1)
            _end_if_done(waiting, running, trial)
        passed += 1


def _end_if_done(waiting: PrefixQueue, running: dict[str, Point], trial: str) -> None:
    if waiting.done(trial) == running[trial].epochs:
        waiting.end(trial)
        del running[trial]


def _ways(paths: Sequence[Sequence[int]]) -> dict[int, int]:
    """Of every epoch the length of the longest way from it to the end of a path, itself included."""
    found: dict[int, int] = {}
    for path in paths:
        for left, epoch in enumerate(reversed(path), start=1):
            found[epoch] = max(found.get(epoch, 0), left)
    return found
