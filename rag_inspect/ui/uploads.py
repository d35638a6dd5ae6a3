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


def prepare_uploads(folder: Path) -> Path | None:
    """Make this gradio's folder for files, and delete what is old in it; None if it cannot be used or is not ours.

    Gradio's own folder, which is shared by all its apps, stays in use if GRADIO_TEMP_DIR is set or nothing can be
    written here. It is not swept: its files may be another app's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that is read only
        return None
    keep_uploads_in(folder)
    if Path(get_upload_folder()) != folder:
        return None
    sweep_folder(folder, time.time() - KEPT_SECONDS)
    return folder


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
