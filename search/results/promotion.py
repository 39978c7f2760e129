"""Decides whether a newly registered champion becomes `best`.

`best` moves only to a model that is better on the same test speakers. A test on people outranks one on synthetic
voices, and a test on both genders outranks one on a single gender, which a constant answer would pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agr.common.places import champion_folder
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import RecipeError
from agr.inference import bundle, model_card
from agr.inference.evaluation import score_images
from agr.metrics.scoring import TIE_DIGITS
from agr.registry.uri import BEST, CHALLENGER

if TYPE_CHECKING:
    from search.outbox.outbox import Outbox


@dataclass(frozen=True)
class Decision:
    """Whether `best` moves, and the reason in one sentence."""

    promote: bool
    reason: str


def register(tracker: Outbox, run_id: str, folder: Path, search: str) -> int:
    """Register a bundle and its card as a model of a run; returns the version. search: whose champion it is."""
    about = bundle.read_info(folder)
    tags = {
        "test_balanced_accuracy": f"{about.test['balanced_accuracy']:.6f}",
        "test_digest": about.split["test_digest"],
        "data": about.data["name"],
        "synthetic": str(about.data["synthetic"]).lower(),
        "split": about.split["name"],
        "recipe": about.recipe.name,
        "search": search,
    }
    card = model_card.description((folder / model_card.FILE).read_text(encoding="utf-8"))
    return tracker.register(run_id, folder, tags, card)


def test_digest(data: ImageSet, split: Split) -> str:
    """16 hex digits that identify the test recordings and their labels, independent of the recipe."""
    each = zip(data.recordings[split.test].tolist(), data.labels[split.test].tolist(), strict=True)
    rows = sorted(f"{recording} {label}" for recording, label in each)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def seen_by_trials(data: ImageSet, split: Split, start: str = "") -> bundle.Seen:
    """The training and validation speakers and recordings of a split, and those of the weights that trials start from.

    start: as `agr.training.start` has it; "" for random weights.
    """
    rows = np.concatenate([split.train, split.val])
    speakers, recordings = frozenset(data.speakers[rows].tolist()), frozenset(data.recordings[rows].tolist())
    folder = champion_folder() if start else None
    before = bundle.read_seen(folder) if folder else bundle.Seen(frozenset(), frozenset())
    return bundle.Seen(speakers | before.speakers, recordings | before.recordings)


def decide(newcomer: bundle.BundleInfo, best: Path | None, data: ImageSet, split: Split) -> Decision:
    """Compare a new model with the current best. best: Folder of its bundle, or None if there is none.

    One that is not shown to be better than chance replaces none that is.
    """
    found = _decide(newcomer, best, data, split)
    unproven = newcomer.never_beat_chance and not _one_sided(newcomer)
    if found.promote and unproven and best is not None and not bundle.read_info(best).never_beat_chance:
        low = newcomer.test["balanced_accuracy_ci95"][0]
        return Decision(False, f"not shown to be better than chance: the interval of the test begins at {low:.4f}")
    return found


def _decide(newcomer: bundle.BundleInfo, best: Path | None, data: ImageSet, split: Split) -> Decision:
    if best is None:
        alone = ", though tested on one gender alone" if _one_sided(newcomer) else ""
        return Decision(True, f"the first registered version{alone}")
    current = bundle.load(best)
    synthetic = (bool(newcomer.data["synthetic"]), bool(current.info.data["synthetic"]))
    if synthetic == (False, True):
        return Decision(True, "the first tested on people; the best so far was tested on synthetic voices")
    if synthetic == (True, False):
        return Decision(False, "tested on synthetic voices, while the best was tested on people")
    one_sided = (_one_sided(newcomer), _one_sided(current.info))
    if one_sided == (False, True):
        return Decision(True, "the first tested on women and men; the best so far was tested on one gender alone")
    if one_sided == (True, False):
        return Decision(False, "tested on one gender alone, while the best was tested on women and men")
    if newcomer.split["test_digest"] == current.info.split["test_digest"]:
        return _compare(newcomer, float(current.info.test["balanced_accuracy"]), "on the same test speakers")
    test = split.test
    seen = bundle.read_seen(best)
    if met := seen.met(data.speakers[test].tolist(), data.recordings[test].tolist()):
        what = "speakers" if met <= seen.speakers else "recordings"
        known = f"the best was trained or chosen on {len(met)} of these test {what}"
        return Decision(False, f"{known}, so the two cannot be compared; --promote moves the alias all the same")
    try:
        score = score_images(current, data, test).balanced_accuracy
    except RecipeError as error:
        return Decision(False, f"the best reads other images ({error}); --promote moves the alias all the same")
    return _compare(newcomer, score, "on the newcomer's test speakers, whom neither had met")


def _one_sided(info: bundle.BundleInfo) -> bool:
    """Whether all test speakers have the same gender."""
    return None in info.test.get("recall", {}).values()


def _compare(newcomer: bundle.BundleInfo, best: float, where: str) -> Decision:
    score = float(newcomer.test["balanced_accuracy"])
    lead = round(score - best, TIE_DIGITS)
    if lead > 0:
        return Decision(True, f"balanced accuracy {score:.4f} against {best:.4f} {where}")
    gap = "a tie" if lead == 0 else f"lost by {best - score:.4f}"
    return Decision(False, f"balanced accuracy {score:.4f} against {best:.4f} {where}: {gap}")


def promote_version(
    tracker: Outbox, version: int, judge: Callable[[], tuple[int | None, Decision]], forced: bool
) -> tuple[str, str]:
    """Give a version the alias `best` or `challenger`; returns the alias and the reason.

    judge: Returns the present best version and the decision; called again if another search moves `best` meanwhile.
    """
    while True:
        best, decision = judge()
        if not (decision.promote or forced):
            tracker.set_alias(CHALLENGER, version)
            return CHALLENGER, decision.reason
        if tracker.move_alias(BEST, best, version):
            was = f" (was version {best})" if best else ""
            return BEST, decision.reason + ("" if decision.promote else "; promoted by --promote") + was
