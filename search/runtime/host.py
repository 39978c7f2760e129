"""What a private Ray cluster needs of this machine, checked before a search begins; imports nothing of Ray.

needs = check(data_bytes, store_folder())      # SettingsError, in one line, for what is missing
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from agr.errors import SettingsError

SHARED_MEMORY = Path("/dev/shm")
MIN_STORE_BYTES = 128 * 2**20  # of Ray's object store
MIN_FREE_BYTES = 200 * 2**20  # of the disk, for Ray's sockets and logs
LONGEST_SOCKET = 103  # bytes of a path, on Linux 4 more
SOCKET = "ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # the longest that Ray makes
SHORT_FOLDERS = "/tmp", "/var/tmp", "/dev/shm"
PORTS = 12  # that Ray listens on, with two workers


@dataclass
class RayStart:
    """What the thread that starts Ray and the one that waits for it tell each other."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    began: bool = False  # whether it is this search's turn


@dataclass(frozen=True)
class Needs:
    """How Ray is to be started."""

    folder: str  # for its files
    store_bytes: int  # of its object store
    notice: str = ""  # a message for the user


def check(data_bytes: int, store: Path) -> Needs:
    """Check loopback, ports, folder, disks and shared memory. Raises: SettingsError for what is missing.

    data_bytes: Of the data in Ray's object store. store: The folder that the search writes to.
    """
    _require_ports()
    folder, size = ray_folder(), max(MIN_STORE_BYTES, 2 * data_bytes)
    shared = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    in_files = sys.platform.startswith("linux") and shared < size
    _require_free(Path(folder), MIN_FREE_BYTES + in_files * size, "for Ray; TMPDIR may name another disk")
    _require_free(store, MIN_FREE_BYTES, "for what a search writes; AGR_STORE may name another disk")
    if not in_files:
        return Needs(folder, size)
    found = f"{SHARED_MEMORY}: {_mb(shared)} free; expected {_mb(size)}, as by `docker run --shm-size`"
    return Needs(folder, size, f"{found}: Ray keeps the data in {folder}, which is slower")


def require_writable(store: Path) -> None:
    """Check that the folder that a search writes to is there or can be made. Raises: SettingsError."""
    there = _existing(store)
    if not os.access(there, os.W_OK | os.X_OK):
        found = "read-only" if there == store else f"cannot be made, {there} is read-only"
        raise SettingsError(f"{store.absolute()}: {found} for this user; expected AGR_STORE to name another folder")


def ray_folder() -> str:
    """A folder for Ray's files in which the paths of its sockets are short enough, TMPDIR if they are in it.

    Raises: SettingsError if there is none that can be written.
    """
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for folder in (wanted, *SHORT_FOLDERS):
        if len(os.fsencode(os.path.join(folder, SOCKET))) <= LONGEST_SOCKET and os.access(folder, os.W_OK | os.X_OK):
            name = "ray" if folder == wanted else f"ray-{user()}"
            return os.path.join(folder, name)
    raise SettingsError(
        f"{wanted}: too long for Ray's sockets, or not writable; expected TMPDIR to name a short folder"
    )


def user() -> str:
    """A name for this user in file names; a user id need not have a name."""
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _require_ports() -> None:
    """Listen on as many ports of the loopback interface as Ray, and connect to one. Raises: SettingsError."""
    try:
        with ExitStack() as stack:
            for _ in range(PORTS):
                server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.enter_context(socket.create_connection(server.getsockname(), timeout=5))
    except OSError as error:
        expected = f"expected {PORTS} free ports on the loopback interface, by which Ray's processes talk"
        raise SettingsError(f"127.0.0.1: {error.strerror or error}; {expected}") from error


def _require_free(folder: Path, wanted: int, purpose: str) -> None:
    if (free := shutil.disk_usage(_existing(folder)).free) < wanted:
        raise SettingsError(f"{folder}: {_mb(free)} free on its disk; expected {_mb(wanted)} {purpose}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())


def _mb(count: int) -> str:
    return f"{count / 2**20:.0f} MB"
