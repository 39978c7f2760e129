"""How a command ends: its status, and one line about what went wrong."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO, cast

import psutil
import pytest

from agr import errors
from agr.common import cli
from agr.common.cli import INTERRUPTED, SAME_SECONDS, ArgumentParser, run

pytestmark = pytest.mark.usefixtures("own_signals")


def ending(main: Callable[[], int]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def failing(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_commands_own_status_is_passed_on(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(lambda: status) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [errors.AgrError, errors.ShortAudio, errors.CorpusError, errors.SettingsError])
def test_an_error_of_ours_is_one_line_and_status_2(
    kind: type[errors.AgrError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(failing(kind("odd\nname.wav:  0 bytes"))) == 2
    assert capsys.readouterr() == ("", "agr: odd name.wav: 0 bytes\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/x.npy"), "agr: out/x.npy: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "agr: out: Permission denied\n"),
        (OSError("no details"), "agr: no details\n"),
    ],
)
def test_trouble_with_files_is_one_line_and_status_2(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(failing(error)) == 2
    assert capsys.readouterr() == ("", line)


def test_a_full_disk_is_named_where_the_error_names_no_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096 if path == str(tmp_path) else 1e9))
    assert ending(failing(OSError(errno.ENOSPC, "No space left on device"))) == 2
    assert capsys.readouterr().err == f"agr: {tmp_path}: No space left on device\n"


def test_control_c_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(failing(KeyboardInterrupt())) == INTERRUPTED == 130
    assert capsys.readouterr() == ("", "agr: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_status_130_and_one_line(number: signal.Signals) -> None:
    script = (
        "import time; from agr.common.cli import run; run(lambda: print('ready', flush=True) or time.sleep(60) or 0)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "agr: interrupted\n")
        assert process.returncode == INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
def test_a_second_signal_ends_a_command_that_does_not_end_and_its_processes() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); "
    script = f"""
import subprocess, sys, time
from agr.common.cli import run
def main():
    child = subprocess.Popen([sys.executable, "-c", {deaf + "time.sleep(60)"!r}])
    while True:
        try: time.sleep(60)
        except KeyboardInterrupt: print("ending", flush=True)
run(main)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ending\n"
        time.sleep(2 * SAME_SECONDS)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == INTERRUPTED
        assert psutil.wait_procs([child], timeout=10)[1] == []


def test_a_mistake_in_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_a_reader_that_goes_away_ends_the_command_in_silence() -> None:
    script = "from agr.common.cli import run; run(lambda: print('line\\n' * 1_000_000) or 0)"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


def as_program(lines: str) -> subprocess.CompletedProcess[str]:
    script = f"import atexit, sys, threading\nfrom agr.common.cli import run\n{lines}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_a_program_ends_with_its_exit_handlers_run_its_threads_joined_and_its_output_whole() -> None:
    main = "def main():\n atexit.register(print, 'handler', file=sys.stderr)\n"
    thread = " threading.Timer(0.2, print, ['thread']).start()\n"
    done = as_program(main + thread + " print('line ' * 100_000, end='')\n return 3\nrun(main)")
    assert (done.returncode, done.stderr) == (3, "handler\n")
    assert done.stdout == "line " * 100_000 + "thread\n"


def test_a_program_is_not_taken_down_object_by_object() -> None:
    last_word = "class Last:\n def __del__(self): print('taken down', file=sys.stderr)\nlast = Last()\n"
    assert as_program(last_word).stderr == "taken down\n"
    assert as_program(last_word + "def main(): return 0\nrun(main)").stderr == ""


def test_a_mistake_in_a_program_is_status_1_with_its_traceback() -> None:
    done = as_program("def main(): return 1 // 0\nrun(main)")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_what_was_typed_cannot_steer_the_terminal_from_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ArgumentParser(prog="p").parse_args(["\x1b[31mred\nline"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("p: error: unrecognized arguments: \\x1b[31mred\\nline\n")


def test_a_stream_outlasts_its_reader() -> None:
    """As in `run_grid.py | head`: what is written afterwards is lost, and nothing else."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, redirect_stdout(cast("TextIO", cli.Outlasting(stream))):
        for _ in range(3):
            print("a line", flush=True)


def test_a_command_without_a_home_has_one(tmp_path: Path) -> None:
    script = "from agr.common.cli import run; import os; run(lambda: print(os.path.expanduser('~')) or 0)"
    environment = os.environ | {"HOME": "/nonexistent", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path
