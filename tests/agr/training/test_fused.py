"""Lanes compared with separate trials: they agree up to rounding when trials part, end, fail or are resumed.

Tolerance: sums of float32 run in another order, and Adam divides a gradient by its own size, so rounding moves a
weight by a share of the learning rate however small the gradient. Measured over these epochs: weights by up to 0.08
of the learning rate, losses by 9e-6. Allowed are half of the learning rate (a weight may move by about one a step, of
which there are 12 to 28) and 1e-3; scores have to be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agr.data.image_set import ImageSet, assemble
from agr.data.splits import Split, make
from agr.errors import SettingsError, TrainingError
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC
from agr.training.augmentation import DEFAULT
from agr.training.fused import LaneResult, Rates, check, fused_epochs, lanes_to_train
from agr.training.fused_cnn import FORWARDS, Layout, adam
from agr.training.loop import Epoch, State, fit
from agr.training.model import build, to_input
from agr.training.settings import STEP_SIZE, Settings

CPU = torch.device("cpu")
SHARE, LOSS = 0.5, 1e-3  # of the learning rate that weights, and by which losses, may differ
BASE = Settings(epochs=7, lr=0.001, gamma=0.5, batch_size=7, seed=3)  # 7 leaves a smaller last batch
POINTS = [replace(BASE, epochs=e, lr=lr, gamma=g) for lr in (0.001, 0.01) for e, g in ((3, 0.1), (6, 0.1), (7, 0.5))]
LOSSES = ("train_loss", "val_loss", "val_ece")
SCORES = ("train_accuracy", "train_balanced_accuracy", "val_accuracy", "val_balanced_accuracy")


pytestmark = pytest.mark.usefixtures("one_thread")


def made() -> ImageSet:
    """Five images of each of four women and five men, in mixed order, so that no split's rows are consecutive."""
    people = [(f"{gender[0]}{k}", gender) for gender, count in (("female", 4), ("male", 5)) for k in range(count)]
    rows = [
        {"corpus": "made", "speaker": speaker, "gender": gender, "recording": f"{speaker}-{clip}"}
        for clip in range(5)
        for speaker, gender in people
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), *IMAGE_SHAPE), dtype=np.uint8)
    pixels[[row["gender"] == "male" for row in rows], :6] //= 2
    pixels.setflags(write=False)
    return assemble("made", pixels, rows, MFCC, synthetic=True)


DATA = made()
SPLIT = make(DATA, "speakers", seed=0)


@dataclass
class Log:
    """A report that keeps its arguments, in order."""

    lanes: list[Rates] = field(default_factory=list)
    states: dict[Rates, State] = field(default_factory=dict)

    def __call__(self, rates: Rates, epoch: Epoch, state: State) -> None:
        assert epoch == state.history[-1]
        self.lanes.append(rates)
        self.states[rates] = state


def fit_fused(
    data: ImageSet,
    split: Split,
    points: Sequence[Settings],
    device: torch.device,
    report: Callable[[Rates, Epoch, State], None] | None = None,
    resume: Mapping[Rates, State] | None = None,
) -> dict[Settings, LaneResult]:
    """Run `fused_epochs` to the end; the last state of each point, or the error that ended it."""
    known: dict[Rates, LaneResult] = dict(resume or {})
    for results in fused_epochs(data, split, points, device, resume):
        known |= results
        for prefix, result in results.items():
            if report is not None and isinstance(result, State):
                report(prefix, result.history[-1], result)

    def end(rates: Rates) -> LaneResult:
        lanes = (known.get(rates[:count]) for count in range(1, len(rates)))
        return next((lane for lane in lanes if isinstance(lane, TrainingError)), None) or known[rates]

    return {point: end(point.rates()) for point in points}


@pytest.fixture(scope="module")
def separate() -> dict[Settings, State]:
    return {point: fit(DATA, SPLIT, point, CPU) for point in POINTS}


@pytest.fixture(scope="module")
def fused() -> tuple[dict[Settings, LaneResult], Log]:
    log = Log()
    return fit_fused(DATA, SPLIT, POINTS, CPU, log), log


