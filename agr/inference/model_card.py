"""The model card: how well a model does on each group of clips, as tables and as Markdown."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agr.common.rows import column
from agr.data import combine
from agr.data.clips import age_range
from agr.data.image_set import ImageSet
from agr.data.shards import Clips
from agr.data.splits import SIDES, Indices, Split
from agr.data.tracks import Tracks
from agr.inference import bundle, predictor
from agr.labels import CLASSES
from agr.metrics import calibration
from agr.metrics.scoring import interval, score
from agr.recipes import voice_features, voice_image
from agr.recipes.base import FRAMES
from agr.recipes.voice import VoiceRecipe
from agr.training import augmentation, pitch_targets

FILE = "card.md"
DESCRIPTION_LETTERS = 5000  # the most that MLflow's databases keep
COLUMNS = ("language", "accent", "native speaker", "native_language", "device", "emotion")  # of a manifest, optional
AGE_EDGES = (20, 40, 60)  # years
AGE_NAMES = ("below 20", "20 to 39", "40 to 59", "60 and above", "not given")
PITCH_EDGES = (130, 155, 180, 210)  # Hz
_BETWEEN = (f"{low} to {high} Hz" for low, high in pairwise(PITCH_EDGES))
PITCH_NAMES = (f"below {PITCH_EDGES[0]} Hz", *_BETWEEN, f"{PITCH_EDGES[-1]} Hz and above", "pitch unknown")
LINE_HZ = (300.0, 3400.0)  # a telephone's pass band (ITU-T G.712)
TELEPHONE = f"telephone band, {LINE_HZ[0]:g} to {LINE_HZ[1]:g} Hz"
NOISES = {f"noise at {db:g} dB": db for db in (20.0, 10.0, 5.0)}
FAILS_BELOW, HARDEST, AT_ONCE = 0.9, 10, 256
MEANING = """\
It hears a voice; it does not know a person's gender. It was trained on recordings that are labelled female or male,
and answers which of the two a clip sounds like. It says nothing about children; people whose voice does not match the
labels, or who are neither; singing, whispering, shouting; hoarse, disguised or altered voices; several people at once;
machines; languages, microphones and rooms that are not in the tables. Some music and some animals get an answer."""
MUST_NOT = """\
It must not decide anything about a person. Do not use it for access, identification or surveillance; policing or
borders; medicine; employment, housing, credit, insurance or schooling; addressing somebody who can be asked; finding
out or revealing anybody's gender."""
INTERVALS = """\
In a row with both genders the value is balanced accuracy, the mean of the two recalls; in a row with one, accuracy.
The 95 % intervals are of a Bayesian bootstrap over speakers; with few of them they are wide, also without a wrong
answer. With a single speaker of a gender there is no interval."""
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Row:
    """The score of one group of clips."""

    name: str
    clips: int
    wrong: int
    speakers: tuple[int, int]  # of each class
    value: float  # of `measure`
    interval: tuple[float, float] | None

    @property
    def measure(self) -> str:
        """What `value` is; accuracy if all clips are of one class."""
        return "balanced accuracy" if all(self.speakers) else "accuracy"


Tables = dict[str, list[Row]]  # by title


def tables(data: ImageSet, rows: Indices, probabilities: Floats, degraded: Mapping[str, Floats]) -> Tables:
    """Score clips by corpus, language, gender and age or pitch, and all of them with noise and in a telephone's band.

    probabilities: (len(rows), 2), in the order of CLASSES. degraded: of `degraded_answers`.
    """
    labels, speakers = data.labels[rows], data.speakers[rows]
    genders = np.array(CLASSES)[labels]

    def row(name: str, answers: Floats, mask: NDArray[np.bool_]) -> Row:
        return _row(name, labels[mask], answers[mask].argmax(axis=1) == labels[mask], speakers[mask])

    def by(groups: NDArray[np.str_], order: Iterable[str]) -> list[Row]:
        return [row(name, probabilities, groups == name) for name in order if name in groups]

    corpora = combine.corpora(data)[rows]
    found = {"By corpus": by(corpora, np.unique(corpora).tolist())}
    for name in COLUMNS:
        values = [value.strip() or "not given" for value in column(data.rows, name, rows)]
        if set(values) != {"not given"}:
            found[f"By {name.replace('_', ' ')}"] = by(
                np.array(values), sorted(set(values), key=lambda one: (-values.count(one), one))
            )
    found["By gender"] = by(genders, CLASSES)
    bands: dict[str, tuple[NDArray[np.str_], Sequence[str]]] = {}
    bands["age"] = (np.array([_age({"age": age}) for age in column(data.rows, "age", rows)]), AGE_NAMES)
    if data.features is not None:
        bands["pitch"] = (_pitch_names(data.features, rows), PITCH_NAMES)
    for name, (bands_of_clips, order) in bands.items():
        if set(bands_of_clips.tolist()) != {AGE_NAMES[-1]}:
            groups = np.char.add(np.char.add(genders, ", "), bands_of_clips)
            found[f"By gender and {name}"] = by(groups, [f"{each}, {band}" for each in CLASSES for band in order])
    if degraded:
        versions = {"as recorded": probabilities, **degraded}.items()
        found["By noise and line"] = [row(name, answers, labels >= 0) for name, answers in versions]
    return found


