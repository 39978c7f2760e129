"""The best score against epochs trained: the grid, random search, Optuna alone, and this project's search with Optuna.

    python bench/search.py DATA [DATA ...] --seeds 5
    python bench/search.py DATA --seeds 5 --wide                # all but the grid search the default space

What it does stands in `_search_contest.py`. This file has the name of the package `search`, and Python looks beside a
script first: for the scripts of this folder that import the package, it is the package.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    import _search_contest

    from agr.common.cli import run

    run(_search_contest.main)
else:
    __path__ = [str(HERE.parent / "search")]
