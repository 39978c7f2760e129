"""What a service is asked for: the flags of `agr serve` and `search/serve.py`, handed to workers in one variable."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from agr.errors import SettingsError

VARIABLE = "AGR_SERVICE"
TOKEN = "AGR_TOKEN"  # the variable with the bearer token: a command line can be read by every user of a machine
LOCAL = ("localhost", "127.0.0.1", "[::1]")
MIB = 2**20
LIMITS = {
    "max_mib": "MiB of one file; all files of a request may have twice that",
    "max_seconds": "seconds of sound in one file",
    "max_files": "files in one request",
    "concurrency": "processes that decode, for each worker (default: the number of CPUs)",
    "queue": "requests that are read, wait or are answered at once, for each worker",
    "streams": "streams that are heard at once, for each worker",
    "stream_seconds": "seconds of sound in one stream",
    "body_seconds": "seconds that a request's body may take to arrive",
    "poll_seconds": "seconds between two looks at which version is meant",
}


@dataclass(frozen=True)
class Settings:
    """A service and its limits."""

    model_uri: str = "models:/agr/best"
    tracking_uri: str | None = None
    allowed_hosts: tuple[str, ...] = LOCAL  # that a request may name; `*` for any
    max_mib: int = 32  # of one file; all files of a request may have twice that
    max_seconds: int = 3600  # of sound in one file
    max_files: int = 16  # in one request
    concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)  # processes that decode
    queue: int = 128  # requests that are read, wait or are answered at once
    streams: int = 8  # that are heard at once
    stream_seconds: int = 300  # of sound in one stream
    body_seconds: int = 300  # that a request's body may take to arrive
    poll_seconds: float = 2.0  # between two looks at which version is meant

    def __post_init__(self) -> None:
        """Raises: SettingsError if a limit is not above 0, or there is no host."""
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not value > 0:
                raise SettingsError(f"{name} {value}: expected a number above 0")
        if not self.allowed_hosts:
            raise SettingsError("allowed_hosts: none; expected names, or * for any")

    @property
    def max_bytes(self) -> int:
        """Of one file."""
        return self.max_mib * MIB

    @property
    def max_body(self) -> int:
        """Bytes of one request."""
        return 2 * self.max_bytes

    @property
    def token(self) -> str:
        """What a client has to show; empty if anybody is answered."""
        return os.environ.get(TOKEN, "")

    def as_environment(self) -> dict[str, str]:
        """For worker processes."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """As `as_environment` wrote them; the defaults without it. Raises: SettingsError for what is no setting."""
        try:
            values = json.loads(environment.get(VARIABLE, "{}"))
            return cls(**values | {"allowed_hosts": tuple(values.get("allowed_hosts", LOCAL))})
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(f"{VARIABLE}: {error}; expected settings in JSON") from error


# Of calls to MLflow's server. A look that hangs would miss moves of the alias, and the next one is to come.
ONE_LOOK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add --allowed-hosts and the limits."""
    hosts = "names by which clients reach it, * for any (default: this machine's own)"
    parser.add_argument("--allowed-hosts", nargs="+", default=(), metavar="HOST", help=hosts)
    known = {each.name: each for each in fields(Settings)}
    for name, text in LIMITS.items():
        kind = float if known[name].type == "float" else int
        default = "" if "default" in text else f" ({known[name].default})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text + default)


def settings_of(options: argparse.Namespace, *own_hosts: str) -> Settings:
    """The settings of a command line; own_hosts are allowed as well. Raises: SettingsError."""
    given = {name: value for name in LIMITS if (value := getattr(options, name)) is not None}
    hosts = dict.fromkeys((*options.allowed_hosts, *own_hosts))
    return Settings(options.model_uri, options.tracking_uri, tuple(hosts), **given)