def degraded_answers(loaded: bundle.Bundle, data: ImageSet, rows: Indices) -> dict[str, Floats]:
    """Probabilities of the same clips with noise and in a telephone's band: (len(rows), 2) each.

    The noise has the same power in all mel bands; its level is relative to the loudest 0.15 s of the voice. Empty if
    the recipe stores no voice features.
    """
    recipe = loaded.info.recipe
    answers: dict[str, list[Floats]] = {name: [] for name in (*NOISES, TELEPHONE) if data.features is not None}
    for start in range(0, len(rows), AT_ONCE):
        for name, each in answers.items():
            assert data.features is not None
            found = torch.from_numpy(np.array(data.features[rows[start : start + AT_ONCE]]))
            assert isinstance(recipe, VoiceRecipe)
            drawn = recipe.draw(found, degradation(len(found), NOISES.get(name), name == TELEPHONE, seed=start))
            each.append(predictor.predict_images(drawn.numpy(), loaded))
    return {name: np.concatenate(each) for name, each in answers.items()}


def degradation(clips: int, noise_db: float | None, line: bool, seed: int) -> voice_image.Change:
    """Noise `noise_db` below the voice (None: no noise) and, with `line`, a telephone's band."""
    changed = voice_image.unchanged(clips)
    if line:
        gain = torch.tensor(augmentation.pass_band(*LINE_HZ), dtype=torch.float32)
        changed = replace(changed, gain=gain.repeat(clips, 1))
    if noise_db is not None:
        power = np.random.default_rng(seed).gamma(3.0, 1 / 3, (clips, voice_features.BANDS, FRAMES))  # of mean 1
        changed = replace(changed, noise=torch.tensor(power * 10 ** (-noise_db / 10), dtype=torch.float32))
    return changed


def render(loaded: bundle.Bundle, data: ImageSet, split: Split, probabilities: Floats, search: str) -> str:
    """The model card in Markdown; probabilities: of the test clips, (len(split.test), 2)."""
    info, rows = loaded.info, split.test
    found = tables(data, rows, probabilities, degraded_answers(loaded, data, rows))
    parts = {
        f"# Women's and men's voices: champion of {search}": _headline(info, data, rows),
        "## What an answer means": MEANING,
        "## Where it must not be used": MUST_NOT,
        "## How well it does on test speakers": INTERVALS,
        **{f"### {title}": _scores(title.removeprefix("By "), each) for title, each in found.items()},
        "## Known failures": _failures(found),
        "## Hardest speakers": _hardest(data, rows, probabilities),
        "## Calibration": _calibration(info, probabilities, data.labels[rows]),
        "## Data": _data(data, split),
        "## Training": _training(info, data, split),
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts.items()) + "\n"


def _headline(info: bundle.BundleInfo, data: ImageSet, rows: Indices) -> str:
    made_up = data.made_up & set(combine.corpora(data)[rows].tolist())
    notice = "SYNTHETIC voices: these numbers prove nothing about people.\n\n" if made_up else ""
    measure = "Balanced accuracy" if len(np.unique(data.labels[rows])) > 1 else "Accuracy"
    low, high = info.test["balanced_accuracy_ci95"]
    return (
        f"{notice}{measure} **{info.test['balanced_accuracy']:.4f}** on {info.test['clips']} clips of "
        f"{info.test['speakers']} test speakers it never heard (95 % interval over speakers {low:.4f} to {high:.4f})."
    )


def description(text: str) -> str:
    """The first sections of a model card, as many as MLflow keeps, and a line that says where the rest is."""
    if len(text) <= DESCRIPTION_LETTERS:
        return text
    rest = f"\n\nThe rest is in `{FILE}`, beside the model's weights."
    room = DESCRIPTION_LETTERS - len(rest)
    end = text.rfind("\n\n#", 0, room)
    return text[: end if end > 0 else room] + rest


def _row(name: str, labels: NDArray[np.int64], right: NDArray[np.bool_], speakers: NDArray[np.str_]) -> Row:
    women, men = (len(np.unique(speakers[labels == label])) for label in range(len(CLASSES)))
    value = float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))
    bounds = interval(labels, right, speakers) if 1 not in (women, men) else None
    return Row(name, len(labels), int((~right).sum()), (women, men), value, bounds)


