"""`--leave-out each`: a search for every corpus, and the table over them."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agr.errors import AgrError, SettingsError
from agr.metrics.scoring import score
from search import leave_each_out, run_grid
from search.driver.earlier import EarlierSearch

LABELS = np.array([0, 0, 1, 1])


def result(*right: bool, sure: float) -> Any:
    """What a search returns whose champion answers these four clips so. sure: The margin of each answer, in logits."""
    answers = np.where(np.array(right), LABELS, 1 - LABELS)
    scores = score(LABELS, np.eye(2)[answers], np.array(["x/1", "x/2", "x/3", "x/4"]))
    return SimpleNamespace(scores=scores, logits=np.eye(2)[answers] * sure, labels=LABELS)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Namespace]:
    """The command lines that were searched; the sources are `a` and `b`, people, and `demo`, synthetic."""
    asked: list[Namespace] = []
    endings: dict[str, Any] = {
        "a": result(True, True, True, False, sure=4.0),
        "b": result(True, True, True, True, sure=2.0),
        "broken": AgrError("no trial finished"),
    }

    def ensure(source: str, *_: object) -> SimpleNamespace:
        people = np.array([f"{source}/1"]), np.zeros(1, dtype=np.int64)
        return SimpleNamespace(synthetic=source == "demo", people=people)

    def build(options: Namespace, script: str) -> tuple[object, ...]:
        asked.append(options)
        return (options.leave_out,)

    def conduct(left_out: str, process: object) -> tuple[int, Any]:
        ending = endings[left_out]
        return int(isinstance(ending, AgrError)), ending

    monkeypatch.setattr("agr.data.preparation.ensure", ensure)
    monkeypatch.setattr(leave_each_out, "build_search", build)
    monkeypatch.setattr(leave_each_out, "conduct", conduct)
    monkeypatch.setenv("AGR_STORE", str(tmp_path))
    return asked


def run(*sources: str, name: str | None = None) -> int:
    options = run_grid.parse(["--data", *sources, "--leave-out", "each", *(["--name", name] if name else [])])
    return leave_each_out.run(options, "a script", nullcontext)  # type: ignore[arg-type]


def test_every_corpus_of_people_is_left_out_once(
    searched: list[Namespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a", "b", "demo", name="mine") == 0
    assert [(each.leave_out, each.name) for each in searched] == [("a", "mine-a"), ("b", "mine-b")]
    assert (tmp_path / "leave-each-out.csv").read_text(encoding="utf-8").splitlines() == [
        "left out,clips,speakers,female,male,balanced accuracy,temperature,ece",
        "a,4,4,1.0000,0.5000,0.7500,1.82,0.1500",
        "b,4,4,1.0000,1.0000,1.0000,7.83,0.4365",
    ]
    printed = capsys.readouterr()
    assert "mean 0.8750, worst 0.7500 (a)" in printed.out
    assert "left out: b, 2 of 2" in printed.out
    assert str(tmp_path / "leave-each-out.csv") in printed.err


def test_a_search_that_is_there_already_gives_its_row(
    searched: list[Namespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(EarlierSearch):
        def __init__(self) -> None:
            pass

        def result(self) -> Any:
            return result(True, True, True, True, sure=2.0)

    monkeypatch.setattr(leave_each_out, "conduct", lambda *_: (0, Earlier()))
    assert run("a", "b") == 0
    assert (tmp_path / "leave-each-out.csv").read_text(encoding="utf-8").count("1.0000,1.0000,1.0000") == 2


def test_a_search_without_result_ends_it_and_keeps_the_table_so_far(
    searched: list[Namespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a", "broken", "b") == 1
    assert [each.leave_out for each in searched] == ["a", "broken"]
    assert (tmp_path / "leave-each-out.csv").read_text(encoding="utf-8").count("\n") == 2
    assert "broken: no result; the table has the 1 before it" in capsys.readouterr().err


def test_one_corpus_of_people_cannot_be_left_out(searched: list[Namespace]) -> None:
    with pytest.raises(SettingsError, match="corpora of people: a; expected two or more"):
        run("a", "demo")
    assert not searched


def test_a_trainable_has_no_corpora() -> None:
    with pytest.raises(SettingsError, match="found --trainable"):
        leave_each_out.run(Namespace(trainable="x:y"), "a script", nullcontext)  # type: ignore[arg-type]
