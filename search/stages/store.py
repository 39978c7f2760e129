"""The stage store: states of training, each under a key computed from everything that determines it.

A stage is the state of a trial after some of its epochs. Two trials share a stage if their learning rates agree up to
there, whatever their number of epochs and their gamma (Hippo, VLDB 2022, calls these common prefixes stages). The
store keeps the stages at which trials may part or end: every STEP_SIZE epochs, and the last one of each trial. Between
them it keeps the newest one until the next is written, so that a killed trial repeats one epoch at most. Every file
carries a checksum; a damaged one is deleted, and its stage is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import AgrError
from agr.training.loop import Epoch, State
from agr.training.settings import FORMER_NAMES, LATER, OPTIMIZER, PLANNED, VERSION, Settings
from search.stages.storage import Storage

SUFFIX = ".stage"
CHECKSUM = 32  # bytes of SHA-256 before the safetensors file
HEAD_BYTES = 64 * 1024  # read at first; holds the header of some 150 epochs
DAMAGED = (ValueError, KeyError, TypeError)  # raised when the bytes of a file are not those of a stage
EpochMaker = Callable[..., Any]  # makes an epoch, of the class that a task has for it, from its numbers by name


class Notes(TypedDict):
    """What a file's header holds: the metrics of each epoch, and the fields of Stage."""

    history: list[dict[str, float]]
    origins: list[str]
    about: dict[str, object]


@dataclass(frozen=True)
class Stage:
    """A trial after some of its epochs."""

    state: State
    origins: tuple[str, ...]  # for each epoch, the id of the search that trained it
    about: Mapping[str, object] = field(default_factory=dict)  # what `python -m search.stages list` shows of the trial


@dataclass(frozen=True)
class Lineage:
    """Everything that determines a trial besides its learning rates."""

    content: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: str) -> Lineage:
        """The lineage of a trial: data, split, recipe, settings, version of the training code and of torch, device."""
        former = {name: old for old, name in FORMER_NAMES.items()}  # so that stages of earlier versions are found
        own = {former.get(name, name): value for name, value in asdict(settings).items() if name not in PLANNED}
        own = {name: value for name, value in own.items() if LATER.get(name) != value}
        content = own | {"data": data.digest, "recipe": data.recipe.digest, "split": split.digest, "device": device}
        content |= {"optimizer": OPTIMIZER, "training": VERSION, "torch": torch.__version__}
        return cls(tuple((key, str(value)) for key, value in sorted(content.items())))

    def key(self, rates: Sequence[object]) -> str:
        """The key, 64 hex digits, of the stage after epochs with these learning rates or other marks of epochs."""
        exact = [rate.hex() if isinstance(rate, float) else repr(rate) for rate in rates]
        return hashlib.sha256(json.dumps([self.content, exact]).encode()).hexdigest()

    def keys(self, rates: Sequence[object]) -> list[str]:
        """The keys of a trial's stages after its first epoch, its second, and so on."""
        return [self.key(rates[:count]) for count in range(1, len(rates) + 1)]


