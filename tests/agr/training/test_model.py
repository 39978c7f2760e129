"""The models: compared with the published network, their inputs, widths, dropout and latency."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agr.errors import ModelError
from agr.recipes.encode import RECIPES
from agr.training.model import (
    LATENCY_SECONDS,
    MAX_PARAMETERS,
    MODELS,
    Cnn,
    apply_dropout,
    build,
    check_reads,
    count_parameters,
    default_model,
    from_onednn,
    latency_ms,
    model_input,
    predict_logits,
    to_input,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def published() -> nn.Sequential:
    """The network as the paper lists it, layer by layer."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=1, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, stride=1, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 3 * 24, 128),
        nn.ReLU(),
        nn.Linear(128, 2),
    )


HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
LAYERS = {"conv1": 0, "conv2": 3, "hidden": 7, "out": 9}  # where each stands in the list above


def with_weights_of(model: nn.Module) -> nn.Sequential:
    weights = model.state_dict()
    reference = published()
    reference.load_state_dict(
        {f"{index}.{kind}": weights[f"{name}.{kind}"] for name, index in LAYERS.items() for kind in ("weight", "bias")}
    )
    return reference


def some_images(count: int, seed: int = 0, name: str = "cnn") -> Tensor:
    """Random images that the model of this name reads."""
    shape = (count, *MODELS[name].image_shape)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_there_are_609602_parameters() -> None:
    counts = {name: parameter.numel() for name, parameter in Cnn().named_parameters()}
    assert counts == {
        "conv1.weight": 3 * 32 * 9,
        "conv1.bias": 32,
        "conv2.weight": 32 * 64 * 9,
        "conv2.bias": 64,
        "hidden.weight": 4608 * 128,
        "hidden.bias": 128,
        "out.weight": 128 * 2,
        "out.bias": 2,
    }
    assert sum(counts.values()) == 609_602


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("seed", [0, 3])
def test_every_layer_is_the_published_one(seed: int, batch: int) -> None:
    model = build("cnn", seed)
    seen: dict[str, Tensor] = {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, name=name: seen.__setitem__(name, output)
        )
    images = some_images(batch, seed)
    plain = (images.permute(0, 3, 1, 2).contiguous().double() * 2 / 255 - 1).float()
    with torch.inference_mode():
        logits = model(to_input(images))
        reference = with_weights_of(model)
        for name, index in LAYERS.items():
            torch.testing.assert_close(seen[name], reference[: index + 1](plain), rtol=1e-4, atol=1e-5)
    assert logits.shape == (batch, 2)
    assert torch.equal(logits, seen["out"])


