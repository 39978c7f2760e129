"""The limits of a service on a command line, as `agr serve` and `search/serve.py` take them."""

from __future__ import annotations

import argparse
from dataclasses import fields

from agr.service.settings import Settings

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
