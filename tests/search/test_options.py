"""The flags that the scripts of `search` share."""

from __future__ import annotations

import pytest
import quiet  # noqa: F401

from search.options import plan_of
from search.run_grid import parse


@pytest.mark.parametrize(
    ("words", "storage", "stages"),
    [
        ("", "mlflow_store", "mlflow_store/stages"),
        ("--storage s3://agr", "s3://agr", "s3://agr/stages"),
        ("--storage s3://agr?region=here", "s3://agr?region=here", "s3://agr/stages?region=here"),
        ("--storage s3://agr --stage-store elsewhere", "s3://agr", "elsewhere"),
        ("--storage s3://agr --no-stage-store", "s3://agr", None),
    ],
)
def test_stages_stand_below_the_storage_unless_told_otherwise(words: str, storage: str, stages: str | None) -> None:
    plan = plan_of(parse(words.split()), "search/run_grid.py")
    assert (plan.storage, plan.stage_store) == (storage, stages)
