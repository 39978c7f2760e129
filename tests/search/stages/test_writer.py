"""Writing a trial's stages to a store whose disk is full at times."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.stages.store import Stage, StageStore
from search.stages.writer import StageWriter
from tests.search.fakes import made_stage, same_stage

KEYS = [digit * 64 for digit in "0123"]
STAGES = [made_stage(number + 1, seed=number) for number in range(4)]


class Full(StageStore):
    """A store whose disk can be full."""

    full = False

    def put(self, key: str, stage: Stage) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().put(key, stage)


@pytest.fixture
def store(tmp_path: Path) -> Full:
    return Full(str(tmp_path / "stages"))


@pytest.fixture
def writer(store: Full, tmp_path: Path) -> StageWriter:
    return StageWriter(store, str(tmp_path / "elsewhere"))


def held(store: StageStore) -> list[str]:
    return [key for key in KEYS if store.get(key)]


def test_a_stage_is_stored_and_those_no_longer_needed_are_deleted(store: Full, writer: StageWriter) -> None:
    writer.keep(KEYS[0], STAGES[0], [])
    writer.keep(KEYS[1], STAGES[1], [KEYS[0]])
    assert (held(store), writer.trouble) == ([KEYS[1]], "")
    assert writer.home(KEYS[1]) == store.uri


def test_a_stage_refused_by_a_full_disk_is_stored_later(store: Full, writer: StageWriter) -> None:
    store.full = True
    writer.keep(KEYS[0], STAGES[0], [])
    writer.keep(KEYS[1], STAGES[1], [])
    assert (held(store), writer.trouble) == ([], "No space left on device")
    store.full = False
    writer.keep(KEYS[2], STAGES[2], [KEYS[1]])
    assert (held(store), writer.trouble) == ([KEYS[0], KEYS[2]], "")
    found = store.get(KEYS[0])
    assert found is not None and same_stage(found, STAGES[0])


def test_an_old_stage_stays_until_the_next_is_stored(store: Full, writer: StageWriter) -> None:
    writer.keep(KEYS[0], STAGES[0], [])
    store.full = True
    writer.keep(KEYS[1], STAGES[1], [KEYS[0]])
    assert held(store) == [KEYS[0]], "a new worker could start from no other stage"


def test_a_final_stage_that_was_refused_is_written_to_the_second_store(
    store: Full, writer: StageWriter, tmp_path: Path
) -> None:
    store.full = True
    writer.keep(KEYS[0], STAGES[0], [])
    assert writer.home(KEYS[0]) == str(tmp_path / "elsewhere")
    found = StageStore(str(tmp_path / "elsewhere")).get(KEYS[0])
    assert found is not None and same_stage(found, STAGES[0])
