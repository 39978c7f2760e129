"""A journal of studies that a power cut tore."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from agr.errors import SettingsError
from search.optuna_search.samplers import study_storage

TORN = b'{"op_code": 5, "worker_id": "x", "trial_i'


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Of a study `s` with two finished trials, of values 0 and 1."""
    path = tmp_path / "studies.journal"
    search(path, 2)
    return path


def search(path: Path, trials: int) -> list[float]:
    """Run some more trials in a search of its own; returns the values of all that have finished."""
    storage = study_storage(str(path))
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(lambda trial: trial.number + 0 * trial.suggest_float("x", 0, 1), n_trials=trials)
    return [
        trial.value for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]) if trial.value is not None
    ]


@pytest.mark.parametrize("torn", [TORN, b"\0" * 100, b"\xff\xfe{", b'"op_code":6}'])
@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_torn_last_record_is_told_and_later_searches_go_on(
    journal: Path, torn: bytes, ending: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn + ending)
    assert search(journal, 1) == [0, 1, 2]
    assert search(journal, 1) == [0, 1, 2, 3]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"agr: {journal}: line {whole.count(bytes([10])) + 1} holds a torn record, ")
    assert line.endswith(f"kept in {journal}.torn; the {whole.count(bytes([10]))} whole records are used")
    assert journal.with_name("studies.journal.torn").read_bytes() == torn + b"\n"
    assert journal.read_bytes().startswith(whole + b'{"op_code":')


def test_records_that_a_search_wrote_behind_the_torn_one_are_used(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = journal.read_bytes()
    search(journal, 2)
    behind = journal.read_bytes()[len(first) :]
    journal.write_bytes(first + TORN + behind)
    assert search(journal, 1) == [0, 1, 2, 3, 4]
    assert journal.read_bytes().startswith(first + behind)
    assert "holds a torn record" in capsys.readouterr().err


def test_a_last_record_that_lacks_only_its_line_end_is_used(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    assert search(journal, 1) == [0, 1, 2]
    assert journal.read_bytes().startswith(whole)
    assert capsys.readouterr().err == ""


def test_a_whole_journal_is_left_as_it_is(journal: Path) -> None:
    before = journal.stat()
    study_storage(str(journal))
    assert (journal.stat().st_ino, journal.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a journal\n")
    with pytest.raises(SettingsError, match=r"notes\.txt: no record of a study in it; expected a file"):
        study_storage(str(path))
    assert path.read_text() == "not a journal\n"
