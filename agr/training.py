"""One trial: the epoch loop, and everything that determines it.

    state = fit(data, split, Settings(epochs=5, lr=0.001, gamma=0.7), device, report=print)

Epoch k depends on the data, the split, the seed and the learning rates up to k, and on nothing else: not on how
many epochs were planned, nor on what ran before in this process. On CPU with one thread it repeats to the bit.
Training knows nothing of Ray or MLflow; it hands each epoch to `report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.batches import TrainingSet, class_weights, epoch_noise, epoch_order, weighted_loss
from agr.confidence import bins
from agr.corpus import CLASSES
from agr.errors import ModelError, SettingsError, TrainingError
from agr.images import ImageSet
from agr.model import MODELS, NARROWEST, WIDEST, build, check_size, feed
from agr.optimizer import AdamW
from agr.splits import Indices, Split
from agr.variation import Variation

OPTIMIZER = "adam"
VERSION = 5  # to be raised whenever the same settings would give other weights or metrics
PLANNED = ("epochs", "lr", "gamma")  # settings that say no more than the learning rates do
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one trial; `lr` is Adam's, `gamma` multiplies it every STEP_SIZE epochs.

    weight_decay: the share of every weight and bias that a step takes off, times lr (AdamW, Loshchilov and Hutter,
    ICLR 2019). dropout: of the features before the last layer. label_smoothing: see `agr.batches.weighted_loss`; the
    losses that an epoch reports are without it. width: see `agr.model.build`.
    vary_speed to vary_population: how strongly the training clips are varied, see `agr.variation.Variation`.
    """

    epochs: int
    lr: float
    gamma: float
    batch_size: int = 32
    seed: int = 0
    model: str = "cnn"
    weight_decay: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    width: float = 1.0
    vary_speed: float = 0.0
    vary_pitch: float = 0.0
    vary_formants: float = 0.0
    vary_colour: float = 0.0
    vary_line: float = 0.0
    vary_noise: float = 0.0
    vary_room: float = 0.0
    vary_shift: int = 0
    vary_population: float = 0.0

    @property
    def variation(self) -> Variation:
        """The strengths of variation together."""
        return Variation(**{item.name: getattr(self, f"vary_{item.name}") for item in fields(Variation)})

    def __post_init__(self) -> None:
        """Raises: SettingsError for a value outside its range, or a width at which the model is too large."""
        self.variation  # noqa: B018  its own ranges
        for name, value, low, high in (
            ("epochs", self.epochs, 1, 10_000),
            ("lr", self.lr, 0.0, 10.0),
            ("gamma", self.gamma, 0.0, 1.0),
            ("batch_size", self.batch_size, 1, 65_536),
            ("seed", self.seed, 0, 2**32 - 1),
            ("weight_decay", self.weight_decay, 0.0, 1.0),
            ("dropout", self.dropout, 0.0, 0.9),
            ("label_smoothing", self.label_smoothing, 0.0, 0.5),
            ("width", self.width, NARROWEST, WIDEST),
        ):
            if not low <= value <= high or (name == "lr" and value == 0):
                raise SettingsError(f"{name} {value}: expected {'above ' if name == 'lr' else ''}{low} to {high}")
        if self.model in MODELS:
            try:
                check_size(self.model, self.width)
            except ModelError as error:
                raise SettingsError(str(error)) from error

    def rates(self) -> tuple[float, ...]:
        """The learning rate of each epoch: StepLR's closed form."""
        return tuple(self.lr * self.gamma ** (epoch // STEP_SIZE) for epoch in range(self.epochs))

    def config(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)

    def prefix(self) -> tuple[Any, ...]:
        """For each epoch what determines it besides those before; two trials share as many as their prefixes do."""
        others = tuple(value for name, value in self.config().items() if name not in PLANNED)
        first, *rest = self.rates()
        return ((others, first), *rest)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; `epoch` counts from 1, `seconds` is its own duration.

    val_ece: expected calibration error of the softmax on the validation clips, 0..1, see `agr.confidence.Bins`.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_ece: float
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
    model = build(settings.model, settings.seed, settings.width, settings.dropout).to(device)
    optimizer = AdamW(model, settings.weight_decay)
    history: list[Epoch] = []
    if resume is not None:
        model.load_state_dict(resume.weights)
        optimizer.load(resume.optimizer)
        history = list(resume.history)
    criterion = nn.CrossEntropyLoss(weight=class_weights(data.labels[split.train]).to(device))
    train_set = TrainingSet.of(data, split, settings, device)
    for index, lr in enumerate(settings.rates()[len(history) :], start=len(history)):
        started = time.perf_counter()
        order = epoch_order(split.train, settings.seed, index)
        train = _train_epoch(model, optimizer, lr, criterion, train_set, order, index)
        val = validate(data.labels[split.val], predict_logits(model, data.pixels, split.val, device), criterion)
        check_finite(index + 1, train[0], val[0])
        history.append(Epoch(index + 1, lr, *train, *val, seconds=time.perf_counter() - started))
        if report is not None:
            report(history[-1], capture(model, optimizer, history))
    return capture(model, optimizer, history)


def check_finite(epoch: int, train_loss: float, val_loss: float) -> None:
    """Raises: TrainingError if the loss of an epoch (from 1) is not a number."""
    if not np.isfinite([train_loss, val_loss]).all():
        raise TrainingError(f"epoch {epoch}: loss {train_loss:g} in training, {val_loss:g} in validation; diverged")


def _train_epoch(
    model: nn.Module,
    optimizer: AdamW,
    lr: float,
    criterion: nn.CrossEntropyLoss,
    train_set: TrainingSet,
    order: Indices,
    index: int,
) -> tuple[float, float, float]:
    """One pass over the training clips; loss, accuracy and balanced accuracy as they were along the way."""
    model.train()
    settings, logits = train_set.settings, []
    noise = epoch_noise(settings.seed, index)
    for pictures, y, weights in train_set.batches(order, index):
        output = model(feed(model, pictures), noise)  # (batch, 3, 12, 98) -> (batch, 2)
        loss = weighted_loss(output, y, weights, settings.label_smoothing)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step(lr)
        logits.append(output.detach())
    return measure(train_set.data.labels[order], torch.cat(logits).cpu(), criterion)


def predict_logits(model: nn.Module, pixels: NDArray[np.uint8], rows: Indices, device: torch.device) -> Tensor:
    """Logits of the images `pixels[rows]`: (len(rows), 2), float32, on the CPU."""
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pixels[rows[start : start + EVALUATION_BATCH]])
            logits.append(model(feed(model, batch.to(device))).cpu())
    return torch.cat(logits) if logits else torch.zeros(0, len(CLASSES))


def measure(labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss) -> tuple[float, float, float]:
    """Class-weighted loss, accuracy, balanced accuracy of logits (n, 2)."""
    weight = criterion.weight
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), None if weight is None else weight.cpu())
    right = logits.argmax(dim=1).numpy() == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(loss), float(right.mean()), float(np.mean(recalls))


def validate(
    labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss
) -> tuple[float, float, float, float]:
    """What `measure` gives of logits (n, 2), n > 0, and the expected calibration error of their softmax."""
    return *measure(labels, logits, criterion), bins(torch.softmax(logits.double(), dim=1).numpy(), labels).ece


def capture(model: nn.Module, optimizer: AdamW, history: list[Epoch]) -> State:
    """A copy of everything that the next epoch needs."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return State(weights, optimizer.state(), tuple(history))
