"""A home where there is none: for a user id without a name, without HOME, with one that cannot be written to."""

from __future__ import annotations

import getpass
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from agr.common.home import CACHES, NAMES, ensure_home

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="user ids are of POSIX")


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user id without an entry in the password database, without variables; returns its temporary folder."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "RAY_AUTH_TOKEN", *NAMES, *CACHES):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_user_id_without_name_and_home_gets_both(nobody: Path) -> None:
    ensure_home()
    assert getpass.getuser() == str(os.getuid())
    home = Path.home()
    assert home.parent == nobody and stat.S_IMODE(home.stat().st_mode) == 0o700
    ensure_home()
    assert Path.home() == home, "and keeps it"


def test_a_home_that_does_not_exist_is_replaced(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent/home")
    ensure_home()
    assert Path.home().parent == nobody


def test_a_home_that_can_only_be_read_stays_and_caches_go_elsewhere(
    nobody: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    ensure_home()
    assert Path.home() == home
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
    assert Path(os.environ["MPLCONFIGDIR"]).parent.parent == nobody
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_usual_home_changes_nothing(
    nobody: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("USER", "somebody")
    before = dict(os.environ)
    ensure_home()
    assert dict(os.environ) == before
    assert list(nobody.iterdir()) == []


def test_a_folder_that_others_can_write_to_is_no_home(nobody: Path) -> None:
    planted = nobody / f"agr-home-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    ensure_home()
    assert Path.home().parent == nobody and Path.home() != planted


def test_nowhere_to_make_one_is_no_error(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(nobody / "gone" / "too"))
    ensure_home()
    assert "HOME" not in os.environ
