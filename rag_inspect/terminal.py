"""What the commands print: one JSON document, or tables and lines for people; progress and errors on stderr.

A terminal gets boxes, colours and arrows. A pipe, a file, and a terminal whose locale is not UTF-8 get plain text: one
line per row, our own words in ASCII, and what others wrote as it is.
"""

from __future__ import annotations

import argparse
import json
import locale
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

_CONTROL_CODES = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_IN_ASCII = {"→": "->", "Δ": "change", "–": "-", "…": "...", "×": "x", "≤": "<=", "≥": ">="}
_WIDEST = 60  # characters; in plain text a longer cell moves the rest of its row


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json, which every command that prints a result has."""
    command.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


def print_json(document: Any) -> None:
    """Print one document and nothing else; in ASCII if stdout is not UTF-8. A number that is not finite is an error."""
    ascii_only = (sys.stdout.encoding or "").lower() not in {"utf-8", "utf8"}
    print(json.dumps(document, ensure_ascii=ascii_only, indent=2, allow_nan=False))


def is_plain(stream: TextIO) -> bool:
    """Return whether this stream gets plain text: it is no terminal, or its encoding or the locale is not UTF-8."""
    # With LC_ALL=C Python itself writes UTF-8, which the terminal then does not expect; Windows consoles take it.
    codings = [stream.encoding or "", *([] if os.name == "nt" else [locale.getencoding()])]
    return not stream.isatty() or any(coding.lower() not in {"utf-8", "utf8"} for coding in codings)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table; whole numbers are right-aligned. On a terminal long cells wrap; in plain text each row is a line."""
    cells = [[_clean(_format_cell(row[column])) for column in columns] for row in rows]
    heads = [column.replace("_", " ") for column in columns]
    numeric = [bool(rows) and type(rows[0][column]) is int for column in columns]
    if is_plain(sys.stdout):
        _print_plain_table(title, heads, cells, numeric)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for head, right in zip(heads, numeric, strict=True):
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _print_plain_table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    from rich.cells import cell_len

    lines = [[_spell_in_ascii(head) for head in heads], *rows]
    widths = [min(_WIDEST, max(map(cell_len, column))) for column in zip(*lines, strict=True)]
    print(_spell_in_ascii(_clean(title)))
    for line in lines:
        padded = []
        for cell, width, right in zip(line, widths, numeric, strict=True):
            padding = " " * (width - cell_len(cell))
            padded.append(padding + cell if right else cell + padding)
        print("  ".join(padded).rstrip())


def print_lines(*lines: str) -> None:
    """Print each line, without markup or control codes."""
    if is_plain(sys.stdout):
        for line in lines:
            print(_spell_in_ascii(_clean(line)))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for line in lines:
        console.print(Text(_clean(line)))


def print_error(message: str) -> None:
    """Print one line on stderr, whatever line ends and control codes the message quotes."""
    print(f"rag-inspect: {_clean(message)}", file=sys.stderr, flush=True)


LINE_EVERY, FIRST_LINE = 60.0, 2.0  # seconds


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield show(text, done, total): a bar on a terminal; in plain text a line after 2 s and then one a minute."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    plain = is_plain(sys.stderr)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=plain) as bar:
        task, due = bar.add_task("starting", total=None), time.monotonic() + FIRST_LINE

        def show(text: str, done: int, total: int) -> None:
            nonlocal due
            bar.update(task, description=text, completed=done, total=total or None)
            if plain and time.monotonic() > due:
                due = time.monotonic() + LINE_EVERY
                print_error(text)

        yield show


def _clean(words: str) -> str:
    """Replace control codes, which others may have written, with spaces."""
    return words.translate(_CONTROL_CODES)


def _spell_in_ascii(words: str) -> str:
    return "".join(_IN_ASCII.get(mark, mark) for mark in words)


def _format_cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
