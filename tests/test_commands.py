"""Every command answers `--help`, exits 2 for wrong usage and ends by `agr.common.cli.run`."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def program(path: Path) -> list[ast.stmt]:
    """The statements that run when a module is the program; none for other modules."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            return node.body
    return []


SOURCES = [path for package in ("agr", "search") for path in sorted((ROOT / package).rglob("*.py"))]
COMMANDS = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES if program(path)}


def main_of(command: str) -> Callable[[list[str]], int]:
    """The function that is handed to `run`: the module's own `main`, or one that its program imports."""
    for node in program(COMMANDS[command]):
        if isinstance(node, ast.ImportFrom) and "main" in {alias.name for alias in node.names}:
            command = str(node.module)
    found: Callable[[list[str]], int] = importlib.import_module(command).main
    return found


def test_commands_are_found() -> None:
    assert {"agr.predict", "agr.synth.__main__", "search.run_grid", "search.run_optuna"} <= COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_ends_with_the_exit_statuses_of_all_others(command: str) -> None:
    assert ast.unparse(program(COMMANDS[command])[-1]) == "run(main)"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_how_the_command_is_called(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_of(command)(["--help"])
    assert ended.value.code == 0
    called = f"-m {command.removesuffix('.__main__')}", str(COMMANDS[command].relative_to(ROOT))
    assert capsys.readouterr().out.startswith(tuple(f"usage: python {name} " for name in called))


@pytest.mark.parametrize("command", COMMANDS)
def test_parser_is_the_one_whose_errors_cannot_steer_the_terminal(command: str) -> None:
    assert "argparse.ArgumentParser(" not in COMMANDS[command].read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_flag_exits_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main_of(command)(["--no-such-flag"])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
