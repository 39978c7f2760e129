"""Imports MLflow and Ray Tune for a test module that needs them, past the warnings that they give at their import."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.tune  # noqa: F401

    import agr.tracking  # noqa: F401
