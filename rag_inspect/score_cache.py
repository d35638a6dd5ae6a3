"""Scores on disk: (reranker fingerprint, query, passage) -> score and what it cost, for all processes on the machine."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rag_inspect.files import set_aside
from rag_inspect.types import Pair

_CHUNK = 500  # keys in one SELECT, well under SQLite's limit of bound variables
_DELETED_AT_ONCE = 20_000  # scores, 1 MB: about 10 ms, a delay nobody notices
_TABLES = ("scores_before", "scores")  # the older half first
_COLUMNS = "(key BLOB PRIMARY KEY, logit REAL NOT NULL, ms REAL) WITHOUT ROWID"


class Known(NamedTuple):
    """A score, and its pair's share of the time that its batch took; None if that is unknown."""

    score: float
    ms: float | None


class ScoreCache:
    """Scores in one SQLite file of at most `limit` bytes; readers never wait for writers.

    New scores go into the table `scores`. When it reaches half the limit it becomes `scores_before`, and a new table
    begins; when both are full, the older half is deleted, a part at every `put`. So the newest scores, up to half the
    limit, are always kept. (Keys are hashes, so deleting the oldest rows of one table would free no pages.)

    A file of 0.1.0 has only the table `scores`, without `ms`: it gets what it lacks when it is opened, and is only read
    where it cannot be written. 0.1.0 can still read it, but no longer write to it. Nothing in it tells which scores are
    newest, so beyond the limit all of them go. SQLite uses freed pages again, but a file that is already larger than
    the limit does not shrink.

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

    def get(self, fingerprint: str, pairs: Sequence[Pair]) -> dict[int, Known]:
        """Return the known scores and what they cost, by the pair's place in `pairs`."""
        places: dict[bytes, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(_make_key(fingerprint, pair), []).append(place)
        keys, known = list(places), {}
        for table in _TABLES:  # the newer one comes last, so its score wins
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                for key, logit, ms in self._select(
                    f"SELECT key, logit, ms FROM {table} WHERE key IN ({marks})", chunk
                ):
                    # Anything else is damaged: leave it out, so that it is scored again.
                    if _is_finite(logit):
                        cost = ms if _is_finite(ms) and ms >= 0 else None
                        known.update(dict.fromkeys(places[key], Known(logit, cost)))
        return known

    def put(
        self, fingerprint: str, scored: Sequence[tuple[Pair, float]], batch_ms: float | None = None
    ) -> None:
        """Store the scores of a batch: all of them or, if the process dies, none.

        Each pair gets an equal share of `batch_ms`, the milliseconds that the batch took.
        """
        share = None if batch_ms is None else batch_ms / max(1, len(scored))
        rows = [(_make_key(fingerprint, pair), logit, share) for pair, logit in scored]
        with self._lock:
            try:
                self._insert(rows)
            except sqlite3.Error as error:
                if self._handle(error):
                    with suppress(sqlite3.Error):  # a new file that fails at once: the trouble is noted
                        self._insert(rows)

    def _insert(self, rows: Sequence[tuple[bytes, float, float | None]]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._make_room()
            self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

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

    def _select(self, sql: str, values: Sequence[bytes]) -> list[tuple[bytes, Any, Any]]:
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
        if any(_read_columns(connection, table) != ["key", "logit", "ms"] for table in _TABLES):
            _migrate(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Create the tables, or add what those of an older version lack; in a file that is read-only, for this connection."""
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")  # so that another process does not do it in between
            for table in _TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} {_COLUMNS}")
                if _check_columns(connection, table) == ["key", "logit"]:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN ms REAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
        for table in _TABLES:  # a name in `temp` hides the same name in the file
            found = _check_columns(connection, table)
            if not found:
                connection.execute(f"CREATE TEMP TABLE {table} {_COLUMNS}")
            elif "ms" not in found:
                connection.execute(
                    f"CREATE TEMP VIEW {table} AS SELECT key, logit, NULL AS ms FROM main.{table}"
                )
        connection.execute("PRAGMA query_only=ON")  # so that writing fails as it does without these tables


def _check_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the table's columns; none if there is no such table. Raises DatabaseError for those of something else."""
    found = _read_columns(connection, table)
    if found not in ([], ["key", "logit"], ["key", "logit", "ms"]):
        raise sqlite3.DatabaseError(f"its table {table} has the columns {', '.join(found)[:80]}")
    return found


def _read_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _read_pragma(ask: Any, name: str) -> int:
    return int(ask(f"PRAGMA {name}").fetchone()[0])


def _make_key(fingerprint: str, pair: Pair) -> bytes:
    digest = hashlib.sha256()
    for part in (fingerprint, pair[0], pair[1].full_text):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()[:20]
