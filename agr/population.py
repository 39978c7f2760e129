"""Where the voices of a corpus lie beside those of people at large, and how far training moves their pitch.

    moved = moves(data, split.train)                  # (n,), of the logarithm of pitch, up is positive

Corpora disagree: where women of one speak at 220 to 280 Hz, a model of it calls another's women of 170 Hz men. The
labels of several corpora together say little of where women and men part, but it has been measured for people at
large: 210 and 120 Hz in speech (Traunmueller and Eriksson, 1995, "The frequency range of the voice fundamental in the
speech of male and female adults"), 220 and 131 Hz in words read one by one (Hillenbrand et al., 1995, JASA 97(5),
3099-3111). A second of speech is a few words: the middle of both is taken. So where several corpora train, each one's
women and men are moved by a factor that brings the mean of their pitches there; how much they differ from each other
stays. A corpus that trains alone stays as it is: the next person is taken to be of its kind.

Only training clips are looked at, and only they are moved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr import evidence, joint
from agr.corpus import CLASSES
from agr.images import ImageSet
from agr.splits import Indices

TYPICAL_HZ = {"female": 215.0, "male": 125.0}
CLIPS_A_SPEAKER = 10  # that a speaker's pitch is taken from


def moves(data: ImageSet, train: Indices, strength: float = 1.0) -> NDArray[np.float64]:
    """How far each clip's pitch is moved: (n,), of its logarithm, 0 for clips that do not train.

    strength: the share of the way. The same for all clips of one gender and corpus. 0 everywhere with images that hold
    no evidence, or of one corpus.
    """
    moved = np.zeros(len(data))
    corpora = joint.corpora(data)[train]
    if not strength or data.evidence is None or len(np.unique(corpora)) < 2:
        return moved
    for corpus in np.unique(corpora):
        for label, gender in enumerate(CLASSES):
            cell = train[(corpora == corpus) & (data.labels[train] == label)]
            found = mean_pitch(data, cell)
            if np.isfinite(found):
                moved[cell] = strength * np.log(TYPICAL_HZ[gender] / found)
    return moved


def told(data: ImageSet, train: Indices, strength: float) -> str:
    """What was moved and by which factor, for a person to read; empty if nothing was."""
    if not (moved := moves(data, train, strength)).any():
        return ""
    corpora = joint.corpora(data)
    found = [
        f"{corpus} {gender} {np.exp(moved[cell[0]]):.2f}"
        for corpus in np.unique(corpora[train]).tolist()
        for label, gender in enumerate(CLASSES)
        if len(cell := train[(corpora[train] == corpus) & (data.labels[train] == label)])
    ]
    return f"In training the pitch of every clip was multiplied, towards that of people at large: {', '.join(found)}."


def mean_pitch(data: ImageSet, rows: Indices) -> float:
    """The geometric mean of the pitches of the speakers of these clips, in Hz; NaN if none of them can be told."""
    assert data.evidence is not None
    speakers = []
    for speaker in np.unique(data.speakers[rows]):
        own = rows[data.speakers[rows] == speaker]
        some = own[:: -(-len(own) // CLIPS_A_SPEAKER)]
        found = np.log(evidence.pitch(data.evidence[some]))
        if np.isfinite(found).any():
            speakers.append(float(np.nanmedian(found)))
    return float(np.exp(np.mean(speakers))) if speakers else float("nan")
