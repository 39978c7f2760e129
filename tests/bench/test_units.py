"""What `bench/units.py` makes of unit costs that are given to it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from search.driver.prefix_queue import epoch_paths
from search.grid_search import grid

FOLDER = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def units() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("units")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def costs(units: ModuleType) -> Any:
    """One of each costs a millisecond, or a kilobyte; a file has two kilobytes."""
    names = units.Costs.__dataclass_fields__
    values: dict[str, Any] = {name: 1e-3 if name.endswith("_s") else 1e3 for name in names}
    return units.Costs(**(values | {"suggest_s": {10_000: 5.0}, "file_bytes": 2e3}))


def part(question: Any, name: str) -> Any:
    (found,) = [row for row in question.rows if row.part == name]
    return found


def test_stages_stay_where_trials_of_the_grid_part_or_end(units: ModuleType) -> None:
    every = epoch_paths([point.prefix() for point in grid()])
    assert units.stages_kept(every) == 3 + 3 * 3 + 2 * 3 * 3  # after 5 epochs; after 10 for each gamma; after 15 and 20


def test_trials_multiply_what_each_of_them_and_of_their_epochs_costs(units: ModuleType, costs: Any) -> None:
    answer = units.of_trials(costs, 27)
    assert part(answer, "MLflow, calls").asked == pytest.approx((27 + 315) * 1e-3)
    assert part(answer, "stage store, disk").asked == pytest.approx(30 * 1e3)
    assert part(answer, "suggest").asked == pytest.approx(5.0 * 27 / 10_000)
    assert part(answer, "lease, in all").asked == pytest.approx(150 * 1e-3)


def test_a_limit_is_reached_in_proportion(units: ModuleType, costs: Any) -> None:
    answer = units.of_audio(costs, 10.0, mounted=False)
    row = part(answer, "clips, driver's memory")
    assert row.asked == pytest.approx(5e9 * 1e3)
    assert answer.reached_at(row) == pytest.approx(10.0 * 64e9 / 5e12)


def test_nodes_ask_for_as_much_as_their_epochs_come_fast(units: ModuleType, costs: Any) -> None:
    answer = units.of_nodes(costs, 100)  # an epoch of a thousand clips takes a second
    assert part(answer, "MLflow, calls").asked == pytest.approx(0.1)
    assert part(answer, "stage store, writes").asked == pytest.approx(100 * 1e3)


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (0.25, "s", "0.25 s"),
        (3700.0, "s", "1.03 h"),
        (5 * 86400.0, "s", "5 days"),
        (2.5e9, "B/s", "2.5 GB/s"),
        (12.0, "B", "12 B"),
        (0.5, "cores", "0.5 cores"),
    ],
)
def test_numbers_are_shown_as_people_read_them(units: ModuleType, value: float, measure: str, text: str) -> None:
    assert units.shown(value, measure) == text


def test_shards_in_a_folder_that_all_see_need_no_disk_of_a_node(units: ModuleType, costs: Any) -> None:
    own, seen = ({row.part for row in units.of_audio(costs, 10.0, mounted).rows} for mounted in (False, True))
    assert own - seen == {"shards, disk of every node"}
