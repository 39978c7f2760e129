"""A home for the libraries that ask for one, where the user has none: in a container with a uid of its own, say.

ensure_home()      # before matplotlib, MLflow, numba or Ray are imported; processes started later inherit it
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NAMES = "LOGNAME", "USER", "LNAME", "USERNAME"  # where `getpass` looks for a user's name
CACHES = {  # variables that name a library's folder for what may be lost, and folders below that of `_folder`
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "cache",
}


def ensure_home() -> None:
    """Set variables of this environment for what is lacking: a user's name, a home, or a home that can be written to.

    The substitute is a folder of this user's in that for temporary files. A home that can be read stays, as it may
    hold credentials; then Ray gets its token, which it would save there, from the environment.
    """
    if not hasattr(os, "getuid"):
        return
    import pwd

    uid = os.getuid()
    if not any(os.environ.get(name) for name in NAMES):
        try:
            pwd.getpwuid(uid)
        except KeyError:
            os.environ["LOGNAME"] = str(uid)
    home = os.path.expanduser("~")
    if os.path.isdir(home) and os.path.isabs(home):
        if os.access(home, os.W_OK | os.X_OK):
            return
        if not os.path.isfile(os.path.join(home, ".ray", "auth_token")):
            os.environ.setdefault("RAY_AUTH_TOKEN", os.urandom(32).hex())
        for variable, name in CACHES.items() if (folder := _folder(uid)) else ():
            os.environ.setdefault(variable, os.path.join(folder, name))
    elif folder := _folder(uid):
        os.environ["HOME"] = folder


def _folder(uid: int) -> str:
    """A folder that nobody else can write to; empty if there is nowhere to make one."""
    import stat
    import tempfile

    with suppress(OSError):
        folder = Path(tempfile.gettempdir(), f"agr-home-{uid}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o022:
            return str(folder)
        return tempfile.mkdtemp(prefix="agr-home-")
    return ""
