"""Which files a manifest may name: plain ones below its own folder, for who wrote it need not be who reads it.

check(Path("voices.csv"), ["a/1.wav", "b/2.wav"])
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from agr.errors import CorpusError


def check(manifest: Path, names: Iterable[str], allow_outside: bool = False) -> None:
    """Look at all files that a manifest names, as they are named; one that is not there is a matter for who reads it.

    Raises: CorpusError for a pipe or a device, and unless allowed for a file outside the manifest's folder, be it named
    by .., by its whole path or through a link.
    """
    root = os.path.join(os.path.realpath(manifest.parent), "")
    real = functools.cache(os.path.realpath)  # of folders, of which there are few
    for name in names:
        folder, last = os.path.split(manifest.parent / name)
        whole = os.path.join(real(folder), last)
        found = os.path.realpath(whole) if last in ("", "..") or os.path.islink(whole) else whole
        if not allow_outside and not found.startswith(root):
            expected = f"expected files below {manifest.parent}, or agr.prepare with --allow-outside"
            raise CorpusError(f"{manifest}: {name!r} leads to {found!r}; {expected}")
        if _is_special(found):
            raise CorpusError(f"{manifest}: {name!r} is a pipe or a device; expected a file")


def _is_special(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
