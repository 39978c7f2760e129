"""A worker process calls functions in order, and nothing of it outlives its caller."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from agr.common.function_worker import FunctionWorker
from agr.common.worker import WorkerDied, WorkerProcess
from agr.errors import StoreError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture
def worker() -> Iterator[FunctionWorker]:
    made = FunctionWorker()
    try:
        yield made
    finally:
        made.close()


def test_calls_are_answered_in_order_by_one_other_process(worker: FunctionWorker) -> None:
    futures = [worker.submit(math.sqrt, number * number) for number in range(20)]
    assert [future.result() for future in futures] == [*range(20)]
    assert worker.submit(os.getpid).result() == worker.pid != os.getpid()


def test_an_error_is_raised_with_its_fields_and_the_process_goes_on(worker: FunctionWorker) -> None:
    before = worker.submit(os.getpid).result()
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        worker.submit(math.sqrt, -1.0).result()
    with pytest.raises(StoreError) as caught:
        worker.submit(raise_store_error, "full", passing=True).result()
    assert (caught.value.reason, caught.value.passing) == ("full", True)
    assert worker.submit(os.getpid).result() == before


def raise_store_error(reason: str, passing: bool) -> None:
    raise StoreError(reason, passing)


def test_a_result_that_cannot_be_pickled_is_an_error_of_its_call(worker: FunctionWorker) -> None:
    with pytest.raises(TypeError, match="pickle"):
        worker.submit(make_iterator).result()
    assert worker.submit(os.getpid).result() == worker.pid


def make_iterator() -> Iterator[int]:
    return (number for number in range(3))


@posix
@pytest.mark.parametrize(
    ("function", "argument", "cause"),
    [(signal.raise_signal, signal.SIGKILL, "signal 9"), (os._exit, 3, "exit status 3")],
    ids=["signal", "exit"],
)
def test_a_process_that_died_names_the_cause_and_is_replaced(
    worker: FunctionWorker, function: object, argument: int, cause: str
) -> None:
    before = worker.submit(os.getpid).result()
    died = worker.submit(function, argument)  # type: ignore[arg-type, var-annotated]
    after = worker.submit(os.getpid)
    with pytest.raises(WorkerDied, match=rf"^the worker process crashed \({cause}\)$"):
        died.result()
    assert after.result() not in {before, os.getpid()}


def test_a_module_that_cannot_be_imported_is_a_death() -> None:
    worker = FunctionWorker("agr.no_such_module")
    with pytest.raises(WorkerDied, match="exit status 1"):
        worker.submit(os.getpid).result()
    worker.close()


def test_closing_ends_a_call_cancels_the_rest_and_refuses_new_ones(worker: FunctionWorker) -> None:
    worker.submit(os.getpid).result()
    busy, queued = worker.submit(time.sleep, 60), worker.submit(os.getpid)
    while not busy.running():
        time.sleep(0.01)
    worker.close()
    worker.close()
    with pytest.raises(WorkerDied):
        busy.result(timeout=20)
    with pytest.raises(CancelledError):
        queued.result(timeout=20)
    with pytest.raises(WorkerDied, match="the worker process was closed"):
        worker.submit(os.getpid)
    assert worker.pid is None


@posix
def test_ctrl_c_does_not_reach_the_process(worker: FunctionWorker) -> None:
    assert worker.pid is not None
    before = worker.pid
    os.kill(before, signal.SIGINT)  # also while it is still starting
    assert worker.submit(os.getpid).result() == before
    os.kill(before, signal.SIGINT)
    assert worker.submit(os.getpid).result() == before


def test_what_the_process_prints_is_no_answer(worker: FunctionWorker) -> None:
    assert worker.submit(print, "noise", flush=True).result() is None
    assert worker.submit(math.sqrt, 4).result() == 2


def test_modules_named_at_the_start_are_imported_before_the_first_call() -> None:
    worker = FunctionWorker("colorsys")
    assert worker.submit(is_imported, "colorsys").result()
    worker.close()


def is_imported(module: str) -> bool:
    return module in sys.modules


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        ("raise SystemExit(3)", r"crashed \(exit status 3\)"),
        ("print('what is this?', flush=True); input(); input()", r"crashed \(exit status 1\)"),
    ],
    ids=["exits", "talks"],
)
def test_a_program_that_does_not_come_up_is_named(program: str, cause: str) -> None:
    with WorkerProcess("the parrot", program, quiet=True) as process:
        process.send(b"hello")
        with pytest.raises(WorkerDied, match=f"^the parrot {cause}$"):
            process.receive()
        assert not process.ready


def test_the_process_finds_its_environment_and_what_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os; from agr.common import worker\nworker.serve(lambda: lambda name: [os.environb[bytes(name)]])"
    with WorkerProcess("the parrot", program, {"COLOUR": "green"}) as process:
        process.send(b"COLOUR")
        assert process.receive() == b"green"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with WorkerProcess("the parrot", program) as process, pytest.raises(WorkerDied, match="could not be started"):
        process.receive()


LEFT = """
import os, signal, sys
from agr.common.function_worker import FunctionWorker
worker = FunctionWorker()
print(worker.submit(os.getpid).result(), flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
@pytest.mark.parametrize("end", ["killed", "leaves without closing it"])
def test_it_ends_with_its_caller(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT, end], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    pid, ends = int(done.stdout), time.monotonic() + 20
    while is_running(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than one that ended and that nobody has collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")
