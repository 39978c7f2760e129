"""Check the layout of the code: which package may import which, and how large things may be.

    python -m tests.architecture        # prints every figure; exit status 1 if one does not hold

Packages are listed from the ground up. A module may import from its own package and from those listed before it. An
import counts wherever it stands in its file: inside a function or for type checkers only as well.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    "agr": (
        "errors labels",
        "common",
        "audio",
        "metrics",
        "registry",
        "recipes",
        "synth",
        "data",
        "training",
        "inference",
        "baselines",
        "plots",
        "service",
        "api",
        "card evaluate explain features migrate predict prepare serve serving __main__",
    ),
    "search": (
        "plan",
        "stages",
        "outbox",
        "tasks",
        "session",
        "runtime",
        "results",
        "problems",
        "driver",
        "options",
        "grid_search optuna_search",
        "leave_each_out",
        "api",
        "run_grid run_optuna make_champion serve",
    ),
}
MOST_MODULES = 15  # in one folder
MOST_README_BYTES = 12_000
MOST_ANY = 39  # under search/
# of agr/ and search/ together; 20,000 before the service, 23,500 before shards, 25,000 before mapped rows
MOST_LINES = 25_500


@dataclass(frozen=True)
class Import:
    """One module that another one imports."""

    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of both packages, at every depth, by its dotted name."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in FLOORS
        for path in sorted((root / package).rglob("*.py"))
    }


def imported_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names that import statements bring in; `from a import b` counts as `a` and as `a.b`."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: a relative import; expected an absolute one")
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def _tree(path: Path) -> ast.Module:
    """The syntax tree of a file, which is parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_anywhere(path: Path) -> set[str]:
    """What a file imports, wherever the statement stands."""
    return imported_names(ast.walk(_tree(path)))


def imports_at_once(path: Path) -> set[str]:
    """What importing a file imports: not what its functions do, nor what only type checkers read."""
    return imported_names(_executed_at_import(_tree(path)))


def imports_that_run(path: Path) -> set[str]:
    """What a file imports at once or in its functions, but not what only type checkers read."""
    tree = _tree(path)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return imports_at_once(path) | imported_names(node for each in functions for node in ast.walk(each))


def _executed_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed_at_import(node)


def packages(names: Iterable[str]) -> set[str]:
    """The first part of each dotted name."""
    return {name.split(".")[0] for name in names}


def loaded_with(module: str, known: Mapping[str, Path]) -> set[str]:
    """Every top-level package that importing a module imports, also through other modules of this project."""
    todo, done, found = [module], set(), set()
    while todo:
        name = todo.pop()
        if name not in done:
            done.add(name)
            names = imports_at_once(known[name])
            todo += names & known.keys()
            found |= packages(names)
    return found


def floor(module: str) -> int:
    """How high a module stands in its package, 0 being the ground. Raises: KeyError for one that is not listed."""
    package, _, rest = module.partition(".")
    if not rest:
        return len(FLOORS[package])  # agr/__init__.py and search/__init__.py, which import when they are first asked
    first = rest.split(".")[0]
    found = [height for height, names in enumerate(FLOORS[package]) if first in names.split()]
    if not found:
        raise KeyError(f"{module}: not listed in FLOORS")
    return found[0]


def project_imports(known: Mapping[str, Path]) -> list[Import]:
    """Every import of one module of this project by another."""
    return [
        Import(module, name)
        for module, path in known.items()
        for name in sorted(imports_anywhere(path) & known.keys() - {module})
        if name not in FLOORS
    ]


def points_up(each: Import) -> bool:
    """Whether an import leads from a package to a higher one, or from `agr` to `search`."""
    importer, imported = (name.split(".")[0] for name in (each.importer, each.imported))
    if importer != imported:
        return importer == "agr"
    return floor(each.imported) > floor(each.importer)


def roof_imports(found: Iterable[Import]) -> list[Import]:
    """Imports of a command by another module: commands stand on the roof, and nothing rests on them."""
    return [each for each in found if floor(each.imported) == len(FLOORS[each.imported.split(".")[0]]) - 1]


def circle(found: Iterable[Import]) -> list[str]:
    """One circle of modules, or of packages, that import each other; empty if there is none."""
    graphs: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})
    for each in found:
        for graph, names in zip(graphs, ((each.importer, each.imported), _folders(each)), strict=True):
            if names[0] != names[1]:
                graph.setdefault(names[0], set()).add(names[1])
    for graph in graphs:
        try:
            tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            return [str(name) for name in error.args[1]]
    return []


def _folders(each: Import) -> tuple[str, str]:
    """The packages on both sides; a module that stands directly in agr/ or search/ counts as one of its own."""
    importer, imported = (".".join(name.split(".")[:2]) for name in (each.importer, each.imported))
    return importer, imported


def crowded(known: Mapping[str, Path]) -> dict[str, int]:
    """The number of modules in each folder, `__init__.py` not counted."""
    counts: dict[str, int] = {}
    for path in known.values():
        if path.name != "__init__.py":
            folder = path.parent.relative_to(ROOT).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    return counts


def lines(known: Mapping[str, Path]) -> int:
    """Lines of code of both packages."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in known.values())


def any_count(known: Mapping[str, Path]) -> int:
    """How often `Any` stands in the modules of `search`."""
    texts = (path.read_text(encoding="utf-8") for name, path in known.items() if name.startswith("search"))
    return sum(len(re.findall(r"\bAny\b", text)) for text in texts)


def report() -> list[tuple[str, bool]]:
    """Every figure as a line of text, and whether it holds."""
    known = modules()
    found = project_imports(known)
    up, roof, ring = [each for each in found if points_up(each)], roof_imports(found), circle(found)
    folder, most = max(crowded(known).items(), key=lambda item: item[1])
    readme, total, untyped = (ROOT / "README.md").stat().st_size, lines(known), any_count(known)
    return [
        (f"circles of imports: {' -> '.join(ring) or 0}", not ring),
        (f"imports that point up: {'; '.join(map(str, up)) or 0}", not up),
        (f"imports of a command: {'; '.join(map(str, roof)) or 0}", not roof),
        (f"modules in the fullest folder: {most} in {folder} (at most {MOST_MODULES})", most <= MOST_MODULES),
        (f"README.md: {readme:,} bytes (at most {MOST_README_BYTES:,})", readme <= MOST_README_BYTES),
        (f"`Any` under search/: {untyped} (at most {MOST_ANY})", untyped <= MOST_ANY),
        (f"lines of agr/ and search/: {total:,} (fewer than {MOST_LINES:,})", total < MOST_LINES),
    ]


def main() -> int:
    """Print the figures; returns the exit status."""
    found = report()
    for line, holds in found:
        print(f"{'ok  ' if holds else 'FAIL'} {line}")
    return 0 if all(holds for _, holds in found) else 1


if __name__ == "__main__":
    sys.exit(main())
