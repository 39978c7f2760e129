"""Which module may import which, at every depth; see tests/architecture.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import (
    Import,
    circle,
    imports_anywhere,
    imports_at_once,
    imports_that_run,
    loaded_with,
    modules,
    packages,
    points_up,
    roof_imports,
)

KNOWN = modules()
MLFLOW = {"mlflow", "sqlalchemy"}
MLFLOW_MODULES = {  # the only ones that know MLflow
    "agr.registry.aliases",
    "agr.registry.migration",
    "agr.registry.mlflow_env",
    "agr.registry.mlflow_model",
    "agr.registry.pull",
    "agr.registry.sqlite_store",
    "agr.registry.tracker",
}


def test_modules_are_found_at_every_depth() -> None:
    assert {"agr.errors", "agr.predict", "agr.training.loop", "search.run_grid", "search.stages.store"} <= KNOWN.keys()
    assert any("ray" in packages(imports_anywhere(path)) for name, path in KNOWN.items() if name.startswith("search"))


def test_no_import_points_up() -> None:
    assert [str(each) for each in architecture.project_imports(KNOWN) if points_up(each)] == []


def test_nothing_imports_a_command() -> None:
    assert [str(each) for each in roof_imports(architecture.project_imports(KNOWN))] == []


def test_no_modules_or_packages_import_each_other_in_a_circle() -> None:
    assert circle(architecture.project_imports(KNOWN)) == []


def test_every_figure_of_the_report_holds() -> None:
    assert [line for line, holds in architecture.report() if not holds] == []


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("agr.audio.read", "agr.common.files", False),
        ("agr.audio.read", "agr.audio.structure", False),
        ("agr.audio.read", "agr.inference.bundle", True),
        ("agr.errors", "agr.common.cli", True),
        ("agr.plots.curves", "search.plan", True),
        ("search.driver.run", "agr.errors", False),
        ("search.stages.store", "search.tasks.base", True),
    ],
)
def test_a_higher_package_is_recognised(importer: str, imported: str, expected: bool) -> None:
    assert points_up(Import(importer, imported)) is expected


def test_a_package_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"agr\.unknown\.module"):
        points_up(Import("agr.unknown.module", "agr.errors"))


def test_circles_of_modules_and_of_packages_are_found() -> None:
    assert circle([Import("agr.a", "agr.b"), Import("agr.b", "agr.c")]) == []
    assert set(circle([Import("agr.a", "agr.b"), Import("agr.b", "agr.a")])) == {"agr.a", "agr.b"}
    between = [Import("agr.a.one", "agr.b.one"), Import("agr.b.two", "agr.a.two")]  # no circle of modules
    assert set(circle(between)) == {"agr.a", "agr.b"}


def test_an_import_inside_a_function_is_not_made_at_once(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    lines = ["from typing import TYPE_CHECKING", "import a", "if TYPE_CHECKING:", "    import b", "def f():"]
    file.write_text("\n".join([*lines, "    from c import d"]), encoding="utf-8")
    assert imports_at_once(file) == {"typing", "typing.TYPE_CHECKING", "a"}
    assert imports_that_run(file) == imports_at_once(file) | {"c", "c.d"}
    assert imports_anywhere(file) == imports_that_run(file) | {"b"}


@pytest.mark.parametrize("module", sorted(name for name in KNOWN if name.split(".")[0] == "agr"))
def test_agr_knows_no_scheduler(module: str) -> None:
    assert not packages(imports_anywhere(KNOWN[module])) & {"search", "ray", "optuna"}


def test_only_the_registry_package_imports_mlflow() -> None:
    found = {name for name, path in KNOWN.items() if packages(imports_anywhere(path)) & MLFLOW}
    assert found == MLFLOW_MODULES


def test_mlflow_is_loaded_only_where_it_is_wanted() -> None:
    at_once = {name for name, path in KNOWN.items() if imports_at_once(path) & MLFLOW_MODULES}
    assert at_once - MLFLOW_MODULES == {"agr.migrate"}
    assert not [name for name in KNOWN if name.startswith("search") and loaded_with(name, KNOWN) & MLFLOW]


def test_in_a_search_only_the_mlflow_process_loads_mlflow() -> None:
    search = {name: path for name, path in KNOWN.items() if name.startswith("search")}
    assert [name for name, path in search.items() if MLFLOW_MODULES & imports_that_run(path)] == [
        "search.outbox.mlflow_process"
    ]


@pytest.mark.parametrize("module", ["agr.training.loop", "agr.serving", "agr.predict", "agr.evaluate", "agr.prepare"])
def test_importing_a_command_loads_no_heavy_package(module: str) -> None:
    heavy = {"ray", "optuna", *MLFLOW, "pandas", "matplotlib", "librosa", "pooch", "search"}
    assert not loaded_with(module, KNOWN) & heavy


def test_predict_answers_help_without_torch() -> None:
    assert not loaded_with("agr.predict", KNOWN) & {"torch", "numpy", "soundfile"}


def test_nothing_reads_pickle() -> None:
    for path in KNOWN.values():
        assert not packages(imports_anywhere(path)) & {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("path", [path for path in KNOWN.values() if path.name == "__init__.py"], ids=str)
def test_packages_have_an_empty_init(path: Path) -> None:
    assert path.read_text(encoding="utf-8").strip() == "" or path.parent.parent == architecture.ROOT
