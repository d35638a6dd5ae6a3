"""Scores on disk: (reranker fingerprint, query, passage) -> score, shared by all processes on the machine."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rag_inspect.files import set_aside
from rag_inspect.types import Pair

_CHUNK = 500  # keys in one SELECT, well under SQLite's limit of bound variables
_DELETED_AT_ONCE = 20_000  # scores, 1 MB: about 10 ms, a delay nobody notices
_COLUMNS = "(key BLOB PRIMARY KEY, logit REAL NOT NULL) WITHOUT ROWID"


class ScoreCache:
    """Scores in one SQLite file of at most `limit` bytes; readers never wait for writers.

    New scores go into the table `scores`. When it reaches half the limit it becomes `scores_before`, and a new table
    begins; when both are full, the older half is deleted, a part at every `put`. So the newest scores, up to half the
    limit, are always kept. (Keys are hashes, so deleting the oldest rows of one table would free no pages.)

    A file of an older version has only the table `scores`, and older versions can use ours. Nothing in it tells which
    scores are newest, so beyond the limit all of them go. SQLite uses freed pages again, but a file that is already
    larger than the limit does not shrink.

    A cache that cannot be read or written only costs time: `trouble` says why, and every score is computed again.
    A damaged file is renamed, and a new one begins.
    """

    def __init__(self, path: Path, limit: float = math.inf) -> None:
        self.path, self.limit = path, limit
        self.trouble: str | None = None
        self._lock = threading.Lock()
        self._connection = self._open()

    @property
    def notes(self) -> tuple[str, ...]:
        """The `trouble` as notes to attach to a result; empty if there was none."""
        return (self.trouble,) if self.trouble else ()

    def get(self, fingerprint: str, pairs: Sequence[Pair]) -> dict[int, float]:
        """Return the known scores, by the pair's place in `pairs`."""
        places: dict[bytes, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(_make_key(fingerprint, pair), []).append(place)
        keys, known = list(places), {}
        for table in ("scores_before", "scores"):  # the newer table comes last, so its score wins
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                for key, logit in self._select(
                    f"SELECT key, logit FROM {table} WHERE key IN ({marks})", chunk
                ):
                    # Anything else is damaged: leave it out, so that it is scored again.
                    if isinstance(logit, float) and math.isfinite(logit):
                        known.update(dict.fromkeys(places[key], logit))
        return known

    def put(self, fingerprint: str, scored: Iterable[tuple[Pair, float]]) -> None:
        """Store these scores: all of them or, if the process dies, none."""
        rows = [(_make_key(fingerprint, pair), logit) for pair, logit in scored]
        with self._lock:
            try:
                self._insert(rows)
            except sqlite3.Error as error:
                if self._handle(error):
                    with suppress(sqlite3.Error):  # a new file that fails at once: the trouble is noted
                        self._insert(rows)

    def _insert(self, rows: Sequence[tuple[bytes, float]]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._make_room()
            self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _make_room(self) -> None:
        """Within the transaction of `put`: delete a part of the outgoing half, or begin a new half."""
        ask = self._connection.execute
        names = {name for (name,) in ask("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if "scores_leaving" in names:
            # Delete a range of keys, so that whole pages become free.
            last = ask(
                f"SELECT key FROM scores_leaving ORDER BY key LIMIT 1 OFFSET {_DELETED_AT_ONCE}"
            ).fetchone()
            if last:
                ask("DELETE FROM scores_leaving WHERE key < ?", last)
            else:
                ask("DROP TABLE scores_leaving")
            return
        size = _read_pragma(ask, "page_size") * (
            _read_pragma(ask, "page_count") - _read_pragma(ask, "freelist_count")
        )
        both = ask("SELECT 1 FROM scores_before LIMIT 1").fetchone()
        if size <= (self.limit if both else self.limit / 2):
            return
        ask("ALTER TABLE scores_before RENAME TO scores_leaving")
        ask("ALTER TABLE scores RENAME TO scores_before")
        ask(f"CREATE TABLE scores {_COLUMNS}")

    def _select(self, sql: str, values: Sequence[bytes]) -> list[tuple[bytes, float]]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                self._handle(error)
                return []

    def _handle(self, error: sqlite3.Error) -> bool:
        """Note the trouble; if the file is damaged, begin a new one and return True."""
        self._note_trouble(error)
        if type(error) is not sqlite3.DatabaseError:  # its subclasses say: locked, full, read-only, closed
            return False
        self._connection.close()
        self._connection = self._replace(error)
        return True

    def _note_trouble(self, error: Exception) -> None:
        self.trouble = f"the score cache {self.path} failed ({error}); scores are computed again each time"

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # as in `_handle`: keep the file
                    raise
                return self._replace(error)
        except (sqlite3.Error, OSError) as error:
            self._note_trouble(error)
            return _connect(":memory:")

    def _replace(self, error: Exception) -> sqlite3.Connection:
        """Set the damaged file aside, unless another process did, and connect to a new one; in memory if that fails."""
        try:
            if _identify(self.path) == self._opened:
                kept = set_aside(self.path, ("-wal", "-shm"))
                self.trouble = f"the score cache {self.path} was damaged ({error}); it was set aside as {kept.name}, and a new one begun"
            return self._connect()
        except (sqlite3.Error, OSError) as failure:
            self._note_trouble(failure)
            return _connect(":memory:")

    def _connect(self) -> sqlite3.Connection:
        self._opened = _identify(self.path)
        connection = _connect(str(self.path))
        self._opened = _identify(self.path)  # it may be new
        return connection


def _identify(path: Path) -> int | None:
    """Return a number that another file under this path would not have; None if there is no file."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        for table in ("scores", "scores_before"):
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} {_COLUMNS}")
            found = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if found != ["key", "logit"]:
                raise sqlite3.DatabaseError(f"its table {table} has the columns {', '.join(found)[:80]}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _read_pragma(ask: Any, name: str) -> int:
    return int(ask(f"PRAGMA {name}").fetchone()[0])


def _make_key(fingerprint: str, pair: Pair) -> bytes:
    digest = hashlib.sha256()
    for part in (fingerprint, pair[0], pair[1].full_text):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()[:20]
