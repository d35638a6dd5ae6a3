"""The folder of uploaded files and of files to download: swept at start, measured before an upload."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from rag_inspect.settings import keep_uploads_in

KEPT_SECONDS = 24 * 3600
"""Gradio deletes the files of a running app after this time; at start we delete those of apps that ended."""


def prepare_uploads(folder: Path) -> Path:
    """Make this gradio's folder for files and delete what is old in it; return the folder that gradio uses.

    Gradio's own folder, which all its apps share, stays in use if GRADIO_TEMP_DIR is set or nothing can be written
    here. It is not swept: its files may be another app's.
    """
    with suppress(OSError):  # a home that is read only
        folder.mkdir(parents=True, exist_ok=True)
        keep_uploads_in(folder)
    used = Path(get_upload_folder())
    if used == folder:
        sweep_folder(folder, time.time() - KEPT_SECONDS)
    return used


def sweep_folder(folder: Path, before: float) -> None:
    """Delete each file or folder in it that was last written before this time (seconds since the epoch)."""
    for path in folder.iterdir():
        with suppress(OSError):  # another app deletes it too
            if path.lstat().st_mtime >= before:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files in the folder; 0 if there is none."""
    sizes = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            sizes += path.lstat().st_size if path.is_file() else 0
    return sizes
