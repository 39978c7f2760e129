"""Voice features are the same to the bit, whatever number of threads a process has."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

from threadpoolctl import threadpool_info

from agr.common.threads import blas_on_one_thread

FEATURES = """
import hashlib
import numpy as np
from agr.recipes import voice_features
from agr.recipes.voice import VOICE
found = hashlib.sha256()
for seed in range(200):
    t = np.arange(VOICE.sample_rate) / VOICE.sample_rate
    noise = np.random.default_rng(seed).normal(0, 0.003 * (seed % 5), len(t))
    y = sum(np.sin(2 * np.pi * k * (90 + seed) * t) / k for k in range(1, 9)) / 10 + noise
    found.update(voice_features.extract(y.astype(np.float32), VOICE).tobytes())
print(found.hexdigest())
"""


def test_features_do_not_depend_on_the_number_of_threads() -> None:
    told = set()
    for threads in ("1", "2", "4"):
        known = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", FEATURES], env=known, capture_output=True, text=True, check=True)
        told.add(done.stdout)
    assert len(told) == 1
    assert len(told.pop().strip()) == hashlib.sha256().digest_size * 2


def test_blas_has_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    with blas_on_one_thread():
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"] == before
