"""The epoch loop: compared with a plain one, repeatable to the bit, and reading no test clips."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr.data import shards
from agr.data.image_set import MANIFEST, ImageSet, assemble, save
from agr.data.splits import Split, make
from agr.errors import ModelError, SettingsError, TrainingError
from agr.recipes.base import FRAMES, IMAGE_SHAPE
from agr.recipes.mfcc import MFCC
from agr.recipes.voice import VOICE
from agr.recipes.voice_features import BANDS, ROWS
from agr.training import loop
from agr.training.augmentation import DEFAULT, NONE, augment, random_numbers
from agr.training.batches import TrainingSet, class_weights, clip_weights, epoch_order
from agr.training.loop import Epoch, State, fit
from agr.training.model import build, predict_logits
from agr.training.settings import VERSION, Settings

CPU = torch.device("cpu")
BASE = Settings(epochs=2, lr=0.001, gamma=0.5, batch_size=8, seed=3)


pytestmark = pytest.mark.usefixtures("one_thread")


def made(women: int, men: int, pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]], clips: int = 3) -> ImageSet:
    """`clips` of each speaker; `pixels` turns labels (n,) into images. Not writable, as a mapped file is not."""
    people = [(f"w{k}", "female") for k in range(women)] + [(f"m{k}", "male") for k in range(men)]
    rows = [
        {"corpus": "made", "speaker": speaker, "gender": gender, "recording": f"{speaker}-{clip}"}
        for speaker, gender in people
        for clip in range(clips)
    ]
    images = pixels(np.array([row["gender"] == "male" for row in rows], dtype=np.int64))
    images.setflags(write=False)
    return assemble("made", images, rows, MFCC, synthetic=True)


def noise(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (len(labels), *IMAGE_SHAPE), dtype=np.uint8)


def separable(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Noise, the men's lower six rows darker by half."""
    images = noise(labels)
    images[labels == 1, :6] //= 2
    return images