def state_of(result: LaneResult) -> State:
    assert isinstance(result, State)
    return result


def assert_agree(found: State, expected: State, lr: float) -> None:
    for own, other in ((found.weights, expected.weights), (found.optimizer, expected.optimizer)):
        assert list(own) == list(other)
        assert [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in other.values()]
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=0, atol=SHARE * lr)
    for name, tensor in expected.optimizer.items():
        torch.testing.assert_close(found.optimizer[name], tensor, rtol=1e-2, atol=1e-5)
    assert len(found.history) == len(expected.history)
    for a, b in zip(found.history, expected.history, strict=True):
        assert (a.epoch, a.lr) == (b.epoch, b.lr)
        assert [getattr(a, key) for key in LOSSES] == pytest.approx([getattr(b, key) for key in LOSSES], abs=LOSS)
        assert [getattr(a, key) for key in SCORES] == pytest.approx([getattr(b, key) for key in SCORES])


def bits(state: State) -> list[Any]:
    tensors = [*state.weights.items(), *state.optimizer.items()]
    history = [replace(epoch, seconds=0.0) for epoch in state.history]
    return [(name, tensor.numpy().tobytes()) for name, tensor in tensors] + history


# ---- parts


@pytest.mark.parametrize("name", FORWARDS)
@pytest.mark.parametrize("lanes", [1, 3])
def test_the_logits_of_a_lane_are_those_of_its_model(name: str, lanes: int) -> None:
    images = torch.from_numpy(DATA.pixels[:5].copy())
    models = [build(name, seed) for seed in range(lanes)]
    layout = Layout.of(models[0])
    rows = torch.stack([layout.pack(model.state_dict()) for model in models])
    with torch.no_grad():
        expected = torch.stack([model(to_input(images)) for model in models])
        torch.testing.assert_close(FORWARDS[name](layout.unpack(rows), images), expected)


