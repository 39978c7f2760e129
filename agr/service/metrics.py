"""What `/metrics` tells Prometheus. Several worker processes add up through the files that prometheus_client keeps."""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter("agr_requests", "Requests by route and status.", ("route", "status"))
LATENCY = Histogram(
    "agr_request_seconds", "Seconds from a request to the end of its answer.", ("route",), buckets=SECONDS
)
ANSWERS = Counter("agr_answers", "Answers by label; `error` for what could not be read.", ("label",))
IN_HOUSE = Gauge("agr_requests_in_house", "Requests being read, waiting or answered.", multiprocess_mode="livesum")
STREAMS = Gauge("agr_streams", "Streams being heard.", multiprocess_mode="livesum")
WAITING = Gauge("agr_clips_waiting", "Decoded clips that wait or are answered.", multiprocess_mode="livesum")
BATCH = Histogram("agr_batch_clips", "Clips that the model answered together.", buckets=(1, 2, 4, 8, 16, 32))
VERSION = Gauge("agr_model_version", "The version that answers; 0 for a folder.", multiprocess_mode="livemostrecent")


def text() -> bytes:
    """All of it, in Prometheus's format, of every worker process."""
    if not os.environ.get(FOLDER):
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