def formula(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images that a few integers determine, on any machine and with any version of anything."""
    clip, row, column, channel = np.indices((len(labels), *IMAGE_SHAPE))
    shade: NDArray[np.int64] = (37 * clip + (5 + clip % 3) * row + 11 * column * (clip % 5 + 1) + 85 * channel) % 193
    shade += 60 * labels[:, None, None, None] * (row < 6)
    return shade.astype(np.uint8)


DATA = made(7, 5, noise)
SPLIT = make(DATA, "speakers", seed=0)


@dataclass
class Log:
    """A report that keeps its arguments."""

    epochs: list[Epoch] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def __call__(self, epoch: Epoch, state: State) -> None:
        self.epochs.append(epoch)
        self.states.append(state)


def run(settings: Settings = BASE, data: ImageSet = DATA, resume: State | None = None) -> State:
    return fit(data, SPLIT, settings, CPU, resume=resume)


def metrics(history: Sequence[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def same(one: State, other: State) -> bool:
    """Bit for bit: weights, optimiser, history but for the seconds."""
    tensors = same_tensors(one.weights, other.weights) and same_tensors(one.optimizer, other.optimizer)
    return tensors and metrics(one.history) == metrics(other.history)


# ---- the loop


def plain_network(seed: int) -> nn.Sequential:
    network = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4608, 128), nn.ReLU(), nn.Linear(128, 2)),
    )
    weights = [weight.contiguous() for weight in build("cnn", seed).state_dict().values()]
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    return network


def measured(logits: Tensor, y: Tensor, weight: Sequence[float]) -> tuple[float, float, float]:
    """Weighted loss, accuracy and balanced accuracy, clip by clip."""
    losses, hits = [], []
    for (a, b), label in zip(logits.double().tolist(), y.tolist(), strict=True):
        losses.append(math.log(1 + math.exp((b - a) if label == 0 else (a - b))))
        hits.append((b > a) == (label == 1))
    shares = [weight[label] for label in y.tolist()]
    loss = sum(loss * share for loss, share in zip(losses, shares, strict=True)) / sum(shares)
    recalls = [np.mean([hit for hit, label in zip(hits, y.tolist(), strict=True) if label == c]) for c in (0, 1)]
    return loss, float(np.mean(hits)), float(np.mean(recalls))


def plain_fit(settings: Settings) -> tuple[nn.Sequential, list[list[float]]]:
    """Training as a tutorial writes it: NCHW, AdamW's plain loop, StepLR; metrics in the order of Epoch's fields."""
    x = torch.from_numpy(np.array(DATA.pixels)).permute(0, 3, 1, 2).contiguous() / 255 * 2 - 1
    y = torch.from_numpy(DATA.labels)
    women = int((y[SPLIT.train] == 0).sum())
    weight = [len(SPLIT.train) / 2 / count for count in (women, len(SPLIT.train) - women)]
    network = plain_network(settings.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, foreach=False, fused=False
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, settings.gamma)
    loss_of = nn.CrossEntropyLoss(reduction="none", label_smoothing=settings.label_smoothing)
    share = torch.tensor(weight)
    history: list[list[float]] = []
    for index in range(settings.epochs):
        lr, order, along = scheduler.get_last_lr()[0], epoch_order(SPLIT.train, settings.seed, index), []
        for batch in torch.split(torch.from_numpy(order), settings.batch_size):
            along.append(network(x[batch]))
            optimizer.zero_grad()
            counts = share[y[batch]]
            ((loss_of(along[-1], y[batch]) * counts).sum() / counts.sum()).backward()
            optimizer.step()
        scheduler.step()
        with torch.no_grad():
            val = measured(network(x[SPLIT.val]), y[SPLIT.val], weight)
        history.append([float(lr), *measured(torch.cat(along), y[order], weight), *val])
    return network, history


@pytest.mark.parametrize(
    "others",
    [
        {"epochs": 1},
        {"epochs": 1, "batch_size": 7},
        {"epochs": 1, "batch_size": 1000},
        {"epochs": 6, "batch_size": 16},
        {"epochs": 6, "weight_decay": 1.0},
        {"label_smoothing": 0.4},
    ],
    ids=str,
)
def test_training_agrees_with_a_plain_loop(others: dict[str, Any]) -> None:
    settings = replace(BASE, **others)
    state = run(settings)
    network, history = plain_fit(settings)
    for own, plain in zip(state.weights.values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-3, atol=1e-4)
    for number, (epoch, expected) in enumerate(zip(state.history, history, strict=True), start=1):
        found = [epoch.lr, epoch.train_loss, epoch.train_accuracy, epoch.train_balanced_accuracy]
        found += [epoch.val_loss, epoch.val_accuracy, epoch.val_balanced_accuracy]
        assert epoch.epoch == number
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_calibration_error_uses_fifteen_bins_of_the_validation_clips() -> None:
    state, model = run(), build("cnn")
    model.load_state_dict(state.weights)
    given = torch.softmax(predict_logits(model, DATA.pixels, SPLIT.val, CPU).double(), dim=1).tolist()
    places: dict[int, list[float]] = {}
    for pair, label in zip(given, DATA.labels[SPLIT.val].tolist(), strict=True):
        answer = int(pair[1] > pair[0])
        places.setdefault(math.ceil(15 * max(pair)), []).append(max(pair) - (answer == label))
    expected = sum(abs(sum(gaps)) for gaps in places.values()) / len(given)
    assert state.history[-1].val_ece == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < 1


def test_separable_voices_are_learnt() -> None:
    data = made(5, 5, separable, clips=8)
    split = make(data, "speakers")
    state = fit(data, split, Settings(epochs=5, lr=0.001, gamma=0.7, batch_size=16), CPU)
    assert state.history[-1].val_balanced_accuracy == 1.0
    assert state.history[-1].train_loss < 0.3 < state.history[0].train_loss


# ---- the same settings give the same bits


def test_same_seed_repeats_to_the_bit_and_another_seed_differs() -> None:
    state = run()
    assert same(state, run())
    other = run(replace(BASE, seed=4))
    assert not same_tensors(state.weights, other.weights)
    assert metrics(state.history) != metrics(other.history)


def test_results_do_not_depend_on_what_ran_before_in_the_process() -> None:
    before = run()
    run(replace(BASE, seed=8, lr=0.01, batch_size=5))
    torch.manual_seed(99)
    torch.rand(7)
    random.seed(99)
    np.random.default_rng(99).random(7)
    assert same(before, run())


def test_the_global_generator_of_torch_does_not_change() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run()
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_does_not_depend_on_the_number_of_epochs() -> None:
    log = Log()
    fit(DATA, SPLIT, replace(BASE, epochs=7), CPU, report=log)
    for epochs in (1, 3, 6):
        assert same(run(replace(BASE, epochs=epochs)), log.states[epochs - 1])


def test_gamma_matters_from_the_sixth_epoch_on() -> None:
    logs = []
    for gamma in (0.9, 0.0):
        logs.append(Log())
        fit(DATA, SPLIT, replace(BASE, epochs=6, gamma=gamma), CPU, report=logs[-1])
    slow, halted = (log.states for log in logs)
    assert all(same(slow[index], halted[index]) for index in range(5))
    assert not same_tensors(slow[5].weights, halted[5].weights)
    assert same_tensors(halted[5].weights, halted[4].weights)  # a learning rate of 0 moves nothing


def test_a_resumed_trial_ends_the_same_to_the_bit() -> None:
    log, settings = Log(), replace(BASE, epochs=7)
    whole = fit(DATA, SPLIT, settings, CPU, report=log)
    assert len(log.states) == 7
    for done, state in enumerate(log.states, start=1):
        rest = Log()
        assert same(fit(DATA, SPLIT, settings, CPU, report=rest, resume=state), whole)
        assert [epoch.epoch for epoch in rest.epochs] == list(range(done + 1, 8))


def test_a_trial_resumed_with_another_gamma_ends_as_if_it_had_always_had_it() -> None:
    first, wanted = run(replace(BASE, epochs=5, gamma=0.9)), replace(BASE, epochs=6, gamma=0.2)
    whole = run(wanted)
    assert same(run(wanted, resume=first), whole)
    assert same(run(wanted, resume=first), whole)  # going on left the state that it started from as it was


def test_report_gets_each_epoch_with_a_copy_of_the_state() -> None:
    log = Log()

    def spoil(epoch: Epoch, state: State) -> None:
        log(epoch, state)
        for tensor in (*state.weights.values(), *state.optimizer.values()):
            tensor.fill_(float("nan"))

    state = fit(DATA, SPLIT, BASE, CPU, report=spoil)
    assert same(state, run())
    assert tuple(log.epochs) == state.history
    assert [len(state.history) for state in log.states] == [1, 2]


# ---- other settings

SET = replace(BASE, weight_decay=0.1, dropout=0.4, label_smoothing=0.1, width=0.5)


def test_without_weight_decay_training_is_adam_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    state = run(replace(BASE, epochs=3))

    class Adam:
        def __init__(self, model: nn.Module, weight_decay: float) -> None:
            assert weight_decay == 0
            self.plain, self.model = torch.optim.Adam(model.parameters(), fused=True), model

        def step(self, lr: float) -> None:
            self.plain.param_groups[0]["lr"] = lr
            self.plain.step()

        def state(self) -> dict[str, torch.Tensor]:
            named = self.model.named_parameters()
            return {f"{key}.{name}": value for name, p in named for key, value in self.plain.state[p].items()}

    monkeypatch.setattr(loop, "AdamW", Adam)
    assert same(run(replace(BASE, epochs=3)), state)


CHANGES = [{"weight_decay": 0.5}, {"dropout": 0.3}, {"label_smoothing": 0.2}, {"width": 0.5}, {"precision": "bf16"}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_setting_alone_makes_a_difference(change: dict[str, Any]) -> None:
    assert not same_weights(run(replace(BASE, **change)), run())


def same_weights(one: State, other: State) -> bool:
    pairs = zip(one.weights.values(), other.weights.values(), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("model", ["cnn", "pooled"])
def test_a_resumed_trial_with_other_settings_ends_the_same_to_the_bit(model: str) -> None:
    log, settings = Log(), replace(SET, model=model, epochs=7)
    whole = fit(DATA, SPLIT, settings, CPU, report=log)
    for state in log.states:
        torch.rand(5)  # what was drawn before must not matter
        assert same(fit(DATA, SPLIT, settings, CPU, resume=state), whole)
    assert same(run(replace(settings, epochs=4)), log.states[3])


def test_a_resumed_trial_in_bfloat16_ends_the_same_to_the_bit_with_weights_in_float32() -> None:
    settings = replace(BASE, precision="bf16")
    whole = run(settings)
    assert same(fit(DATA, SPLIT, settings, CPU, resume=run(replace(settings, epochs=1))), whole)
    assert {tensor.dtype for tensor in whole.weights.values()} == {torch.float32}
    losses = [end.history[0].train_loss for end in (whole, run())]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_dropout_does_not_change_the_global_generator_of_torch() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    state = run(SET)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(run(SET), state)


def test_validation_is_without_dropout_and_without_smoothing() -> None:
    state, model = run(SET), build("cnn", width=SET.width)
    model.load_state_dict(state.weights)
    logits = predict_logits(model, DATA.pixels, SPLIT.val, CPU)
    weight = class_weights(DATA.labels[SPLIT.train]).tolist()
    assert state.history[-1].val_loss == pytest.approx(
        measured(logits, torch.from_numpy(DATA.labels[SPLIT.val]), weight)[0], abs=1e-5
    )


def test_the_reported_loss_is_without_label_smoothing() -> None:
    at_rest = replace(BASE, epochs=1, lr=1e-12)
    plain, smooth = run(at_rest), run(replace(at_rest, label_smoothing=0.5))
    assert smooth.history[0].train_loss == pytest.approx(plain.history[0].train_loss, abs=1e-6)


def test_label_smoothing_lowers_the_confidence() -> None:
    data = made(5, 5, separable, clips=8)
    split, sure = make(data, "speakers"), []
    for smoothing in (0.0, 0.4):
        settings = Settings(epochs=6, lr=0.001, gamma=1.0, batch_size=16, label_smoothing=smoothing)
        state, model = fit(data, split, settings, CPU), build("cnn")
        model.load_state_dict(state.weights)
        logits = predict_logits(model, data.pixels, split.val, CPU)
        sure.append(float(torch.softmax(logits, dim=1).amax(dim=1).mean()))
        assert state.history[-1].val_balanced_accuracy == 1.0
    assert sure[1] < 0.9 < 0.97 < sure[0]


def test_weight_decay_makes_weights_smaller() -> None:
    def size(weight_decay: float) -> float:
        settings = replace(BASE, epochs=3, lr=0.01, gamma=1.0, weight_decay=weight_decay)
        return sum(float(tensor.square().sum()) for tensor in run(settings).weights.values())

    assert size(1.0) < 0.9 * size(0.0)


# ---- augmentation

STRENGTHS: dict[str, Any] = {f"augment_{name}": value for name, value in asdict(DEFAULT).items()}
AUGMENTED = replace(BASE, **STRENGTHS)


def with_features() -> ImageSet:
    """`DATA` with random voice features, and the images drawn from them."""
    found = np.random.default_rng(1).integers(0, 256, (len(DATA), ROWS, FRAMES), dtype=np.uint8)
    found.setflags(write=False)
    return assemble("made", VOICE.images(found), DATA.rows, VOICE, True, found)


VOICES = with_features()


def test_augmented_training_repeats_to_the_bit_and_differs_from_plain_training() -> None:
    state = run(AUGMENTED, VOICES)
    torch.manual_seed(99)
    np.random.default_rng(99).random(7)
    assert same(state, run(AUGMENTED, VOICES))
    assert not same_tensors(state.weights, run(BASE, VOICES).weights)
    assert AUGMENTED.augmentation == DEFAULT
    assert BASE.augmentation == NONE


@pytest.mark.parametrize("name", [name for name in STRENGTHS if name != "augment_pitch_targets"])  # this is one corpus
def test_every_strength_alone_makes_a_difference(name: str) -> None:
    once = replace(BASE, epochs=1, batch_size=32)
    alone = replace(once, **{name: STRENGTHS[name]})
    assert not same_tensors(run(alone, VOICES).weights, run(once, VOICES).weights)


def test_a_resumed_trial_with_augmentation_ends_the_same_to_the_bit() -> None:
    log, settings = Log(), replace(AUGMENTED, epochs=4)
    whole = fit(VOICES, SPLIT, settings, CPU, report=log)
    for state in log.states:
        assert same(fit(VOICES, SPLIT, settings, CPU, resume=state), whole)


def test_an_augmented_epoch_does_not_depend_on_the_number_of_epochs() -> None:
    log = Log()
    fit(VOICES, SPLIT, replace(AUGMENTED, epochs=3), CPU, report=log)
    assert same(run(AUGMENTED, VOICES), log.states[1])


def test_batches_are_augmented_by_seed_epoch_and_clip() -> None:
    assert isinstance(VOICES.features, np.ndarray)
    order = epoch_order(SPLIT.train, 3, 1)
    seen = list(TrainingSet.of(VOICES, SPLIT, AUGMENTED, CPU).batches(order, 1))
    draws, at = random_numbers(np.arange(len(VOICES)), 3, 1), 0
    for pictures, labels, weights in seen:
        rows = order[at : at + BASE.batch_size]
        assert torch.equal(pictures, augment(torch.from_numpy(VOICES.features[rows]), draws[rows], DEFAULT))
        assert labels.tolist() == VOICES.labels[rows].tolist()
        assert torch.equal(weights, clip_weights(VOICES, SPLIT.train)[rows])
        at += len(rows)
    assert at == len(order)


def test_without_augmentation_batches_are_the_stored_images() -> None:
    order = epoch_order(SPLIT.train, 3, 1)
    pictures = torch.cat([batch for batch, _, _ in TrainingSet.of(VOICES, SPLIT, BASE, CPU).batches(order, 1)])
    np.testing.assert_array_equal(pictures.numpy(), VOICES.pixels[order])


def test_validation_clips_are_never_augmented_and_test_clips_never_read() -> None:
    assert isinstance(VOICES.features, np.ndarray)
    found = VOICES.features.view(Watched)
    pixels = np.array(VOICES.pixels).view(Watched)
    found.asked, pixels.asked = [], []
    state = run(AUGMENTED, replace(VOICES, features=found, pixels=pixels))
    assert sorted(found.asked) == sorted([*SPLIT.train] * AUGMENTED.epochs)
    assert sorted(pixels.asked) == sorted([*SPLIT.val] * AUGMENTED.epochs)
    assert same(state, run(AUGMENTED, VOICES))
    model = build("cnn", AUGMENTED.seed)
    model.load_state_dict(state.weights)
    logits = predict_logits(model, VOICES.pixels, SPLIT.val, CPU)
    weight = class_weights(VOICES.labels[SPLIT.train]).tolist()
    expected = measured(logits, torch.from_numpy(VOICES.labels[SPLIT.val]), weight)
    assert state.history[-1].val_loss == pytest.approx(expected[0], abs=1e-4)


def test_images_without_voice_features_cannot_be_augmented() -> None:
    with pytest.raises(SettingsError, match=r"^made: images of recipe mfcc; expected voice to augment them$"):
        run(AUGMENTED, DATA)


def test_the_pooled_model_trains_with_augmentation_and_resumes() -> None:
    log, settings = Log(), replace(AUGMENTED, model="pooled", epochs=3)
    whole = fit(VOICES, SPLIT, settings, CPU, report=log)
    assert same(fit(VOICES, SPLIT, settings, CPU, resume=log.states[0]), whole)
    assert same(fit(VOICES, SPLIT, settings, CPU), whole)


# ---- which clips are read, and divergence


class Watched(np.ndarray[Any, np.dtype[np.uint8]]):
    """An array that records which rows are read."""

    asked: list[int]

    def __getitem__(self, key: Any) -> Any:
        rows = np.atleast_1d(np.arange(len(self))[key])
        self.asked += rows.tolist()
        return np.asarray(self)[key]


def test_test_clips_are_never_read_and_the_others_once_an_epoch() -> None:
    watched = np.array(DATA.pixels).view(Watched)
    watched.asked = []
    state = run(data=replace(DATA, pixels=watched))
    assert sorted(watched.asked) == sorted([*SPLIT.train, *SPLIT.val] * BASE.epochs)
    assert not set(watched.asked) & set(SPLIT.test.tolist())
    assert same(state, run())


def test_images_of_many_shards_train_as_images_in_memory(prepared_root: Path, images: ImageSet, tmp_path: Path) -> None:
    every = list(shards.outcomes(shards.found(prepared_root)[0], images.recipe))
    paths = [shards.write(tmp_path, every[at : at + 30], images.recipe) for at in range(0, 80, 30)]
    many = save(tmp_path, "x", images.recipe, True, (prepared_root / MANIFEST).read_bytes(), paths)
    split = make(images, "speakers")
    assert isinstance(many.pixels, shards.Sharded)
    assert same(fit(many, split, BASE, CPU), fit(images, split, BASE, CPU))


def test_images_mapped_from_disk_train_as_images_in_memory(images: ImageSet) -> None:
    split = make(images, "speakers")
    mapped = fit(images, split, BASE, CPU)
    assert isinstance(images.pixels, np.ndarray) and not images.pixels.flags.owndata
    assert same(mapped, fit(replace(images, pixels=np.array(images.pixels)), split, BASE, CPU))


def with_other(data: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    pixels = np.array(data.pixels)
    pixels[rows] = 255 - pixels[rows]
    return replace(data, pixels=pixels)


def test_results_do_not_depend_on_the_test_clips() -> None:
    assert same(run(data=with_other(DATA, SPLIT.test)), run())


def test_validation_clips_change_validation_metrics_only() -> None:
    one, other = run(), run(data=with_other(DATA, SPLIT.val))
    assert same_tensors(one.weights, other.weights)
    assert same_tensors(one.optimizer, other.optimizer)
    for a, b in zip(one.history, other.history, strict=True):
        assert a.val_loss != b.val_loss
        assert (a.train_loss, a.train_balanced_accuracy) == (b.train_loss, b.train_balanced_accuracy)


def test_class_weights_come_from_the_training_clips_only() -> None:
    lopsided = Split("lopsided", SPLIT.train, SPLIT.val[DATA.labels[SPLIT.val] == 0], SPLIT.test)
    state = fit(DATA, lopsided, BASE, CPU)
    assert same_tensors(state.weights, run().weights)
    assert state.history[-1].val_balanced_accuracy == state.history[-1].val_accuracy


def test_divergence_is_an_error_that_names_the_epoch() -> None:
    log = Log()
    with pytest.raises(TrainingError, match=r"epoch 2: loss nan in training, nan in validation; diverged"):
        fit(DATA, SPLIT, BASE, CPU, report=log, resume=overflowing())
    assert log.epochs == []


def overflowing() -> State:
    """A trial after one epoch whose weights are so large that the next loss is NaN."""
    first = run(replace(BASE, epochs=1))
    return replace(first, weights={name: torch.full_like(tensor, 1e30) for name, tensor in first.weights.items()})


@pytest.mark.parametrize(
    ("resumes", "value", "message"),
    [
        (True, 0.0, r"epoch 2: loss nan in training, 0\.\d+ in validation; diverged"),
        (False, float("nan"), r"epoch 1: loss 0\.\d+ in training, nan in validation; diverged"),
    ],
)
def test_divergence_in_training_or_validation_alone_is_an_error(
    monkeypatch: pytest.MonkeyPatch, resumes: bool, value: float, message: str
) -> None:
    state = overflowing() if resumes else None
    monkeypatch.setattr(loop, "clip_logits", lambda *_: torch.full((len(SPLIT.val), 2), value))
    with pytest.raises(TrainingError, match=message):
        run(resume=state)


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match="model 'oracle': unknown"):
        run(replace(BASE, model="oracle"))


# ---- recorded results

RECORDED_AT = 6  # settings.VERSION when these numbers were recorded
RECORD = [  # train loss, train balanced accuracy, validation loss, validation balanced accuracy
    (0.653354, 0.666667, 0.524788, 0.5),
    (0.476894, 0.833333, 0.359380, 1.0),
    (0.290379, 1.000000, 0.202224, 1.0),
]
AUGMENTED_RECORD = [  # the same with augmentation
    (0.702133, 0.479167, 0.679299, 0.5),
    (0.672798, 0.541667, 0.641597, 0.5),
    (0.682765, 0.562500, 0.687354, 0.5),
]


def formula_features(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Voice features that a few integers determine."""
    clip, row, frame = np.indices((len(labels), ROWS, FRAMES))
    shade: NDArray[np.int64] = (37 * clip + (5 + clip % 3) * row + 11 * frame * (clip % 5 + 1)) % 193
    shade += 60 * labels[:, None, None] * (row < BANDS // 2)
    return shade.astype(np.uint8)


def in_voice(data: ImageSet) -> ImageSet:
    found = formula_features(data.labels)
    return assemble("made", VOICE.images(found), data.rows, VOICE, True, found)


@pytest.mark.parametrize(("augmented", "record"), [(False, RECORD), (True, AUGMENTED_RECORD)])
def test_results_are_those_recorded(augmented: bool, record: list[tuple[float, ...]]) -> None:
    data = made(5, 5, formula, clips=4)
    sides = np.repeat([0, 0, 0, 1, 2, 0, 0, 2, 1, 2], 4)  # three women and two men train
    split = Split("fixed", np.flatnonzero(sides == 0), np.flatnonzero(sides == 1), np.flatnonzero(sides == 2))
    settings = Settings(epochs=3, lr=0.0005, gamma=0.5, batch_size=8, seed=0, **(STRENGTHS if augmented else {}))
    history = fit(in_voice(data) if augmented else data, split, settings, CPU).history
    found = [(e.train_loss, e.train_balanced_accuracy, e.val_loss, e.val_balanced_accuracy) for e in history]
    advice = "the same settings give other results; if that is intended, raise settings.VERSION and record them again"
    assert np.array(found) == pytest.approx(np.array(record), abs=1e-4), advice
    assert VERSION == RECORDED_AT, "settings.VERSION was raised; record this test's numbers again"