def _pitch_names(found: Clips | Tracks, rows: Indices) -> NDArray[np.str_]:
    parts = np.array_split(rows, len(rows) // AT_ONCE + 1)
    hz = np.concatenate([voice_features.pitch(found[part]) for part in parts])
    return np.array(PITCH_NAMES)[np.where(np.isnan(hz), len(PITCH_EDGES) + 1, np.digitize(hz, PITCH_EDGES))]


def _age(row: Mapping[str, str]) -> str:
    """The band of AGE_NAMES that holds the middle of the ages that a speaker may have."""
    known = age_range(row)
    return AGE_NAMES[-1] if known is None else AGE_NAMES[bisect.bisect(AGE_EDGES, sum(known) / 2)]


def _people(counts: Sequence[int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in zip(CLASSES, counts, strict=True) if count) or "none"


def _scores(heading: str, rows: Sequence[Row]) -> str:
    ends = (f"{row.interval[0]:.3f} to {row.interval[1]:.3f}" if row.interval else "none" for row in rows)
    cells = [(r.name, r.clips, _people(r.speakers), r.measure, f"{r.value:.3f}", next(ends)) for r in rows]
    return _markdown((heading, "clips", "speakers", "measure", "value", "95 % interval"), cells)


def _failures(found: Tables) -> str:
    every = [(title, row) for title, rows in found.items() for row in rows if row.value < FAILS_BELOW]
    lines = [f"- {t}, **{r.name}**: {r.wrong} of {r.clips} clips wrong, {r.measure} {r.value:.3f}" for t, r in every]
    if not every:
        return f"No row above is below {FAILS_BELOW}. Voices that are not in the tables may do worse."
    return "\n".join([f"Where the value is below {FAILS_BELOW}; expect wrong answers there:", "", *lines])


def _hardest(data: ImageSet, rows: Indices, probabilities: Floats) -> str:
    worst = score(data.labels[rows], probabilities, data.speakers[rows]).hardest(HARDEST)
    if not worst:
        return "Every clip of every test speaker was answered correctly."
    cells = [(name, who.gender, who.clips, f"{who.accuracy:.3f}") for name, who in worst]
    return _markdown(("speaker", "recorded as", "clips", "accuracy"), cells)


def _calibration(info: bundle.BundleInfo, probabilities: Floats, labels: NDArray[np.int64]) -> str:
    kept = calibration.coverage(probabilities, labels).marks
    cells = [(f"{mark:g}", f"{100 * share:.1f} %", f"{right:.3f}" if share else "") for mark, share, right in kept]
    table = _markdown(("answers only from a confidence of", "test clips answered", "accuracy on those"), cells)
    return f"{calibration.summarize(info.calibration)}\n\n{table}"


def _data(data: ImageSet, split: Split) -> str:
    sides = [getattr(split, side) for side in SIDES]
    owners = [set(data.speakers[side].tolist()) for side in sides]
    cells = [
        (name, "synthetic" if name in data.made_up else "people", *(_side(data, side, name) for side in sides))
        for name in np.unique(combine.corpora(data)[np.concatenate(sides)]).tolist()
    ]
    twice = sum(map(len, owners)) - len(set().union(*owners))
    audit = f"LEAKY: speakers are on two sides, {twice} times." if twice else "No speaker is on two sides."
    table = _markdown(("corpus", "voices", "trains", "chooses the model", "tests it"), cells)
    return f"Data `{data.name}`, digest {data.digest}; split `{split.name}`, digest {split.digest}. {audit}\n\n{table}"


def _side(data: ImageSet, side: Indices, corpus: str) -> str:
    own = side[combine.corpora(data)[side] == corpus]
    people = [len(np.unique(data.speakers[own][data.labels[own] == label])) for label in range(len(CLASSES))]
    return f"{len(own)} clips: {_people(people)}"


def _training(info: bundle.BundleInfo, data: ImageSet, split: Split) -> str:
    settings, made = (", ".join(f"{key} {each[key]}" for key in each) for each in (info.settings, info.environment))
    moved = pitch_targets.describe(data, split.train, float(info.settings.get("augment_pitch_targets", 0.0)))
    text = f"Recipe {info.recipe.name} version {info.recipe.version}. Settings: {settings}. Made with {made}."
    return f"{text}\n\n{moved}".rstrip()


def _markdown(header: Sequence[str], cells: Iterable[Sequence[object]]) -> str:
    rows = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(" ".join(str(c).replace("|", "/").split()) for c in row) + " |" for row in rows)
