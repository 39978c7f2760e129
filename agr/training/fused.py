"""Many trials trained as one batch of models, a lane for each.

    ends = fit_fused(data, split, [Settings(20, 0.01, 0.3), Settings(20, 0.01, 0.7)], device)

Trials of one seed see the same batches in the same order, so trials at the same epoch are one computation with other
numbers. The convolutions of all lanes run as one grouped convolution, the linear layers as one batched product (HFTA,
Wang et al., MLSys 2021), to fill a GPU that one such CNN leaves nearly idle. Learning rates that agree so far are one
lane; where they part, its row is copied. All other settings have to be the same, see `check`.

Results agree with `agr.training.loop.fit` to rounding, not to the bit: sums run in another order, which also depends on
how many lanes there are. States go both ways: either may continue the other's. On one CPU core nine lanes take 1.3 to
1.6 times as long as nine trials in turn: lanes are for GPUs. CUDA and MPS run the same code; it was not measured there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.data.image_set import ImageSet
from agr.data.splits import Indices, Split
from agr.errors import SettingsError, TrainingError
from agr.training.batches import TrainingSet, class_weights, epoch_noise, epoch_order, weighted_loss
from agr.training.fused_cnn import FORWARDS, MOMENTS, Layout, adam
from agr.training.loop import Epoch, State, check_finite, measure, validate
from agr.training.model import EVALUATION_BATCH, build
from agr.training.settings import PLANNED, Settings

SHOWN = 3  # values in an error message
Rates = tuple[float, ...]
Outcome = State | TrainingError
LaneReport = Callable[[Rates, Epoch, State], None]


@dataclass(frozen=True)
class Lanes:
    """Trials after the same number of epochs, named by their learning rates up to the end of the next one.

    weights, exp_avg, exp_avg_sq: (lanes, parameters), float32, on the device; training changes them in place.
    """

    prefixes: tuple[Rates, ...]
    histories: tuple[tuple[Epoch, ...], ...]
    weights: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


@dataclass(frozen=True)
class Work:
    """What all lanes share. `train`: clips that train; `val`: images, (n, 12, 98, 3), uint8, on the device."""

    settings: Settings  # all but its learning rates and epochs counts
    layout: Layout
    train_set: TrainingSet
    train: Indices
    val: Tensor
    val_labels: NDArray[np.int64]
    criterion: nn.CrossEntropyLoss

    def steps(self, epochs: int) -> int:
        """How many times Adam has stepped after so many epochs."""
        return epochs * math.ceil(len(self.train) / self.settings.batch_size)


def check(points: Sequence[Settings]) -> None:
    """Raises: SettingsError for points that cannot train in lanes: without forward pass, or of differing batches."""
    if not points:
        raise SettingsError("--lanes fused: no points; expected at least one")
    models = sorted({point.model for point in points} - FORWARDS.keys())
    if models:
        raise SettingsError(f"--lanes fused: model {', '.join(models)}; expected {' or '.join(FORWARDS)}")
    for name in (field.name for field in fields(Settings) if field.name not in PLANNED):
        values = sorted({getattr(point, name) for point in points})
        if len(values) > 1:
            some = ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")
            raise SettingsError(f"--lanes fused: {name} {some}; expected one value for all points")


def fit_fused(
    data: ImageSet,
    split: Split,
    branches: Sequence[Settings],
    device: torch.device,
    report: LaneReport | None = None,
    resume: Mapping[Rates, State] | None = None,
) -> dict[Settings, Outcome]:
    """Train every branch as `agr.training.loop.fit` does, all at once; test clips are never read.

    Args:
        data, split, device: As for `agr.training.loop.fit`.
        branches: The trials.
        report: Is called after each epoch for each lane, with its learning rates so far, the epoch and a copy of the
            state.
        resume: States by learning rates so far; each branch starts from its longest one.

    Returns:
        For each branch its last state, or the TrainingError that ended it; the other branches go on.

    Raises:
        SettingsError: `check` refuses the branches.
    """
    kept: dict[Rates, Outcome] = dict(resume or {})
    ends = {branch.rates() for branch in branches}
    for outcomes in fused_epochs(data, split, branches, device, resume):
        for prefix, outcome in outcomes.items():
            if prefix in ends or isinstance(outcome, TrainingError):
                kept[prefix] = outcome
            if report is not None and isinstance(outcome, State):
                report(prefix, outcome.history[-1], outcome)
    return {branch: kept[_end(branch.rates(), kept)] for branch in branches}


def fused_epochs(
    data: ImageSet,
    split: Split,
    branches: Sequence[Settings],
    device: torch.device,
    resume: Mapping[Rates, State] | None = None,
) -> Iterator[dict[Rates, Outcome]]:
    """As `fit_fused`, epoch by epoch: the outcomes by learning rates so far; {} if no lane had to train."""
    check(branches)
    settings = branches[0]
    model = build(settings.model, settings.seed, settings.width)
    known = {**(resume or {}), (): _untrained(model)}
    work = _work(data, split, settings, Layout.of(model), device)
    lanes: Lanes | None = None
    failed: set[Rates] = set()
    for index in range(max(branch.epochs for branch in branches)):
        wanted = wanted_at(index, [branch.rates() for branch in branches], known, failed)
        lanes = _stack(wanted, lanes, known, work) if wanted else None
        if lanes is None:
            yield {}
            continue
        outcomes = _epoch(work, lanes, index)
        failed.update(prefix for prefix, outcome in outcomes.items() if isinstance(outcome, TrainingError))
        histories = (() if isinstance(outcome, TrainingError) else outcome.history for outcome in outcomes.values())
        lanes = replace(lanes, histories=tuple(histories))
        yield outcomes


def wanted_at(
    index: int, branches: Sequence[Rates], known: Mapping[Rates, object], failed: set[Rates]
) -> tuple[Rates, ...]:
    """The lanes of epoch `index` (from 0): learning rates up to it that some branch has yet to train."""

    def waits(rates: Rates) -> bool:
        """Whether a branch has more epochs than these, is not known to have gone further, and has not failed."""
        ahead = any(rates[:count] in known for count in range(index + 1, len(rates) + 1))
        return index < len(rates) and not ahead and not any(rates[:count] in failed for count in range(index + 1))

    return tuple(dict.fromkeys(rates[: index + 1] for rates in branches if waits(rates)))


def _end(rates: Rates, kept: Mapping[Rates, Outcome]) -> Rates:
    """The learning rates up to the epoch at which a branch failed, or all of them."""
    prefixes = (rates[:count] for count in range(1, len(rates)))
    return next((prefix for prefix in prefixes if isinstance(kept.get(prefix), TrainingError)), rates)


def _untrained(model: nn.Module) -> State:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    moments = {f"{key}.{name}": torch.zeros_like(tensor) for key in MOMENTS for name, tensor in weights.items()}
    return State(weights, moments)


def _work(data: ImageSet, split: Split, settings: Settings, layout: Layout, device: torch.device) -> Work:
    """Put the training and validation images, and no others, on the device."""
    val = torch.from_numpy(np.array(data.pixels[split.val])).to(device)
    criterion = nn.CrossEntropyLoss(weight=class_weights(data.labels[split.train]).to(device))
    train_set = TrainingSet.of(data, split, settings, device)
    return Work(settings, layout, train_set, split.train, val, data.labels[split.val], criterion)


def _stack(wanted: tuple[Rates, ...], before: Lanes | None, known: Mapping[Rates, State], work: Work) -> Lanes:
    """Lanes about to train: rows of the epoch before, copied where branches part, or known states."""
    at = {prefix: row for row, prefix in enumerate(before.prefixes)} if before else {}

    def start(prefix: Rates) -> tuple[tuple[Epoch, ...], Tensor, Tensor, Tensor]:
        if before and prefix in at:
            row = at[prefix]
            return before.histories[row], before.weights[row], before.exp_avg[row], before.exp_avg_sq[row]
        state, device = known[prefix], work.val.device
        first, second = (work.layout.pack(state.optimizer, f"{key}.").to(device) for key in MOMENTS)
        return state.history, work.layout.pack(state.weights).to(device), first, second

    histories, *rows = zip(*(start(prefix[:-1]) for prefix in wanted), strict=True)
    return Lanes(wanted, histories, *(torch.stack(tensors) for tensors in rows))


def _epoch(work: Work, lanes: Lanes, index: int) -> dict[Rates, Outcome]:
    """Train and validate all lanes for epoch `index` (from 0); returns the outcome of each."""
    started = time.perf_counter()
    order = epoch_order(work.train, work.settings.seed, index)
    labels = work.train_set.data.labels[order]
    trained = [measure(labels, logits, work.criterion) for logits in _train(work, lanes, order, index)]
    validated = [validate(work.val_labels, logits, work.criterion) for logits in _validate(work, lanes)]
    seconds = (time.perf_counter() - started) / len(lanes.prefixes)
    states = _states(work, lanes, index + 1)
    outcomes: dict[Rates, Outcome] = {}
    for prefix, train, val, state in zip(lanes.prefixes, trained, validated, states, strict=True):
        try:
            check_finite(index + 1, train[0], val[0])
            epoch = Epoch(index + 1, prefix[-1], *train, *val, seconds=seconds)
            outcomes[prefix] = replace(state, history=(*state.history, epoch))
        except TrainingError as error:
            outcomes[prefix] = error
    return outcomes


def _train(work: Work, lanes: Lanes, order: Indices, index: int) -> Tensor:
    """One pass over the training clips; logits as they were along the way: (lanes, clips, 2), on the CPU."""
    settings, device = work.settings, work.val.device
    forward, noise = FORWARDS[settings.model], epoch_noise(settings.seed, index)
    rates = torch.tensor([prefix[-1] for prefix in lanes.prefixes], device=device).unsqueeze(1)  # (lanes, 1)
    logits = []
    batches = work.train_set.batches(order, index)
    for step, (pictures, y, counts) in enumerate(batches, start=work.steps(index) + 1):
        weights = lanes.weights.detach().requires_grad_()
        output = forward(work.layout.unpack(weights), pictures, settings.dropout, noise)  # (lanes, batch, 2)
        lanes_y, lanes_counts = y.repeat(len(output)), counts.repeat(len(output))
        loss = weighted_loss(output.flatten(0, 1), lanes_y, lanes_counts, settings.label_smoothing)
        loss = loss * len(output)  # the sum of the lanes' own
        (gradient,) = torch.autograd.grad(loss, weights)
        adam(lanes.weights, lanes.exp_avg, lanes.exp_avg_sq, gradient, rates, step, settings.weight_decay)
        logits.append(output.detach())
    return torch.cat(logits, dim=1).cpu()


def _validate(work: Work, lanes: Lanes) -> Tensor:
    """Logits of the validation clips: (lanes, clips, 2), on the CPU."""
    forward, parameters = FORWARDS[work.settings.model], work.layout.unpack(lanes.weights)
    with torch.inference_mode():
        parts = torch.split(work.val, max(1, EVALUATION_BATCH // len(lanes.prefixes)))
        return torch.cat([forward(parameters, part) for part in parts], dim=1).cpu()


def _states(work: Work, lanes: Lanes, epochs: int) -> Iterator[State]:
    """Copies of the lanes on the CPU, under the names that `agr.training.loop.capture` gives; the history is the old one."""
    weights = work.layout.unpack(lanes.weights.cpu())
    moments = {key: work.layout.unpack(getattr(lanes, key).cpu()) for key in MOMENTS}
    for row, history in enumerate(lanes.histories):
        optimizer = {}
        for name in weights:
            optimizer[f"step.{name}"] = torch.tensor(float(work.steps(epochs)))
            optimizer |= {f"{key}.{name}": moments[key][name][row].clone() for key in MOMENTS}
        yield State({name: tensor[row].clone() for name, tensor in weights.items()}, optimizer, history)
