"""All errors that AGR raises on purpose.

    AgrError                  one line for the person at the terminal; no traceback
    ├── AudioError            a recording that cannot be used
    │   ├── EmptyAudio        the file or the signal holds nothing
    │   ├── UnreadableAudio   not a sound file that can be decoded
    │   ├── SilentAudio       every sample is the same value
    │   ├── NonFiniteAudio    NaN or infinity among the samples
    │   ├── ShortAudio        shorter than MIN_SECONDS
    │   ├── LongAudio         longer than is decoded
    │   └── NoChannel         fewer channels than the one that was asked for
    ├── CorpusError           a source, manifest or metadata file that cannot be used
    │   └── FetchError        a corpus that could not be downloaded or that arrived damaged
    ├── RecipeError           an unknown recipe, or images made by another one
    ├── SplitError            a split that cannot be made, or that leaks a speaker or a recording
    ├── ModelError            a model folder or URI that cannot be used
    │   └── BrokenModel       its files are there, but changed or not to be used
    ├── StoreError            a call that an MLflow store rejected
    ├── OutageError           an MLflow store that stopped answering
    ├── TrainingError         a trial that diverged
    └── SettingsError         a flag or setting outside its range

Messages name the file, what was found and what was expected.
"""

from __future__ import annotations


class AgrError(Exception):
    """One line for the person at the terminal, `str(error)`, without a traceback."""


class AudioError(AgrError):
    """A recording that cannot be used."""


class EmptyAudio(AudioError):
    """The file has no bytes, or the signal no samples."""


class UnreadableAudio(AudioError):
    """The bytes are not a sound file that can be decoded."""


class SilentAudio(AudioError):
    """Every sample has the same value."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        """`seconds`: the recording's length."""
        super().__init__(reason)
        self.seconds = seconds


class NonFiniteAudio(AudioError):
    """NaN or infinity among the samples."""


class ShortAudio(AudioError):
    """The clip is shorter than MIN_SECONDS."""


class LongAudio(AudioError):
    """The recording is longer than MAX_SECONDS."""


class NoChannel(AudioError):
    """The recording has fewer channels than the one that was asked for."""


class CorpusError(AgrError):
    """A source, manifest or metadata file that cannot be used."""


class FetchError(CorpusError):
    """A corpus that could not be downloaded, or that arrived damaged."""


class RecipeError(AgrError):
    """An unknown recipe, or images made by another one."""


class SplitError(AgrError):
    """A split that cannot be made, or that leaks a speaker or a recording."""


class ModelError(AgrError):
    """A model folder or URI that cannot be used."""


class BrokenModel(ModelError):
    """The files of a model are there, but changed since it was registered, or not to be used."""


class StoreError(AgrError):
    """A call that an MLflow store rejected; `passing` if the same call may succeed later."""

    def __init__(self, reason: str, passing: bool) -> None:
        """`reason`: the store's answer, in a few words."""
        super().__init__(reason, passing)
        self.reason = reason
        self.passing = passing

    def __str__(self) -> str:
        return self.reason


class OutageError(AgrError):
    """An MLflow store that stopped answering."""


class TrainingError(AgrError):
    """A trial whose loss stopped being a number."""


class SettingsError(AgrError):
    """A flag or setting outside its range."""
