"""Train one model: the settings of a trial and its epoch loop.

    state = fit(data, split, Settings(epochs=5, lr=0.001, gamma=0.7), device, report=print)

The result of epoch k depends on the data, the split, the settings and the learning rates up to epoch k, but not on the
number of epochs or on what ran before in this process. On a CPU with one thread, results repeat to the bit. Training
knows nothing of Ray or MLflow; it passes each epoch to `report`.
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
VERSION = 5  # raise it whenever the same settings would give other weights or metrics
PLANNED = ("epochs", "lr", "gamma")  # settings that act through the learning rates alone
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one trial.

    Attributes:
        lr: Adam's learning rate in the first STEP_SIZE epochs.
        gamma: Multiplies the learning rate every STEP_SIZE epochs.
        seed: Determines the initial weights, the order of the clips, their augmentation and dropout.
        weight_decay: Times lr, the share of every weight and bias that a step removes (AdamW, Loshchilov and Hutter,
            ICLR 2019).
        dropout: Probability of dropping a feature before the last layer.
        label_smoothing: Share of each label that is spread over both classes, in the training loss alone; the losses
            that an epoch reports are without it (Szegedy et al., CVPR 2016).
        width: Multiplies the channels and hidden units of the model.
        vary_speed, vary_pitch, vary_formants, vary_colour, vary_line, vary_noise, vary_room, vary_shift,
            vary_population: How strongly the training clips are augmented, as in `agr.variation.Variation`.
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
        """The strengths of augmentation together."""
        return Variation(**{item.name: getattr(self, f"vary_{item.name}") for item in fields(Variation)})

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            SettingsError: If a value is outside its range, or the model is too large at this width.
        """
        self.variation  # noqa: B018  checks its own ranges
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
        """The learning rate of each epoch, by the closed form of torch's StepLR."""
        return tuple(self.lr * self.gamma ** (epoch // STEP_SIZE) for epoch in range(self.epochs))

    def config(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)

    def prefix(self) -> tuple[Any, ...]:
        """What determines each epoch besides those before; trials share as many epochs as their prefixes agree."""
        others = tuple(value for name, value in self.config().items() if name not in PLANNED)
        first, *rest = self.rates()
        return ((others, first), *rest)


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch.

    Attributes:
        epoch: Counted from 1.
        lr: Its learning rate.
        train_loss, val_loss: Cross-entropy in nats, in which both classes count the same.
        train_accuracy, val_accuracy: Share of clips answered correctly, 0..1.
        train_balanced_accuracy, val_balanced_accuracy: Mean of the recalls of both classes, 0..1.
        val_ece: Expected calibration error on the validation clips, 0..1 (Guo et al., ICML 2017).
        seconds: Its duration.
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
    """All that the next epoch of a trial needs.

    Attributes:
        weights: The model's parameters by name, on the CPU.
        optimizer: The optimizer's tensors by name, on the CPU.
        history: The epochs so far.
    """

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
    """Train on `split.train` and validate on `split.val` after each epoch; test clips are never read.

    Args:
        data: All images.
        split: Indices of the training and validation clips.
        settings: The hyperparameters.
        device: Where the model is trained.
        report: Called after each epoch with its metrics and a copy of the state.
        resume: Where to continue: the state of a trial with the same settings and learning rates so far.

    Raises:
        SettingsError: If clips are to be augmented that hold no voice features.
        TrainingError: If the loss is no longer finite.
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
    """Check the losses of an epoch, counted from 1.

    Raises:
        TrainingError: If one of them is infinite or NaN.
    """
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
    """Train for one pass, epoch `index` (from 0), and measure the logits that the training steps computed."""
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
    """The logits of images `pixels[rows]` in evaluation mode, (len(rows), 2), float32, on the CPU.

    Args:
        model: On `device`.
        pixels: (n, 12, 98, 3), uint8.
        rows: Indices, (m,).
        device: Where the logits are computed.
    """
    model.eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            batch = torch.from_numpy(pixels[rows[start : start + EVALUATION_BATCH]])  # (batch, 12, 98, 3)
            logits.append(model(feed(model, batch.to(device))).cpu())  # (batch, 3, 12, 98) -> (batch, 2)
    return torch.cat(logits) if logits else torch.zeros(0, len(CLASSES))


def measure(labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss) -> tuple[float, float, float]:
    """Cross-entropy in nats, weighted as in `criterion`, accuracy and balanced accuracy of logits, (n, 2), n > 0."""
    weight = criterion.weight
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), None if weight is None else weight.cpu())
    right = logits.argmax(dim=1).numpy() == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(loss), float(right.mean()), float(np.mean(recalls))


def validate(
    labels: NDArray[np.int64], logits: Tensor, criterion: nn.CrossEntropyLoss
) -> tuple[float, float, float, float]:
    """The three numbers of `measure`, and the expected calibration error of the logits' softmax."""
    return *measure(labels, logits, criterion), bins(torch.softmax(logits.double(), dim=1).numpy(), labels).ece


def capture(model: nn.Module, optimizer: AdamW, history: list[Epoch]) -> State:
    """Copy everything that the next epoch needs to the CPU."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return State(weights, optimizer.state(), tuple(history))
