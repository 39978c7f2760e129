"""The rival of bench/prepare.py: what one would write first, clip after clip through librosa and matplotlib.

python bench/librosa_loop.py MANIFEST OUT
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from agr.data.layouts.manifest import read_manifest
from agr.recipes.mfcc import MFCC
from agr.recipes.mfcc_reference import jpeg


def librosa_loop(paths: Sequence[Path], out: Path) -> None:
    """One JPEG a clip, by librosa's and matplotlib's own calls."""
    from librosa import load
    from librosa.util import fix_length

    out.mkdir(exist_ok=True)
    for i, path in enumerate(paths):
        y, _ = load(path, sr=MFCC.sample_rate)
        (out / f"{i}.jpg").write_bytes(jpeg(fix_length(y, size=MFCC.n_samples), MFCC))


if __name__ == "__main__":
    listed = read_manifest(Path(sys.argv[1]), allow_outside=True)
    librosa_loop([clip.path for clip in listed.clips], Path(sys.argv[2]))
