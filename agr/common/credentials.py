"""Passwords in URIs: refused on a command line, passed to MLflow in its own variables, never shown.

    uri = log_in("https://ann:secret@mlflow.example.org")     # without user and password
    print(hide(str(error), uri))

A command line is no place for a password: every user of the machine can read it in the list of processes.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote

from agr.errors import SettingsError

USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
INSTEAD = (
    f"expected it in {USERNAME} and {PASSWORD} (a server), PGPASSWORD (PostgreSQL), MLFLOW_TRACKING_URI (any other "
    "database), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3)"
)
HOST = re.compile(r"(\[.*\]|[^:\[]*)(:\d*)?")  # of a URI, with its port
SECRET_SETTING = re.compile(r"(?i)(password|passwd|secret|token|(^|[&;_-])(key|sig))[\w-]*=")


def user_and_password(uri: str) -> tuple[str, str]:
    """The part before the @ of a URI, still percent-encoded; empty strings where there is none."""
    rest = uri.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and ("@" not in rest or HOST.fullmatch(authority)):
        return "", ""
    before = (authority if "@" in authority else rest).rpartition("@")[0]  # a password may hold a slash of its own
    user, _, password = before.partition(":")
    return user, password


def hide(text: str, uri: str) -> str:
    """Replace the user, the password and the query of a URI by `***` wherever they stand in a text."""
    user, password = user_and_password(uri)
    query = uri.partition("?")[2]
    settings = [value for key, value in parse_qsl(query) if SECRET_SETTING.search(f"{key}=")]
    for secret in (f"{user}:{password}", password, unquote(password), query, *settings):
        text = text.replace(secret, "***") if secret.strip(":") else text
    return text


def log_in(uri: str) -> str:
    """Put user and password of a server's URI into MLflow's own variables; returns the URI without them."""
    user, password = user_and_password(uri)
    if not user or not uri.startswith(("http://", "https://")):
        return uri
    os.environ[USERNAME] = unquote(user)
    if password:
        os.environ[PASSWORD] = unquote(password)
    return uri.replace(f"{user}:{password}@" if f"{user}:" in uri else f"{user}@", "", 1)


def is_harmless(uri: str) -> bool:
    """Whether a URI holds no password, neither before its @ nor in its query."""
    return not user_and_password(uri)[1] and not SECRET_SETTING.search(uri.partition("?")[2])


def harmless(uri: str) -> str:
    """A URI from a command line, for argparse's `type`. Raises: SettingsError if it holds a password."""
    if not is_harmless(uri):
        raise SettingsError(f"{hide(uri, uri)}: a password on the command line; {INSTEAD}")
    return uri
