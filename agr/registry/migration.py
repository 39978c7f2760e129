"""Copy runs, registered models and aliases from one MLflow store to another."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from agr.common.progress import Progress, silent_progress
from agr.errors import ModelError
from agr.registry.mlflow_env import all_pages
from agr.registry.tracker import Tracker
from agr.registry.uri import StoreUri

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion

FROM, DONE = "agr.migrated_from", "agr.migrated_at"
MOVED, RESENT, THERE = "moved", "sent again that had arrived in part", "there already"
BATCH_ITEMS = 100  # the most params or tags that MLflow takes at once
CONTENTS = ("experiments", "runs", "params", "metric points", "artifacts", "models", "versions", "aliases")


class Migration:
    """Copies one store into another; counts what was moved and lists what was left behind."""

    def __init__(
        self, source: StoreUri, target: StoreUri, overwrite: bool = False, progress: Progress = silent_progress
    ) -> None:
        """Open both stores. Raises: ModelError if the target cannot be reached."""
        Tracker(target, Experiment.DEFAULT_EXPERIMENT_NAME)  # which every store has
        self._source, self._target = (MlflowClient(uri.whole, uri.whole) for uri in (source, target))
        self._uri, self._overwrite, self._progress = target, overwrite, progress
        self._runs: dict[str, str] = {}  # ids, the source's to the target's
        self._versions: dict[tuple[str, int], int] = {}  # name and number in the source to the number in the target
        self.counts: Counter[tuple[str, str]] = Counter()
        self.notes: list[str] = []
        self.left_behind: list[str] = []

    def run(self) -> None:
        """Copy everything: runs with their artifacts, then versions, and then the aliases."""
        pairs = [(old.experiment_id, self._experiment(old)) for old in all_pages(self._source.search_experiments)]
        todo = [run for old, new in pairs for run in self._begin_runs(old, new)]
        with self._progress("moving runs", len(todo), unit="runs") as advance:
            for run in todo:
                self._fill(run)
                advance(1)
        names = [model.name for model in all_pages(self._source.search_registered_models)]
        for move in (self._move_versions, self._move_aliases):
            for name in names:
                move(name)

    def _experiment(self, old: Experiment) -> str:
        """The id of the experiment of the same name, which is created if it does not exist."""
        self.counts["experiments", THERE if self._target.get_experiment_by_name(old.name) else MOVED] += 1
        Tracker(self._uri, old.name)  # creates it, with its artifact location
        known = self._target.get_experiment_by_name(old.name)
        for key in old.tags.keys() - known.tags.keys():
            self._target.set_experiment_tag(known.experiment_id, key, old.tags[key])
        return str(known.experiment_id)

    def _begin_runs(self, old: str, new: str) -> list[Run]:
        """Create every run before any is filled, because tags refer to other runs; returns those to fill."""
        found = all_pages(partial(self._target.search_runs, [new], f"tags.`{FROM}` != ''"))
        there = {run.data.tags[FROM]: run for run in found}
        todo = []
        for run in all_pages(partial(self._source.search_runs, [old])):
            known = there.get(run.info.run_id)
            whole = known is not None and DONE in known.data.tags
            self.counts["runs", THERE if whole else RESENT if known else MOVED] += 1
            if known is None:
                tags = {FROM: run.info.run_id}
                known = self._target.create_run(new, run.info.start_time, tags, run.info.run_name)
            self._runs[run.info.run_id] = str(known.info.run_id)
            if not whole:
                todo.append(run)
        return todo

    def _fill(self, run: Run) -> None:
        """Copy a run, the tag DONE last. What has arrived before is not stored twice by MLflow."""
        old, new = run.info.run_id, self._runs[run.info.run_id]
        params = [Param(key, value) for key, value in run.data.params.items()]
        tags = [RunTag(key, value) for key, value in self._tags(run.data.tags).items()]
        histories = (self._source.get_metric_history(old, key) for key in run.data.metrics)
        points = [Metric(p.key, p.value, p.timestamp, p.step) for history in histories for p in history]
        for kind, items in {"params": params, "tags": tags, "metrics": points}.items():
            for start in range(0, len(items), BATCH_ITEMS):
                self._target.log_batch(new, **{kind: items[start : start + BATCH_ITEMS]})
        if run.inputs.dataset_inputs:
            self._target.log_inputs(new, run.inputs.dataset_inputs)
        self.counts["params", MOVED] += len(params)
        self.counts["metric points", MOVED] += len(points)
        self.counts["artifacts", MOVED] += self._copy_files(old, new)
        if run.info.status == "RUNNING":
            self.notes.append(f"run {run.info.run_name} has not ended and will be sent again the next time")
            return
        self._target.set_terminated(new, run.info.status, run.info.end_time)
        self._target.set_tag(new, DONE, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def _copy_files(self, old: str, new: str) -> int:
        """Copy the artifacts of a run; returns how many. Raises: ModelError if one did not arrive whole."""
        files = dict(_files(self._source, old))
        with tempfile.TemporaryDirectory() as scratch:
            if files:
                self._target.log_artifacts(new, self._source.download_artifacts(old, "", scratch))
        if torn := files.items() - dict(_files(self._target, new)).items():
            path, size = min(torn)
            raise ModelError(f"run {new}: {path} did not arrive whole; expected {size} bytes")
        return len(files)

    def _tags(self, tags: dict[str, str]) -> dict[str, str]:
        """Tags with the run ids of the target instead of the source's, without those of earlier migrations."""
        return {key: self._runs.get(value, value) for key, value in tags.items() if key not in (FROM, DONE)}

    def _move_versions(self, name: str) -> None:
        """Copy a registered model and its versions, in the order of their numbers."""
        known = bool(self._target.search_registered_models(f"name = '{name}'"))
        self.counts["models", THERE if known else MOVED] += 1
        if not known:
            model = self._source.get_registered_model(name)
            self._target.create_registered_model(name, model.tags, model.description)
        there = list(all_pages(partial(self._target.search_model_versions, f"name = '{name}'")))
        ours = {version.tags[FROM]: version for version in there if FROM in version.tags}
        found = all_pages(partial(self._source.search_model_versions, f"name = '{name}'"))
        for number, version in sorted((int(version.version), version) for version in found):
            if version.run_id not in self._runs or not version.source.startswith(f"runs:/{version.run_id}/"):
                self.left_behind.append(f"{name} version {number}: {version.source} belongs to no run that is moved")
                continue
            before = ours.get(f"{version.run_id}/{number}")
            self.counts["versions", THERE if before else MOVED] += 1
            self._versions[name, number] = made = self._place(version, before, len(ours) == len(there))
            if made != number:
                self.notes.append(f"{name} version {number} is version {made} there")

    def _place(self, old: ModelVersion, known: ModelVersion | None, same_number: bool) -> int:
        """Copy a version; returns its number in the target, which MLflow chooses.

        same_number: skip the numbers that the source skips, by deleting the versions that get them.
        """
        number, new = int(old.version), self._runs[old.run_id]
        source = f"runs:/{new}/{old.source.removeprefix(f'runs:/{old.run_id}/')}"
        tags = self._tags(old.tags) | {FROM: f"{old.run_id}/{number}"}
        while known is None or (same_number and int(known.version) < number):
            if known is not None:
                self._target.delete_model_version(old.name, str(known.version))
            known = self._target.create_model_version(old.name, source, new, tags, old.run_link, old.description)
        return int(known.version)

    def _move_aliases(self, name: str) -> None:
        """Copy the aliases of versions that have arrived; one that differs in the target stays unless `overwrite`."""
        there = self._target.get_registered_model(name).aliases
        for alias, number in self._source.get_registered_model(name).aliases.items():
            wanted, now = self._versions.get((name, int(number))), int(there.get(alias, 0))
            if wanted is None:
                self.left_behind.append(f"{name}@{alias}: its version {number} is not moved")
            elif now == wanted:
                self.counts["aliases", THERE] += 1
            elif now and not self._overwrite:
                self.notes.append(f"{name}@{alias} stays at version {now} there; --aliases overwrite makes it {wanted}")
            else:
                self._target.set_registered_model_alias(name, alias, str(wanted))
                self.counts["aliases", MOVED] += 1
                self.notes.extend([f"{name}@{alias} was version {now} there and is now {wanted}"] if now else [])


def _files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    """Paths and sizes of a run's artifacts."""
    for entry in client.list_artifacts(run_id, folder):
        yield from _files(client, run_id, entry.path) if entry.is_dir else [(entry.path, entry.file_size)]