@pytest.mark.parametrize("way", ["model_input", "to_input"])
def test_gradients_are_those_of_the_published_network(way: str) -> None:
    model, images = build("cnn", 1), some_images(4)
    reference = with_weights_of(model)
    model(model_input(model, images) if way == "model_input" else to_input(images)).square().sum().backward()
    reference(to_input(images)).square().sum().backward()
    for name, index in LAYERS.items():
        own = model.get_parameter(f"{name}.weight").grad
        torch.testing.assert_close(own, reference.get_parameter(f"{index}.weight").grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("width", [0.25, 1.0, 1.28])
@pytest.mark.parametrize("name", MODELS)
def test_logits_do_not_depend_on_the_memory_layout(name: str, width: float) -> None:
    model, images = build(name, 2, width).eval(), some_images(5, name=name)
    with torch.inference_mode():
        torch.testing.assert_close(model(model_input(model, images)), model(to_input(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch was built without oneDNN")
def test_the_input_of_the_cnn_alone_has_the_layout_of_onednn() -> None:
    images = some_images(2)
    x = model_input(build("cnn", 0), images)
    assert x.is_mkldnn
    assert torch.equal(from_onednn(x), to_input(images))
    assert not model_input(build("pooled", 0), images).is_mkldnn


def test_without_onednn_all_models_have_the_same_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    images, model = some_images(2), build("cnn", 0)
    x = model_input(model, images)
    assert not x.is_mkldnn
    assert from_onednn(x) is x
    torch.testing.assert_close(model(x), model(to_input(images)))


def test_input_covers_minus_one_to_one_evenly() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    images = levels[:, None, None, None].expand(256, 12, 98, 3)
    x = to_input(images)
    assert x.dtype == torch.float32
    assert x.min() == -1
    assert x.max() == 1
    torch.testing.assert_close(x[:, 1, 7, 50], torch.linspace(-1, 1, 256), rtol=0, atol=1e-6)


def test_input_keeps_the_place_of_every_pixel() -> None:
    images = some_images(3)
    before = images.clone()
    x = to_input(images)
    assert x.shape == (3, 3, 12, 98)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    for clip, row, column, channel in [(0, 0, 0, 0), (1, 11, 97, 2), (2, 5, 31, 1), (2, 11, 0, 2)]:
        expected = int(images[clip, row, column, channel]) / 127.5 - 1
        assert float(x[clip, channel, row, column]) == pytest.approx(expected, abs=1e-6)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = (build("cnn", seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_weights_are_initialised_as_torch_does() -> None:
    weights = build("cnn", 11).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        reference = published().state_dict()
    for name, index in LAYERS.items():
        assert torch.equal(weights[f"{name}.weight"], reference[f"{index}.weight"])
        assert torch.equal(weights[f"{name}.bias"], reference[f"{index}.bias"])


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_building_does_not_change_the_global_generator(seed: int | None) -> None:
    before = torch.get_rng_state()
    build("cnn", seed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["", "CNN", "resnet"])
def test_unknown_model_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=f"model '{name}': unknown; expected one of {', '.join(MODELS)}"):
        build(name, 0)


# --- the pooled model


def test_the_pooled_model_has_62882_parameters() -> None:
    counts = {name: parameter.numel() for name, parameter in build("pooled").named_parameters()}
    assert sum(counts[name] for name in counts if name.startswith("conv1")) == 3 * 32 * 9 + 32
    assert sum(counts[name] for name in counts if name.startswith("conv2")) == 32 * 48 * 9 + 48
    assert sum(counts[name] for name in counts if name.startswith("conv3")) == 48 * 48 * 6 * 3 + 48
    assert sum(counts[name] for name in counts if name.startswith("norm")) == 2 * (32 + 48 + 48)
    assert sum(counts.values()) == 62_882


def test_the_logits_of_the_pooled_model_hardly_depend_on_the_time_of_a_sound() -> None:
    images = torch.full((1, 12, 98, 3), 40, dtype=torch.uint8)
    early, late = images.clone(), images.clone()
    early[:, :, 24:44] = late[:, :, 44:64] = some_images(1)[:, :, :20]
    moved = {}
    for name in ("cnn", "pooled"):
        model = build(name, 0)
        with torch.inference_mode():
            moved[name] = float((model(to_input(early)) - model(to_input(late))).abs().max())
    assert moved["pooled"] < 1e-5 < moved["cnn"]


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_of_an_image_do_not_depend_on_its_batch(name: str) -> None:
    model, images = build(name, 2).eval(), some_images(5, name=name)
    with torch.inference_mode():
        together = model(to_input(images))
        for k in range(5):
            torch.testing.assert_close(model(to_input(images[k : k + 1]))[0], together[k], rtol=1e-4, atol=1e-5)
    assert together.shape == (5, 2)


def test_the_towers_read_sounds_anywhere_in_time_alike_once_trained() -> None:
    model = build("towers", 0).eval()
    images = torch.full((1, *MODELS["towers"].image_shape), 40, dtype=torch.uint8)
    early, late = images.clone(), images.clone()
    early[:, :, 24:44] = late[:, :, 44:64] = some_images(1, name="towers")[:, :, :20]
    with torch.inference_mode():
        torch.testing.assert_close(model(to_input(early)), model(to_input(late)), rtol=1e-3, atol=1e-4)


def test_a_model_is_chosen_for_a_recipe_and_others_are_refused() -> None:
    assert {name: default_model(recipe) for name, recipe in RECIPES.items()} == {
        "voice": "cnn",
        "voice112": "towers",
        "mfcc": "cnn",
        "mfcc48": "cnn",
    }
    check_reads("pooled", RECIPES["voice"])
    found = "model cnn: reads 12x98x3; recipe voice112 makes 112x98x1; expected towers"
    with pytest.raises(ModelError, match=found):
        check_reads("cnn", RECIPES["voice112"])


# --- width


def cnn_size(first: int, second: int, hidden: int) -> int:
    return (27 * first + first) + (9 * first * second + second) + (72 * second * hidden + hidden) + (2 * hidden + 2)


def pooled_size(first: int, second: int, hidden: int) -> int:
    convolutions = (27 * first + first) + (9 * first * second + second) + (18 * second * second + second)
    return convolutions + 2 * (first + 2 * second) + (2 * second * hidden + hidden) + (2 * hidden + 2)


def towers_size(first: int, second: int, third: int, hidden: int) -> int:
    both = 2 * ((25 * first + first) + (9 * first * second + second)) + (10 + 18) * 3 * second * third + 2 * third
    norms = 2 * 2 * (first + second + third) + 2 * (2 * third)
    joined = 3 * (2 * third) ** 2 + 2 * third
    return both + norms + joined + (4 * third * hidden + hidden) + (2 * hidden + 2)


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("cnn", 0.25, cnn_size(8, 16, 32)),
        ("cnn", 0.5, cnn_size(16, 32, 64)),
        ("cnn", 1, 609_602),
        ("cnn", 1.28, cnn_size(40, 80, 164)),
        ("pooled", 0.25, pooled_size(8, 12, 16)),
        ("pooled", 0.3, pooled_size(8, 16, 20)),
        ("pooled", 1.0, 62_882),
        ("pooled", 2.0, pooled_size(64, 96, 128)),
        ("towers", 0.25, towers_size(4, 8, 16, 32)),
        ("towers", 1.0, 265_410),
        ("towers", 1.5, towers_size(24, 48, 96, 192)),
    ],
)
def test_width_multiplies_channels_and_hidden_units(name: str, width: float, expected: int) -> None:
    found = sum(parameter.numel() for parameter in build(name, width=width).parameters())
    assert found == count_parameters(name, width) == expected <= MAX_PARAMETERS


@pytest.mark.parametrize("width", np.linspace(0.25, 2, 15).tolist())
def test_group_norm_divides_the_channels_of_every_width(width: float) -> None:
    with torch.inference_mode():
        assert build("pooled", 0, width)(to_input(some_images(2))).shape == (2, 2)


def test_width_one_is_the_model_without_a_width() -> None:
    for name in MODELS:
        one, other = build(name, 3).state_dict(), build(name, 3, 1.0, 0.5).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one | other)


@pytest.mark.parametrize("width", [0.2, 2.01, 0.0, -1.0, 10**400, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ModelError, match=f"^width {re.escape(str(width))}: expected 0.25 to 2.0$"):
        build("pooled", width=width)


def test_a_model_of_more_than_a_million_parameters_is_refused() -> None:
    message = rf"^width 1\.3: {cnn_size(40, 84, 168):,} parameters of model cnn; expected at most 1,000,000$"
    with pytest.raises(ModelError, match=message):
        build("cnn", width=1.3)


# --- dropout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    x = torch.full((400, 50), 3.0)
    found = apply_dropout(x, 0.2, generator())
    assert float((found == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert found[found != 0].tolist() == pytest.approx([3 / 0.8] * int((found != 0).sum()))
    assert torch.equal(found, apply_dropout(x, 0.2, generator()))
    assert not torch.equal(found, apply_dropout(x, 0.2, generator(1)))


def test_every_lane_drops_the_same_features() -> None:
    lanes = apply_dropout(torch.ones(3, 8, 16), 0.5, generator())
    assert torch.equal(lanes, apply_dropout(torch.ones(8, 16), 0.5, generator()).expand(3, 8, 16))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_generator_drops_no_features(name: str) -> None:
    model, plain, x = build(name, 0, dropout=0.5).eval(), build(name, 0).eval(), to_input(some_images(6, name=name))
    with torch.inference_mode():
        assert torch.equal(model(x), plain(x))
        assert torch.equal(plain(x, generator()), plain(x))
        dropped = [model(x, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    assert not torch.equal(dropped[0], plain(x))


def test_dropout_is_applied_before_the_last_layer() -> None:
    model, x, seen = build("cnn", 0, dropout=0.5), to_input(some_images(6)), list[Tensor]()
    model.get_submodule("hidden").register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.inference_mode():
        logits = model(x, generator())
        expected = model.get_submodule("out")(apply_dropout(seen[0].relu(), 0.5, generator()))
    assert torch.equal(logits, expected)


# --- latency


def test_latency_is_the_shortest_time_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs only while the model does: for 20, 9 and 25 ms, after which the time is over."""
    now, durations, batches = 0.0, iter((0.020, 0.009, 0.025)), list[torch.Size]()

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal now
            now += next(durations)
            batches.append(x.shape)
            assert torch.get_num_threads() == 1
            assert not self.training
            return x

    model = Slow()
    monkeypatch.setattr("agr.training.model.time.perf_counter", lambda: now)
    monkeypatch.setattr("agr.training.model.copy.deepcopy", lambda given: given.train())
    assert latency_ms(model) == pytest.approx(9.0)
    assert batches == [(1, 3, 12, 98)] * 3
    assert 0.029 < LATENCY_SECONDS <= 0.054


def test_a_slow_model_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("agr.training.model.time.perf_counter", lambda: float(next(clock)))
    assert latency_ms(build("cnn", 0)) == 1000.0


@pytest.mark.parametrize("name", MODELS)
def test_latency_does_not_change_model_and_threads(name: str) -> None:
    model = build(name, 0).train()
    before, state = {key: tensor.clone() for key, tensor in model.state_dict().items()}, torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        assert latency_ms(model, MODELS[name].image_shape) > 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# --- logits


def test_logits_do_not_depend_on_the_batches_they_are_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = build("cnn", 0), np.array([9, 1, 30, 4, 2, 2, 17], dtype=np.int64)
    pixels = some_images(36).numpy()
    whole = predict_logits(model, pixels, rows, torch.device("cpu"))
    monkeypatch.setattr("agr.training.model.EVALUATION_BATCH", 3)
    torch.testing.assert_close(predict_logits(model, pixels, rows, torch.device("cpu")), whole)
    assert whole.shape == (7, 2)
    torch.testing.assert_close(whole[4], whole[5])  # on some processors not to the bit
    assert predict_logits(model, pixels, rows[:0], torch.device("cpu")).shape == (0, 2)
