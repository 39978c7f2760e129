"""Makes MLflow quiet and impatient, and says what its errors mean.

To be imported before MLflow, which reads these environment variables once.
"""

from __future__ import annotations

import os

from mlflow.exceptions import MlflowException

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds; with MLflow's own defaults a server that does


os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # not answer holds a call for many minutes


os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
from sqlalchemy.exc import SQLAlchemyError

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
NOT_FOUND = (DOES_NOT_EXIST, "INVALID_PARAMETER_VALUE")  # how MLflow says that there is no such alias
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)  # the last: a database without its driver
REFUSALS = (*NOT_FOUND, "RESOURCE_ALREADY_EXISTS")  # asking again would change nothing
LOCAL_FAULTS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


def is_outage(error: Exception) -> bool:
    """Whether the same call may succeed later: the store does not answer, or says that it is in trouble."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, SQLAlchemyError | OSError) and not isinstance(error, LOCAL_FAULTS)


def one_line(error: BaseException) -> str:
    """The first line of its message, without a full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def root_cause(error: BaseException) -> str:
    """What the operating system says, however deep inside MLflow's error it stands; else the first line."""
    says, inner = one_line(error), error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
        if isinstance(inner, OSError) and inner.strerror:
            says = inner.strerror
    return says
