"""All commands under one name.

    agr predict clip.wav
    agr search grid --num-workers 4
    agr --help                        # every command, with one line each

Commands of other packages, as those of `search`, are found through the entry point group `agr.commands`: the dots of
a name stand for spaces, and what it names is called with the arguments and the name that was typed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from agr import __version__
from agr.common.cli import run
from agr.common.printable import printable

GROUP = "agr.commands"
NAMES = ("predict", "serve", "evaluate", "prepare", "explain", "features", "card", "migrate")
OWN = {name: f"agr.{name}" for name in NAMES}
Main = Callable[[Sequence[str], str], int]


def others() -> dict[str, str]:
    """The commands of other packages: what is typed, and `MODULE:FUNCTION`."""
    from importlib.metadata import entry_points  # reads every installed package's list

    return {entry.name.replace(".", " "): entry.value for entry in sorted(entry_points(group=GROUP))}


def about(where: str) -> str:
    """The first line of a module's docstring, without importing the module."""
    import ast

    spec = find_spec(where.partition(":")[0])
    if spec is None or spec.origin is None:
        return "not installed"
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def show(commands: Mapping[str, str], prog: str) -> NoReturn:
    """Print the usage and the commands, and exit as argparse does."""
    print(f"usage: {prog} COMMAND [OPTION ...]      ({prog} COMMAND --help lists the options of a command)\n")
    for name, where in commands.items():
        print(f"  {name:14} {about(where)}")
    print(f"\n{prog} --version prints the version.")
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m agr") -> int:
    """Run a command; returns its exit status, 2 if there is none of that name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in OWN:
        return _call(OWN[words[0]], words[1:], f"{prog} {words[0]}")
    if words == ["--version"]:
        print(f"agr {__version__}")
        return 0
    found = others()
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in found:
            return _call(found[name], words[count:], f"{prog} {name}")
    if not words or words[0] in ("-h", "--help"):
        show(OWN | found, prog)
    below = {name: where for name, where in found.items() if name.startswith(f"{words[0]} ")}
    if below and (len(words) == 1 or words[1] in ("-h", "--help")):
        show(below, prog)
    typed, known = " ".join(words[:2] if below else words[:1]), ", ".join(below or OWN | found)
    print(f"{prog}: error: {printable(typed)}: no such command; expected one of {known}, or --help", file=sys.stderr)
    raise SystemExit(2)


def _call(where: str, words: Sequence[str], prog: str) -> int:
    module, _, function = where.partition(":")
    command: Main = getattr(import_module(module), function or "main")
    return command(words, prog)


def program() -> NoReturn:
    """The console command."""
    run(lambda: main(prog="agr"), program=True)


if __name__ == "__main__":
    run(main)