def test_rows_unpack_to_the_tensors_that_were_packed() -> None:
    weights = build("cnn", 1).state_dict()
    layout = Layout.of(build("cnn"))
    row = layout.pack({f"exp_avg.{name}": tensor for name, tensor in weights.items()}, "exp_avg.")
    found = layout.unpack(torch.stack([row, -row]))
    assert list(found) == list(weights)
    assert all(torch.equal(found[name][0], weights[name]) for name in weights)
    assert all(torch.equal(found[name][1], -weights[name]) for name in weights)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam_agrees_with_torch_in_each_row(weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rates = [0.1, 0.001, 0.0]
    rows = torch.randn(3, 11, generator=generator)
    parameters = [nn.Parameter(row.clone()) for row in rows]
    optimizers = [
        torch.optim.AdamW([p], lr=lr, weight_decay=weight_decay) for p, lr in zip(parameters, rates, strict=True)
    ]
    exp_avg, exp_avg_sq = torch.zeros_like(rows), torch.zeros_like(rows)
    for step in range(1, 8):
        gradient = torch.randn(3, 11, generator=generator) * 10.0 ** torch.arange(-6, 5)
        adam(rows, exp_avg, exp_avg_sq, gradient, torch.tensor(rates).unsqueeze(1), step, weight_decay)
        for parameter, optimizer, row in zip(parameters, optimizers, gradient, strict=True):
            parameter.grad = row.clone()
            optimizer.step()
    torch.testing.assert_close(rows, torch.stack([p.detach() for p in parameters]))


A, B = (0.1, 0.1, 0.01), (0.1, 0.1, 0.02)


@pytest.mark.parametrize(
    ("index", "points", "known", "failed", "expected"),
    [
        (0, [A, B], [], [], [(0.1,)]),
        (1, [A, B], [], [], [(0.1, 0.1)]),
        (2, [A, B], [], [], [A, B]),
        (3, [A, B], [], [], []),
        (1, [A[:1], B], [], [], [B[:2]]),
        (1, [A, B], [A[:2]], [], []),
        (2, [A, B], [A[:2]], [], [A, B]),
        (0, [A, B], [A], [], [(0.1,)]),
        (2, [A, B], [A], [], [B]),
        (0, [A, B], [A, B], [], []),
        (0, [A, A[:1]], [A], [], [(0.1,)]),
        (1, [A, A[:1]], [A], [], []),
        (2, [A, B], [], [A[:2]], []),
        (2, [A, (0.2, 0.2, 0.2)], [], [A[:1]], [(0.2, 0.2, 0.2)]),
        (0, [A], [()], [], [(0.1,)]),
    ],
)
def test_the_lanes_of_an_epoch(
    index: int, points: list[Rates], known: list[Rates], failed: list[Rates], expected: list[Rates]
) -> None:
    assert lanes_to_train(index, points, dict.fromkeys(known), set(failed)) == tuple(expected)


def test_the_default_grid_is_three_lanes_then_nine() -> None:
    points = [Settings(e, lr, g).rates() for e in (5, 10, 20) for lr in (0.1, 0.01, 0.001) for g in (0.1, 0.3, 0.7)]
    counts = [len(lanes_to_train(index, points, {}, set())) for index in range(21)]
    assert counts == [3] * 5 + [9] * 15 + [0]


# ---- whole trainings


@pytest.mark.parametrize("point", POINTS, ids=lambda b: f"{b.epochs}-{b.lr:g}-{b.gamma:g}")
def test_every_trial_agrees_with_separate_training(
    point: Settings, separate: dict[Settings, State], fused: tuple[dict[Settings, LaneResult], Log]
) -> None:
    assert_agree(state_of(fused[0][point]), separate[point], point.lr)


def test_each_lane_is_reported_once_an_epoch(fused: tuple[dict[Settings, LaneResult], Log]) -> None:
    ends, log = fused
    expected = {point.rates()[:count] for point in POINTS for count in range(1, point.epochs + 1)}
    assert len(log.lanes) == len(expected) == 2 * (STEP_SIZE + 1 + 2)
    assert set(log.lanes) == expected
    assert [len(rates) for rates in log.lanes] == sorted(len(rates) for rates in log.lanes)
    assert all(state_of(ends[point]) is log.states[point.rates()] for point in POINTS)
    for rates, state in log.states.items():
        assert [epoch.lr for epoch in state.history] == list(rates)
        assert all(epoch.seconds > 0 for epoch in state.history)


def test_the_same_lanes_repeat_to_the_bit_and_reported_states_are_copies() -> None:
    def spoil(rates: Rates, epoch: Epoch, state: State) -> None:
        if len(rates) < 2:
            for tensor in (*state.weights.values(), *state.optimizer.values()):
                tensor.fill_(float("nan"))

    points = [replace(BASE, epochs=2, lr=lr) for lr in (0.001, 0.01)]
    one, other = fit_fused(DATA, SPLIT, points, CPU), fit_fused(DATA, SPLIT, points, CPU, spoil)
    assert all(bits(state_of(one[point])) == bits(state_of(other[point])) for point in points)


def test_a_separate_trial_can_continue_a_lane(
    separate: dict[Settings, State], fused: tuple[dict[Settings, LaneResult], Log]
) -> None:
    for point in POINTS:
        for done in {1, STEP_SIZE} & set(range(point.epochs)):
            state = fit(DATA, SPLIT, point, CPU, resume=fused[1].states[point.rates()[:done]])
            assert_agree(state, separate[point], point.lr)


def test_a_lane_can_continue_a_separate_trial(separate: dict[Settings, State]) -> None:
    short, _, long = POINTS[:3]
    before = bits(separate[short])
    found = fit_fused(DATA, SPLIT, [long], CPU, resume={short.rates(): separate[short]})
    assert_agree(state_of(found[long]), separate[long], long.lr)
    assert bits(separate[short]) == before


def test_each_branch_starts_from_its_deepest_known_state(
    separate: dict[Settings, State], fused: tuple[dict[Settings, LaneResult], Log]
) -> None:
    short, middle, long, *others = POINTS
    states = fused[1].states
    known = {rates: states[rates] for rates in (long.rates()[:2], middle.rates(), others[2].rates()[:5])}
    log = Log()
    ends = fit_fused(DATA, SPLIT, POINTS, CPU, log, known)
    expected = [long.rates()[:k] for k in range(3, 8)] + [others[0].rates()[:k] for k in range(1, 4)]
    expected += [others[1].rates(), *(others[2].rates()[:k] for k in (6, 7))]
    assert sorted(log.lanes) == sorted(expected)
    assert ends[middle] is states[middle.rates()]
    for point in (short, long, *others):
        assert_agree(state_of(ends[point]), separate[point], point.lr)


def test_known_trials_are_not_trained_again_but_every_epoch_is_yielded(separate: dict[Settings, State]) -> None:
    known = {point.rates(): state for point, state in separate.items()}
    log = Log()
    assert fit_fused(DATA, SPLIT, POINTS, CPU, log, known) == separate
    assert log.lanes == []
    assert list(fused_epochs(DATA, SPLIT, POINTS, CPU, known)) == [{}] * 7


# ---- errors


def overflowing(settings: Settings) -> State:
    """A trial after one epoch whose weights are so large that the next loss is NaN."""
    first = fit(DATA, SPLIT, replace(settings, epochs=1), CPU)
    return replace(first, weights={name: torch.full_like(tensor, 1e30) for name, tensor in first.weights.items()})


def test_a_lane_that_diverges_ends_alone(separate: dict[Settings, State]) -> None:
    _, middle, long, *others = POINTS
    log = Log()
    known = {middle.rates()[:1]: overflowing(middle)}
    ends = fit_fused(DATA, SPLIT, POINTS, CPU, log, known)
    for point in (middle, long):
        error = ends[point]
        assert isinstance(error, TrainingError)
        assert str(error) == "epoch 2: loss nan in training, nan in validation; diverged"
    for point in others:
        assert_agree(state_of(ends[point]), separate[point], point.lr)
    assert {rates[0] for rates in log.lanes} == {others[0].lr}


def test_when_all_lanes_diverge_each_says_so() -> None:
    ends = fit_fused(DATA, SPLIT, POINTS[:3], CPU, resume={BASE.rates()[:1]: overflowing(BASE)})
    assert [type(result) for result in ends.values()] == [TrainingError] * 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no points; expected at least one"),
        ([BASE, replace(BASE, model="pooled")], "model pooled; expected cnn"),
        ([BASE, replace(BASE, seed=4)], "seed 3, 4; expected one value for all points"),
        ([replace(BASE, batch_size=n) for n in (8, 9, 8)], "batch_size 8, 9; expected one value for all points"),
        ([BASE, replace(BASE, augment_noise=0.5)], "augment_noise 0.0, 0.5; expected one value for all points"),
        ([BASE, replace(BASE, width=0.5)], "width 0.5, 1.0; expected one value for all points"),
        (
            [replace(BASE, weight_decay=k / 10) for k in range(9)],
            "weight_decay 0.0, 0.1, 0.2, ...; expected one value for all points",
        ),
    ],
)
def test_points_with_different_settings_are_refused(points: Sequence[Settings], message: str) -> None:
    for refuses in (check, lambda given: fit_fused(DATA, SPLIT, given, CPU)):
        with pytest.raises(SettingsError) as caught:
            refuses(points)
        assert str(caught.value) == f"--lanes fused: {message}"


