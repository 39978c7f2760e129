"""What `python -m search.outbox` refuses; what it delivers is in test_outbox.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agr.errors import AgrError, SettingsError
from agr.registry.uri import StoreUri
from search.outbox import __main__ as outbox_main
from search.outbox.entries import Journal


def test_a_missing_file_is_one_line_on_stderr_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.outbox", "deliver", str(tmp_path / "none.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"agr: {tmp_path / 'none.jsonl'}: ")
    assert "expected a file that a search left in mlflow_store/outbox" in line


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("shopping\n")
    with pytest.raises(SettingsError, match=r"notes\.jsonl: .*; expected a file that a search left"):
        outbox_main.main(["deliver", str(path)])
    assert path.read_text() == "shopping\n"


def test_the_file_stays_as_it_was_if_the_store_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "left.jsonl"
    journal = Journal(path, StoreUri("http://127.0.0.1:1"))
    journal.append("set_tags", "run", {"kept": "yes"})
    journal.close(keep=True)
    before = path.read_bytes()
    with pytest.raises(AgrError, match=r"http://127\.0\.0\.1:1"):
        outbox_main.main(["deliver", str(path)])
    assert path.read_bytes() == before


def test_a_tracking_uri_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a password on the command line"):
        outbox_main.main(["deliver", str(tmp_path / "left.jsonl"), "--tracking-uri", "http://ann:secret@host"])
