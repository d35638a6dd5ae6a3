"""Scores on disk: (reranker fingerprint, query, passage) -> logit, shared by every process on the machine."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from rag_inspect.types import Passage

Pair = tuple[str, Passage]
_CHUNK = 500  # keys in one SELECT, well under SQLite's limit of bound variables


class ScoreCache:
    """A table of logits in one SQLite file; readers never wait for writers (write-ahead log).

    A cache that cannot be read or written only costs time, so it says why once, in `trouble`, and goes on
    empty. A file that is no database any more is set aside and begun anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble: str | None = None
        self._lock = threading.Lock()
        self._connection = self._open()

    def get(self, fingerprint: str, pairs: Sequence[Pair]) -> dict[int, float]:
        """The logits that are known, by the pair's place in `pairs`."""
        places: dict[bytes, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(_key(fingerprint, pair), []).append(place)
        keys, known = list(places), {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            for key, logit in self._run(f"SELECT key, logit FROM scores WHERE key IN ({marks})", chunk):
                known.update(dict.fromkeys(places[key], logit))
        return known

    def put(self, fingerprint: str, scored: Iterable[tuple[Pair, float]]) -> None:
        """Keep these logits; all of them or, if the process dies, none."""
        rows = [(_key(fingerprint, pair), logit) for pair, logit in scored]
        with self._lock:
            try:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                self._tell(error)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _run(self, sql: str, values: Sequence[bytes]) -> list[tuple[bytes, float]]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                self._tell(error)
                return []

    def _tell(self, error: Exception) -> None:
        self.trouble = f"the score cache {self.path} failed ({error}); scores are computed again each time"

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return _connect(str(self.path))
            except sqlite3.OperationalError:  # not ours to write, locked or full
                raise
            except sqlite3.DatabaseError as error:  # not a database
                self._tell(error)
                self.path.replace(self.path.with_suffix(".broken"))
                return _connect(str(self.path))
        except (sqlite3.Error, OSError) as error:
            self._tell(error)
            return _connect(":memory:")


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, logit REAL NOT NULL) WITHOUT ROWID"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _key(fingerprint: str, pair: Pair) -> bytes:
    digest = hashlib.sha256()
    for part in (fingerprint, pair[0], pair[1].full_text):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()[:20]
