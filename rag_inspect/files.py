"""Write strict JSON, and write a file whole or not at all: write a draft first, then rename it.

A crash or a full disk leaves the old file as it was. An OSError becomes a RagInspectError that names the file and
the cause; the draft is removed. Only a killed process leaves one (`.NAME.….new`), which `sweep_drafts` deletes. What
is damaged is set aside (`NAME.damaged-….`), and `sweep_set_aside` deletes it after a month.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rag_inspect.errors import RagInspectError

DRAFT_SECONDS = 3600
SET_ASIDE_DAYS = 30
_STAMP = "%Y%m%d-%H%M%S"
_SET_ASIDE = re.compile(r".+\.damaged-(?P<stamp>\d{8}-\d{6})(-\d\d?)?(-wal|-shm)?")
_DRAFT = re.compile(r"\..{1,40}\.[0-9a-f]{16}\.new")

REMEDIES = {  # errno -> what to do about it
    errno.EACCES: "allow writing there, or choose another folder",
    errno.EPERM: "allow writing there, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EISDIR: "a folder has this name: move it, or choose another name",
    errno.EEXIST: "a file is in the way of the folder: move it, or choose another folder",
    errno.ENOTDIR: "a file is in the way of the folder: move it, or choose another folder",
}


def write_text(path: Path, text: str) -> Path:
    """Write the text in UTF-8 and return the path. Line ends stay as they are; half a surrogate pair becomes "?"."""
    return write_bytes(path, text.encode("utf-8", "replace"))


def write_bytes(path: Path, content: bytes | memoryview) -> Path:
    """Write the bytes and return the path. Raises RagInspectError."""
    with write_whole(path) as draft:
        draft.write_bytes(content)
    return path


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield an empty draft beside `path` for the caller to fill; it becomes `path` when the block ends without an error.

    Creates missing folders. When the block raises, `path` stays as it was; an OSError, from the block or from here,
    becomes a RagInspectError. Of several writers at the same time, the last to end wins.
    """
    draft = _name_draft(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        permissions = _create(draft)
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        # Some libraries replace the draft with a file of their own.
        if stat.S_IMODE(draft.stat().st_mode) != permissions:
            draft.chmod(permissions)
        draft.replace(path)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_files(folder: Path, files: Iterable[tuple[str, str]]) -> list[Path]:
    """Write all these files (name, text) or none, and return their paths. Raises RagInspectError.

    A folder that is missing now is made, or missing afterwards if they cannot be written.
    """
    missing, paths = _list_missing(folder), []
    try:
        with ExitStack() as drafts:  # they become the files at its end, when all are written
            for name, text in files:
                paths.append(folder / name)
                draft = drafts.enter_context(write_whole(paths[-1]))
                with draft.open("r+b") as file:
                    file.write(text.encode("utf-8", "replace"))
                    file.flush()
                    os.fsync(file.fileno())  # a full disk may say so only here
    except BaseException:
        _remove_empty(missing)
        raise
    return paths


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty draft folder beside `path` for the caller to fill; it becomes `path` when the block ends without an error.

    If the folder exists by then, another process made it, and the draft is dropped. Raises RagInspectError as
    `write_whole` does.
    """
    draft = _name_draft(path)
    try:
        draft.mkdir(parents=True)
        yield draft
        if not path.exists():
            draft.rename(path)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def set_aside(path: Path, suffixes: Iterable[str] = ()) -> Path:
    """Rename a damaged file or folder, and return its new path, which has the time in its name. Raises OSError.

    Files beside it with the same name and one of the `suffixes` go with it.
    """
    stamp = time.strftime(_STAMP)
    names = (f"{path.name}.damaged-{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 100))))
    free = next(kept for name in names if not (kept := path.with_name(name)).exists())
    path.rename(free)
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(free.with_name(free.name + suffix))
    return free


def find_set_aside_time(name: str) -> float | None:
    """Return when the file with this name was set aside, in seconds since 1970; None if it was not."""
    found = _SET_ASIDE.fullmatch(name)
    try:
        return time.mktime(time.strptime(found["stamp"], _STAMP)) if found else None
    except (ValueError, OverflowError):  # no such day
        return None


def sweep_set_aside(folder: Path) -> None:
    """Delete the files and folders here that were set aside more than SET_ASIDE_DAYS ago, as their names say."""
    with suppress(OSError):  # no such folder, or read only
        for path in folder.iterdir():
            since = find_set_aside_time(path.name)
            if since is not None and time.time() - since > SET_ASIDE_DAYS * 86400:
                _remove(path)


def format_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON with a final line end. Raises ValueError for a number that is not finite."""
    return (
        json.dumps(
            value,
            ensure_ascii=False,
            indent=indent,
            allow_nan=False,
            separators=None if indent else (",", ":"),
        )
        + "\n"
    )


def check_folder(folder: Path) -> None:
    """Raise RagInspectError if files cannot be written there. Call it before the work, so that no work is lost.

    It leaves nothing behind: a folder that is missing now is missing afterwards.
    """
    missing = _list_missing(folder)
    try:
        write_text(folder / ".rag-inspect", "").unlink(missing_ok=True)
    finally:
        _remove_empty(missing)


def _list_missing(folder: Path) -> list[Path]:
    """List the folder and its parents that are missing, the deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        with suppress(OSError):
            path.rmdir()


def is_draft(name: str) -> bool:
    """Return True for the name of a draft, which a killed process may have left."""
    return _DRAFT.fullmatch(name) is not None


def sweep_drafts(folder: Path, older: float = DRAFT_SECONDS) -> None:
    """Delete the drafts in this folder that nobody has written to for so many seconds: their processes have died."""
    with suppress(OSError):  # no such folder, or read only
        for path in folder.iterdir():
            if is_draft(path.name) and time.time() - path.lstat().st_mtime > older:
                _remove(path)


def _name_draft(path: Path) -> Path:
    """Return a random name beside `path`: no other writer has it, on any machine. `_DRAFT` matches it."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.new")


def _remove(path: Path) -> None:
    """Delete a file, a link or a folder with what is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _explain(path: Path, error: OSError) -> RagInspectError:
    remedy = REMEDIES.get(error.errno or 0, "free some space, or choose another folder")
    return RagInspectError(f"{path} cannot be written ({error.strerror or error}); {remedy}")


def _create(draft: Path) -> int:
    """Create the file and return the permissions that the umask leaves it."""
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