class StageStore:
    """Stages as files of one folder or bucket; the methods raise OSError if that does not answer."""

    def __init__(self, uri: str, epoch: EpochMaker = Epoch) -> None:
        """Open a path or URI; the first write makes its folder. Raises: SettingsError if the URI cannot be opened."""
        self.uri, self.storage, self._epoch = uri, Storage(uri), epoch

    @staticmethod
    def name(key: str) -> str:
        """The path of a stage's file below the store."""
        return f"{key[:2]}/{key}{SUFFIX}"

    def put(self, key: str, stage: Stage) -> None:
        """Store a stage, or replace it."""
        tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in stage.state.weights.items()}
        tensors |= {f"optimizer.{name}": tensor.contiguous() for name, tensor in stage.state.optimizer.items()}
        notes = {"history": [dict(vars(epoch)) for epoch in stage.state.history], "origins": stage.origins}
        text = json.dumps(notes | {"about": dict(stage.about)})
        body = tensors_to_bytes(tensors, {"stage": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})
        self.storage.write(self.name(key), hashlib.sha256(body).digest() + body)

    def get(self, key: str) -> Stage | None:
        """Read a stage; None if it is missing or damaged. A damaged file is deleted."""
        data = self.storage.read(self.name(key))
        if data is None:
            return None
        body = data[CHECKSUM:]
        stage = _parse(body, self._epoch) if hashlib.sha256(body).digest() == data[:CHECKSUM] else None
        if stage is None:
            self.drop(key)
        return stage

    def outline(self, key: str) -> Stage | None:
        """Read a stage without its tensors; None if it is missing or damaged. A damaged file is deleted.

        Only the header is read and checked, and the length of the file. Only `get` notices damage in the tensors.
        """
        try:
            notes = self._notes(key)
            return _stage(notes, {"weights": {}, "optimizer": {}}, self._epoch) if notes else None
        except DAMAGED:
            return self.get(key)

    def about(self, key: str) -> Mapping[str, object] | None:
        """Read the description of a stage's trial; None if it is missing or damaged. A damaged file is not deleted."""
        try:
            notes = self._notes(key)
            return notes["about"] if notes else None
        except DAMAGED:
            return None

    def _notes(self, key: str) -> Notes | None:
        """Read a stage's header; None if there is no such file. Raises one of DAMAGED."""
        name = self.name(key)
        found = self.storage.head(name, HEAD_BYTES)
        if found is not None:
            wanted = CHECKSUM + 8 + int.from_bytes(found[0][CHECKSUM : CHECKSUM + 8], "little")
            if HEAD_BYTES < wanted <= found[1]:  # many epochs, or a damaged length
                found = self.storage.head(name, wanted)
        return _checked_notes(found[0][CHECKSUM:], found[1] - CHECKSUM) if found else None

    def drop(self, key: str) -> None:
        """Delete a stage if it is there."""
        self.storage.delete(self.name(key))

    def known(self, lineage: Lineage, rates: Sequence[object]) -> int:
        """The number of epochs of a trial's longest stage in the store; 0 without one."""
        keys = lineage.keys(rates)
        return next((count for count in range(len(keys), 0, -1) if self.outline(keys[count - 1]) is not None), 0)

    def deepest(self, lineage: Lineage, rates: Sequence[object]) -> Stage | None:
        """Read a trial's longest stage in the store; None without one."""
        stages = (self.get(key) for key in reversed(lineage.keys(rates)))
        return next((stage for stage in stages if stage is not None), None)


def final_weights(uri: str, key: str) -> Mapping[str, torch.Tensor]:
    """The weights of a trial's last stage. Raises: AgrError if the stage is no longer there."""
    stage = StageStore(uri, SimpleNamespace).get(key)
    if stage is None:
        raise AgrError(f"{uri}: stage {key[:12]} is gone; expected the last stage of a trial to stay until the end")
    return stage.state.weights


def _notes_of(body: bytes) -> Notes:
    length = int.from_bytes(body[:8], "little")
    notes: Notes = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["stage"])
    return notes


def _checked_notes(body: bytes, size: int) -> Notes:
    """Parse the header of a safetensors file of `size` bytes; `body` is its beginning. Raises one of DAMAGED."""
    length = int.from_bytes(body[:8], "little")
    tensors = json.loads(body[8 : 8 + length])
    metadata = tensors.pop("__metadata__")
    end = 8 + length + max(each["data_offsets"][1] for each in tensors.values())
    if end != size or hashlib.sha256(metadata["stage"].encode()).hexdigest() != metadata["sha256"]:
        raise ValueError(f"{size} bytes, expected {end}, or the notes do not match their checksum")
    return _notes_of(body)


def _stage(notes: Notes, parts: Mapping[str, dict[str, torch.Tensor]], epoch: EpochMaker) -> Stage:
    history = tuple(epoch(**values) for values in notes["history"])
    return Stage(State(parts["weights"], parts["optimizer"], history), tuple(notes["origins"]), notes["about"])


def _parse(body: bytes, epoch: EpochMaker) -> Stage | None:
    """A stage from the bytes of a safetensors file; None if another version of AGR wrote another format."""
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "optimizer": {}}
    try:
        for name, tensor in tensors_from_bytes(body).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        return _stage(_notes_of(body), parts, epoch)
    except (*DAMAGED, SafetensorError):
        return None
