"""One trial: the epoch loop, and everything that determines it.

    state = fit(data, split, Settings(epochs=5, lr=0.001, gamma=0.7), device, report=print)

Epoch k depends on the data, the split, the seed and the learning rates up to k, and on nothing else: not on how
many epochs were planned, nor on what ran before in this process. On CPU with one thread it repeats to the bit.
Training knows nothing of Ray or MLflow; it hands each epoch to `report`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.corpus import CLASSES
from agr.errors import SettingsError, TrainingError
from agr.images import ImageSet
from agr.model import build, to_input
from agr.splits import Indices, Split
from agr.variation import NONE, Variation, drawn, vary

OPTIMIZER = "adam"
VERSION = 2  # to be raised whenever the same settings would give other weights or metrics
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one trial; `lr` is Adam's, `gamma` multiplies it every STEP_SIZE epochs.

    vary_speed to vary_shift: how strongly the training clips are varied, see `agr.variation.Variation`.
    """

    epochs: int
    lr: float
    gamma: float
    batch_size: int = 32
    seed: int = 0
    model: str = "cnn"
    vary_speed: float = 0.0
    vary_pitch: float = 0.0
    vary_formants: float = 0.0
    vary_colour: float = 0.0
    vary_line: float = 0.0
    vary_noise: float = 0.0
    vary_room: float = 0.0
    vary_shift: int = 0

    @property
    def variation(self) -> Variation:
        """The strengths of variation together."""
        return Variation(**{item.name: getattr(self, f"vary_{item.name}") for item in fields(Variation)})

    def __post_init__(self) -> None:
        """Raises: SettingsError for a value outside its range."""
        self.variation  # noqa: B018  its own ranges
        for name, value, low, high in (
            ("epochs", self.epochs, 1, 10_000),
            ("lr", self.lr, 0.0, 10.0),
            ("gamma", self.gamma, 0.0, 1.0),
            ("batch_size", self.batch_size, 1, 65_536),
            ("seed", self.seed, 0, 2**32 - 1),
        ):
            if not low <= value <= high or (name == "lr" and value == 0):
                raise SettingsError(f"{name} {value}: expected {'above ' if name == 'lr' else ''}{low} to {high}")

    def rates(self) -> tuple[float, ...]:
        """The learning rate of each epoch: StepLR's closed form."""
        return tuple(self.lr * self.gamma ** (epoch // STEP_SIZE) for epoch in range(self.epochs))


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; `epoch` counts from 1, `seconds` is its own duration."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    seconds: float


@dataclass(frozen=True)
class State:
    """A trial after some epochs: all that the next one needs. Tensors are on the CPU."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    history: tuple[Epoch, ...] = field(default=())


Report = Callable[[Epoch, State], None]


def fit(
    data: ImageSet,
    split: Split,
    settings: Settings,
    device: torch.device,
    report: Report | None = None,
    resume: State | None = None,
) -> State:
    """Train on `split.train`, validate on `split.val` after each epoch; test clips are never read.

    resume: the state of a trial with the same seed and the same learning rates so far.
    report: called after each epoch with what it gave and a copy of the state.
    Raises: TrainingError if the loss stops being a number.
    """
    model = build(settings.model, settings.seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=device.type in ("cpu", "cuda") or None)
    history: list[Epoch] = []
    if resume is not None:
        restore(model, optimizer, resume)
        history = list(resume.history)
    criterion = nn.CrossEntropyLoss(weight=class_weights(data.labels[split.train]).to(device))
    train_set = TrainingSet.of(data, split, settings, device)
    for index, lr in enumerate(settings.rates()[len(history) :], start=len(history)):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = lr
        order = epoch_order(split.train, settings.seed, index)
        train = _train_epoch(model, optimizer, criterion, train_set, order, index)
        val = measure(data.labels[split.val], predict_logits(model, data.pixels, split.val, device), criterion)
        check_finite(index + 1, train[0], val[0])
        history.append(Epoch(index + 1, lr, *train, *val, seconds=time.perf_counter() - started))
        if report is not None:
            report(history[-1], capture(model, optimizer, history))
    return capture(model, optimizer, history)


def epoch_order(train: Indices, seed: int, index: int) -> Indices:
    """The order in which epoch `index` (from 0) visits the training clips; drawn from (seed, index) alone."""
    return np.random.default_rng([seed, index]).permutation(train)


def class_weights(labels: NDArray[np.int64]) -> Tensor:
    """Weights that make both genders count the same: (2,), float32, of mean 1 over the clips."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return torch.tensor(len(labels) / (len(CLASSES) * counts), dtype=torch.float32)


def check_finite(epoch: int, train_loss: float, val_loss: float) -> None:
    """Raises: TrainingError if the loss of an epoch (from 1) is not a number."""
    if not np.isfinite([train_loss, val_loss]).all():
        raise TrainingError(f"epoch {epoch}: loss {train_loss:g} in training, {val_loss:g} in validation; diverged")


@dataclass(frozen=True)
class TrainingSet:
    """The training clips as the loop reads them.

    source: evidence where clips are varied, else pixels. weights: (n,), float32, 0 for clips that do not train.
    home: on a GPU, `source` in its memory, zero for clips that do not train.
    """

    data: ImageSet
    source: NDArray[np.uint8]
    weights: Tensor
    settings: Settings
    device: torch.device
    home: Tensor | None

    @classmethod
    def of(cls, data: ImageSet, split: Split, settings: Settings, device: torch.device) -> TrainingSet:
        """Raises: SettingsError if clips are to be varied that hold no evidence."""
        if settings.variation != NONE and data.evidence is None:
            raise SettingsError(f"{data.name}: images of recipe {data.recipe.name}; expected voice to vary them")
        source = data.pixels if settings.variation == NONE or data.evidence is None else data.evidence
        home = None
        if device.type != "cpu":
            home = torch.zeros(source.shape, dtype=torch.uint8, device=device)
            home[torch.from_numpy(split.train).to(device)] = torch.from_numpy(source[split.train]).to(device)
        return cls(data, source, clip_weights(data, split.train), settings, device, home)

    def batches(self, order: Indices, index: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pictures (batch, 12, 98, 3), labels and weights (batch,) of epoch `index` (from 0), in this order."""
        strength, size = self.settings.variation, self.settings.batch_size
        draws = drawn(len(self.data), self.settings.seed, index) if strength != NONE else None
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            pictures = self._kept(rows)
            if draws is not None:
                pictures = vary(pictures, draws[rows], strength)
            labels = torch.from_numpy(self.data.labels[rows]).to(self.device)
            yield pictures, labels, self.weights[rows].to(self.device)

    def _kept(self, rows: Indices) -> Tensor:
        """The evidence of clips where they are varied, else their pictures, on the device."""
        if self.home is not None:
            return self.home[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.source[rows])


def clip_weights(data: ImageSet, train: Indices) -> Tensor:
    """How much each clip counts: (n,), float32, of mean 1 over the training clips, 0 for the others.

    Both genders count the same; of one gender's, a corpus counts by the square root of its speakers, and within it
    every clip the same.
    """
    corpora = np.array([speaker.split("/", 1)[0] for speaker in data.speakers[train].tolist()])
    labels, shares = data.labels[train], np.zeros(len(train))
    for label in np.unique(labels):
        cells = [(labels == label) & (corpora == corpus) for corpus in np.unique(corpora[labels == label])]
        sizes = np.array([math.sqrt(len(np.unique(data.speakers[train][cell]))) for cell in cells])
        for cell, size in zip(cells, sizes / sizes.sum(), strict=True):
            shares[cell] = size / cell.sum()
    weights = torch.zeros(len(data))
    weights[torch.from_numpy(train)] = torch.from_numpy(shares / shares.mean()).to(torch.float32)
    return weights


def weighted_loss(output: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of logits (n, 2), averaged by weights (n,)."""
    each = nn.functional.cross_entropy(output, y, reduction="none")
    return (each * weights).sum() / weights.sum()


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: nn.CrossEntropyLoss,
    train_set: TrainingSet,
    order: Indices,
    index: int,
) -> tuple[float, float, float]:
    """One pass over the training clips; loss, accuracy and balanced accuracy as they were along the way."""
    model.train()
    logits = []
    for pictures, y, weights in train_set.batches(order, index):
        output = model(to_input(pictures))  # (batch, 3, 12, 98) -> (batch, 2)
        loss = weighted_loss(output, y, weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        logits.append(output.detach())
    return measure(train_set.data.labels[order], torch.cat(logits).cpu(), criterion)


def predict_logits(model: nn.Module, pixels: NDArray[np.uint8], rows: Indices, device: torch.device) -> Tensor:
    """Logits of the images `pixels[rows]`: (len(rows), 2), float32, on the CPU."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pixels[rows[start : start + EVALUATION_BATCH]])
            logits.append(model(to_input(batch.to(device))).cpu())
    return torch.cat(logits) if logits else torch.zeros(0, len(CLASSES))


def measure(labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss) -> tuple[float, float, float]:
    """Class-weighted loss, accuracy, balanced accuracy of logits (n, 2)."""
    weight = criterion.weight
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), None if weight is None else weight.cpu())
    right = logits.argmax(dim=1).numpy() == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(loss), float(right.mean()), float(np.mean(recalls))


def capture(model: nn.Module, optimizer: torch.optim.Optimizer, history: list[Epoch]) -> State:
    """A copy of everything that the next epoch needs."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            moments[f"{key}.{name}"] = value.detach().cpu().clone()
    return State(weights, moments, tuple(history))


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Put a captured state back, bit for bit."""
    model.load_state_dict(state.weights)
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = state.optimizer[f"{key}.{name}"].clone()
            home = value if key == "step" and parameter.device.type == "cpu" else value.to(parameter.device)
            optimizer.state[parameter][key] = (
                home
                if key == "step"
                else home.contiguous(memory_format=torch.channels_last if home.dim() == 4 else torch.contiguous_format)
            )
