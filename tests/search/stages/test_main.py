"""The command line of the stage store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agr.errors import SettingsError
from search.stages.__main__ import main, parse_size
from search.stages.store import Stage, StageStore
from tests.search.fakes import made_stage
from tests.search.stored import KEYS, keep, lease, there, touch


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(str(tmp_path / "stages"))


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("12B", 12),
        ("1k", 1000),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("2 gb", 2_000_000_000),
        ("1.5T", 1_500_000_000_000),
        (" 3M ", 3_000_000),
    ],
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1,5GB", "1e9", "5 apples", "1.GB", ".5G", "2GiB", "inf", "1G 1M"])
def test_an_invalid_size_is_a_one_line_error(text: str) -> None:
    with pytest.raises(SettingsError, match="--max-size") as caught:
        parse_size(text)
    assert "expected for instance 500MB" in str(caught.value)


# The commands


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search.stages", *arguments], capture_output=True, text=True, check=False
    )


def test_list_shows_the_latest_stages_first_and_marks_those_in_use(
    store: StageStore, capsys: pytest.CaptureFixture[str]
) -> None:
    size = keep(store, 3, 2, 1)
    store.put(KEYS[1], Stage(made_stage().state, ("x", "x"), {"data": "words", "epochs": 2}))
    touch(store, StageStore.name(KEYS[1]), 2)
    lease(store, "now", [KEYS[0]], hours=9)
    assert main(["list", "--stage-store", store.uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[:3]] == ["2", "1", "0"]
    assert "data words  epochs 2" in lines[1]
    assert [line.endswith("in use") for line in lines] == [False, False, True, False]
    assert lines[3].startswith(f"{store.uri}: 3 stages, ")
    assert len(lines) == 4
    assert size


@pytest.mark.parametrize("damaged", [b"", b"short", b"x" * 200, b"\0" * 5000], ids=["empty", "short", "text", "zeros"])
def test_list_marks_damaged_stages(store: StageStore, capsys: pytest.CaptureFixture[str], damaged: bytes) -> None:
    keep(store, 1)
    store.storage.write(StageStore.name(KEYS[0]), damaged)
    assert main(["list", "--stage-store", store.uri]) == 0
    assert "damaged: will be computed again" in capsys.readouterr().out


@pytest.mark.parametrize("epochs", [150, 200, 1000])
def test_list_shows_stages_of_many_epochs(store: StageStore, capsys: pytest.CaptureFixture[str], epochs: int) -> None:
    store.put(KEYS[0], Stage(made_stage(epochs).state, ("a" * 32,) * epochs, {"epochs": epochs}))
    assert main(["list", "--stage-store", store.uri]) == 0
    assert f"epochs {epochs}" in capsys.readouterr().out


def test_list_does_not_delete_damaged_stages(store: StageStore) -> None:
    store.storage.write(StageStore.name(KEYS[0]), b"x" * 200)
    main(["list", "--stage-store", store.uri])
    assert store.storage.read(StageStore.name(KEYS[0])) is not None


def test_prune_prints_what_it_deleted(store: StageStore, capsys: pytest.CaptureFixture[str]) -> None:
    size = keep(store, 3, 2, 1)
    assert main(["prune", "--max-size", str(size), "--stage-store", store.uri]) == 0
    out = capsys.readouterr().out
    assert out == f"{store.uri}: 2 stages deleted, {2 * size / 1e6:.1f} MB freed, {size / 1e6:.1f} MB left\n"
    assert there(store) == ["2"]


def test_prune_without_a_size_keeps_ten_gigabytes(store: StageStore, capsys: pytest.CaptureFixture[str]) -> None:
    keep(store, 3, 2)
    assert main(["prune", "--stage-store", store.uri]) == 0
    assert "0 stages deleted" in capsys.readouterr().out
    assert there(store) == ["0", "1"]


def test_the_commands_run_from_the_shell(store: StageStore) -> None:
    keep(store, 1)
    listed = command("list", "--stage-store", store.uri)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert f"{store.uri}: 1 stages" in listed.stdout
    wrong = command("prune", "--max-size", "much", "--stage-store", store.uri)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines() == ["agr: --max-size much: not a size; expected for instance 500MB or 2GB"]


@pytest.mark.parametrize("arguments", [["shrink"], [], ["prune", "--size", "1"]])
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m search.stages" in capsys.readouterr().err


def test_an_unknown_scheme_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="gopher://x"):
        main(["list", "--stage-store", "gopher://x"])
