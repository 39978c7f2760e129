"""The strategy of `run_optuna.py`: an Optuna study proposes trials, a scheduler prunes them, a budget ends the search.

The study's storage, the stage store and MLflow let the same command continue after a kill, and let a search learn from
others on the same data and split.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from agr.common.processes import driver
from agr.errors import SettingsError
from agr.plots.curves import titled
from search.driver.context import SearchContext
from search.driver.train_points import train_one
from search.optuna_search import figures, warm_start
from search.optuna_search.ask_tell import AskTell, Budget, Expand
from search.optuna_search.objectives import measured, rank, rank_by_scores
from search.optuna_search.repeats import Repeats, repeat
from search.optuna_search.samplers import sampler, study_storage
from search.optuna_search.space import Space
from search.problems.problem import Problem
from search.session.session import Record
from search.stages.store import StageStore
from search.tasks.base import Config, EpochMetrics, Objective, Point, format_setting, pluralize


@dataclass(frozen=True)
class OptunaStrategy:
    """A search with Optuna; `run_optuna.py --help` explains each flag."""

    space: Space
    base: Config  # the settings outside the space, the same for every trial
    first: Config  # the hyperparameters of the first trial
    budget: Budget
    sampler: str
    scheduler: str
    objectives: tuple[Objective, ...]
    folds: int  # for scoring; 0 scores trials on the validation speakers of the search's own split
    repeat_best: int
    warm_start: bool
    storage: str
    seed: int
    kinds: Mapping[str, type]  # the type of each setting

    def __post_init__(self) -> None:
        """Raises: SettingsError if settings do not fit together."""
        several = len(self.objectives) if len(self.objectives) > 1 else 0
        if several and self.scheduler != "none":
            raise SettingsError(f"--scheduler {self.scheduler}: found {several} objectives; expected none with several")
        if self.folds and self.scheduler != "none":
            raise SettingsError(f"--scheduler {self.scheduler}: expected none with --score-folds")
        if several and self.sampler == "cmaes":
            raise SettingsError(f"--sampler cmaes: found {several} objectives; expected tpe, random or nsga2")
        if self.budget.epochs is not None and self.budget.epochs < self.folds:
            raise SettingsError(f"--budget {self.budget.epochs}: expected --score-folds {self.folds} or more")
        if "epochs" not in self.space.varied and "epochs" not in self.space.fixed:
            raise SettingsError("--space: no epochs; expected a line epochs = ...")

    def axes(self, problem: Problem) -> Mapping[str, object]:
        """The MLflow parameters: sampler, scheduler, objectives, budget and space."""
        objectives = " ".join(each.metric for each in self.objectives)
        names = {"sampler": self.sampler, "scheduler": self.scheduler, "objectives": objectives}
        spans = {f"space_{name}": str(item) for name, item in self.space.varied.items()}
        return names | {"budget": self.budget.epochs or "none", "scored_on_folds": self.folds or "none"} | spans

    @property
    def points(self) -> Sequence[Point]:
        """None: the same command goes on with its study, which learns from each search, and is logged as another."""
        return ()

    @property
    def most_epochs(self) -> int:
        """The most epochs of a trial."""
        item = self.space.varied.get("epochs")
        return max(int(end) for end in (item.ends() if item else (self.space.fixed["epochs"],)))

    @property
    def title(self) -> str:
        """Budget, sampler and scheduler."""
        epochs = pluralize(self.budget.epochs, "epoch") if self.budget.epochs else "any number of epochs"
        return f"{epochs}, {self.sampler}, {self.scheduler},"

    def expand(self, problem: Problem) -> Expand:
        """A function from a configuration to its points, one for each fold."""
        folds = range(1, self.folds + 1) if self.folds else (0,)

        def points(config: Config) -> tuple[Point, ...]:
            known = dict(self.base) | dict(config)
            return tuple(problem.task.schema.point(known | ({"fold": fold} if fold else {})) for fold in folds)

        return points

    def needs_training(self, problem: Problem, store: StageStore, device: str) -> bool:
        """False: it is not known beforehand what the study will propose."""
        return False

    def train(self, context: SearchContext) -> Sequence[Record]:
        """Train what the study proposes until the budget is spent, then draw; returns the ranking."""
        study = self.study(context.problem)
        ask_tell = self.ask_tell(context, study)
        known = warm_start.replay_study(context, ask_tell, self.expand(context.problem))
        self.begin(context, study, known)
        study.sampler = sampler(self.sampler, self.seed + known)
        _tune(context, ask_tell, self)
        ranking, repeats = self._rank(context, ask_tell)
        self._draw(context, study, repeats)
        return ranking

    def ask_tell(self, context: SearchContext, study: optuna.Study) -> AskTell:
        """The study with this search's budget."""
        expand, schema = self.expand(context.problem), context.problem.task.schema
        return AskTell(study, self.space, expand, self.budget, schema, self._values, context.stored_epochs)

    def study(self, problem: Problem) -> optuna.Study:
        """The study of this data, split, space and strategy; created if there is none."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        what = (problem.digest, problem.tags.get("split_digest", ""), self.space.digest, self.sampler, self.scheduler)
        own = (*what, *(each.metric for each in self.objectives), self.folds, sorted(self.base.items()), self.seed)
        return optuna.create_study(
            storage=study_storage(self.storage),
            study_name=f"{problem.name}-{self.sampler}-{hashlib.sha256(repr(own).encode()).hexdigest()[:8]}",
            directions=["maximize" if each.highest else "minimize" for each in self.objectives],
            sampler=sampler(self.sampler, self.seed),
            load_if_exists=True,
        )

    def _values(self, config: Config, epochs: Sequence[EpochMetrics]) -> list[float]:
        known = dict(self.base) | dict(config)
        values = [[measured(each, known, epoch) for epoch in epochs] for each in self.objectives]
        return [sum(folds) / len(folds) for folds in values]

    def begin(self, context: SearchContext, study: optuna.Study, known: int) -> None:
        """Add the trials of other searches to the study; enqueue the best of them, or else the default settings."""
        best: Sequence[Config] = []
        if self.warm_start and not self.folds and len(self.objectives) == 1:
            tags = {name: str(context.problem.tags[name]) for name in warm_start.TAGS if name in context.problem.tags}
            found = context.session.tracker.finished_trials(tags)
            best = warm_start.add_finished(study, self.space, self.base, found, self.objectives[0], self.kinds)
            if best:
                axes = context.problem.task.schema.axes
                first = ", ".join(f"{name} {format_setting(best[0][name])}" for name in axes if name in best[0])
                print(f"known: {pluralize(len(best), 'finished trial')} of earlier searches on this data and split")
                if not known:
                    print(f"first: the best of them, {first}")
            elif found and not known:
                print(warm_start.describe_mismatches(self.space, self.base, found, self.objectives[0], self.kinds))
        if self.budget.epochs is not None and self.budget.epochs < self.most_epochs and not known:
            print(f"--budget {self.budget.epochs}: one trial may take {self.most_epochs} epochs, so few will be tried")
        for params in [] if known else best[:1] or [self.first]:
            study.enqueue_trial(dict(params), {"driver": driver()})

    def _rank(self, context: SearchContext, ask_tell: AskTell) -> tuple[list[Record], list[Repeats]]:
        """Rank the finished trials; the first has weights, trained on the search's own split."""
        context.session.tracks_best = False
        finished = context.session.finished()
        context = context.with_last_epoch()
        if self.folds:
            finished = self._train_best(context, ask_tell)
        ranking, repeats = rank(finished, self.objectives), list[Repeats]()
        if self.repeat_best and ranking:
            repeats, ranking = repeat(context, ranking, self.repeat_best)
            print(*repeats, sep="\n")
        return with_stored_champion(context, ranking), repeats

    def _train_best(self, context: SearchContext, ask_tell: AskTell) -> list[Record]:
        """Train the point that is best over the folds on the training speakers of the search's own split."""
        best = best_over_folds(ask_tell.study, self.objectives)
        if best is None:
            return []
        objective = self.objectives[0]
        score = objective.value(best.user_attrs["score"])
        print(f"best mean over {self.folds} folds: {objective.label} {score:.4f}")
        return train_one(context, dict(self.base) | best.user_attrs["config"] | {"epochs": best.user_attrs["chosen"]})

    def _draw(self, context: SearchContext, study: optuna.Study, repeats: Sequence[Repeats]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            session, objective = context.session, self.objectives[0]
            curve = [*session.best, (session.trained, session.best[-1][1])] if session.best else []
            spent = [(trained, objective.value(score)) for trained, score in curve]
            title = titled(session.name, context.problem.tags)
            figures.draw(study, Path(folder), title, spent, [each.label for each in self.objectives])
            if repeats:
                lines = ["epochs,mean,standard_error,scores"]
                lines += [
                    f"{r.epochs},{r.mean:.6f},{r.error:.6f},{' '.join(f'{s:.6f}' for s in r.scores)}" for r in repeats
                ]
                (Path(folder) / "repeats.csv").write_text("\n".join(lines) + "\n")
            session.tracker.log_folder(context.session.parent, Path(folder))


def with_stored_champion(context: SearchContext, ranking: Sequence[Record]) -> list[Record]:
    """The ranking; if the stage of its first record is gone from the store, that point is trained again."""
    first = ranking[0] if ranking else None
    if first is None or context.store is None:
        return list(ranking)
    point, epochs = first.settings, first.chosen.epoch
    if context.store.get(context.lineage(point).key(point.rates()[:epochs])) is not None:
        return list(ranking)
    return [*train_one(context, point.config() | {"epochs": epochs}), *ranking]


def best_over_folds(study: optuna.Study, objectives: Sequence[Objective] = ()) -> optuna.trial.FrozenTrial | None:
    """The trial with the best mean over folds, including pruned ones; several objectives count as in `rank`."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)  # a search killed as it ended a trial left one with less
    ended = [trial for trial in study.get_trials(deepcopy=False, states=states) if "chosen" in trial.user_attrs]
    ended.sort(key=lambda trial: -trial.user_attrs["score"])
    if len(objectives) > 1:
        signs = [1 if each.highest else -1 for each in objectives]
        ended = rank_by_scores(ended, [[s * v for s, v in zip(signs, trial.values, strict=True)] for trial in ended])
    return ended[0] if ended else None


def _note(context: SearchContext, ask_tell: AskTell) -> None:
    """Pass the best mean over folds on to the session, which sees only single folds."""
    best = best_over_folds(ask_tell.study)
    if best is not None and len(ask_tell.trials[0].points) > 1:
        context.session.update_best_score(best.user_attrs["score"])


def _tune(context: SearchContext, ask_tell: AskTell, strategy: OptunaStrategy) -> None:
    """Train what the study proposes until the budget is spent. Raises: KeyboardInterrupt after Ctrl-C."""
    if not ask_tell.spendable:
        return
    job, allocation = context.job({strategy.most_epochs})
    ask_tell.budget.begin()
    from search.optuna_search.searcher import StudySearcher, scheduler
    from search.runtime.tuning import tune_points

    schema, budget = context.problem.task.schema, ask_tell.budget
    searcher = StudySearcher(ask_tell, schema, allocation.workers, context.claim, lambda: _note(context, ask_tell))
    pruner, stop = scheduler(strategy.scheduler, strategy.most_epochs), lambda *_: budget.over()
    tune_points(context.session, searcher, job, allocation, strategy.title, budget.epochs, scheduler=pruner, stop=stop)
