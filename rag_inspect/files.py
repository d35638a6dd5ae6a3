"""Write a file whole or not at all: under a draft name first, then renamed.

A crash or a full disk leaves the old file as it was. What goes wrong is a RagInspectError that names the file and
the cause; the draft is removed (only a killed process leaves one: `.NAME.….new`).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rag_inspect.errors import RagInspectError

NORMAL = 0o666
"""The permissions a new file asks for; the process's umask takes its share off."""
PRIVATE = 0o600
"""Permissions for what nobody else may read."""

REMEDIES = {  # errno -> what to do about it
    errno.EACCES: "allow writing there, or choose another folder",
    errno.EPERM: "allow writing there, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EISDIR: "move that folder away, or choose another name",
    errno.EEXIST: "a file stands where its folder should be: move it away, or choose another folder",
    errno.ENOTDIR: "a file stands where its folder should be: move it away, or choose another folder",
}


def write_text(path: Path, text: str, mode: int = NORMAL) -> Path:
    """Write the text in UTF-8, line ends as they are; half a surrogate pair becomes "?". Returns the path."""
    return write_bytes(path, text.encode("utf-8", "replace"), mode)


def write_bytes(path: Path, content: bytes | memoryview, mode: int = NORMAL) -> Path:
    """Write the bytes, with these permissions less the umask. Returns the path; raises RagInspectError."""
    with write_whole(path, mode) as draft:
        draft.write_bytes(content)
    return path


@contextmanager
def write_whole(path: Path, mode: int = NORMAL) -> Iterator[Path]:
    """Yield an empty draft beside `path` for the caller to fill; it becomes `path` when the block ends well.

    Folders are made where there are none. When the block raises, `path` stays as it was; an OSError, from the block
    or from here, becomes a RagInspectError. Of several writers at once, the last to end wins.
    """
    draft = path.with_name(
        f".{path.name[:40]}.{secrets.token_hex(8)}.new"
    )  # no other writer's, on any machine
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        permissions = _create(draft, mode)
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        if (
            stat.S_IMODE(draft.stat().st_mode) != permissions
        ):  # some libraries put a file of their own in its place
            draft.chmod(permissions)
        draft.replace(path)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "free some space, or choose another folder")
        raise RagInspectError(f"{path} cannot be written ({error.strerror or error}); {remedy}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Raise RagInspectError where files cannot be written there: to be known before the work, not after it."""
    write_text(folder / ".rag-inspect", "").unlink(missing_ok=True)


def _create(draft: Path, mode: int) -> int:
    """Create the file and return the permissions it got; nobody ever sees it with wider ones."""
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
