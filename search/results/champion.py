"""The end of a search: chooses the champion, calibrates it, tests it once on test speakers, draws, registers it."""

from __future__ import annotations

import csv
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from agr import __version__
from agr.common.files import write_atomic
from agr.data.image_set import ImageSet
from agr.data.splits import Split
from agr.errors import AgrError, ModelError
from agr.inference import bundle, model_card, predictor
from agr.metrics import calibration
from agr.metrics.calibration import Bins, Coverage
from agr.metrics.scoring import Scores, score
from agr.plots import search as plots
from agr.plots.curves import Curve, titled
from agr.plots.worker import PlottingProcess
from agr.registry.records import FinishedSearch
from agr.registry.uri import BEST, REGISTERED_MODEL
from agr.training.model import build
from agr.training.settings import STEP_SIZE
from search.results import promotion, shipped
from search.results.promotion import Decision, promote_version
from search.session.session import Record, Session
from search.tasks.agr_task import agr_epochs, settings_of

if TYPE_CHECKING:
    from search.outbox.outbox import Outbox

RANKED_BY = ("val_balanced_accuracy", "val_accuracy", "val_loss")


@dataclass(frozen=True)
class SearchResult:
    """The result of a search; `scores` and `version` are None for a leaky split, which is not tested or registered."""

    ranking: Sequence[Record]
    scores: Scores | None
    version: int | None
    alias: str
    reason: str
    model: str = REGISTERED_MODEL
    tested: Mapping[str, float] = field(default_factory=dict)  # further metrics of the test, by name
    logits: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))  # of test clips, as trained
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # of the same clips


@dataclass(frozen=True)
class Tested:
    """The champion's scores on test speakers, and the quality of its probabilities."""

    scores: Scores
    calibration: Mapping[str, float]  # by metric
    sides: Mapping[str, Bins]  # reliability on validation (before and after temperature scaling) and test speakers
    coverage: Coverage  # accuracy on the most confident clips
    logits: NDArray[np.float64]  # of test clips, (n, 2), as trained
    labels: NDArray[np.int64]  # of the same clips, (n,)


def conclude(
    session: Session,
    data: ImageSet,
    split: Split,
    tags: Mapping[str, object],
    promote: bool,
    ranking: Sequence[Record] | None = None,
    temperature: float | None = None,
) -> SearchResult:
    """Choose the champion on validation speakers, test it once, log and register it. Raises: AgrError without trials.

    promote: Whether `best` moves in any case. ranking: Best first; by default all finished trials.
    temperature: Of the probabilities; by default fitted on validation speakers.
    """
    ranking, title = session.ranking(ranking), titled(session.name, tags)
    with tempfile.TemporaryDirectory() as scratch, PlottingProcess() as plotting:
        folder, plots = Path(scratch) / "bundle", Path(scratch) / "plots"
        plots.mkdir()
        _draw_trials(session, plots, title, plotting)
        tested = None if split.leaky else _test(ranking[0], folder, data, split, tags, session.name, temperature)
        if tested is not None:
            _draw_test(tested, plots, title, plotting)
        session.settle()
        _write_ranking(session, ranking, plots, tags)
        _log_scores(session, ranking[0], tested)
        if tested is None:
            result = _result(ranking, None, None, "", "")
        else:
            result = _register(session, ranking, tested, folder, data, split, promote)
        plotting.finish()
        session.tracker.log_folder(session.parent, plots)
        return result


