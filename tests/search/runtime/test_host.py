"""What Ray needs of a machine is told in one line before a search begins."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from agr.errors import SettingsError
from search.runtime import host


def free(monkeypatch: pytest.MonkeyPatch, shared: int, disk: int) -> None:
    """So many bytes are free in shared memory, and on every disk."""

    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=shared if Path(path) == host.SHARED_MEMORY else disk)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_a_machine_with_all_of_it_has_no_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**32, 2**40)
    assert host.check(10, tmp_path).notice == ""


def test_little_shared_memory_is_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not host.SHARED_MEMORY.is_dir():
        pytest.skip("no shared memory in a folder on this system")
    free(monkeypatch, 2**26, 2**40)
    needs = host.check(2**28, tmp_path)
    assert needs.notice.startswith("/dev/shm: 64 MB free; expected 512 MB, as by `docker run --shm-size`")


def test_a_full_disk_is_refused_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**32, 2**20)
    with pytest.raises(SettingsError, match="1 MB free on its disk; expected 200 MB for Ray"):
        host.check(10, tmp_path / "not" / "there")


def test_a_temporary_folder_too_long_for_sockets_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("a" * 80)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    folder = host.ray_folder()
    assert str(long) not in folder
    assert len(os.fsencode(os.path.join(os.path.dirname(folder), host.SOCKET))) <= host.LONGEST_SOCKET


def test_without_any_short_folder_the_long_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("a" * 80)))
    monkeypatch.setattr(host, "SHORT_FOLDERS", ())
    with pytest.raises(SettingsError, match="aaa: too long for Ray's sockets, or not writable"):
        host.ray_folder()


def test_ports_that_are_taken_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(address: tuple[str, int]) -> socket.socket:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket, "create_server", taken)
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1: Address already in use; expected 12 free ports"):
        host.check(10, tmp_path)


def test_a_store_that_cannot_be_made_is_refused_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.require_writable(tmp_path / "store")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(SettingsError, match=r"store: cannot be made, .* is read-only for this user; expected AGR_STOR"):
        host.require_writable(tmp_path / "store")
    with pytest.raises(SettingsError, match=f"{tmp_path}: read-only for this user"):
        host.require_writable(tmp_path)
