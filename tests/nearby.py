"""Recordings beside a manifest, which may not name those of other folders."""

from __future__ import annotations

import os
from pathlib import Path


def beside(manifest: Path, recording: Path) -> str:
    """A path for a row of the manifest: of a recording that lies elsewhere, that of a hard link in its folder."""
    if not recording.is_file() or recording.is_relative_to(manifest.parent):
        return str(recording)
    link = manifest.parent / f"{recording.parent.name}-{recording.name}"
    if not link.exists():
        os.link(recording, link)
    return link.name
