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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from agr import training
from agr.images import ImageSet
from agr.splits import Split
from agr.training import Epoch, Settings, State
from search.storage import Storage

SUFFIX = ".stage"
RATES = ("epochs", "lr", "gamma")  # settings that say no more than the learning rates do
CHECKSUM = 32  # bytes of SHA-256 before the tensors


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
        own = {key: value for key, value in asdict(settings).items() if key not in RATES}
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

    def key(self, rates: Sequence[float]) -> str:
        """The name of the stage after epochs with these learning rates: 64 hex digits."""
        exact = [rate.hex() for rate in rates]
        return hashlib.sha256(json.dumps([self.content, exact]).encode()).hexdigest()

    def keys(self, rates: Sequence[float]) -> list[str]:
        """The names of a trial's stages, after its first epoch, its second, and so on."""
        return [self.key(rates[:count]) for count in range(1, len(rates) + 1)]


class StageStore:
    """Stages as files of one folder or bucket."""

    def __init__(self, uri: str) -> None:
        """uri: a local path, or anything that pyarrow.fs or fsspec opens. Made on the first write."""
        self.uri = uri
        self.storage = Storage(uri)

    @staticmethod
    def name(key: str) -> str:
        """Where a stage stands below the store."""
        return f"{key[:2]}/{key}{SUFFIX}"

    def put(self, key: str, stage: Stage) -> None:
        """Keep a stage."""
        tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in stage.state.weights.items()}
        tensors |= {f"optimizer.{name}": tensor.contiguous() for name, tensor in stage.state.optimizer.items()}
        notes = {"history": [asdict(epoch) for epoch in stage.state.history], "origins": stage.origins}
        body = tensors_to_bytes(tensors, {"stage": json.dumps(notes | {"about": dict(stage.about)})})
        self.storage.write(self.name(key), hashlib.sha256(body).digest() + body)

    def get(self, key: str) -> Stage | None:
        """A stage, or None if it is not there or not whole; what is not whole is thrown away."""
        data = self.storage.read(self.name(key))
        if data is None:
            return None
        stage = _parse(data[CHECKSUM:]) if hashlib.sha256(data[CHECKSUM:]).digest() == data[:CHECKSUM] else None
        if stage is None:
            self.drop(key)
        return stage

    def drop(self, key: str) -> None:
        """Forget a stage that nothing will start from."""
        self.storage.delete(self.name(key))

    def deepest(self, lineage: Lineage, rates: Sequence[float]) -> Stage | None:
        """The stage that covers most of a trial's epochs."""
        stages = (self.get(key) for key in reversed(lineage.keys(rates)))
        return next((stage for stage in stages if stage is not None), None)


def notes_of(body: bytes) -> dict[str, Any]:
    """What a safetensors file says of its stage: history, origins, about. Raises: ValueError, KeyError."""
    length = int.from_bytes(body[:8], "little")
    notes: dict[str, Any] = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["stage"])
    return notes


def _parse(body: bytes) -> Stage | None:
    """A stage from the bytes of a safetensors file that passed its checksum; None if another AGR wrote it otherwise."""
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "optimizer": {}}
    try:
        notes = notes_of(body)
        for name, tensor in tensors_from_bytes(body).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        history = tuple(Epoch(**values) for values in notes["history"])
        return Stage(State(parts["weights"], parts["optimizer"], history), tuple(notes["origins"]), notes["about"])
    except (ValueError, KeyError, TypeError, SafetensorError):
        return None


if __name__ == "__main__":
    from agr.terminal import run
    from search.upkeep import main

    run(main)
