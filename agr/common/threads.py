"""Matrix products on one thread.

with blas_on_one_thread():
    found = frames @ weights        # the same to the bit, whatever number of threads this process has
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Else the order in which a product is summed, and with it the last bit, depends on the number of threads."""
    with _pools().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
