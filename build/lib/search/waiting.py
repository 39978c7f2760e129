"""The points of a search that wait for a worker, kept so that the next one is found without looking at all of them.

    waiting = Waiting(points)
    point = waiting.take("trial 1")                   # None if all that are left have to wait
    waiting.reached("trial 1", 5)
    waiting.end("trial 1")

Points are filed under the first of their epochs that is not done. Those under an epoch that lies on the way of a
running trial have to wait. A point is filed anew at most once for each of its epochs, however many points there are.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from search.task import Point

NOTHING_LEFT = -1  # where points are filed whose every epoch is done


class Waiting:
    """Points in the order in which they should run: most epochs left first, then as given."""

    def __init__(self, points: Sequence[Point], share: bool = True) -> None:
        """share: whether trials read each other's epochs; if not, none has to wait."""
        self.running = 0
        self._points = list(points)
        self._paths = paths([point.prefix() for point in points], share)
        self._done: set[int] = set()
        self._taken: dict[str, int] = {}  # by trial
        self._busy: Counter[int] = Counter()  # how many running trials have an epoch on their way
        self._branch: dict[int, int] = {}  # where each waiting point is filed
        self._filed: defaultdict[int, set[int]] = defaultdict(set)
        self._queue: list[tuple[int, int, int]] = []  # epochs left, negative; point; where it was filed by then
        for number in range(len(self._points)):
            self._file(number, 0)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._branch)

    def take(self, trial: str) -> Point | None:
        """The next point, from now on run by this trial; None if all that are left have to wait."""
        while self._queue:
            _, number, branch = heapq.heappop(self._queue)
            if self._branch.get(number) != branch or self._busy[branch]:
                continue  # taken or filed elsewhere meanwhile; or it waits, and is queued again when it need not
            del self._branch[number]
            self._filed[branch].remove(number)
            self._taken[trial] = number
            self._busy.update(self._paths[number])
            self.running += 1
            return self._points[number]
        return None

    def reached(self, trial: str, count: int) -> None:
        """A trial has done its first `count` epochs: points that share them are filed under later ones."""
        new = [epoch for epoch in self._paths[self._taken[trial]][:count] if epoch not in self._done]
        self._done.update(new)
        for epoch in new:
            for number in self._filed.pop(epoch, ()):
                self._file(number, self._paths[number].index(epoch))

    def end(self, trial: str) -> None:
        """A trial has ended, one way or another; nobody waits for it any longer."""
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
        heapq.heappush(self._queue, (known - len(path), number, branch))


def paths(prefixes: Sequence[Sequence[Any]], share: bool = True) -> list[tuple[int, ...]]:
    """A number for every epoch of every point, the same where points share it."""
    numbers: dict[Any, int] = {}
    found = []
    for order, prefix in enumerate(prefixes):
        at, path = -1 if share else -2 - order, []
        for entry in prefix:
            at = numbers.setdefault((at, entry), len(numbers))
            path.append(at)
        found.append(tuple(path))
    return found
