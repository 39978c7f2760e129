"""The epoch loop that trains one model.

The result of epoch k depends on the data, the split, the settings and the learning rates up to epoch k, but not on the
number of epochs or on what ran before in this process. On a CPU with one thread, results repeat to the bit. Training
does not depend on Ray or MLflow; it passes each epoch to `report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.splits import Indices, Split
from agr.errors import TrainingError
from agr.labels import CLASSES
from agr.metrics.calibration import bins
from agr.training.batches import TrainingSet, class_weights, dropout_generator, epoch_order, weighted_loss
from agr.training.model import autocast, build, model_input
from agr.training.optimizer import AdamW
from agr.training.settings import Settings
from agr.training.start import load_start
from agr.training.whole_clips import clip_logits


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch, counted from 1."""

    epoch: int
    lr: float
    train_loss: float  # cross-entropy with balanced classes, in nats
    train_accuracy: float  # share of correct clips, 0..1
    train_balanced_accuracy: float  # mean recall of both classes, 0..1
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_ece: float  # expected calibration error, 0..1 (Guo et al., ICML 2017)
    seconds: float


@dataclass(frozen=True)
class State:
    """Everything that the next epoch of a trial needs; tensors are on the CPU."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    history: tuple[Epoch, ...] = ()


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

    `report` is called after each epoch with its metrics and a copy of the state. `resume` is the state of a trial with
    the same settings and learning rates so far, to continue from. Raises: SettingsError if images without voice
    features are to be augmented; TrainingError if the loss is no longer finite.
    """
    model = build(settings.model, settings.seed, settings.width, settings.dropout)
    load_start(model, settings.start)
    model.to(device)
    optimizer = AdamW(model, settings.weight_decay)
    history = list(resume.history) if resume else []
    if resume:
        model.load_state_dict(resume.weights)
        optimizer.load(resume.optimizer)
    weight, val_corpora = class_weights(data.labels[split.train]), combine.corpora(data)[split.val]
    train_set = TrainingSet.of(data, split, settings, device)
    for index, lr in enumerate(settings.rates()[len(history) :], start=len(history)):
        started = time.perf_counter()
        order = epoch_order(split.train, settings.seed, index)
        train = measure(data.labels[order], _train_epoch(model, optimizer, lr, train_set, order, index), weight)
        val = validate(data.labels[split.val], val_corpora, clip_logits(model, data, split.val, device), weight)
        check_finite(index + 1, train[0], val[0])
        history.append(Epoch(index + 1, lr, *train, *val, seconds=time.perf_counter() - started))
        if report is not None:
            report(history[-1], capture(model, optimizer, history))
    return capture(model, optimizer, history)


def check_finite(epoch: int, train_loss: float, val_loss: float) -> None:
    """Raises: TrainingError if a loss of an epoch, counted from 1, is infinite or NaN."""
    if not np.isfinite([train_loss, val_loss]).all():
        raise TrainingError(f"epoch {epoch}: loss {train_loss:g} in training, {val_loss:g} in validation; diverged")


def _train_epoch(
    model: nn.Module, optimizer: AdamW, lr: float, train_set: TrainingSet, order: Indices, index: int
) -> Tensor:
    """Train for one epoch, `index` from 0; the logits that the steps computed, (clips, 2), on the CPU."""
    model.train()
    settings, logits = train_set.settings, []
    generator = dropout_generator(settings.seed, index)
    for images, y, weights in train_set.batches(order, index):
        with autocast(train_set.device, settings.precision):
            output = model(model_input(model, images), generator).float()  # (batch, 2)
        loss = weighted_loss(output, y, weights, settings.label_smoothing)
        model.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step(lr)
        logits.append(output.detach())
    return torch.cat(logits).cpu()


def measure(labels: NDArray[np.int64], logits: Tensor, weight: Tensor | None) -> tuple[float, float, float]:
    """Cross-entropy (nats, with weights of the classes), accuracy and balanced accuracy of logits, (n, 2), n > 0."""
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), weight)
    right = logits.argmax(dim=1).numpy() == labels
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(loss), float(right.mean()), float(np.mean(recalls))


def validate(
    labels: NDArray[np.int64], corpora: NDArray[np.str_], logits: Tensor, weight: Tensor
) -> tuple[float, float, float, float]:
    """As `measure`, and the expected calibration error of the softmax of the logits; corpora: of each clip, (n,).

    The balanced accuracy is the mean over the corpora that have both genders, so that a large one does not decide.
    """
    loss, accuracy, balanced = measure(labels, logits, weight)
    each = [corpora == name for name in np.unique(corpora)]
    both = [own for own in each if len(np.unique(labels[own])) == len(CLASSES)]
    if len(each) > 1 and both:
        balanced = float(np.mean([measure(labels[own], logits[torch.from_numpy(own)], None)[2] for own in both]))
    return loss, accuracy, balanced, bins(torch.softmax(logits.double(), dim=1).numpy(), labels).ece


def capture(model: nn.Module, optimizer: AdamW, history: list[Epoch]) -> State:
    """Copy everything that the next epoch needs to the CPU."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return State(weights, optimizer.state(), tuple(history))
