"""The strategy of `run_optuna.py`: an Optuna study proposes trials, a scheduler prunes them, a budget ends it.

A trial stands for its best epoch. The study's own storage, the stage store and MLflow together let the same command
go on after a kill, and let it know what other searches of the same data and split have tried.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from agr.easel import titled
from agr.errors import SettingsError
from search import display, pictures, warm
from search.aims import by_rule, measured, ordered
from search.exhaust import train_all
from search.ledger import Budget, Ledger
from search.luck import Repeats, repeat
from search.session import Record
from search.space import Space
from search.stages import StageStore
from search.studies import sampler, study_storage
from search.study import STORE, Arena
from search.subject import Subject
from search.task import Aim, Point, counted, readable


@dataclass(frozen=True)
class Hunt:
    """What a search with Optuna is told; see `run_optuna.py --help`.

    base: settings of every trial besides those of the space. first: what is tried first. kinds: the types of settings.
    """

    space: Space
    base: Mapping[str, Any]
    first: Mapping[str, Any]
    budget: Budget
    sampler: str
    scheduler: str
    aims: tuple[Aim, ...]
    folds: int
    repeat_best: int
    warm_start: bool
    storage: str
    seed: int
    kinds: Mapping[str, type]

    def __post_init__(self) -> None:
        """Raises: SettingsError for settings that do not go together."""
        if len(self.aims) > 1 and self.scheduler != "none":
            raise SettingsError(
                f"--scheduler {self.scheduler}: found {len(self.aims)} aims; expected none with several"
            )
        if self.folds and self.scheduler != "none":
            raise SettingsError(f"--scheduler {self.scheduler}: found --folds {self.folds}; expected none with folds")
        if len(self.aims) > 1 and self.sampler == "cmaes":
            raise SettingsError(f"--sampler cmaes: found {len(self.aims)} aims; expected tpe, random or nsga2")
        if self.budget.epochs is not None and self.budget.epochs < self.folds:
            raise SettingsError(f"--budget {self.budget.epochs}: found --folds {self.folds}; expected as many or more")
        if "epochs" not in {**self.space.varied, **self.space.fixed}:
            raise SettingsError("--space: no epochs; expected a line epochs = ...")

    def axes(self, subject: Subject) -> Mapping[str, object]:
        """See `Strategy`."""
        names = {"sampler": self.sampler, "scheduler": self.scheduler, "aims": " ".join(a.metric for a in self.aims)}
        spans = {f"space_{name}": str(item) for name, item in self.space.varied.items()}
        return names | {"budget": self.budget.epochs or "none", "scored_on_folds": self.folds or "none"} | spans

    @property
    def most_epochs(self) -> int:
        """That a trial may have."""
        item = self.space.varied.get("epochs")
        return int(self.space.fixed["epochs"] if item is None else max(item.ends()))

    def title(self, subject: Subject) -> str:
        """See `Strategy`."""
        epochs = counted(self.budget.epochs, "epoch") if self.budget.epochs else "any number of epochs"
        return f"{epochs}, {self.sampler}, {self.scheduler},"

    def points(self, subject: Subject, config: Mapping[str, Any]) -> tuple[Point, ...]:
        """A configuration as points, one a fold."""
        whole = dict(self.base) | dict(config)
        folds = range(1, self.folds + 1) if self.folds else (0,)
        return tuple(subject.task.kind.point(whole | ({"fold": fold} if fold else {})) for fold in folds)

    def surely_trains(self, subject: Subject, store: StageStore, device: str) -> bool:
        """See `Strategy`; what will be asked for is not known before."""
        return False

    def train(self, arena: Arena) -> Sequence[Record]:
        """See `Strategy`."""
        study = self.study(arena.subject)
        expand = self._expand(arena.subject)
        kind = arena.subject.task.kind
        ledger = Ledger(study, self.space, expand, self.budget, kind, self._values, arena.known)
        known = warm.recall(arena, ledger, expand)
        self._begin(arena, study, known)
        study.sampler = sampler(self.sampler, self.seed + known)
        _tune(arena, ledger, self)
        ranking, repeats = self._rank(arena, ledger)
        self._draw(arena, study, repeats)
        return ranking

    def study(self, subject: Subject) -> optuna.Study:
        """The study of this data, split, space and way of searching; made if need be."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        what = (subject.digest, subject.tags.get("split_digest", ""), self.space.digest, self.sampler, self.scheduler)
        own = (*what, *(aim.metric for aim in self.aims), self.folds, sorted(self.base.items()), self.seed)
        return optuna.create_study(
            storage=study_storage(self.storage),
            study_name=f"{subject.name}-{self.sampler}-{_short(own)}",
            directions=["maximize" if aim.highest else "minimize" for aim in self.aims],
            sampler=sampler(self.sampler, self.seed),
            load_if_exists=True,
        )

    def _expand(self, subject: Subject) -> Callable[[Mapping[str, Any]], tuple[Point, ...]]:
        return lambda config: self.points(subject, config)

    def _values(self, config: Mapping[str, Any], epochs: Sequence[Any]) -> list[float]:
        whole = dict(self.base) | dict(config)
        each = [[measured(aim, whole, epoch) for epoch in epochs] for aim in self.aims]
        return [sum(values) / len(values) for values in each]

    def _begin(self, arena: Arena, study: optuna.Study, known: int) -> None:
        """What the study starts from: what others found, the best of it to be run again, or else the usual settings."""
        best: list[dict[str, Any]] = []
        if self.warm_start and not self.folds and len(self.aims) == 1:
            tags = {name: str(arena.subject.tags[name]) for name in warm.TAGS if name in arena.subject.tags}
            found = arena.session.tracker.finished(tags)
            best = warm.tell(study, self.space, self.base, found, self.aims[0], self.kinds)
            if best:
                first = ", ".join(f"{n} {readable(best[0][n])}" for n in arena.subject.task.kind.axes if n in best[0])
                print(f"known: {counted(len(best), 'finished trial')} of earlier searches on this data and split")
                if not known:
                    print(f"first: the best of them, {first}")
            elif found and not known:
                print(warm.strangers(self.space, self.base, found, self.aims[0], self.kinds))
        if self.budget.epochs is not None and self.budget.epochs < self.most_epochs and not known:
            print(
                f"--budget {self.budget.epochs}: a trial may want up to {self.most_epochs} epochs, so few will be tried"
            )
        for params in [] if known else best[:1] or [dict(self.first)]:
            study.enqueue_trial(params, skip_if_exists=False)

    def _rank(self, arena: Arena, ledger: Ledger) -> tuple[list[Record], list[Repeats]]:
        """All that finished, best first; the first of them has its weights on the search's own split."""
        arena.session.noting = False
        finished = arena.session.finished()
        arena = arena.to_the_end()
        if self.folds:
            finished = self._trained_whole(arena, ledger)
        ranking, repeats = ordered(finished, self.aims), list[Repeats]()
        if self.repeat_best and ranking:
            repeats, ranking = repeat(arena, ranking, self.repeat_best)
            print(*repeats, sep="\n")
        return whole(arena, ranking), repeats

    def _trained_whole(self, arena: Arena, ledger: Ledger) -> list[Record]:
        """The point that is best over the folds, trained on the search's own training speakers."""
        best = best_over_folds(ledger.study, self.aims)
        if best is None:
            return []
        aim = self.aims[0]
        print(f"folds: {aim.says} {aim.value(best.user_attrs['score']):.4f}, the mean over {self.folds}, of the best")
        config = dict(self.base) | best.user_attrs["config"] | {"epochs": best.user_attrs["chosen"]}
        before = set(arena.session.records)
        train_all(arena, [arena.subject.task.kind.point(config)], "champion")
        return [record for trial, record in arena.session.records.items() if trial not in before and record.history]

    def _draw(self, arena: Arena, study: optuna.Study, repeats: Sequence[Repeats]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = [aim.says for aim in self.aims]
            session, aim = arena.session, self.aims[0]
            curve = [*session.best, (session.trained, session.best[-1][1])] if session.best else []
            spent = [(trained, aim.value(score)) for trained, score in curve]
            title = titled(session.name, arena.subject.tags)
            pictures.draw(study, Path(folder), title, spent, names)
            if repeats:
                lines = ["epochs,mean,standard_error,scores"]
                lines += [
                    f"{r.epochs},{r.mean:.6f},{r.error:.6f},{' '.join(f'{s:.6f}' for s in r.scores)}" for r in repeats
                ]
                (Path(folder) / "repeats.csv").write_text("\n".join(lines) + "\n")
            arena.session.tracker.log_folder(arena.session.parent, Path(folder))


def whole(arena: Arena, ranking: Sequence[Record]) -> list[Record]:
    """The ranking; its first is trained again to the epoch for which it stands if that stage is gone from the store."""
    first = ranking[0] if ranking else None
    if first is None or arena.store is None:
        return list(ranking)
    point, epochs = first.settings, first.chosen.epoch
    if arena.store.get(arena.lineage(point).key(point.rates()[:epochs])) is not None:
        return list(ranking)
    before = set(arena.session.records)
    train_all(arena, [arena.subject.task.kind.point(point.config() | {"epochs": epochs})], "champion")
    again = [record for trial, record in arena.session.records.items() if trial not in before and record.history]
    return [*again, *ranking]


def best_over_folds(study: optuna.Study, aims: Sequence[Aim] = ()) -> optuna.trial.FrozenTrial | None:
    """The trial with the best mean over folds, pruned ones included; of several aims, by their rule."""
    told = [trial for trial in study.get_trials(deepcopy=False) if "chosen" in trial.user_attrs]
    told.sort(key=lambda trial: -trial.user_attrs["score"])
    if len(aims) > 1:
        signs = [1 if aim.highest else -1 for aim in aims]
        told = by_rule(told, [[s * v for s, v in zip(signs, trial.values, strict=True)] for trial in told])
    return told[0] if told else None


def _over(budget: Budget, trial: str, result: Mapping[str, Any]) -> bool:
    return budget.over()


def _note(arena: Arena, ledger: Ledger) -> None:
    """Of trials on folds the session sees one fold at a time; the mean over them is known here."""
    best = best_over_folds(ledger.study)
    if best is not None and len(ledger.asked[0].points) > 1:
        arena.session.note_score(best.user_attrs["score"])


def _short(content: object) -> str:
    import hashlib

    return hashlib.sha256(repr(content).encode()).hexdigest()[:8]


def _tune(arena: Arena, ledger: Ledger, hunt: Hunt) -> None:
    """Ask and train until the budget is spent. Raises: KeyboardInterrupt after Ctrl-C."""
    if not ledger.spendable:
        return
    slots = arena.slots()
    ledger.budget.begin()
    from search.asker import Asker
    from search.schedulers import scheduler
    from search.tuning import job_for, tune_points

    if slots.notice:
        print(slots.notice)
    session, kind = arena.session, arena.subject.task.kind
    job = job_for(session, [], arena.subject.task, slots, arena.store.uri if arena.store else None, arena.scratch)
    job = replace(job, ends=frozenset({hunt.most_epochs}))
    asker = Asker(ledger, kind, slots.workers, arena.claim, lambda: _note(arena, ledger))
    title = f"{session.name}: {hunt.title(arena.subject)} {slots.workers} x {slots.device}"
    with display.shown(session, ledger.budget.epochs, title):
        tune_points(
            session,
            asker,
            -1,
            job,
            slots,
            STORE / "ray",
            scheduler(hunt.scheduler, hunt.most_epochs),
            functools.partial(_over, ledger.budget),
        )
    if not asker.exhausted:
        raise KeyboardInterrupt
