"""The options that every search has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agr.common.places import store_folder
from agr.data.ages import Ages
from agr.errors import SettingsError


@dataclass(frozen=True)
class Plan:
    """The options of a search; `run_grid.py --help` explains each flag."""

    data: tuple[str, ...]
    recipe: str | None
    split: str
    folds: int | None
    fold: int | None
    seed: int
    workers: int | None
    gpus_per_trial: float
    cuda: bool
    mps: bool
    address: str | None
    stage_store: str | None  # a path or URI; None: every trial trains from its first epoch
    name: str | None
    tracking_uri: str | None
    promote: bool
    experiment: str | None = None  # of MLflow
    lanes: str = "separate"
    leave_out: str | None = None  # a corpus to test on
    storage: str = field(default_factory=lambda: str(store_folder()))  # a path or URI; all nodes of a cluster write it
    script: str = "search/run_grid.py"
    ages: Ages | None = None  # of the speakers to use
    columns: Mapping[str, str] | None = None  # of tables, by role
    temperature: float | None = None  # of the probabilities; None: fitted on validation speakers
    again: bool = False  # whether a search is logged that is there already

    def __post_init__(self) -> None:
        """Raises: SettingsError if settings do not fit together."""
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise SettingsError(f"--temperature {self.temperature:g}: expected a number above 0")
        if self.lanes == "fused" and self.stage_store is None:
            raise SettingsError("--lanes fused: found --no-stage-store; expected a store that trials can read")
