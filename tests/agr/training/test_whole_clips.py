"""Whole clips in training: other seconds in every epoch, and logits as a prediction gives them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agr.audio import read as audio
from agr.data import combine, corpus, preparation, shards, splits
from agr.data.image_set import MANIFEST, ImageSet, assemble, load, save, subset
from agr.data.splits import Split
from agr.data.tracks import Tracks
from agr.errors import ModelError
from agr.inference import bundle, predictor, section
from agr.inference.attribution import attribute
from agr.plots import explanation, model_input
from agr.recipes.voice import VOICE, VOICE112
from agr.synth import demo
from agr.training.augmentation import DEFAULT
from agr.training.batches import TrainingSet, epoch_order, window_places
from agr.training.loop import State, fit
from agr.training.model import build
from agr.training.settings import Settings
from agr.training.whole_clips import clip_logits

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SETTINGS = Settings(epochs=2, lr=0.002, gamma=0.5, batch_size=8, model="towers", width=0.25, augment_pitch=0.1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic people, prepared for `voice112`; every third recording is said three times over."""
    import soundfile

    place = tmp_path_factory.mktemp("whole")
    demo.write_demo(place / "six", 6, 1)
    for path in audio.find(place / "six")[::3]:
        y, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, np.tile(y, 3), rate)
    preparation.prepare(corpus.open_corpus(str(place / "six"), place), place / "out", VOICE112)
    return place / "out"


@pytest.fixture(scope="module")
def data(prepared: Path) -> ImageSet:
    return load(prepared)


@pytest.fixture(scope="module")
def split(data: ImageSet) -> Split:
    return splits.make(data)


@pytest.fixture(scope="module")
def trained(data: ImageSet, split: Split) -> State:
    return fit(data, split, SETTINGS, CPU)


def tracks(data: ImageSet) -> Tracks:
    assert isinstance(data.features, Tracks)
    return data.features


def model_of(state: State) -> torch.nn.Module:
    model = build("towers", width=0.25)
    model.load_state_dict(state.weights)
    return model.eval()


def test_a_prepared_folder_holds_clips_of_their_own_length(data: ImageSet) -> None:
    frames = tracks(data).frames
    assert frames.min() == 98
    assert frames.max() > 150
    assert data.pixels.shape == (60, 112, 98, 1)
    np.testing.assert_array_equal(data.pixels, VOICE112.images(tracks(data)[np.arange(60)]))


def test_whole_clips_in_several_shards_are_as_in_one(prepared: Path, tmp_path: Path, data: ImageSet) -> None:
    every = list(shards.outcomes(shards.found(prepared)[0], VOICE112))
    paths = [shards.write(tmp_path, every[at : at + 23], VOICE112) for at in range(0, 60, 23)]
    manifest = (prepared / MANIFEST).read_bytes()
    assert save(tmp_path, "out", VOICE112, True, manifest, paths).digest == data.digest
    many, one, rows = pickle.loads(pickle.dumps(tracks(load(tmp_path)))), tracks(data), np.array([59, 0, 30, 22, 23])
    assert len(pickle.dumps(many)) < 5_000
    places = np.random.default_rng(0).random((5, 2))
    for ours, theirs in ((many, one), (many.subset(rows), one.subset(rows))):
        np.testing.assert_array_equal(ours.frames, theirs.frames)
    np.testing.assert_array_equal(many[rows], one[rows])
    np.testing.assert_array_equal(many.draw(rows, places), one.draw(rows, places))
    joined = Tracks.join([one, many.subset(rows)])
    np.testing.assert_array_equal(joined[np.array([61, 7])], one[np.array([0, 7])])


def test_the_same_settings_give_the_same_weights(data: ImageSet, split: Split, trained: State) -> None:
    again = fit(data, split, SETTINGS, CPU)
    assert all(torch.equal(tensor, trained.weights[name]) for name, tensor in again.weights.items())
    assert [replace(e, seconds=0) for e in again.history] == [replace(e, seconds=0) for e in trained.history]


def test_training_goes_on_where_it_stopped(data: ImageSet, split: Split, trained: State) -> None:
    first = fit(data, split, replace(SETTINGS, epochs=1), CPU)
    second = fit(data, split, SETTINGS, CPU, resume=first)
    assert all(torch.equal(tensor, trained.weights[name]) for name, tensor in second.weights.items())


def test_test_clips_are_never_read(data: ImageSet, split: Split, trained: State) -> None:
    flat = np.array(tracks(data).flat)
    ends = np.cumsum(tracks(data).frames) * 112
    for row in split.test.tolist():
        flat[ends[row] - tracks(data).frames[row] * 112 : ends[row]] = 77
    other = replace(data, features=Tracks(flat, tracks(data).frames))
    found = fit(other, split, SETTINGS, CPU)
    assert all(torch.equal(tensor, trained.weights[name]) for name, tensor in found.weights.items())


