"""What a search shows while it runs: lines for a pipe, a table for a terminal, both of the kind's own columns."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import pytest
from rich.console import Console
from rich.table import Table

from agr.training.settings import Settings
from search.session.display import clock, shown, table
from search.session.session import FINISHED, Record, Session
from search.tasks.agr_task import AGR_SCHEMA
from search.tasks.base import Objective, Point, TrialSchema
from tests.search.fakes import FakeTracker, epoch, made_report

POINT = Settings(epochs=3, lr=0.01, gamma=0.5)
OTHER = replace(
    AGR_SCHEMA,
    axes=("width", "epochs"),
    objective=Objective("val_ece", False, "val calibration error"),
    columns={"val_ece": "val ECE", "train_loss": "train loss"},
    best_epoch=True,
    prunes=True,
)


def session_of(schema: TrialSchema[Point], planned: int) -> Session:
    tracker = FakeTracker()
    return Session("s", tracker, tracker.start_run("s", {}, {}), {}, planned, schema)


def go(
    session: Session, trial: str, point: Settings, epochs: int, read: int = 0, end: bool = True, why: str = ""
) -> None:
    """A trial of some epochs, the first of which were read."""
    session.start(trial, asdict(point))
    every = [epoch(number) for number in range(1, epochs + 1)]
    session.add_report(trial, made_report(every[:read], ["old"] * read, read=True))
    session.add_report(trial, made_report(every[read:], ["s"] * (epochs - read), failed=why))
    if end:
        session.end(trial, None)


def test_off_a_terminal_every_trial_is_a_line_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(AGR_SCHEMA, 12)
    with shown(session, 9, "title"):
        go(session, "a", POINT, 3, read=1)
        go(session, "b", replace(POINT, epochs=20, lr=0.1), 2, why="epoch 3: loss nan")
        go(session, "c", POINT, 1, end=False)
        session.start("d", asdict(POINT))
        session.end("d", None, "gone")
    session.end("c", None)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == (
        "[  1/12] epochs   3 lr 0.01   gamma 0.5  finished: val balanced accuracy 0.5000, 2 epochs trained, 1 read"
    )
    assert second == (
        "[  2/12] epochs  20 lr 0.1    gamma 0.5  failed: val balanced accuracy 0.5000, 2 epochs trained, 0 read "
        "(epoch 3: loss nan)"
    )
    assert (
        third == "[  3/12] epochs   3 lr 0.01   gamma 0.5  failed: no epoch finished, 0 epochs trained, 0 read (gone)"
    )


def test_lines_name_the_axes_and_the_aim_of_their_kind(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(OTHER, 0)
    with shown(session, None, "title"):
        go(session, "a", replace(POINT, width=0.5), 2)
    assert capsys.readouterr().out == (
        "[  1] width 0.5 epochs   3 pruned: val calibration error 0.2000, 2 epochs trained, 0 read\n"
    )


def cells(drawn: Table) -> list[list[str]]:
    """The headings and the rows of a table."""
    rows = zip(*(column.cells for column in drawn.columns), strict=True)
    return [[str(column.header) for column in drawn.columns], *(list(map(str, row)) for row in rows)]


def test_a_grid_is_shown_by_the_studys_settings_and_scores() -> None:
    session = session_of(AGR_SCHEMA, 3)
    go(session, "a", POINT, 3)
    headings, row = cells(table(session, 9, "t", 10))
    assert headings == [
        *("epochs", "lr", "gamma", "epoch", "val bal. acc.", "val acc.", "val loss", "trained", "status")
    ]
    assert row == ["3", "0.01", "0.5", "3/3", "0.5000", "0.5000", "0.7000", "3", "finished"]


def test_another_kind_is_shown_by_its_own() -> None:
    session = session_of(OTHER, 0)
    go(session, "a", replace(POINT, width=0.5), 2)
    session.start("b", asdict(POINT))
    headings, *rows = cells(table(session, None, "t", 10))
    assert headings == ["width", "epochs", "epoch", "val ECE", "train loss", "trained", "status"]
    assert rows == [["1", "3", "0/3", "", "", "0", "running"], ["0.5", "3", "2/3", "0.2000", "0.5000", "2", "pruned"]]


def test_running_trials_come_first_then_failed_ones_then_the_best_as_far_as_there_is_room() -> None:
    session = session_of(AGR_SCHEMA, 5)
    go(session, "long", replace(POINT, gamma=0.1), 3)
    go(session, "short", replace(POINT, gamma=0.2, epochs=2), 2)
    go(session, "failed", replace(POINT, gamma=0.3), 1, why="epoch 2: loss nan")
    go(session, "running", replace(POINT, gamma=0.4), 1, end=False)
    order = [row[2] for row in cells(table(session, 9, "t", 10))[1:]]
    assert order == ["0.4", "0.3", "0.2", "0.1"]
    assert [row[2] for row in cells(table(session, 9, "t", 3))[1:]] == order[:3]
    assert cells(table(session, 9, "t", 10))[2][-1] == "failed: epoch 2: loss nan"


@pytest.mark.parametrize(
    ("planned", "total", "expected"),
    [(4, 12, "1 of 4 trials ended, 3 of 12 epochs trained, "), (0, None, "1 trials ended, 3 epochs trained, ")],
)
def test_the_caption_counts_what_is_known_of_the_whole(planned: int, total: int | None, expected: str) -> None:
    session = session_of(AGR_SCHEMA, planned)
    go(session, "a", POINT, 3)
    caption = str(table(session, total, "t", 10).caption)
    assert caption.startswith(expected)
    assert ("about" in caption) == (total is not None)


def test_text_in_brackets_is_shown_as_it_is() -> None:
    session = session_of(AGR_SCHEMA, 1)
    go(session, "a", POINT, 1, why="[/data/x] is gone")
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table(session, 9, "[proj]", 10))
    text = console.export_text()
    assert "[/data/x] is gone" in text
    assert "[proj]" in text


def test_trials_may_start_while_the_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(AGR_SCHEMA, 3)
    go(session, "a", POINT, 1, end=False)
    go(session, "b", POINT, 1, end=False)

    def trained(record: Record) -> int:
        session.records[f"c{len(session.records)}"] = record
        return 1

    monkeypatch.setattr(Record, "trained", property(trained))
    assert table(session, 9, "t", 10).row_count == 4


def test_trials_may_start_while_the_session_and_a_line_count_them(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(AGR_SCHEMA, 9)

    class Starting(Record):
        """While its status is read, another trial starts."""

        @property
        def status(self) -> str:
            session.records[f"c{len(session.records)}"] = Record(POINT, "c", AGR_SCHEMA)
            return FINISHED

        @status.setter
        def status(self, value: str) -> None:
            pass

    go(session, "a", POINT, 3)
    session.records["b"] = Starting(POINT, "b", AGR_SCHEMA)
    assert len(session.finished()) == 2
    with shown(session, 9, "t"):
        go(session, "d", POINT, 1)
    assert capsys.readouterr().out.startswith("[  3/9]")


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0:00"), (59.9, "0:59"), (61.0, "1:01"), (3600.0, "60:00")])
def test_time_is_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_reason_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(AGR_SCHEMA, 1)
    with shown(session, 1, "t"):
        go(session, "a", POINT, 1, why="\x1b[2Jbad.wav")
    assert "(\\x1b[2Jbad.wav)" in capsys.readouterr().out
    drawn = table(session, 1, "\x1b[2Jtitle", 10)
    text = io.StringIO()
    Console(file=text, width=200).print(drawn)
    assert "\x1b" not in text.getvalue() and "\\x1b[2Jtitle" in text.getvalue()