def recall(
    found: FinishedSearch,
    ranking: Sequence[Record],
    data: ImageSet,
    split: Split,
    tags: Mapping[str, object],
    temperature: float | None,
) -> SearchResult:
    """The result of a search that was done before; its champion is tested again. Raises: AgrError."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        tested = None if split.leaky else _test(ranking[0], folder, data, split, tags, found.name, temperature)
    return _result(ranking, tested, found.version, found.alias, "it is there already")


def _test(
    record: Record,
    folder: Path,
    data: ImageSet,
    split: Split,
    tags: Mapping[str, object],
    search: str,
    temperature: float | None,
) -> Tested:
    """Fit the temperature on validation speakers unless it is given, then test; nothing else reads test speakers."""
    if record.weights is None:
        raise AgrError(f"trial {record.run_id}: no weights kept; expected its checkpoint")
    weights, settings = record.weights(), settings_of(record.settings)
    model = build(settings.model, width=settings.width)
    model.load_state_dict(dict(weights))
    about = _card(record, data, split, tags)
    val = predictor.logits_of_clips(data, split.val, bundle.Bundle(model.eval(), about))
    found = calibration.fit(val, data.labels[split.val], temperature)
    about = replace(about, temperature=found["temperature"])
    test = predictor.logits_of_clips(data, split.test, bundle.Bundle(model, about))
    labels = data.labels[split.test]
    probabilities = predictor.softmax(test)
    scores = score(labels, probabilities, data.speakers[split.test])
    without_names = {key: value for key, value in scores.as_dict().items() if key != "per_speaker"}
    found |= calibration.metrics(test, labels, "test")
    about = replace(about, test=without_names, calibration=found)
    bundle.save(folder, weights, about, promotion.seen_by_trials(data, split, settings.start))
    text = model_card.render(bundle.load(folder), data, split, probabilities, search)
    write_atomic(folder / model_card.FILE, text.encode())
    sides = _validation(val, data.labels[split.val], about.temperature)
    sides["test speakers"] = calibration.bins(probabilities, labels)
    coverage = calibration.coverage(probabilities, labels)
    return Tested(scores, found, sides, coverage, test * about.temperature, labels)


def _validation(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> dict[str, Bins]:
    named = {"validation, as trained": 1.0, f"validation, temperature {temperature:.2f}": temperature}
    return {name: calibration.bins(predictor.softmax(logits / each), labels) for name, each in named.items()}


def _card(record: Record, data: ImageSet, split: Split, tags: Mapping[str, object]) -> bundle.BundleInfo:
    settings, digest = settings_of(record.settings), promotion.test_digest(data, split)
    return bundle.BundleInfo(
        model=settings.model,
        recipe=data.recipe,
        settings=asdict(settings) | {"epochs": record.chosen.epoch},
        data={"name": data.name, "digest": data.digest, "synthetic": data.synthetic, "clips": len(data)},
        split={"name": split.name, "digest": split.digest, "leaky": split.leaky, "test_digest": digest},
        val=dict(vars(record.chosen)),
        test={},
        environment={"agr": __version__, "torch": torch.__version__} | {key: tags[key] for key in ("device", "commit")},
    )


def _draw_trials(session: Session, folder: Path, title: str, plotting: PlottingProcess) -> None:
    if session.schema.prunes:  # no grid, whose points stand in rows and columns
        return
    records = session.records.values()
    curves = [Curve.plain(settings_of(each.settings), agr_epochs(each.history)) for each in records]
    plotting.draw(plots.heat_map, curves, folder / "grid.png", title)
    plotting.draw(plots.learning_curves, curves, folder / "learning_curves.png", title, STEP_SIZE)


def _draw_test(tested: Tested, folder: Path, title: str, plotting: PlottingProcess) -> None:
    plotting.draw(plots.confusion, tested.scores, folder / "confusion.png", title)
    plotting.draw(plots.speakers, tested.scores, folder / "speakers.png", title)
    plotting.draw(plots.reliability, tested.sides, folder / "reliability.png", title)
    plotting.draw(plots.coverage, tested.coverage, folder / "coverage.png", title)


def _write_ranking(session: Session, ranking: Sequence[Record], folder: Path, tags: Mapping[str, object]) -> None:
    with (folder / "ranking.csv").open("w", encoding="utf-8", newline="") as file:
        columns = tuple(dict.fromkeys((*session.schema.axes, "seed", *RANKED_BY)))
        writer = csv.DictWriter(file, ("rank", *columns, "leaky", "synthetic", "run_id"))
        writer.writeheader()
        for rank, record in enumerate(ranking, start=1):
            values = dict(vars(record.chosen)) | record.settings.config() | {"epochs": record.chosen.epoch}
            marks = {key: str(bool(tags.get(key))).lower() for key in ("leaky", "synthetic")}
            row = {key: values[key] for key in columns}
            writer.writerow({"rank": rank, **row, **marks, "run_id": record.run_id})


def _log_scores(session: Session, best: Record, tested: Tested | None) -> None:
    metrics = {key: getattr(best.chosen, key) for key in RANKED_BY}
    for record in session.records.values():
        for key, count in record.counts.items():
            metrics[key] = metrics.get(key, 0) + count
    if tested is not None:
        scores, found = tested.scores, tested.calibration
        low, high = scores.balanced_accuracy_ci95
        metrics |= {"test_balanced_accuracy": scores.balanced_accuracy, "test_accuracy": scores.accuracy}
        metrics |= {"test_balanced_accuracy_low": low, "test_balanced_accuracy_high": high}
        metrics |= {"gap": metrics["val_balanced_accuracy"] - scores.balanced_accuracy}
        metrics |= {"temperature": found["temperature"], "test_ece": found["ece_test"]}
    session.tracker.log_metrics(session.parent, metrics)
    settings = {f"champion_{key}": value for key, value in best.named.items()}
    session.tracker.set_tags(session.parent, settings | {"champion_run_id": best.run_id})


def _register(
    session: Session, ranking: Sequence[Record], tested: Tested, made: Path, data: ImageSet, split: Split, promote: bool
) -> SearchResult:
    shipped.adopt(session.tracker, session.parent)
    version = promotion.register(session.tracker, ranking[0].run_id, made, session.name)
    about = bundle.read_info(made)
    decide = functools.partial(judge, session.tracker, about, data, split)
    alias, reason = promote_version(session.tracker, version, decide, promote)
    return _result(ranking, tested, version, alias, reason)


def _result(
    ranking: Sequence[Record], tested: Tested | None, version: int | None, alias: str, reason: str
) -> SearchResult:
    if tested is None:
        return SearchResult(ranking, None, None, "", "leaky split: nothing is tested or registered")
    found, answers = {"test_ece": tested.calibration["ece_test"]}, (tested.logits, tested.labels)
    return SearchResult(ranking, tested.scores, version, alias, reason, REGISTERED_MODEL, found, *answers)


def judge(tracker: Outbox, about: bundle.BundleInfo, data: ImageSet, split: Split) -> tuple[int | None, Decision]:
    """The version that is best now, and whether this one replaces it."""
    best = tracker.version_by_alias(BEST)
    try:
        if best is not None and best.trouble:
            raise ModelError(best.trouble)
        decision = promotion.decide(about, best.folder if best else None, data, split)
    except ModelError as error:
        decision = Decision(False, f"the best cannot be read ({error}); --promote moves the alias all the same")
    return best.version if best else None, decision