def test_points_that_differ_in_learning_rates_only_are_accepted() -> None:
    check([BASE])
    check([replace(point, dropout=0.3, width=0.5, weight_decay=0.1, label_smoothing=0.1) for point in POINTS])


class Watched(np.ndarray[Any, np.dtype[np.uint8]]):
    """An array that records which rows are read."""

    asked: list[int]

    def __getitem__(self, key: Any) -> Any:
        self.asked += np.atleast_1d(np.arange(len(self))[key]).tolist()
        return np.asarray(self)[key]


def test_test_clips_are_never_read_the_others_as_often_as_needed() -> None:
    watched = np.array(DATA.pixels).view(Watched)
    watched.asked = []
    fit_fused(replace(DATA, pixels=watched), SPLIT, [replace(BASE, epochs=2)], CPU)
    assert sorted(watched.asked) == sorted([*SPLIT.train, *SPLIT.train, *SPLIT.val])


def test_labels_belong_to_their_clips_in_any_order_of_a_split() -> None:
    mixed = Split("mixed", SPLIT.train[::-1].copy(), np.roll(SPLIT.val, 3), SPLIT.test)
    point = replace(BASE, epochs=2)
    assert_agree(state_of(fit_fused(DATA, mixed, [point], CPU)[point]), fit(DATA, mixed, point, CPU), point.lr)


