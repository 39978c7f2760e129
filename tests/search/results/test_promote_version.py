"""Two searches that end at the same time: the second judges itself anew against the `best` that the first made."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agr.inference import bundle
from agr.registry.records import Version
from agr.registry.uri import BEST, CHALLENGER
from search.results import champion, promotion
from search.results.promotion import Decision, promote_version


@dataclass
class Rivalled:
    """A registry in which `rivals` become best, one each time that the alias is about to be moved."""

    rivals: list[int]
    aliases: dict[str, int] = field(default_factory=dict)
    trouble: str = ""

    def version_by_alias(self, alias: str) -> Version | None:
        return (
            Version(self.aliases[alias], Path(str(self.aliases[alias])), self.trouble)
            if alias in self.aliases
            else None
        )

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases[alias] = version

    def move_alias(self, alias: str, expected: int | None, version: int) -> bool:
        if self.rivals:
            self.aliases[alias] = self.rivals.pop(0)
        if self.aliases.get(alias) != expected:
            return False
        self.aliases[alias] = version
        return True


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """What the newcomer, version 10, is judged against: it beats every version below it."""
    seen: list[Path | None] = []

    def decide(newcomer: bundle.BundleInfo, best: Path | None, data: Any, split: Any) -> Decision:
        seen.append(best)
        return Decision(best is None or int(str(best)) < 10, f"against {best}")

    monkeypatch.setattr(promotion, "decide", decide)
    return seen


def promote(registry: Rivalled, forced: bool = False) -> tuple[str, str]:
    nothing: Any = None
    fake: Any = registry
    return promote_version(fake, 10, functools.partial(champion.judge, fake, nothing, nothing, nothing), forced)


def test_decision_is_repeated_when_best_moves(judged: list[Path | None]) -> None:
    registry = Rivalled([3, 7])
    assert promote(registry) == (BEST, "against 7 (was version 7)")
    assert judged == [None, Path("3"), Path("7")]
    assert registry.aliases == {BEST: 10}


def test_better_version_of_another_search_stays_best(judged: list[Path | None]) -> None:
    registry = Rivalled([12])
    assert promote(registry) == (CHALLENGER, "against 12")
    assert judged == [None, Path("12")]
    assert registry.aliases == {BEST: 12, CHALLENGER: 10}


def test_forced_promotion_replaces_any_best(judged: list[Path | None]) -> None:
    registry = Rivalled([12])
    assert promote(registry, forced=True) == (BEST, "against 12; promoted by --promote (was version 12)")
    assert registry.aliases == {BEST: 10}


@pytest.mark.parametrize(("forced", "alias"), [(False, CHALLENGER), (True, BEST)])
def test_best_with_changed_files_is_not_compared(judged: list[Path | None], forced: bool, alias: str) -> None:
    registry = Rivalled([], {BEST: 4}, "its files were changed")
    found, reason = promote(registry, forced)
    assert found == alias
    assert reason.startswith("the best cannot be read (its files were changed); --promote moves the alias")
    assert judged == []
