"""The rival of bench/prepare.py: what one would write first, clip after clip through librosa and matplotlib.

python bench/librosa_loop.py MANIFEST OUT
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from agr import corpus
from agr.recipe import MFC


def librosa_loop(paths: Sequence[Path], out: Path) -> None:
    """One JPEG a clip, by librosa's and matplotlib's own calls."""
    from librosa import load
    from librosa.effects import preemphasis
    from librosa.feature import mfcc
    from librosa.util import fix_length
    from matplotlib.pyplot import imsave

    out.mkdir(exist_ok=True)
    for i, path in enumerate(paths):
        y, _ = load(path, sr=MFC.sample_rate)
        y = preemphasis(fix_length(y, size=MFC.n_samples), coef=MFC.pre_emphasis)
        values = mfcc(
            y=y,
            sr=MFC.sample_rate,
            n_mfcc=MFC.n_mfcc,
            lifter=MFC.lifter,
            n_mels=MFC.n_mels,
            n_fft=MFC.win_length,
            hop_length=MFC.hop_length,
            center=False,
        )
        imsave(out / f"{i}.jpg", values, format="jpg")


if __name__ == "__main__":
    listed = corpus.read_manifest(Path(sys.argv[1]), allow_outside=True)
    librosa_loop([clip.path for clip in listed.clips], Path(sys.argv[2]))
