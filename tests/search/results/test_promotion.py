"""When a newly registered champion becomes `best`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agr.data import splits
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.inference import bundle, evaluation
from agr.recipes.encode import RECIPES
from agr.registry.uri import BUNDLE
from search.results import promotion
from search.results.promotion import decide, seen_by_trials

digest = promotion.test_digest  # under its own name pytest would take it for a test
NOBODY = bundle.Seen(frozenset(), frozenset())

Best = Callable[..., Path]


@pytest.fixture(scope="module")
def split(images: ImageSet) -> Split:
    return splits.make(images)


@pytest.fixture
def newcomer(bundle_folder: Path) -> bundle.BundleInfo:
    """Tested on people: balanced accuracy 0.75."""
    return on_people(bundle.read_info(bundle_folder))


@pytest.fixture
def best(bundle_folder: Path, tmp_path: Path) -> Best:
    """Write the best model so far, with changes to its info, as MLflow keeps it."""
    loaded = bundle.load(bundle_folder)

    def write(seen: bundle.Seen = NOBODY, **changes: Any) -> Path:
        info = replace(on_people(loaded.info), **changes)
        bundle.save(tmp_path / "best" / BUNDLE, loaded.model.state_dict(), info, seen)
        return tmp_path / "best"

    return write


def on_people(info: bundle.BundleInfo, **changes: Any) -> bundle.BundleInfo:
    return replace(info, data={**info.data, "synthetic": False}, **changes)


def scored(value: float) -> dict[str, Any]:
    return {"balanced_accuracy": value}


def test_the_first_version_is_the_best(newcomer: bundle.BundleInfo, images: ImageSet, split: Split) -> None:
    assert decide(newcomer, None, images, split) == promotion.Decision(True, "the first registered version")


def test_a_test_on_one_gender_yields_to_one_on_both(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    both, men = {"female": 0.5, "male": 1.0}, {"female": None, "male": 1.0}
    one_sided = replace(newcomer, test=scored(1.0) | {"recall": men})
    whole = replace(newcomer, test=scored(0.6) | {"recall": both})
    first = decide(one_sided, None, images, split)
    assert (first.promote, "one gender alone" in first.reason) == (True, True)
    lost = decide(one_sided, best(test=scored(0.75) | {"recall": both}), images, split)
    assert lost == promotion.Decision(False, "tested on one gender alone, while the best was tested on women and men")
    won = decide(whole, best(test=scored(1.0) | {"recall": men}), images, split)
    assert won == promotion.Decision(
        True, "the first tested on women and men; the best so far was tested on one gender alone"
    )
    again = decide(one_sided, best(test=scored(0.9) | {"recall": men}), images, split)
    assert again.promote


@pytest.mark.parametrize(
    ("score", "promote", "reason"),
    [
        (0.7499, True, "balanced accuracy 0.7500 against 0.7499 on the same test speakers"),
        (0.75, False, "balanced accuracy 0.7500 against 0.7500 on the same test speakers: a tie"),
        (1.0, False, "balanced accuracy 0.7500 against 1.0000 on the same test speakers: lost by 0.2500"),
    ],
)
def test_on_the_same_test_set_the_recorded_scores_decide(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split, score: float, promote: bool, reason: str
) -> None:
    folder = best(test=scored(score), seen=seen_by_trials(images, split))
    assert decide(newcomer, folder, images, split) == promotion.Decision(promote, reason)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_people_outrank_synthetic_voices_whatever_the_scores(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split, score: float
) -> None:
    synthetic = replace(newcomer, data={**newcomer.data, "synthetic": True})
    assert decide(newcomer, best(data={"synthetic": True}, test=scored(score)), images, split).promote
    decision = decide(synthetic, best(test=scored(score)), images, split)
    assert not decision.promote
    assert decision.reason == "tested on synthetic voices, while the best was tested on people"


def test_synthetic_voices_compare_with_synthetic_voices(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    synthetic = replace(newcomer, data={"synthetic": True})
    assert decide(synthetic, best(data={"synthetic": True}, test=scored(0.5)), images, split).promote


OTHER_TEST = {"name": "other", "leaky": False, "test_digest": "0" * 16}


def test_a_best_that_met_the_test_speakers_is_not_scored_on_them(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    turned = replace(split, train=split.test, test=split.train)
    decision = decide(newcomer, best(split=OTHER_TEST, seen=seen_by_trials(images, turned)), images, split)
    assert not decision.promote
    assert decision.reason.startswith("the best was trained or chosen on 2 of these test speakers,")
    assert "--promote moves the alias all the same" in decision.reason


def test_a_best_that_met_the_recordings_under_other_names_is_not_scored_on_them(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    met = bundle.Seen(frozenset({"elsewhere/1"}), frozenset(images.recordings[split.test[:3]].tolist()))
    decision = decide(newcomer, best(split=OTHER_TEST, seen=met), images, split)
    assert not decision.promote
    assert "on 3 of these test" in decision.reason


@pytest.mark.parametrize(("margin", "promote"), [(0.01, True), (0.0, False), (-0.01, False)])
def test_on_another_test_set_the_best_is_scored_anew(
    newcomer: bundle.BundleInfo,
    best: Best,
    images: ImageSet,
    split: Split,
    bundle_folder: Path,
    margin: float,
    promote: bool,
) -> None:
    score = evaluation.score_images(bundle.load(bundle_folder), images, split.test).balanced_accuracy
    challenger = replace(newcomer, test=scored(score + margin))
    decision = decide(challenger, best(split=OTHER_TEST, test=scored(0.999)), images, split)
    assert decision.promote is promote
    assert f"against {score:.4f} on the newcomer's test speakers, whom neither had met" in decision.reason


def test_a_best_that_reads_other_images_is_not_compared(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    decision = decide(newcomer, best(split=OTHER_TEST, recipe=RECIPES["mfcc48"]), images, split)
    assert not decision.promote
    assert "images of recipe mfcc; expected mfcc48" in decision.reason


def test_the_test_sets_digest_knows_recordings_and_labels_only(images: ImageSet, split: Split) -> None:
    other_images = replace(images, pixels=255 - np.array(images.pixels), recipe=RECIPES["mfcc48"], digest="x", name="y")
    assert digest(other_images, split) == digest(images, split)
    assert len(digest(images, split)) == 16


def test_the_test_sets_digest_knows_no_order(images: ImageSet, split: Split) -> None:
    order = np.random.default_rng(1).permutation(len(images))
    turned = replace(images, labels=images.labels[order], recordings=images.recordings[order])
    found = np.sort(np.argsort(order)[split.test])
    assert digest(turned, replace(split, test=found)) == digest(images, split)


@pytest.mark.parametrize("drop", [[0], [-1], [3, 4]])
def test_every_test_clip_counts_in_the_digest(images: ImageSet, split: Split, drop: Sequence[int]) -> None:
    fewer = replace(split, test=np.delete(split.test, drop))
    assert digest(images, fewer) != digest(images, split)
    labels = images.labels.copy()
    labels[split.test[drop]] ^= 1
    assert digest(replace(images, labels=labels), split) != digest(images, split)


def test_training_clips_do_not_count_in_the_digest(images: ImageSet, split: Split) -> None:
    assert digest(images, replace(split, train=split.train[:1], val=split.val[:1])) == digest(images, split)


def test_seen_speakers_are_those_of_training_and_validation(images: ImageSet, split: Split) -> None:
    seen = seen_by_trials(images, split)
    testers = set(images.speakers[split.test].tolist())
    assert seen.speakers | testers == set(images.speakers.tolist())
    assert not seen.speakers & testers
    assert not seen.recordings & set(images.recordings[split.test].tolist())


def test_a_model_at_chance_replaces_none(
    newcomer: bundle.BundleInfo, best: Best, images: ImageSet, split: Split
) -> None:
    at_chance = replace(newcomer, test={**newcomer.test, "balanced_accuracy_ci95": (0.42, 0.8)})
    worse = best(test={**newcomer.test, "balanced_accuracy": 0.1})
    assert decide(newcomer, worse, images, split).promote
    found = decide(at_chance, worse, images, split)
    assert found == promotion.Decision(
        False, "not shown to be better than chance: the interval of the test begins at 0.4200"
    )
