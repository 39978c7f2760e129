"""The stage store: what training gave, kept under the content of everything that determined it.

    python -m search.stages list  [--stage-store URI]
    python -m search.stages prune --max-size 2GB [--stage-store URI]

A stage is a trial after some epochs. Two trials whose learning rates agree so far share it, whatever their planned
length and gamma (Hippo, VLDB 2022, calls these prefixes stages). Kept are the stages at which trials may part or
end, every STEP_SIZE epochs and at a trial's last; between them the newest one stays until the next is written, so
that a kill costs the epoch in flight. Each file carries a checksum: one that is torn or damaged is thrown away and
computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from agr import training
from agr.errors import AgrError
from agr.images import ImageSet
from agr.splits import Split
from agr.training import Epoch, Settings, State
from search.storage import Storage

SUFFIX = ".stage"
CHECKSUM = 32  # bytes of SHA-256 before the tensors
HEAD_BYTES = 64 * 1024  # the notes of some 150 epochs


@dataclass(frozen=True)
class Stage:
    """A trial after some epochs. `origins` names, for each of them, the search that trained it."""

    state: State
    origins: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """Everything that determines a trial besides its learning rates."""

    content: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: str) -> Lineage:
        """The lineage of a trial: data, split, recipe, settings, training code, torch, device type."""
        own = {key: value for key, value in asdict(settings).items() if key not in training.PLANNED}
        content = own | {
            "data": data.digest,
            "recipe": data.recipe.digest,
            "split": split.digest,
            "optimizer": training.OPTIMIZER,
            "training": training.VERSION,
            "torch": torch.__version__,
            "device": device,
        }
        return cls(tuple((key, str(value)) for key, value in sorted(content.items())))

    def key(self, rates: Sequence[Any]) -> str:
        """The name of the stage after epochs with these learning rates, or whatever names them: 64 hex digits."""
        exact = [rate.hex() if isinstance(rate, float) else repr(rate) for rate in rates]
        return hashlib.sha256(json.dumps([self.content, exact]).encode()).hexdigest()

    def keys(self, rates: Sequence[Any]) -> list[str]:
        """The names of a trial's stages, after its first epoch, its second, and so on."""
        return [self.key(rates[:count]) for count in range(1, len(rates) + 1)]


class StageStore:
    """Stages as files of one folder or bucket."""

    def __init__(self, uri: str, epoch: Callable[..., Any] = Epoch) -> None:
        """uri: a local path, or anything that pyarrow.fs or fsspec opens. Made on the first write.

        epoch: what makes an epoch of its numbers.
        """
        self.uri = uri
        self._epoch = epoch
        self.storage = Storage(uri)

    @staticmethod
    def name(key: str) -> str:
        """Where a stage stands below the store."""
        return f"{key[:2]}/{key}{SUFFIX}"

    def put(self, key: str, stage: Stage) -> None:
        """Keep a stage."""
        tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in stage.state.weights.items()}
        tensors |= {f"optimizer.{name}": tensor.contiguous() for name, tensor in stage.state.optimizer.items()}
        notes = {"history": [dict(vars(epoch)) for epoch in stage.state.history], "origins": stage.origins}
        text = json.dumps(notes | {"about": dict(stage.about)})
        body = tensors_to_bytes(tensors, {"stage": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})
        self.storage.write(self.name(key), hashlib.sha256(body).digest() + body)

    def get(self, key: str) -> Stage | None:
        """A stage, or None if it is not there or not whole; what is not whole is thrown away."""
        data = self.storage.read(self.name(key))
        if data is None:
            return None
        body = data[CHECKSUM:]
        stage = _parse(body, self._epoch) if hashlib.sha256(body).digest() == data[:CHECKSUM] else None
        if stage is None:
            self.drop(key)
        return stage

    def outline(self, key: str) -> Stage | None:
        """A stage without its tensors, from the first HEAD_BYTES of its file; None if it is not there or not whole.

        Its notes have a checksum of their own and its length must be right; that the tensors are what was written only
        `get` can tell.
        """
        found = self.storage.head(self.name(key), HEAD_BYTES)
        if found is None:
            return None
        head, size = found
        return _outline(head[CHECKSUM:], size - CHECKSUM, self._epoch) or self.get(key)

    def drop(self, key: str) -> None:
        """Forget a stage that nothing will start from."""
        self.storage.delete(self.name(key))

    def known(self, lineage: Lineage, rates: Sequence[Any]) -> int:
        """How many of a trial's epochs the stage holds that covers most of them."""
        keys = lineage.keys(rates)
        return next((count for count in range(len(keys), 0, -1) if self.outline(keys[count - 1]) is not None), 0)

    def deepest(self, lineage: Lineage, rates: Sequence[Any]) -> Stage | None:
        """The stage that covers most of a trial's epochs."""
        stages = (self.get(key) for key in reversed(lineage.keys(rates)))
        return next((stage for stage in stages if stage is not None), None)


def final_weights(uri: str, key: str) -> Mapping[str, torch.Tensor]:
    """The weights of a trial's final stage. Raises: AgrError if it is no longer there."""
    stage = StageStore(uri, SimpleNamespace).get(key)
    if stage is None:
        raise AgrError(f"{uri}: stage {key[:12]} is gone; expected a final stage to stay until its search ends")
    return stage.state.weights


def notes_of(body: bytes) -> dict[str, Any]:
    """What a safetensors file says of its stage: history, origins, about. Raises: ValueError, KeyError."""
    length = int.from_bytes(body[:8], "little")
    notes: dict[str, Any] = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["stage"])
    return notes


def _outline(body: bytes, size: int, epoch: Callable[..., Any]) -> Stage | None:
    """A stage without tensors from the beginning of a safetensors file of `size` bytes; None if it cannot be told."""
    try:
        length = int.from_bytes(body[:8], "little")
        tensors = json.loads(body[8 : 8 + length])
        told = tensors.pop("__metadata__")
        end = max(each["data_offsets"][1] for each in tensors.values())
        if 8 + length + end != size or hashlib.sha256(told["stage"].encode()).hexdigest() != told["sha256"]:
            return None
        notes = json.loads(told["stage"])
        history = tuple(epoch(**values) for values in notes["history"])
        return Stage(State({}, {}, history), tuple(notes["origins"]), notes["about"])
    except (ValueError, KeyError, TypeError):
        return None


def _parse(body: bytes, epoch: Callable[..., Any]) -> Stage | None:
    """A stage from the bytes of a safetensors file that passed its checksum; None if another AGR wrote it otherwise."""
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "optimizer": {}}
    try:
        notes = notes_of(body)
        for name, tensor in tensors_from_bytes(body).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        history = tuple(epoch(**values) for values in notes["history"])
        return Stage(State(parts["weights"], parts["optimizer"], history), tuple(notes["origins"]), notes["about"])
    except (ValueError, KeyError, TypeError, SafetensorError):
        return None


if __name__ == "__main__":
    from agr.terminal import run
    from search.upkeep import main

    run(main)