# ---- what else a search may set


@pytest.mark.parametrize(
    "change", [{"weight_decay": 0.9}, {"label_smoothing": 0.3}, {"dropout": 0.5}, {"width": 0.5}], ids=str
)
def test_lanes_have_the_other_settings_as_separate_trials_do(change: dict[str, Any]) -> None:
    points = [replace(point, **change) for point in (replace(BASE, epochs=1), replace(BASE, epochs=3, lr=0.003))]
    ends = fit_fused(DATA, SPLIT, points, CPU)
    for point in points:
        assert_agree(state_of(ends[point]), fit(DATA, SPLIT, point, CPU), point.lr)


def test_lanes_train_in_bfloat16_as_separate_trials_do() -> None:
    point = replace(BASE, epochs=1, precision="bf16")
    ends = [state_of(fit_fused(DATA, SPLIT, [one], CPU)[one]) for one in (point, replace(point, precision="float32"))]
    alone = fit(DATA, SPLIT, point, CPU).history[0].train_loss
    assert ends[0].history[0].train_loss == pytest.approx(alone, rel=0.02)
    assert ends[0].history[0].train_loss != ends[1].history[0].train_loss


# ---- varied clips


VARIED = replace(BASE, epochs=6, **{f"augment_{name}": value for name, value in asdict(DEFAULT).items()})


def test_lanes_meet_the_same_augmentation_as_separate_trials(voice_images: ImageSet) -> None:
    split = make(voice_images)
    points = [VARIED, replace(VARIED, gamma=0.1), replace(VARIED, epochs=3, lr=0.003)]
    ends = fit_fused(voice_images, split, points, CPU)
    for point in points:
        assert_agree(state_of(ends[point]), fit(voice_images, split, point, CPU), point.lr)
    plain = fit(voice_images, split, replace(BASE, epochs=6), CPU).history[-1]
    assert abs(plain.train_loss - state_of(ends[VARIED]).history[-1].train_loss) > LOSS


def test_a_separate_trial_on_varied_clips_is_continued_by_a_lane(voice_images: ImageSet) -> None:
    split, short, long = make(voice_images), replace(VARIED, epochs=2), replace(VARIED, epochs=4)
    known = {short.rates(): fit(voice_images, split, short, CPU)}
    found = fit_fused(voice_images, split, [long], CPU, resume=known)
    assert_agree(state_of(found[long]), fit(voice_images, split, long, CPU), long.lr)


def test_rows_that_overflow_leave_the_others_alone() -> None:
    layout = Layout.of(build("cnn"))
    good = layout.pack(build("cnn", 0).state_dict())
    images = torch.from_numpy(DATA.pixels[:3].copy())

    def gradient(rows: Tensor) -> Tensor:
        rows = rows.clone().requires_grad_()
        (found,) = torch.autograd.grad(FORWARDS["cnn"](layout.unpack(rows), images).sum(), rows)
        return found

    found = gradient(torch.stack([good, torch.full_like(good, float("inf")), good]))
    torch.testing.assert_close(found[0], gradient(good.unsqueeze(0))[0])
    torch.testing.assert_close(found[2], found[0])
