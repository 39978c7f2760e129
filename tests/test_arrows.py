"""Which module may import which: `search` knows `agr`, never the other way round, and MLflow stands behind one door.

Every import statement counts here, wherever it stands in its file; those at a module's top level are the ones that
importing it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AGR = {f"agr.{path.stem}": path for path in sorted((ROOT / "agr").glob("*.py"))}
SEARCH = {f"search.{path.stem}": path for path in sorted((ROOT / "search").glob("*.py"))}
TRACKING, MIGRATE = "agr.tracking", "agr.migrate"
PARTS = {"agr.aliases": ["faults", "tracking"], "agr.newstore": ["tracking"]}  # of tracking, and who imports them
DOOR = {TRACKING, MIGRATE, "agr.pull", "agr.faults", *PARTS}  # the modules that know MLflow


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Dotted names of what import statements bring in; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def everywhere(path: Path) -> set[str]:
    """Imported anywhere in a file."""
    return imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def at_once(path: Path) -> set[str]:
    """Imported when the module is: not in functions, nor for type checkers only."""
    return imported(_run_at_import(ast.parse(path.read_text(encoding="utf-8"))))


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _run_at_import(node)


def outside_of_type_checking(path: Path) -> set[str]:
    """Imported anywhere in a file that runs, in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return at_once(path) | imported(
        node for call in ast.walk(tree) if isinstance(call, ast.FunctionDef) for node in ast.walk(call)
    )


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def loaded_with(module: str) -> set[str]:
    """Every package that importing a module imports, through other modules of this project too."""
    todo, done, found = [module], set(), set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        names = at_once((AGR | SEARCH)[name])
        todo += names & (AGR | SEARCH).keys()
        found |= packages(names)
    return found


def test_the_sources_are_where_this_test_looks() -> None:
    assert {"agr.training", "agr.predict", TRACKING} <= AGR.keys()
    assert "search.run_grid" in SEARCH
    assert "mlflow" in packages(everywhere(AGR[TRACKING]))
    assert "agr.pull" in everywhere(AGR["agr.registry"])
    assert "agr.pull" not in at_once(AGR["agr.registry"])
    assert any("ray" in packages(everywhere(path)) for path in SEARCH.values())


@pytest.mark.parametrize("module", AGR)
def test_agr_knows_nothing_of_the_search(module: str) -> None:
    assert not packages(everywhere(AGR[module])) & {"search", "ray", "optuna"}


@pytest.mark.parametrize("module", sorted(AGR.keys() - DOOR))
def test_mlflow_is_imported_behind_one_door_only(module: str) -> None:
    assert not packages(everywhere(AGR[module])) & {"mlflow", "sqlalchemy"}


@pytest.mark.parametrize("module", SEARCH)
def test_the_search_speaks_to_mlflow_through_agr(module: str) -> None:
    assert not packages(everywhere(SEARCH[module])) & {"mlflow", "sqlalchemy"}


def test_who_imports_what_imports_mlflow() -> None:
    assert [module for module, path in AGR.items() if TRACKING in everywhere(path)] == [MIGRATE]
    assert [module for module, path in AGR.items() if "agr.pull" in everywhere(path)] == ["agr.registry"]
    assert [module for module, path in AGR.items() if at_once(path) & DOOR] == sorted(
        DOOR - {"agr.aliases", "agr.newstore"}
    )


@pytest.mark.parametrize("part", sorted(PARTS))
def test_the_parts_of_tracking_are_its_own(part: str) -> None:
    assert [path.stem for path in [*AGR.values(), *SEARCH.values()] if part in everywhere(path)] == PARTS[part]


def test_of_a_search_only_the_clerk_imports_mlflow_and_in_its_own_process() -> None:
    assert not [module for module, path in SEARCH.items() if loaded_with(module) & {"mlflow", "sqlalchemy"}]
    assert [module for module, path in SEARCH.items() if DOOR & outside_of_type_checking(path)] == ["search.clerk"]


def test_nothing_imports_the_migration() -> None:
    assert not [path for path in [*AGR.values(), *SEARCH.values()] if MIGRATE in everywhere(path)]


@pytest.mark.parametrize("module", ["agr.training", "agr.serving", "agr.predict", "agr.evaluate", "agr.prepare"])
def test_importing_it_brings_in_no_heavy_guest(module: str) -> None:
    heavy = {"ray", "optuna", "mlflow", "sqlalchemy", "pandas", "matplotlib", "librosa", "search"}
    assert not loaded_with(module) & heavy


def test_predict_needs_no_torch_to_answer_help() -> None:
    assert not loaded_with("agr.predict") & {"torch", "numpy", "soundfile"}


def test_pickle_is_nowhere_read() -> None:
    for path in [*AGR.values(), *SEARCH.values()]:
        assert not packages(everywhere(path)) & {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}, path
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path
