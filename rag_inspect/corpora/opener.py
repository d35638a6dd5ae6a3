"""The one way to open a file of a corpus. A folder may come from anybody, so this is where its files are met with limits:
regular files inside the folder only, so many bytes of each, so many of a line.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from rag_inspect.corpora.faults import Report
from rag_inspect.errors import CorpusError

MAX_BYTES = 2 << 30  # of one file, unpacked: stops a gzip bomb
MAX_LINE_BYTES = 16 << 20
MAX_LINES = 20_000_000  # twice MS MARCO's passages; two gigabytes of line ends would take an hour
GZIP = b"\x1f\x8b"
# A pipe would wait for its writer, and a link may have been put in the file's place since we looked.
_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class CorpusFile:
    """A file of the corpus in `folder`, plain or gzipped; `rest` has the shards that follow it in the same table.

    Every method raises CorpusError.
    """

    folder: Path
    path: Path
    rest: tuple[CorpusFile, ...] = ()

    @property
    def shards(self) -> tuple[CorpusFile, ...]:
        """The files of the table, in order."""
        return self, *self.rest

    @property
    def name(self) -> str:
        """The path below the folder, as messages and notes give it: qrels/test.tsv."""
        return self.path.relative_to(self.folder).as_posix()

    @contextmanager
    def open(self) -> Iterator[BufferedIOBase]:
        """Open the file and unpack it if its content is gzipped, whatever its name says."""
        with self.open_packed() as raw:
            packed = raw.peek(2)[:2] == GZIP
            if self.path.suffix == ".gz" and not packed:
                raise CorpusError(f"{self.path} cannot be read: it is named .gz and is not a gzip file")
            with gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw) as file:
                yield file

    @contextmanager
    def open_packed(self) -> Iterator[BufferedReader]:
        """Open the file as it is, gzipped or not."""
        try:
            with os.fdopen(self._open_regular(), "rb") as raw:
                yield raw
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"{self.path} cannot be read: {error}") from error

    def read_lines(self, report: Report) -> Iterator[tuple[str, str]]:
        """Yield (`file:line`, text) of every line, blank ones too; a line that is not UTF-8 is reported and left out."""
        total = 0
        with self.open() as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                place, total = f"{self.path}:{number}", total + len(raw)
                if total > MAX_BYTES or len(raw) >= MAX_LINE_BYTES or number > MAX_LINES:
                    limits = f"{MAX_LINE_BYTES >> 20} MB a line, {MAX_BYTES >> 30} GB and {MAX_LINES:,} lines a file"
                    raise CorpusError(f"{place} exceeds the limit of {limits}")
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    report(
                        CorpusError(f"{place} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8")
                    )
                else:
                    yield place, text.rstrip("\r\n")

    def read_text(self, most: int) -> str:
        """Return the whole text, without a byte order mark, if it has at most so many bytes."""
        with self.open() as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise CorpusError(f"{self.path} has more than {most >> 10} KB; shorten it")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise CorpusError(f"{self.path}:{line} is not UTF-8; save the file as UTF-8") from error

    def _open_regular(self) -> int:
        try:
            real, folder = self.path.resolve(strict=True), self.folder.resolve(strict=True)
        except (RuntimeError, ValueError) as error:  # a loop of links; a zero byte
            raise CorpusError(f"{self.path} cannot be read: {error}") from error
        if not real.is_relative_to(folder):
            raise CorpusError(f"{self.path} is a link out of its folder; copy the file into {self.folder}")
        self._check_regular(real.stat())  # before opening: to open a device can set it going
        handle = os.open(real, _FLAGS)
        try:
            self._check_regular(os.fstat(handle))
        except CorpusError:
            os.close(handle)
            raise
        return handle

    def _check_regular(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for fits, name in _KINDS if fits(found.st_mode)), "something else")
            raise CorpusError(f"{self.path} is {kind}; a corpus is read from regular files only")
