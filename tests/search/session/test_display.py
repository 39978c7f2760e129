"""What a search shows while it runs: few lines for a pipe, a table for a terminal, both of the kind's own columns."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from agr.training.settings import Settings
from search.session.display import clock, fitting, shown, table
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


def test_off_a_terminal_there_is_a_line_at_first_one_every_ten_seconds_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, now = session_of(AGR_SCHEMA, 12), [1000.0]
    session.began = now[0]
    monkeypatch.setattr("search.session.display.time", SimpleNamespace(monotonic=lambda: now[0]))
    with shown(session, 9, "title"):
        go(session, "a", POINT, 3, read=1)
        now[0] += 9.9
        go(session, "b", replace(POINT, epochs=20, lr=0.1), 2, why="epoch 3: loss nan")
        now[0] += 0.1
        go(session, "c", POINT, 1, end=False)
        now[0] += 5
        session.start("d", asdict(POINT))
        session.end("d", None, "gone")
    session.end("c", None)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "0 of 12 trials ended, 0 of 9 epochs trained, 0:00, starting"
    best = "best val balanced accuracy 0.5000"
    assert second == f"2 of 12 trials ended, 1 failed, 4 of 9 epochs trained, 0:10, about 0:12 left, {best}"
    assert third == f"3 of 12 trials ended, 2 failed, 5 of 9 epochs trained, 0:15, about 0:12 left, {best}"


def test_a_line_names_the_aim_of_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(OTHER, 0)
    with shown(session, None, "title"):
        go(session, "a", replace(POINT, width=0.5), 2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1 trials ended, 2 epochs trained, 0:00, starting, best val calibration error 0.2000"


@pytest.mark.parametrize(("width", "gone"), [(60, "val loss, val acc., trained"), (80, "val loss"), (120, "")])
def test_no_word_of_a_table_is_broken_and_what_has_no_room_is_named(width: int, gone: str) -> None:
    session = session_of(replace(AGR_SCHEMA, axes=("lr", "weight_decay", "batch_size")), 3)
    for trial, size in (("a", 16), ("b", 32)):
        go(session, trial, replace(POINT, lr=1 / size, weight_decay=0.1 / size, batch_size=size), 3)
    go(session, "c", replace(POINT, batch_size=8, lr=0.5), 1, why="epoch 2: loss nan, which is no number")
    drawn = table(session, 9, "t", 10, width)
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(drawn)
    text = console.export_text()
    for heading in (str(column.header) for column in drawn.columns):
        assert f" {heading} " in text.splitlines()[2], text
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.split())
    assert (f"not shown, for want of room: {gone}" in told) == bool(gone), text
    assert ("not shown" in told) == bool(gone)


def test_columns_that_are_the_same_in_every_row_go_first() -> None:
    rows = [("1", "0.5", "16", "0.9", "0.8"), ("2", "0.5", "32", "0.8", "0.7")]
    schema = replace(AGR_SCHEMA, axes=("dropout", "batch_size"))
    kept = fitting(("rank", *schema.axes, "val bal. acc.", "val loss"), rows, schema, 52)
    assert [str(column.header) for column in kept.columns] == ["rank", "batch size", "val bal. acc.", "val loss"]


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
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 of 9 trials ended, ")


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0:00"), (59.9, "0:59"), (61.0, "1:01"), (3600.0, "60:00")])
def test_time_is_minutes_and_seconds(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_reason_cannot_steer_the_terminal() -> None:
    session = session_of(AGR_SCHEMA, 1)
    go(session, "a", POINT, 1, why="\x1b[2Jbad.wav")
    drawn = table(session, 1, "\x1b[2Jtitle", 10)
    text = io.StringIO()
    Console(file=text, width=200).print(drawn)
    assert "\x1b" not in text.getvalue() and "\\x1b[2Jtitle" in text.getvalue()
