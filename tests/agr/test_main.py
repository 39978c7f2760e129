"""The command `agr`: its own commands, those of other packages, and what it says of a wrong name."""

from __future__ import annotations

import sys
import tomllib
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from agr import __main__ as command
from agr import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OTHERS = PROJECT["entry-points"][command.GROUP]
PLUGIN = '''"""Say what was typed.

More about it.
"""

def main(arguments, prog):
    print(prog, arguments)
    return 7
'''


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of pyproject.toml, whatever version of it is installed."""
    found = EntryPoints(EntryPoint(name, value, command.GROUP) for name, value in OTHERS.items())
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found.select(group=group))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with suppress(SystemExit):
        assert command.main(words, "agr") == 0
    return capsys.readouterr().out


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help")
    assert text == said(capsys)
    expected = ["predict", "serve", "evaluate", "prepare", "explain", "features", "card", "migrate"]
    expected += ["search grid", "search optuna", "search serve", "stages"]
    listed = [line[2:] for line in text.splitlines() if line.startswith("  ")]
    assert [line[:14].strip() for line in listed] == expected
    assert all(line[14:].strip().endswith((".", ":")) for line in listed)


def test_help_imports_no_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*command.OWN.values(), *(value.partition(":")[0] for value in OTHERS.values())]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    said(capsys, "--help")
    assert [name for name in names if name in sys.modules] == []


def test_own_commands_are_found_without_reading_entry_points(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    with pytest.raises(SystemExit) as ended:
        command.main(["predict", "--help"], "agr")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: agr predict ")


@pytest.mark.parametrize("name", [*command.OWN, *(name.replace(".", " ") for name in OTHERS)])
def test_usage_says_the_name_that_was_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*name.split(), "--no-such-flag"], "agr")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: agr {name} ")


def test_a_command_of_another_package_gets_its_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints([EntryPoint("extra.say", "some_plugin:main", command.GROUP)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert "  extra say      Say what was typed.\n" in said(capsys, "extra")
    assert "some_plugin" not in sys.modules
    assert command.main(["extra", "say", "--loud", "x"], "agr") == 7
    assert capsys.readouterr().out == "agr extra say ['--loud', 'x']\n"
    monkeypatch.delitem(sys.modules, "some_plugin")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serch"], "agr: error: serch: no such command; expected one of predict, "),
        (
            ["search", "gird"],
            "agr: error: search gird: no such command; expected one of search grid, search optuna",
        ),
        (["--verbose"], "agr: error: --verbose: no such command"),
    ],
)
def test_an_unknown_command_is_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words, "agr")
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(expected) and err.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == f"agr {__version__}\n"


def test_the_console_command_and_every_entry_point_exist() -> None:
    for value in (*PROJECT["scripts"].values(), *OTHERS.values()):
        module, function = value.split(":")
        assert callable(getattr(import_module(module), function))
