"""The commands of the image's last stage, executed in a Debian root: what can be tried of them without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docker import final_stage, of

MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="no debootstrap: apt-get install debootstrap"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make a Debian root"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Debian that the image is made from, without its Python."""
    found = re.search(r"slim-(\w+)", of("FROM", final_stage())[0])
    assert found is not None
    try:
        urllib.request.urlopen(f"{MIRROR}/dists/{found[1]}/InRelease", timeout=10).close()
    except OSError as error:
        pytest.skip(f"no mirror of Debian: {error}")
    made = tmp_path_factory.mktemp("root")
    subprocess.run(["debootstrap", "--variant=minbase", found[1], str(made), MIRROR], check=True, capture_output=True)
    made.chmod(0o755)  # it is everybody's /
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", made / "etc" / name)
    yield made
    shutil.rmtree(made)


def run(root: Path, command: str, user: str = "0", folder: str = "/") -> str:
    """What a shell in the root prints."""
    words = ["chroot", f"--userspec={user}:{user}", str(root), "/bin/sh", "-c", f"cd {folder} && {command}"]
    done = subprocess.run(words, env={"PATH": PATH}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_last_stage_make_what_the_service_needs(root: Path) -> None:
    user, folder = "0", "/"
    for word, rest in final_stage():
        if word == "USER":
            user = rest
        elif word == "WORKDIR":
            folder = rest
        elif word == "RUN":
            run(root, rest, user, folder)
    assert (user, folder) == ("1000", "/home/agr")
    for program in ("git", "wget"):
        assert run(root, f"{program} --version", user, folder)
    for name in ("data", "mlflow_store"):
        assert (root / f".{folder}" / name).stat().st_uid == 1000
    assert not any((root / "var/lib/apt/lists").glob("*Packages*"))