def test_windows_depend_on_seed_epoch_and_clip_alone(data: ImageSet, split: Split) -> None:
    plain = replace(SETTINGS, augment_pitch=0.0)
    train_set = TrainingSet.of(data, split, plain, CPU)
    order = epoch_order(split.train, 0, 1)
    whole = torch.cat([images for images, _, _ in train_set.batches(order, 1)])
    turned = torch.cat([images for images, _, _ in train_set.batches(order[::-1].copy(), 1)])
    assert torch.equal(whole, turned.flip(0))
    assert not torch.equal(whole, torch.cat([images for images, _, _ in train_set.batches(order, 2)]))
    assert not np.array_equal(window_places(np.arange(5), 0, 1), window_places(np.arange(5), 1, 1))
    np.testing.assert_array_equal(window_places(np.arange(5), 0, 1), window_places(np.arange(9), 0, 1)[:5])


def test_the_logits_of_a_clip_are_those_of_a_prediction(
    prepared: Path, data: ImageSet, split: Split, trained: State
) -> None:
    model = model_of(trained)
    longest = int(tracks(data).frames.argmax())
    found = next(prepared.parent.rglob(Path(data.rows[longest]["source"]).name))
    info = bundle.BundleInfo("towers", VOICE112, SETTINGS.config(), {}, {}, {}, {}, {})
    expected = predictor.predict_proba([audio.load(found, 8000)], bundle.Bundle(model, info))
    logits = clip_logits(model, data, np.array([longest]), CPU).numpy()
    assert predictor.softmax(logits) == pytest.approx(expected, abs=1e-4)


def test_models_of_both_recipes_answer_each_others_images(data: ImageSet, trained: State) -> None:
    rows = np.arange(5)
    coarse = bundle.BundleInfo("cnn", VOICE, {}, {}, {}, {}, {}, {})
    found = predictor.logits_of_clips(data, rows, bundle.Bundle(build("cnn", 0).eval(), coarse))
    assert found.shape == (5, 2)
    few = replace(data, features=tracks(data)[np.arange(60)], recipe=VOICE, pixels=np.array(data.pixels)[:, :12])
    fine = bundle.BundleInfo("towers", VOICE112, {}, {}, {}, {}, {}, {})
    model = model_of(trained)
    second = predictor.logits_of_clips(few, rows, bundle.Bundle(model, fine))
    short = [row for row in rows if tracks(data).frames[row] == 98]
    whole = clip_logits(model, data, np.array(short), CPU).numpy()
    assert short
    assert second[short] == pytest.approx(whole, abs=1e-5)


def test_parts_of_a_set_and_sets_that_are_joined_keep_whole_clips(data: ImageSet) -> None:
    few = subset(data, np.array([7, 0, 30]))
    np.testing.assert_array_equal(tracks(few).clip(2), tracks(data).clip(30))
    np.testing.assert_array_equal(few.pixels, np.array(data.pixels)[[7, 0, 30]])
    rows = [{**row, "corpus": "other", "recording": f"{row['recording']}x", "samples": ""} for row in few.rows]
    other = assemble("other", few.pixels, rows, VOICE112, True, few.features)
    both = combine.join([data, other])
    assert len(both) == len(tracks(both)) == 63
    np.testing.assert_array_equal(tracks(both).clip(2), tracks(data).clip(30))  # in the order of their names
    np.testing.assert_array_equal(tracks(both).clip(62), tracks(data).clip(59))


def test_an_explanation_shows_the_bands_and_the_lags(prepared: Path, trained: State) -> None:
    info = bundle.BundleInfo("towers", VOICE112, SETTINGS.config(), {}, {}, {}, {}, {})
    clip = next(iter(audio.find(prepared.parent / "six")))
    shown = section.read(str(clip), VOICE112)
    found = attribute(shown, bundle.Bundle(model_of(trained), info))
    assert list(found.parts) == ["vocal tract", "pitch"]
    assert sum(found.parts.values()) == pytest.approx(found.shares.sum())
    drawn = explanation.draw(found)
    panels = [axes for axes in drawn.axes if axes.get_images()]
    assert [np.asarray(axes.get_images()[0].get_array()).shape for axes in panels[:2]] == [(40, 98), (72, 98)]
    whole = model_input.draw(shown)
    assert [axes.get_title(loc="left").split(":")[0] for axes in whole.axes[2:4]] == ["Envelope", "Periodicity"]


def test_a_model_of_other_images_does_not_train(data: ImageSet, split: Split) -> None:
    with pytest.raises(ModelError, match="model cnn: reads 12x98x3; recipe voice112 makes 112x98x1"):
        fit(data, split, Settings(epochs=1, lr=0.001, gamma=0.5), CPU)


def test_augmented_and_plain_training_differ(data: ImageSet, split: Split, trained: State) -> None:
    strengths = {"augment_speed": DEFAULT.speed, "augment_noise": 1.0, "augment_room": 1.0}
    other = fit(data, split, replace(SETTINGS, **strengths), CPU)  # type: ignore[arg-type]
    assert not torch.equal(other.weights["out.weight"], trained.weights["out.weight"])
