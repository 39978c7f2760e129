"""A module of AGR that is changed as every process of a command imports it."""

from __future__ import annotations

import textwrap

SITE = """
import importlib.abc, importlib.util, sys

def change(module):
{change}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "{name}":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            change(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def site(name: str, change: str) -> str:
    """The text of a `sitecustomize.py`. change: statements about `module`, which was imported."""
    return SITE.format(name=name, change=textwrap.indent(change.strip("\n"), "    "))
