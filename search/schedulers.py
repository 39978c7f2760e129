"""Ray Tune's schedulers that end trials which fall behind."""

from __future__ import annotations

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

GRACE = 4  # the first cut comes after one of so many parts of the epochs: gamma changes nothing before
REDUCTION = 2  # one of so many goes on
BRACKETS = 2  # of Hyperband: some trials are cut later than others


def scheduler(name: str, most_epochs: int) -> TrialScheduler:
    """`asha`, `hyperband` (its asynchronous form: ASHA in several brackets) or `none`."""
    if name == "none" or most_epochs < GRACE:
        return FIFOScheduler()
    brackets = BRACKETS if name == "hyperband" else 1
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=most_epochs + 1,  # which trials do not reach: they end by themselves, not as pruned
        grace_period=most_epochs // GRACE,
        reduction_factor=REDUCTION,
        brackets=brackets,
    )
