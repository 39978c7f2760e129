"""The commands of the image's first stages, executed here in a temporary folder, and the start command of the last one.

uv downloads what the image has: UV_FIND_LINKS, UV_INDEX_STRATEGY and the like say from where, DEVICE as in the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agr.test_serve import free_port, wait_until_ready
from tests.test_docker import instructions, of

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif("DEVICE" not in os.environ, reason="it downloads gigabytes: DEVICE=cpu or DEVICE=cuda runs it"),
    pytest.mark.skipif(shutil.which("uv") is None, reason="no uv: pip install uv"),
]


def test_the_first_stages_make_what_answers_the_start_command(tmp_path: Path) -> None:
    opt, build = tmp_path / "opt", tmp_path / "build"
    build.mkdir()
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            for source in sources:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, build / Path(source).name)
        elif word == "RUN" and "uv " in rest:
            line = re.sub(r"--mount=\S+|pip install --no-cache-dir uv\S+ &&", "", rest.replace("/opt/", f"{opt}/"))
            subprocess.run(line, shell=True, check=True, cwd=build, env=os.environ | {"UV_LINK_MODE": "copy"})
    (start,) = (line for line in of("CMD", instructions()) if "agr.serve" in line)
    port = free_port()
    words = [*json.loads(start)[:-1], str(port)]
    found = {"PATH": f"{opt}/venv/bin:{os.environ['PATH']}", "PYTHONPATH": f"{opt}/agr", "HOME": str(tmp_path)}
    service = subprocess.Popen(words, cwd=tmp_path, env=found, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_ready(service, port)
    finally:
        service.terminate()
        service.communicate(timeout=60)
