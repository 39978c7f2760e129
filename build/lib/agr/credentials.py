"""Passwords in URIs: refused on a command line, handed to MLflow in its own way, never shown.

    uri = log_in("https://ann:secret@mlflow.example.org")     # without them; MLflow finds them in its variables
    print(hide(str(error), uri))

A command line is no place for a password: every user of the machine reads it in the list of processes.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from agr.errors import SettingsError

USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
INSTEAD = (
    f"expected it in {USERNAME} and {PASSWORD} (a server), PGPASSWORD (PostgreSQL), MLFLOW_TRACKING_URI (any other "
    "database), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3)"
)
HOST = re.compile(r"(\[.*\]|[^:\[]*)(:\d*)?")  # of a URI, with its port
SECRET_SETTING = re.compile(r"(?i)(password|passwd|secret|token|(^|[&;_-])(key|sig))[\w-]*=")


def user_and_password(uri: str) -> tuple[str, str]:
    """What stands before the @ of a URI, as it stands there; empty where there is none."""
    rest = uri.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and ("@" not in rest or HOST.fullmatch(authority)):
        return "", ""
    before = (authority if "@" in authority else rest).rpartition("@")[0]  # a password may hold a slash of its own
    user, _, password = before.partition(":")
    return user, password


def hide(text: str, uri: str) -> str:
    """A text in which the user, the password and the query of a URI are blotted out wherever they stand."""
    user, password = user_and_password(uri)
    query = uri.partition("?")[2]
    for secret in (f"{user}:{password}", password, unquote(password), query):
        text = text.replace(secret, "***") if secret.strip(":") else text
    return text


def log_in(uri: str) -> str:
    """Hand what stands before the @ of a server's URI to MLflow by its variables; returns the URI without it."""
    user, password = user_and_password(uri)
    if not user or not uri.startswith(("http://", "https://")):
        return uri
    os.environ[USERNAME] = unquote(user)
    if password:
        os.environ[PASSWORD] = unquote(password)
    return uri.replace(f"{user}:{password}@" if f"{user}:" in uri else f"{user}@", "", 1)


def harmless(uri: str) -> str:
    """A URI that was typed; made for argparse's `type`. Raises: SettingsError if it holds a password."""
    if user_and_password(uri)[1] or SECRET_SETTING.search(uri.partition("?")[2]):
        raise SettingsError(f"{hide(uri, uri)}: a password on the command line; {INSTEAD}")
    return uri
