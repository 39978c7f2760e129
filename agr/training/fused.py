"""Train many trials as one batch of models; each trial, or common beginning of trials, is a lane of the batch.

One grouped convolution and one batched product for all lanes (HFTA, Wang et al., MLSys 2021) are to fill a GPU that one
such CNN leaves nearly idle (not measured); on one CPU core nine lanes take 1.3 to 1.6 times as long as nine trials in
turn. Trials with equal learning rates so far share a lane; where the rates part, its row is copied. Results agree with
`agr.training.loop.fit` to rounding, not to the bit; either can continue a state of the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr.data import combine
from agr.data.image_set import ImageSet
from agr.data.splits import Indices, Split
from agr.errors import SettingsError, TrainingError
from agr.training.batches import TrainingSet, class_weights, dropout_generator, epoch_order, weighted_loss
from agr.training.fused_cnn import FORWARDS, Layout, adam
from agr.training.loop import Epoch, State, capture, check_finite, measure, validate
from agr.training.model import EVALUATION_BATCH, autocast, build, check_reads
from agr.training.optimizer import MOMENTS, AdamW
from agr.training.settings import PLANNED, Settings

SHOWN = 3  # values in an error message
Rates = tuple[float, ...]  # the learning rates of a trial's first epochs
LaneResult = State | TrainingError


@dataclass(frozen=True)
class Lanes:
    """Trials after the same number of epochs, each named by its learning rates up to the end of the next epoch."""

    prefixes: tuple[Rates, ...]
    histories: tuple[tuple[Epoch, ...], ...]
    weights: Tensor  # this and the following: (lanes, parameters), float32, on the device, changed in place
    exp_avg: Tensor
    exp_avg_sq: Tensor


@dataclass(frozen=True)
class LaneSetup:
    """What all lanes share."""

    settings: Settings  # epochs and learning rates are not used
    layout: Layout
    train_set: TrainingSet
    train: Indices
    val: Tensor  # images, (n, 12, 98, 3), uint8, on the device
    val_labels: NDArray[np.int64]
    val_corpora: NDArray[np.str_]
    class_weight: Tensor  # (2,), float32, on the CPU

    def steps(self, epochs: int) -> int:
        """The number of steps of the optimizer in `epochs` epochs."""
        return epochs * math.ceil(len(self.train) / self.settings.batch_size)


def check(points: Sequence[Settings]) -> None:
    """Raises: SettingsError if points cannot train together: an unsupported model, or settings that differ."""
    if not points:
        raise SettingsError("--lanes fused: no points; expected at least one")
    if models := sorted({point.model for point in points} - FORWARDS.keys()):
        raise SettingsError(f"--lanes fused: model {', '.join(models)}; expected {' or '.join(FORWARDS)}")
    if any(point.start for point in points):
        raise SettingsError("--lanes fused: found --start; expected trials that begin with random weights")
    for name in (field.name for field in fields(Settings) if field.name not in PLANNED):
        if len(values := sorted({getattr(point, name) for point in points})) > 1:
            some = ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")
            raise SettingsError(f"--lanes fused: {name} {some}; expected one value for all points")


def fused_epochs(
    data: ImageSet,
    split: Split,
    points: Sequence[Settings],
    device: torch.device,
    resume: Mapping[Rates, State] | None = None,
) -> Iterator[dict[Rates, LaneResult]]:
    """Train all points as `agr.training.loop.fit` does, epoch by epoch; test clips are never read.

    `resume` holds states by learning rates so far; each trial continues from its longest one. Yields for each lane, by
    its learning rates so far, a copy of its state, or the error that ended it; the other lanes continue. {} stands for
    an epoch in which no lane had to train. Raises: SettingsError if `check` refuses the points.
    """
    check(points)
    check_reads(points[0].model, data.recipe)
    settings, rates = points[0], [point.rates() for point in points]
    model = build(settings.model, settings.seed, settings.width)
    known = {**(resume or {}), (): capture(model, AdamW(model), [])}
    val = torch.from_numpy(np.array(data.pixels[split.val])).to(device)
    train_set, class_weight = TrainingSet.of(data, split, settings, device), class_weights(data.labels[split.train])
    labels, corpora = data.labels[split.val], combine.corpora(data)[split.val]
    setup = LaneSetup(settings, Layout.of(model), train_set, split.train, val, labels, corpora, class_weight)
    lanes: Lanes | None = None
    failed: set[Rates] = set()
    for index in range(max(map(len, rates))):
        prefixes = lanes_to_train(index, rates, known, failed)
        lanes = _stack(prefixes, lanes, known, setup) if prefixes else None
        results = _epoch(setup, lanes, index) if lanes else {}
        failed.update(prefix for prefix, result in results.items() if isinstance(result, TrainingError))
        histories = (() if isinstance(result, TrainingError) else result.history for result in results.values())
        lanes = lanes and replace(lanes, histories=tuple(histories))
        yield results


def lanes_to_train(
    index: int, trials: Sequence[Rates], known: Mapping[Rates, object], failed: set[Rates]
) -> tuple[Rates, ...]:
    """The lanes of epoch `index` (from 0): learning rates up to it that some trial has yet to train."""

    def waits(rates: Rates) -> bool:
        """Whether a trial has more epochs than these, is not known to have gone further, and has not failed."""
        ahead = any(rates[:count] in known for count in range(index + 1, len(rates) + 1))
        return index < len(rates) and not ahead and not any(rates[:count] in failed for count in range(index + 1))

    return tuple(dict.fromkeys(rates[: index + 1] for rates in trials if waits(rates)))


def _stack(prefixes: tuple[Rates, ...], before: Lanes | None, known: Mapping[Rates, State], setup: LaneSetup) -> Lanes:
    """Lanes about to train: rows of the epoch before, copied where trials part, or known states."""
    rows = {prefix: row for row, prefix in enumerate(before.prefixes)} if before else {}

    def start(prefix: Rates) -> tuple[tuple[Epoch, ...], Tensor, Tensor, Tensor]:
        if before and prefix in rows:
            row = rows[prefix]
            return before.histories[row], before.weights[row], before.exp_avg[row], before.exp_avg_sq[row]
        state, device = known[prefix], setup.val.device
        first, second = (setup.layout.pack(state.optimizer, f"{key}.").to(device) for key in MOMENTS)
        return state.history, setup.layout.pack(state.weights).to(device), first, second

    histories, *tensors = zip(*(start(prefix[:-1]) for prefix in prefixes), strict=True)
    return Lanes(prefixes, histories, *(torch.stack(each) for each in tensors))


def _epoch(setup: LaneSetup, lanes: Lanes, index: int) -> dict[Rates, LaneResult]:
    """Train and validate all lanes for epoch `index` (from 0)."""
    started = time.perf_counter()
    order = epoch_order(setup.train, setup.settings.seed, index)
    labels = setup.train_set.data.labels[order]
    trained = [measure(labels, logits, setup.class_weight) for logits in _train(setup, lanes, order, index)]
    logits, weight = _validate(setup, lanes), setup.class_weight
    validated = [validate(setup.val_labels, setup.val_corpora, each, weight) for each in logits]
    seconds = (time.perf_counter() - started) / len(lanes.prefixes)
    states = _states(setup, lanes, index + 1)
    results: dict[Rates, LaneResult] = {}
    for prefix, train, val, state in zip(lanes.prefixes, trained, validated, states, strict=True):
        try:
            check_finite(index + 1, train[0], val[0])
            epoch = Epoch(index + 1, prefix[-1], *train, *val, seconds=seconds)
            results[prefix] = replace(state, history=(*state.history, epoch))
        except TrainingError as error:
            results[prefix] = error
    return results


def _train(setup: LaneSetup, lanes: Lanes, order: Indices, index: int) -> Tensor:
    """One pass over the training clips; the logits that the steps computed, (lanes, clips, 2), on the CPU."""
    settings, device = setup.settings, setup.val.device
    forward, generator = FORWARDS[settings.model], dropout_generator(settings.seed, index)
    rates = torch.tensor([prefix[-1] for prefix in lanes.prefixes], device=device).unsqueeze(1)  # (lanes, 1)
    logits = []
    batches = setup.train_set.batches(order, index)
    for step, (images, y, clip_weights) in enumerate(batches, start=setup.steps(index) + 1):
        weights = lanes.weights.detach().requires_grad_()
        with autocast(device, settings.precision):  # (lanes, batch, 2)
            output = forward(setup.layout.unpack(weights), images, settings.dropout, generator).float()
        lanes_y, lanes_weights = y.repeat(len(output)), clip_weights.repeat(len(output))
        mean = weighted_loss(output.flatten(0, 1), lanes_y, lanes_weights, settings.label_smoothing)
        (gradient,) = torch.autograd.grad(mean * len(output), weights)  # of the sum of the losses of the lanes
        adam(lanes.weights, lanes.exp_avg, lanes.exp_avg_sq, gradient, rates, step, settings.weight_decay)
        logits.append(output.detach())
    return torch.cat(logits, dim=1).cpu()


def _validate(setup: LaneSetup, lanes: Lanes) -> Tensor:
    """Logits of the validation clips, (lanes, clips, 2), on the CPU."""
    forward, parameters = FORWARDS[setup.settings.model], setup.layout.unpack(lanes.weights)
    with torch.inference_mode():
        parts = torch.split(setup.val, max(1, EVALUATION_BATCH // len(lanes.prefixes)))
        return torch.cat([forward(parameters, part) for part in parts], dim=1).cpu()


def _states(setup: LaneSetup, lanes: Lanes, epochs: int) -> Iterator[State]:
    """Copies of the lanes on the CPU, named as by `agr.training.loop.capture`, with the history of the epoch before."""
    weights = setup.layout.unpack(lanes.weights.cpu())
    moments = {key: setup.layout.unpack(getattr(lanes, key).cpu()) for key in MOMENTS}
    for row, history in enumerate(lanes.histories):
        optimizer = {}
        for name in weights:
            optimizer[f"step.{name}"] = torch.tensor(float(setup.steps(epochs)))
            optimizer |= {f"{key}.{name}": moments[key][name][row].clone() for key in MOMENTS}
        yield State({name: tensor[row].clone() for name, tensor in weights.items()}, optimizer, history)
