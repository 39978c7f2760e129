"""MLflow's settings and the meaning of its errors. MLflow reads the settings once: import this module before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

# Without the last three, MLflow tries a server that does not answer again and again, for many minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
NOT_FOUND = (DOES_NOT_EXIST, "INVALID_PARAMETER_VALUE")  # the second for an alias
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)  # the last if a database driver is missing
REFUSALS = (*NOT_FOUND, ALREADY_EXISTS)  # repeating the call would change nothing
LOCAL_ERRORS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


def is_outage(error: Exception) -> bool:
    """Whether the same call may succeed later, because the store does not answer or has an internal error."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, SQLAlchemyError | OSError) and not isinstance(error, LOCAL_ERRORS)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def root_cause(error: BaseException) -> str:
    """The operating system's message, however deep it is in the chain of causes; else the error's first line."""
    message, inner = one_line(error), error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
        if isinstance(inner, OSError) and (inner.strerror or isinstance(inner, TimeoutError)):
            message = inner.strerror or one_line(inner)
    return message


def all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Every result of one of MLflow's search calls, which answer page by page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page
