"""List the stages of a stage store, or delete the least recently used ones.

python -m search.stages list  [--stage-store URI]
python -m search.stages prune --max-size 2GB [--stage-store URI]
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from agr.common.cli import ArgumentParser
from agr.common.credentials import harmless
from agr.common.places import store_folder
from agr.common.printable import printable
from agr.errors import SettingsError
from search.stages.pruning import StoredStage, prune, stages
from search.stages.store import StageStore

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str) -> int:
    """Parse a size such as "500MB", "1.5T" or a number of bytes. Raises: SettingsError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise SettingsError(f"--max-size {text}: not a size; expected for instance 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _row(store: StageStore, stage: StoredStage) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(stage.used))
    about = store.about(stage.key)
    what = "damaged: will be computed again" if about is None else "  ".join(f"{key} {about[key]}" for key in about)
    return f"{stage.key[:12]}  {stage.file.size / 1e6:7.1f} MB  {used}  {what}{'  in use' if stage.needed else ''}"


def main(arguments: Sequence[str] | None = None, prog: str = "python -m search.stages") -> int:
    """Run the command and return its exit status."""
    description = "List the stages of a stage store, or delete the least recently used ones."
    parser = ArgumentParser(prog=prog, description=description)
    parser.add_argument("action", choices=("list", "prune"))
    where = "a folder or bucket (default: stages/ in mlflow_store/)"
    parser.add_argument("--stage-store", type=harmless, metavar="URI", help=where)
    parser.add_argument("--max-size", default="10GB", help="prune: the size to keep, as in 500MB (default: 10GB)")
    options = parser.parse_args(arguments)
    store = StageStore(options.stage_store or str(store_folder() / "stages"))
    where = printable(store.uri)
    if options.action == "prune":
        deleted, left = prune(store, parse_size(options.max_size))
        freed = sum(stage.file.size for stage in deleted)
        print(f"{where}: {len(deleted)} stages deleted, {freed / 1e6:.1f} MB freed, {left / 1e6:.1f} MB left")
        return 0
    found = stages(store)
    for stage in reversed(found):
        print(_row(store, stage))
    print(f"{where}: {len(found)} stages, {sum(stage.file.size for stage in found) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    from agr.common.cli import run

    run(main)
