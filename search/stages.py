"""The stage store: what training gave, kept under the content of everything that determined it.

    store = StageStore(Path("mlflow_store/stages"))
    lineage = Lineage.of(data, split, settings, device="cpu")
    stage = store.get(lineage.key(rates[:5]))         # the trial after five epochs, or None

A stage is a trial after some epochs. Two trials whose learning rates agree so far share it, whatever their planned
length and gamma (Shin et al., Hippo, VLDB 2022, call these prefixes stages). Kept are the stages at which trials
may part or end: every STEP_SIZE epochs and at a trial's last; the one after the epoch in flight is kept until the
next is written. Each file carries a checksum; one that is torn or damaged is thrown away and computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from agr import training
from agr.files import write_atomic
from agr.images import ImageSet
from agr.splits import Split
from agr.training import Epoch, Settings, State

SUFFIX = ".stage"
HEADER = 32  # bytes of SHA-256 before the tensors


@dataclass(frozen=True)
class Stage:
    """A trial after some epochs; `origins` names, for each of them, the search that trained it."""

    state: State
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Lineage:
    """Everything that determines a trial besides its learning rates, as one digest."""

    digest: str

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: str) -> Lineage:
        """The lineage of a trial: data, split, model, batch size, seed, training code, torch and device type."""
        content = {
            "training": training.VERSION,
            "torch": torch.__version__,
            "device": device,
            "data": data.digest,
            "recipe": data.recipe.digest,
            "split": split.digest,
            "model": settings.model,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
        }
        return cls(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())

    def key(self, rates: Sequence[float]) -> str:
        """The name of the stage after epochs with these learning rates."""
        exact = ",".join(rate.hex() for rate in rates)
        return hashlib.sha256(f"{self.digest}:{exact}".encode()).hexdigest()


class StageStore:
    """Stages as files of one folder, written atomically."""

    def __init__(self, root: Path) -> None:
        """Keep stages under `root`, which is made on the first write."""
        self.root = root

    def path(self, key: str) -> Path:
        """Where a stage stands."""
        return self.root / key[:2] / f"{key}{SUFFIX}"

    def put(self, key: str, stage: Stage) -> None:
        """Keep a stage."""
        tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in stage.state.weights.items()}
        tensors |= {f"optimizer.{name}": tensor.contiguous() for name, tensor in stage.state.optimizer.items()}
        history = json.dumps([asdict(epoch) for epoch in stage.state.history])
        body = tensors_to_bytes(tensors, {"history": history, "origins": json.dumps(stage.origins)})
        write_atomic(self.path(key), hashlib.sha256(body).digest() + body)

    def get(self, key: str) -> Stage | None:
        """A stage, or None if it is not there or not whole; what is not whole is removed."""
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[HEADER:]).digest() != data[:HEADER]:
            path.unlink(missing_ok=True)
            return None
        path.touch()  # least recently used goes first when the store is pruned
        return _parse(data[HEADER:])

    def drop(self, key: str) -> None:
        """Forget a stage that nothing will start from."""
        self.path(key).unlink(missing_ok=True)

    def deepest(self, lineage: Lineage, rates: Sequence[float]) -> Stage | None:
        """The stage that covers most of a trial's epochs."""
        for count in range(len(rates), 0, -1):
            stage = self.get(lineage.key(rates[:count]))
            if stage is not None:
                return stage
        return None


def _parse(body: bytes) -> Stage:
    """A stage from the bytes of a safetensors file that passed its checksum."""
    length = int.from_bytes(body[:8], "little")
    metadata = json.loads(body[8 : 8 + length])["__metadata__"]
    tensors = tensors_from_bytes(body)
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    history = tuple(Epoch(**values) for values in json.loads(metadata["history"]))
    return Stage(State(parts["weights"], parts["optimizer"], history), tuple(json.loads(metadata["origins"])))
