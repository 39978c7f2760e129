"""Every file, folder and module that the pages for developers name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md")
FOLDERS = [ROOT, ROOT / "agr", ROOT / "search"]  # the tables of packages name them below `agr` and `search`
MADE_LATER = {"site/", "data/", "why.png", "interview.png"}  # written by commands, not in version control
SUFFIXES = r"(?:py|md|toml|yml|yaml|lock|svg|png|css)"
PATH = re.compile(rf"(?<![\w/.:-])(?:[\w.-]+/)*[\w-]+(?:/|\.{SUFFIXES})(?![\w/-])")
MODULE = re.compile(r"(?<![\w/.-])((?:agr|search|tests)(?:\.\w+)+)")

ENTRY_POINTS = {"agr.commands"}  # groups of `pyproject.toml`


def code(text: str) -> list[str]:
    """What stands between backticks, and lines that are indented as code."""
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)


def named_paths(text: str) -> set[str]:
    """Paths in the code of a page. Names with capital letters only (`NAME.py`) stand for a file yet to be written."""
    found = {path for part in code(text) for path in PATH.findall(part)}
    return {path for path in found if not re.search(rf"(^|/)[A-Z]+\.{SUFFIXES}$", path) or (ROOT / path).exists()}


def module_exists(name: str) -> bool:
    """Whether a dotted name is a module, or a module followed by names that stand in it."""
    path, parts = ROOT, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path = path / parts.pop(0)
    if not parts:
        return True
    file = path / f"{parts[0]}.py"
    file, parts = (file, parts[1:]) if file.is_file() else (path / "__init__.py", parts)
    return file.is_file() and all(part in file.read_text(encoding="utf-8") for part in parts)


def exists(path: str) -> bool:
    """Whether a path stands in the repository, or below one of its two packages."""
    return path in MADE_LATER or any((folder / path).exists() for folder in FOLDERS)


def missing(text: str) -> list[str]:
    """Paths and modules that a page names and that do not exist."""
    modules = {name for part in code(text) for name in MODULE.findall(part) if not re.search(rf"\.{SUFFIXES}$", name)}
    return sorted(path for path in named_paths(text) if not exists(path)) + sorted(
        name
        for name in modules
        if not name.split(".")[1].isupper() and not module_exists(name) and name not in ENTRY_POINTS
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_module_that_a_page_names_exists(page: str) -> None:
    assert missing((ROOT / page).read_text(encoding="utf-8")) == []


def test_a_file_that_is_gone_is_found() -> None:
    assert missing("`agr/no_such.py` and `agr/errors.py`, in `nowhere/`") == ["agr/no_such.py", "nowhere/"]
    assert missing("`agr.no_such.thing`, `agr.errors.AgrError`, `agr.errors.Nothing`") == [
        "agr.errors.Nothing",
        "agr.no_such.thing",
    ]
    assert missing("`agr/recipes/NAME.py`, `python -m agr.NAME`") == []
