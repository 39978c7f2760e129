"""The strategy of `run_optuna.py`: an Optuna study proposes trials, a scheduler prunes them, a budget ends the search.

A trial stands for its best epoch. The study's storage, the stage store and MLflow let the same command continue after a
kill, and let a search learn from others on the same data and split.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from agr.errors import SettingsError
from agr.plots.curves import titled
from search.driver.context import SearchContext
from search.driver.train_points import retrain
from search.optuna_search import figures
from search.optuna_search import warm_start as optuna_search_warm_start
from search.optuna_search.ask_tell import AskTell, Budget, Expand
from search.optuna_search.objectives import by_rule, measured, ordered
from search.optuna_search.repeats import Repeats, repeat
from search.optuna_search.samplers import sampler, study_storage
from search.optuna_search.space import Space
from search.problems.problem import Problem
from search.session.session import Record
from search.stages.store import StageStore
from search.tasks.base import Config, EpochMetrics, Objective, Point, counted, readable


@dataclass(frozen=True)
class OptunaStrategy:
    """A search with Optuna; `run_optuna.py --help` explains each flag."""

    space: Space
    base: Config  # the settings of every trial besides those of the space
    first: Config  # the hyperparameters that are tried first
    budget: Budget
    sampler: str
    scheduler: str
    aims: tuple[Objective, ...]
    folds: int  # for scoring; 0: trials are scored on the validation speakers of the search's own split
    repeat_best: int
    warm_start: bool
    storage: str
    seed: int
    kinds: Mapping[str, type]  # the type of each setting

    def __post_init__(self) -> None:
        """Raises: SettingsError if settings do not fit together."""
        if len(self.aims) > 1 and self.scheduler != "none":
            raise SettingsError(
                f"--scheduler {self.scheduler}: found {len(self.aims)} aims; expected none with several"
            )
        if self.folds and self.scheduler != "none":
            raise SettingsError(f"--scheduler {self.scheduler}: expected none with --score-folds")
        if len(self.aims) > 1 and self.sampler == "cmaes":
            raise SettingsError(f"--sampler cmaes: found {len(self.aims)} aims; expected tpe, random or nsga2")
        if self.budget.epochs is not None and self.budget.epochs < self.folds:
            raise SettingsError(f"--budget {self.budget.epochs}: expected --score-folds {self.folds} or more")
        if "epochs" not in self.space.varied and "epochs" not in self.space.fixed:
            raise SettingsError("--space: no epochs; expected a line epochs = ...")

    def axes(self, subject: Problem) -> Mapping[str, object]:
        """Sampler, scheduler, aims, budget and space, as MLflow's parameters."""
        names = {"sampler": self.sampler, "scheduler": self.scheduler, "aims": " ".join(a.metric for a in self.aims)}
        spans = {f"space_{name}": str(item) for name, item in self.space.varied.items()}
        return names | {"budget": self.budget.epochs or "none", "scored_on_folds": self.folds or "none"} | spans

    @property
    def most_epochs(self) -> int:
        """The most epochs that a trial may have."""
        item = self.space.varied.get("epochs")
        return max(int(end) for end in (item.ends() if item else (self.space.fixed["epochs"],)))

    @property
    def title(self) -> str:
        """Budget, sampler and scheduler."""
        epochs = counted(self.budget.epochs, "epoch") if self.budget.epochs else "any number of epochs"
        return f"{epochs}, {self.sampler}, {self.scheduler},"

    def expand(self, subject: Problem) -> Expand:
        """A function that makes the points of a configuration, one for each fold."""
        folds = range(1, self.folds + 1) if self.folds else (0,)

        def points(config: Config) -> tuple[Point, ...]:
            known = dict(self.base) | dict(config)
            return tuple(subject.task.kind.point(known | ({"fold": fold} if fold else {})) for fold in folds)

        return points

    def needs_training(self, subject: Problem, store: StageStore, device: str) -> bool:
        """False: what the study will propose is not known beforehand."""
        return False

    def train(self, arena: SearchContext) -> Sequence[Record]:
        """Ask and train until the budget is spent, then rank and draw; returns the ranking."""
        study = self.study(arena.subject)
        ledger = self.ledger(arena, study)
        known = optuna_search_warm_start.recall(arena, ledger, self.expand(arena.subject))
        self._begin(arena, study, known)
        study.sampler = sampler(self.sampler, self.seed + known)
        _tune(arena, ledger, self)
        ranking, repeats = self._rank(arena, ledger)
        self._draw(arena, study, repeats)
        return ranking

    def ledger(self, arena: SearchContext, study: optuna.Study) -> AskTell:
        """The study within this search's budget."""
        expand, kind = self.expand(arena.subject), arena.subject.task.kind
        return AskTell(study, self.space, expand, self.budget, kind, self._values, arena.known)

    def study(self, subject: Problem) -> optuna.Study:
        """The study of this data, split, space and way of searching; created if there is none."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        what = (subject.digest, subject.tags.get("split_digest", ""), self.space.digest, self.sampler, self.scheduler)
        own = (*what, *(aim.metric for aim in self.aims), self.folds, sorted(self.base.items()), self.seed)
        return optuna.create_study(
            storage=study_storage(self.storage),
            study_name=f"{subject.name}-{self.sampler}-{hashlib.sha256(repr(own).encode()).hexdigest()[:8]}",
            directions=["maximize" if aim.highest else "minimize" for aim in self.aims],
            sampler=sampler(self.sampler, self.seed),
            load_if_exists=True,
        )

    def _values(self, config: Config, epochs: Sequence[EpochMetrics]) -> list[float]:
        known = dict(self.base) | dict(config)
        each = [[measured(aim, known, epoch) for epoch in epochs] for aim in self.aims]
        return [sum(values) / len(values) for values in each]

    def _begin(self, arena: SearchContext, study: optuna.Study, known: int) -> None:
        """Add the trials of other searches to the study; enqueue the best of them, or else the usual settings."""
        best: Sequence[Config] = []
        if self.warm_start and not self.folds and len(self.aims) == 1:
            tags = {
                name: str(arena.subject.tags[name])
                for name in optuna_search_warm_start.TAGS
                if name in arena.subject.tags
            }
            found = arena.session.tracker.finished_trials(tags)
            best = optuna_search_warm_start.tell(study, self.space, self.base, found, self.aims[0], self.kinds)
            if best:
                first = ", ".join(f"{n} {readable(best[0][n])}" for n in arena.subject.task.kind.axes if n in best[0])
                print(f"known: {counted(len(best), 'finished trial')} of earlier searches on this data and split")
                if not known:
                    print(f"first: the best of them, {first}")
            elif found and not known:
                print(optuna_search_warm_start.strangers(self.space, self.base, found, self.aims[0], self.kinds))
        if self.budget.epochs is not None and self.budget.epochs < self.most_epochs and not known:
            print(
                f"--budget {self.budget.epochs}: a trial may want up to {self.most_epochs} epochs, so few will be tried"
            )
        for params in [] if known else best[:1] or [self.first]:
            study.enqueue_trial(dict(params), skip_if_exists=False)

    def _rank(self, arena: SearchContext, ledger: AskTell) -> tuple[list[Record], list[Repeats]]:
        """All that finished, best first; the weights of the first one are there, on the search's own split."""
        arena.session.noting = False
        finished = arena.session.finished()
        arena = arena.with_last_epoch()
        if self.folds:
            finished = self._trained_whole(arena, ledger)
        ranking, repeats = ordered(finished, self.aims), list[Repeats]()
        if self.repeat_best and ranking:
            repeats, ranking = repeat(arena, ranking, self.repeat_best)
            print(*repeats, sep="\n")
        return whole(arena, ranking), repeats

    def _trained_whole(self, arena: SearchContext, ledger: AskTell) -> list[Record]:
        """The point that is best over the folds, trained on the search's own training speakers."""
        best = best_over_folds(ledger.study, self.aims)
        if best is None:
            return []
        aim = self.aims[0]
        print(f"folds: {aim.says} {aim.value(best.user_attrs['score']):.4f}, the mean over {self.folds}, of the best")
        return retrain(arena, dict(self.base) | best.user_attrs["config"] | {"epochs": best.user_attrs["chosen"]})

    def _draw(self, arena: SearchContext, study: optuna.Study, repeats: Sequence[Repeats]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = [aim.says for aim in self.aims]
            session, aim = arena.session, self.aims[0]
            curve = [*session.best, (session.trained, session.best[-1][1])] if session.best else []
            spent = [(trained, aim.value(score)) for trained, score in curve]
            title = titled(session.name, arena.subject.tags)
            figures.draw(study, Path(folder), title, spent, names)
            if repeats:
                lines = ["epochs,mean,standard_error,scores"]
                lines += [
                    f"{r.epochs},{r.mean:.6f},{r.error:.6f},{' '.join(f'{s:.6f}' for s in r.scores)}" for r in repeats
                ]
                (Path(folder) / "repeats.csv").write_text("\n".join(lines) + "\n")
            arena.session.tracker.log_folder(arena.session.parent, Path(folder))


def whole(arena: SearchContext, ranking: Sequence[Record]) -> list[Record]:
    """The ranking; if the stage for which its first stands is gone from the store, that one is trained again."""
    first = ranking[0] if ranking else None
    if first is None or arena.store is None:
        return list(ranking)
    point, epochs = first.settings, first.chosen.epoch
    if arena.store.get(arena.lineage(point).key(point.rates()[:epochs])) is not None:
        return list(ranking)
    return [*retrain(arena, point.config() | {"epochs": epochs}), *ranking]


def best_over_folds(study: optuna.Study, aims: Sequence[Objective] = ()) -> optuna.trial.FrozenTrial | None:
    """The trial with the best mean over folds, pruned ones included; with several aims, by their rule."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if "chosen" in trial.user_attrs]
    ended.sort(key=lambda trial: -trial.user_attrs["score"])
    if len(aims) > 1:
        signs = [1 if aim.highest else -1 for aim in aims]
        ended = by_rule(ended, [[s * v for s, v in zip(signs, trial.values, strict=True)] for trial in ended])
    return ended[0] if ended else None


def _note(arena: SearchContext, ledger: AskTell) -> None:
    """Give the session the best mean over folds, since it sees the folds of a trial one by one."""
    best = best_over_folds(ledger.study)
    if best is not None and len(ledger.asked[0].points) > 1:
        arena.session.note_score(best.user_attrs["score"])


def _tune(arena: SearchContext, ledger: AskTell, hunt: OptunaStrategy) -> None:
    """Ask and train until the budget is spent. Raises: KeyboardInterrupt after Ctrl-C."""
    if not ledger.spendable:
        return
    job, slots = arena.job({hunt.most_epochs})
    ledger.budget.begin()
    from search.optuna_search.searcher import StudySearcher, scheduler
    from search.runtime.tuning import tune_points

    asker = StudySearcher(ledger, arena.subject.task.kind, slots.workers, arena.claim, lambda: _note(arena, ledger))
    cuts = scheduler(hunt.scheduler, hunt.most_epochs)
    budget = ledger.budget
    tune_points(
        arena.session, asker, job, slots, hunt.title, budget.epochs, scheduler=cuts, stop=lambda *_: budget.over()
    )
