"""Pitch targets: shift the mean pitch of each training corpus towards that of the general population.

The pitch of a corpus may not be typical: a model trained where women speak at 220 to 280 Hz takes women of another
corpus, at 170 Hz, for men. If there are several, the pitch of the women and of the men of each is multiplied by a
factor that brings their mean to the target. A single corpus is not changed: new speakers are expected to resemble it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.splits import Indices
from agr.labels import CLASSES
from agr.recipes import voice_features

# A second of speech is a few words. The means are 210 and 120 Hz in speech (Traunmueller and Eriksson, 1995, "The
# frequency range of the voice fundamental in the speech of male and female adults"), and 220 and 131 Hz in single words
# (Hillenbrand et al., 1995, JASA 97(5), 3099-3111).
TYPICAL_HZ = {"female": 215.0, "male": 125.0}
MAX_CLIPS_PER_SPEAKER = 10  # from which a speaker's pitch is measured


def pitch_shifts(data: ImageSet, train: Indices, strength: float = 1.0) -> NDArray[np.float64]:
    """What is added to the natural logarithm of each clip's pitch, (n,), float64; `strength` 1 reaches the targets.

    It is the same for all clips of a gender in a corpus, 0 outside `train`, and 0 everywhere without voice features or
    with a single corpus.
    """
    shifts = np.zeros(len(data))
    corpora = combine.corpora(data).numbers[train]
    if not strength or data.features is None or len(np.unique(corpora)) < 2:
        return shifts
    for corpus in np.unique(corpora):
        for label, gender in enumerate(CLASSES):
            cell = train[(corpora == corpus) & (data.labels[train] == label)]
            if np.isfinite(hz := mean_pitch(data, cell)):
                shifts[cell] = strength * np.log(TYPICAL_HZ[gender] / hz)
    return shifts


def describe(data: ImageSet, train: Indices, strength: float) -> str:
    """A sentence for the model card that lists the factors; "" if pitch is not changed."""
    if not (shifts := pitch_shifts(data, train, strength)).any():
        return ""
    corpora = combine.corpora(data)
    factors = [
        f"{corpus} {gender} {np.exp(shifts[cell[0]]):.2f}"
        for corpus in np.unique(corpora[train]).tolist()
        for label, gender in enumerate(CLASSES)
        if len(cell := train[(corpora[train] == corpus) & (data.labels[train] == label)])
    ]
    return f"In training, pitch was multiplied by factors towards that of people in general: {', '.join(factors)}."


def mean_pitch(data: ImageSet, rows: Indices) -> float:
    """The geometric mean of the speakers' pitches in clips `rows`, in Hz; NaN if no clip has a measurable pitch."""
    assert data.features is not None
    people, speakers = data.people[1][rows], []
    order = np.argsort(people, kind="stable")
    _, firsts = np.unique(people[order], return_index=True)
    for own in np.split(rows[order], firsts[1:]) if len(rows) else []:
        some = own[:: -(-len(own) // MAX_CLIPS_PER_SPEAKER)]
        pitches = np.log(voice_features.pitch(data.features[some]))
        if np.isfinite(pitches).any():
            speakers.append(float(np.nanmedian(pitches)))
    return float(np.exp(np.mean(speakers))) if speakers else float("nan")
