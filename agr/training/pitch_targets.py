"""Pitch targets: shift the pitch of each training corpus towards that of people at large.

    moved = moves(data, split.train)                  # (n,), added to the logarithm of pitch

Corpora disagree about pitch: a model trained where women speak at 220 to 280 Hz takes women of another corpus, at
170 Hz, for men. Several corpora together do not show where the voices of women and men part, but it has been measured
for people at large: 210 and 120 Hz in speech (Traunmueller and Eriksson, 1995, "The frequency range of the voice
fundamental in the speech of male and female adults"), 220 and 131 Hz in single words (Hillenbrand et al., 1995, JASA
97(5), 3099-3111). A second of speech is a few words, so the targets lie between the two. If several corpora are used
for training, the pitch of the women and of the men of each is multiplied by a factor that brings their mean to the
target; differences between speakers stay. A single corpus is not changed: new speakers are expected to resemble it.

Only training clips are measured and shifted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.splits import Indices
from agr.labels import CLASSES
from agr.recipes import voice_features

TYPICAL_HZ = {"female": 215.0, "male": 125.0}
CLIPS_A_SPEAKER = 10  # from which the pitch of a speaker is measured, at most


def moves(data: ImageSet, train: Indices, strength: float = 1.0) -> NDArray[np.float64]:
    """The shift of each clip's pitch towards the target of its gender.

    Args:
        data: All images.
        train: The clips of the training set.
        strength: The share of the way to the target, 0..1.

    Returns:
        (n,), float64, added to the natural logarithm of pitch; the same for all training clips of a gender in a
        corpus. 0 for clips outside the training set, and everywhere without voice features or with one corpus alone.
    """
    moved = np.zeros(len(data))
    corpora = combine.corpora(data)[train]
    if not strength or data.features is None or len(np.unique(corpora)) < 2:
        return moved
    for corpus in np.unique(corpora):
        for label, gender in enumerate(CLASSES):
            cell = train[(corpora == corpus) & (data.labels[train] == label)]
            found = mean_pitch(data, cell)
            if np.isfinite(found):
                moved[cell] = strength * np.log(TYPICAL_HZ[gender] / found)
    return moved


def told(data: ImageSet, train: Indices, strength: float) -> str:
    """A sentence for people about the factors by which pitch is multiplied; "" if it is not."""
    if not (moved := moves(data, train, strength)).any():
        return ""
    corpora = combine.corpora(data)
    found = [
        f"{corpus} {gender} {np.exp(moved[cell[0]]):.2f}"
        for corpus in np.unique(corpora[train]).tolist()
        for label, gender in enumerate(CLASSES)
        if len(cell := train[(corpora[train] == corpus) & (data.labels[train] == label)])
    ]
    return f"In training the pitch of every clip was multiplied, towards that of people at large: {', '.join(found)}."


def mean_pitch(data: ImageSet, rows: Indices) -> float:
    """The geometric mean of the pitches of these clips' speakers, in Hz.

    Args:
        data: All images, with voice features.
        rows: The clips.

    Returns:
        NaN if no clip has a pitch that can be measured.
    """
    assert data.features is not None
    speakers = []
    for speaker in np.unique(data.speakers[rows]):
        own = rows[data.speakers[rows] == speaker]
        some = own[:: -(-len(own) // CLIPS_A_SPEAKER)]
        found = np.log(voice_features.pitch(data.features[some]))
        if np.isfinite(found).any():
            speakers.append(float(np.nanmedian(found)))
    return float(np.exp(np.mean(speakers))) if speakers else float("nan")
