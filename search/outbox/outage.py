"""Notices that a store does not answer, and tells the person at the terminal."""

from __future__ import annotations

import os
import time

from agr.errors import OutageError
from agr.registry.uri import StoreUri

GRACE_VARIABLE, GRACE_SECONDS = "AGR_OUTAGE_GRACE", 60.0
SAID_AFTER = 3.0  # seconds; shorter outages are not mentioned


class Outage:
    """Whether a store answers; prints a line when an outage of some seconds is noticed, and one when it ends."""

    def __init__(self, uri: StoreUri) -> None:
        """No outage yet. uri: of the store."""
        self.given_up = False
        self._uri = uri
        self._reason, self._since, self._said = "", 0.0, False
        self._answered = time.monotonic()

    def goes_on(self, why: str) -> None:
        """The store did not answer once more. why: in a few words."""
        now = time.monotonic()
        self._since = self._since if self._reason else now
        self._reason = why
        if not self._said and now - self._since > SAID_AFTER:
            self._said = True
            print(f"{self._uri} does not answer ({why}): training goes on, what it logs is kept", flush=True)

    def ends(self, points: int) -> None:
        """The store answered. points: how many numbers still wait."""
        if self._said:
            print(f"{self._uri} answers again: {points} points are on their way", flush=True)
        self._reason, self._said, self.given_up = "", False, False
        self._answered = time.monotonic()

    def check(self, began: float, seconds: float) -> None:
        """Raises: OutageError if the store has been silent for `seconds`, all of them after `began`."""
        if self._reason and time.monotonic() - max(began, self._answered) > seconds:
            self.given_up = True
            silence = f"{self._uri} did not answer for {seconds:.0f} s ({self._reason})"
            raise OutageError(f"{silence}; the same command goes on from the stages when it does")


def grace_seconds() -> float:
    """How many seconds a search waits at its end for a store that does not answer."""
    try:
        return float(os.environ.get(GRACE_VARIABLE, GRACE_SECONDS))
    except ValueError:
        return GRACE_SECONDS
