"""The end of a search: rank, score the champion once on test speakers, draw, register, promote."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from agr import __version__, bundle, plots, promotion
from agr.errors import AgrError
from agr.evaluate import score_images
from agr.images import ImageSet
from agr.scoring import Scores
from agr.splits import Split
from agr.tracking import BEST, CHALLENGER, Tracker
from search.session import Record, Session, ranked

RANKING_COLUMNS = ("rank", "epochs", "lr", "gamma", "seed", "val_balanced_accuracy", "val_accuracy", "val_loss")


@dataclass(frozen=True)
class Ending:
    """What a search came to. `scores` and `version` are None for a leaky split, which tests and registers nothing."""

    ranking: Sequence[Record]
    scores: Scores | None
    version: int | None
    alias: str
    reason: str


def conclude(
    session: Session,
    data: ImageSet,
    split: Split,
    tags: Mapping[str, object],
    promote: bool,
) -> Ending:
    """Choose on validation speakers, test once, log pictures and tables, register.

    Raises: AgrError if no trial finished.
    """
    ranking = ranked(session.finished())
    if not ranking:
        reasons = sorted({record.reason for record in session.records.values() if record.reason})
        why = "; ".join(reasons) or "no reason given"
        raise AgrError(f"no champion: none of {len(session.records)} trials finished ({why})")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "bundle"
        scores = None if split.leaky else _test(ranking[0], made, data, split, tags)
        pictures = Path(scratch) / "pictures"
        pictures.mkdir()
        _draw(session, ranking, scores, pictures, tags)
        session.tracker.log_folder(session.parent, pictures)
        _log_scores(session, ranking[0], scores)
        if scores is None:
            return Ending(ranking, None, None, "", "leaky split: nothing is tested or registered")
        return _register(session, ranking, scores, made, data, split, promote)


def _test(record: Record, folder: Path, data: ImageSet, split: Split, tags: Mapping[str, object]) -> Scores:
    """Write the champion's bundle, then read the test speakers: the only place in a search that does."""
    if record.weights is None:
        raise AgrError(f"trial {record.run_id}: no weights kept; expected its checkpoint")
    weights = record.weights()
    card = bundle.Card(
        model=record.settings.model,
        recipe=data.recipe,
        settings=asdict(record.settings),
        data={"name": data.name, "digest": data.digest, "synthetic": data.synthetic, "clips": len(data)},
        split={
            "name": split.name,
            "digest": split.digest,
            "leaky": split.leaky,
            "test_digest": promotion.test_digest(data, split),
        },
        val=asdict(record.history[-1]),
        test={},
        environment={
            "agr": __version__,
            "torch": torch.__version__,
            "device": tags["device"],
            "commit": tags["commit"],
        },
    )
    seen = promotion.seen_by_trials(data, split)
    bundle.save(folder, weights, card, seen)
    scores = score_images(bundle.load(folder), data, split.test)
    values = scores.as_dict()
    values.pop("per_speaker")
    bundle.save(folder, weights, bundle.replace_test(card, values), seen)
    return scores


def _draw(
    session: Session, ranking: Sequence[Record], scores: Scores | None, folder: Path, tags: Mapping[str, object]
) -> None:
    title = session.name + (f"  [{notice}]" if (notice := plots.notice(tags)) else "")
    curves = [plots.Curve(record.settings, record.history) for record in session.records.values()]
    plots.heat_map(curves, folder / "grid.png", title)
    plots.learning_curves(curves, folder / "learning_curves.png", title)
    if scores is not None:
        plots.confusion(scores, folder / "confusion.png", title)
        plots.speakers(scores, folder / "speakers.png", title)
    with (folder / "ranking.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*RANKING_COLUMNS, "leaky", "synthetic", "run_id"))
        writer.writeheader()
        for rank, record in enumerate(ranking, start=1):
            values = asdict(record.settings) | asdict(record.history[-1]) | {"epochs": record.settings.epochs}
            marks = {key: str(bool(tags.get(key))).lower() for key in ("leaky", "synthetic")}
            row = {key: values[key] for key in RANKING_COLUMNS if key != "rank"}
            writer.writerow({"rank": rank, **row, **marks, "run_id": record.run_id})


def _log_scores(session: Session, best: Record, scores: Scores | None) -> None:
    last = best.history[-1]
    metrics = {key: getattr(last, key) for key in ("val_balanced_accuracy", "val_accuracy", "val_loss")}
    for record in session.records.values():
        for key, count in record.counts.items():
            metrics[key] = metrics.get(key, 0) + count
    if scores is not None:
        low, high = scores.balanced_accuracy_ci95
        metrics |= {"test_balanced_accuracy": scores.balanced_accuracy, "test_accuracy": scores.accuracy}
        metrics |= {"test_balanced_accuracy_low": low, "test_balanced_accuracy_high": high}
    session.tracker.log_metrics(session.parent, metrics)
    settings = {f"champion_{key}": getattr(best.settings, key) for key in ("epochs", "lr", "gamma")}
    session.tracker.set_tags(session.parent, settings | {"champion_run_id": best.run_id})


def _register(
    session: Session, ranking: Sequence[Record], scores: Scores, made: Path, data: ImageSet, split: Split, promote: bool
) -> Ending:
    tracker: Tracker = session.tracker
    best = tracker.aliased(BEST)
    card = bundle.read_card(made)
    decision = promotion.decide(card, best.folder if best else None, data, split)
    tags = {
        "test_balanced_accuracy": f"{scores.balanced_accuracy:.6f}",
        "test_digest": card.split["test_digest"],
        "data": data.name,
        "synthetic": str(data.synthetic).lower(),
        "split": split.name,
        "recipe": data.recipe.name,
        "search": session.name,
    }
    version = tracker.register(ranking[0].run_id, made, tags)
    alias = BEST if decision.promote or promote else CHALLENGER
    tracker.set_alias(alias, version)
    was = f" (was version {best.version})" if best and alias == BEST else ""
    forced = "; promoted by --promote" if promote and not decision.promote else ""
    return Ending(ranking, scores, version, alias, decision.reason + forced + was)
