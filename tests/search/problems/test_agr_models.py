"""What a search of AGR's own models is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agr.data import splits
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import SettingsError
from agr.inference import bundle
from agr.training.settings import Settings
from search.problems.agr_models import from_champion
from search.results.promotion import seen_by_trials

POINT = Settings(1, 0.1, 0.5)


@pytest.fixture
def split(images: ImageSet) -> Split:
    return splits.make(images)


@pytest.fixture
def champion(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> bundle.Seen:
    """Whom the champion learned from, which is on this machine."""
    monkeypatch.setenv("AGR_CHAMPION", str(bundle_folder))
    return bundle.read_seen(bundle_folder)


def test_the_champions_weights_do_not_meet_people_who_trained_it_again_in_validation_or_test(
    champion: bundle.Seen, images: ImageSet, split: Split
) -> None:
    known = sorted(champion.speakers.intersection(images.speakers[np.concatenate([split.val, split.test])].tolist()))
    assert known
    with pytest.raises(SettingsError) as caught:
        from_champion([POINT], images, split)
    assert str(caught.value).startswith(f"--start champion: the champion learned from {len(known)} of the ")
    assert f"such as {known[0]}; expected people it never heard, or no --start" in str(caught.value)


def test_recordings_under_other_names_are_known_too(champion: bundle.Seen, images: ImageSet, split: Split) -> None:
    renamed = replace(images, speakers=np.char.add("x", images.speakers))
    with pytest.raises(SettingsError, match="--start champion: the champion learned from"):
        from_champion([POINT], renamed, split)


def test_people_it_never_heard_may_choose_and_test_and_the_new_model_lists_its_people(
    champion: bundle.Seen, images: ImageSet, split: Split
) -> None:
    train = np.concatenate([split.train, split.val])
    (point,) = from_champion([POINT], images, replace(split, train=train, val=split.test, test=split.test))
    assert point.start.startswith("champion:")
    only = replace(split, train=split.test, val=split.test)
    assert champion.speakers <= seen_by_trials(images, only, point.start).speakers
    assert not champion.speakers & seen_by_trials(images, only).speakers
