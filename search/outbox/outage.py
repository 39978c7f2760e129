"""Outages of a store: when they began, whether to give up, and what is printed about them."""

from __future__ import annotations

import os
import time

from agr.errors import OutageError
from agr.registry.uri import StoreUri

GRACE_VARIABLE, GRACE_SECONDS = "AGR_OUTAGE_GRACE", 60.0
SHOWN_AFTER = 3.0  # seconds; shorter outages are not printed


class Outage:
    """Prints a line when an outage has lasted SHOWN_AFTER seconds, and another when it ends."""

    def __init__(self, uri: StoreUri) -> None:
        """Assume that the store answers."""
        self.given_up = False
        self._uri = uri
        self._reason, self._since, self._shown = "", 0.0, False
        self._answered = time.monotonic()

    def unanswered(self, reason: str) -> None:
        """Note that a call was not answered. reason: a few words."""
        now = time.monotonic()
        self._since = self._since if self._reason else now
        self._reason = reason
        if not self._shown and now - self._since > SHOWN_AFTER:
            self._shown = True
            print(f"{self._uri} does not answer ({reason}): training goes on, what it logs is kept", flush=True)

    def answered(self, points: int) -> None:
        """Note that the store answered. points: how many metric points still wait."""
        if self._shown:
            print(f"{self._uri} answers again: {points} points are on their way", flush=True)
        self._reason, self._shown, self.given_up = "", False, False
        self._answered = time.monotonic()

    def check(self, began: float, seconds: float) -> None:
        """Raises: OutageError if the store has not answered for `seconds` since `began`, a time.monotonic()."""
        if self._reason and time.monotonic() - max(began, self._answered) > seconds:
            self.given_up = True
            silence = f"{self._uri} did not answer for {seconds:.0f} s ({self._reason})"
            raise OutageError(f"{silence}; the same command goes on from the stages when it does")


def grace_seconds() -> float:
    """How long a search waits at its end for a store that does not answer."""
    try:
        return float(os.environ.get(GRACE_VARIABLE, GRACE_SECONDS))
    except ValueError:
        return GRACE_SECONDS
