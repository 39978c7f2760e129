"""How a command of AGR ends: errors as one line on stderr, exit statuses that scripts can rely on."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from agr.common.home import ensure_home
from agr.common.places import full_disk
from agr.common.printable import printable
from agr.errors import AgrError

INTERRUPTED = 130
SAME_SECONDS = 0.3  # in which two signals are one, sent by the terminal and by a parent process


class ArgumentParser(argparse.ArgumentParser):
    """The parser of a command; what was typed is printable in its errors."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        super().error(printable(message))


def run(main: Callable[[], int], program: bool = False) -> NoReturn:
    """Call a command's `main` and exit: its own status, 2 for an AgrError or a file's trouble, 130 for Ctrl-C.

    Where `main` is the program itself, or with `program`, the interpreter is not taken down object by object: after
    torch and MLflow that takes half a second. Threads are joined and exit handlers run all the same, and the output
    is flushed. Libraries find a home, if need be one in the folder for temporary files.
    """
    statuses: list[int] = []
    if program or main.__module__ == "__main__":
        atexit.register(_leave, statuses)  # the first to be registered is the last to run
        _end_at_second_signal()
    end_on_sigterm()
    ensure_home()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal cannot show must not stop it
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except AgrError as error:
        complain(str(error))
        status = 2
    except KeyboardInterrupt:
        print("agr: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:  # a full disk, a folder that may not be written to
        where = error.filename or (full_disk() if error.errno == errno.ENOSPC else "")
        complain(f"{where}: {error.strerror or error}" if where else str(error.strerror or error))
        status = 2
    statuses.append(status)
    sys.exit(status)


def _leave(statuses: list[int]) -> None:
    """End the process now; if `main` raised what `run` does not know, let Python say so and end as ever."""
    if not statuses:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # its reader went away, or there is none
            stream.flush()
    os._exit(statuses[0])


def png_path(text: str) -> Path:
    """Of a command line: where a picture is to be written. Raises: argparse.ArgumentTypeError."""
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .png")
    return Path(text)


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"agr: {printable(' '.join(message.split()))}", file=sys.stderr)


class Outlasting:
    """A text stream whose writer goes on when its reader went away, as in `... | head`; what is written then is lost.

    For `contextlib.redirect_stdout`. The stream needs a file number.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        with self._outlasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._outlasting():
            self._stream.flush()

    @contextmanager
    def _outlasting(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def end_on_sigterm() -> None:
    """Let SIGTERM end this command as Ctrl-C does; to be said again after a library took the signal for itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _end_at_second_signal() -> None:
    """From now on a second Ctrl-C or SIGTERM ends this command at once, whatever its main thread is doing.

    Known limit: not with Python 3.11 on Windows, whose pipes always block.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(os, "set_blocking"):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_count_signals, args=(reader,), name="signals", daemon=True).start()


def _count_signals(reader: int) -> None:
    """Read the numbers of the signals that arrive, and end at the second one with all processes started here."""
    first = None
    while number := os.read(reader, 1):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            first = first or time.monotonic()
            if time.monotonic() - first > SAME_SECONDS:
                break
    with suppress(Exception):
        import psutil

        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    os._exit(INTERRUPTED)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and MLflow inside: the garbage collector would walk their objects over and over, now and at exit."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
