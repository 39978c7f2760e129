"""The order of training clips, their weights, and the generator of dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from agr.data.image_set import ImageSet, assemble
from agr.data.splits import make
from agr.recipes.base import IMAGE_SHAPE
from agr.recipes.mfcc import MFCC
from agr.training.batches import (
    SINGLE_GENDER_WEIGHT,
    class_weights,
    clip_weights,
    dropout_generator,
    epoch_order,
    weighted_loss,
)


def test_each_epoch_visits_every_training_clip_once_in_its_own_order() -> None:
    train = np.array([2, 3, 5, 7, 11, 13, 17, 19], dtype=np.int64)
    orders = [tuple(epoch_order(train, seed, index)) for seed in range(3) for index in range(4)]
    assert all(sorted(order) == train.tolist() for order in orders)
    assert len(set(orders)) == 12
    assert tuple(epoch_order(train, 1, 2)) == orders[6]


@pytest.mark.parametrize(("women", "men"), [(10, 10), (30, 10), (1, 99)])
def test_class_weights_balance_the_genders(women: int, men: int) -> None:
    weights = class_weights(np.repeat([0, 1], [women, men]))
    assert weights.dtype == torch.float32
    assert float(weights[0]) * women == pytest.approx(float(weights[1]) * men)
    assert float(weights[0]) * women + float(weights[1]) * men == pytest.approx(women + men)


def test_dropout_depends_on_seed_and_epoch_only() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = {
        (seed, index): torch.rand(6, generator=dropout_generator(seed, index))
        for seed in range(3)
        for index in range(4)
    }
    assert torch.equal(torch.get_rng_state(), before)
    assert len({tuple(values.tolist()) for values in drawn.values()}) == 12
    torch.rand(9)
    for (seed, index), values in drawn.items():
        assert torch.equal(torch.rand(6, generator=dropout_generator(seed, index)), values)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_dropout_accepts_every_seed(seed: int) -> None:
    assert float(torch.rand(10_000, generator=dropout_generator(seed, 9_999)).mean()) == pytest.approx(0.5, abs=0.02)


def corpora_of(*cells: tuple[str, str, int, int]) -> ImageSet:
    """Clips of (corpus, gender, speakers, clips of each)."""
    rows = [
        {"corpus": corpus, "speaker": f"{gender}{k}", "gender": gender, "recording": f"{corpus}{gender}{k}-{clip}"}
        for corpus, gender, speakers, clips in cells
        for k in range(speakers)
        for clip in range(clips)
    ]
    return assemble("made", np.zeros((len(rows), *IMAGE_SHAPE), dtype=np.uint8), rows, MFCC, synthetic=False)


D = (("d", "female", 2, 3), ("d", "male", 7, 1))


def test_genders_weigh_the_same_and_corpora_by_the_square_root_of_their_speakers() -> None:
    data = corpora_of(("a", "female", 16, 2), ("b", "female", 4, 50), ("a", "male", 9, 3), ("c", "male", 1, 1), *D)
    train = np.random.default_rng(0).permutation(len(data)).astype(np.int64)
    weights = clip_weights(data, train)
    assert weights.dtype == torch.float32
    assert float(weights.mean()) == pytest.approx(1)
    corpus = np.array([speaker[0] for speaker in data.speakers.tolist()])

    def share(name: str, label: int) -> float:
        return float(weights[torch.from_numpy((corpus == name) & (data.labels == label))].sum()) / len(data)

    shares = [share(*cell) for cell in (("a", 0), ("b", 0), ("d", 0), ("a", 1), ("c", 1), ("d", 1))]
    both, women, men = 5 + 3, 2 * SINGLE_GENDER_WEIGHT, 1 * SINGLE_GENDER_WEIGHT
    of_women, of_men = [5, 2 * SINGLE_GENDER_WEIGHT, 3], [5, 1 * SINGLE_GENDER_WEIGHT, 3]
    expected = [each / (both + women) / 2 for each in of_women] + [each / (both + men) / 2 for each in of_men]
    assert shares == pytest.approx(expected, rel=1e-5)
    assert len(set(weights[(corpus == "b") & (data.labels == 0)].tolist())) == 1


def test_clips_outside_the_training_set_have_no_weight() -> None:
    data = corpora_of(("a", "female", 7, 3), ("a", "male", 5, 3))
    split = make(data, "speakers")
    weights = clip_weights(data, split.train)
    assert not weights[np.concatenate([split.val, split.test])].any()
    assert float(weights[split.train].mean()) == pytest.approx(1)
    one_corpus = class_weights(data.labels[split.train])[data.labels[split.train]]
    torch.testing.assert_close(weights[split.train], one_corpus)


def test_the_weighted_loss_of_one_corpus_is_that_of_weighted_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    output, y = torch.randn(9, 2, generator=generator), torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 1])
    weight = torch.tensor([1.5, 0.75])
    torch.testing.assert_close(weighted_loss(output, y, weight[y]), nn.CrossEntropyLoss(weight)(output, y))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_a_smoothed_label_is_shared_by_both_classes(smoothing: float) -> None:
    output, y, weights = [(0.3, -1.2), (2.0, 0.5), (-4.0, 4.0)], [0, 1, 1], [1.0, 0.5, 2.0]
    total = 0.0
    for pair, label, weight in zip(output, y, weights, strict=True):
        likely = [math.exp(value) / sum(map(math.exp, pair)) for value in pair]
        target = [smoothing / 2, smoothing / 2]
        target[label] += 1 - smoothing
        total -= weight * sum(share * math.log(p) for share, p in zip(target, likely, strict=True))
    found = weighted_loss(torch.tensor(output), torch.tensor(y), torch.tensor(weights), smoothing)
    assert float(found) == pytest.approx(total / sum(weights), rel=1e-5)
