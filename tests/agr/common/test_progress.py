"""What a person sees of a long task, on a terminal and in a log."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import time

import pytest

from agr.common import progress
from agr.common.progress import amount, silent_progress, terminal_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_log_gets_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(0, 4)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    log = io.StringIO()
    with terminal_progress("unpacking", 8, unit="clips", stream=log) as advance:
        for _ in range(8):
            advance(1)
    assert log.getvalue().splitlines() == [
        f"unpacking: {done} of 8 clips ({100 * done // 8} %)" for done in (0, 3, 6, 8)
    ]


def test_log_says_where_an_unfinished_task_stopped() -> None:
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), terminal_progress("preparing", 1000, "clips", log) as advance:
        advance(250)
        advance(30)
        raise KeyboardInterrupt
    assert log.getvalue().splitlines()[-1] == "preparing: 280 of 1000 clips (28 %)"


def test_log_without_a_total_and_of_a_task_that_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    log = io.StringIO()
    with terminal_progress("downloading", None, stream=log) as meter:
        for done, total in ((0, None), (500_000, None), (0, 1_000_000), (1_000_000, 1_000_000)):
            meter.at(done, total)
    ends = ["0 bytes", "500.0 kB", "0 bytes of 1.0 MB (0 %)", "1.0 MB of 1.0 MB (100 %)"]
    assert log.getvalue().splitlines() == [f"downloading: {end}" for end in ends]


@pytest.mark.parametrize(("unit", "total"), [("bytes", 2_000_000), ("bytes", None), ("clips", 3000)])
def test_terminal_gets_a_bar(unit: str, total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    with terminal_progress("fetching", total, unit, screen) as advance:
        advance(2000)
    assert "fetching" in screen.getvalue() and "\x1b[" in screen.getvalue()
    assert ("2000/3000" if unit == "clips" else "kB" if total is None else "0.0/2.0 MB") in screen.getvalue()


@pytest.mark.parametrize("name", ["[proj]", "a[/data]", "[/data/x]"])
def test_bar_shows_brackets_of_a_name_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    with terminal_progress(f"preparing {name}", 2, "clips", screen) as advance:
        advance(2)
    assert f"preparing {name}" in screen.getvalue()


def test_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    with terminal_progress("fetching", 2, "clips", screen) as advance:
        advance(2)
    assert screen.getvalue() == "fetching: 0 of 2 clips (0 %)\nfetching: 2 of 2 clips (100 %)\n"


def test_display_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_progress("fetching", 1, "clips") as advance:
        advance()
    with silent_progress("fetching", 1, "clips") as advance:
        advance()
    assert capsys.readouterr() == ("", "fetching: 0 of 1 clips (0 %)\nfetching: 1 of 1 clips (100 %)\n")


@pytest.mark.parametrize(
    ("n", "unit", "words"),
    [
        (0, "bytes", "0 bytes"),
        (999, "bytes", "999 bytes"),
        (1000, "bytes", "1.0 kB"),
        (10**9, "bytes", "1.0 GB"),
    ],
)
def test_amounts_in_words(n: int, unit: str, words: str) -> None:
    assert amount(n, unit) == words


def test_rich_is_imported_only_for_a_bar() -> None:
    code = "import sys, agr.common.progress, agr.data.audiomnist; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
