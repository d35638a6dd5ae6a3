"""What the commands print: one JSON document, or tables and lines for people; progress on stderr."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL_CODES = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json, which every command that prints a result has."""
    command.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


def print_json(document: Any) -> None:
    """Print one document and nothing else; in ASCII if stdout is not UTF-8. A number that is not finite is an error."""
    ascii_only = (sys.stdout.encoding or "").lower() not in {"utf-8", "utf8"}
    print(json.dumps(document, ensure_ascii=ascii_only, indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table; whole numbers are right-aligned, long cells wrap."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        numeric = bool(rows) and isinstance(rows[0][column], int) and not isinstance(rows[0][column], bool)
        side: Any = "right" if numeric else "left"
        table.add_column(column.replace("_", " "), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(_format_text(_format_cell(row[column])) for column in columns))
    _open_console().print(table)


def print_lines(*lines: str) -> None:
    """Print each line, without markup or control codes."""
    console = _open_console()
    for line in lines:
        console.print(_format_text(line))


LINE_EVERY, FIRST_LINE = 60.0, 2.0  # seconds


@contextmanager
def progress(lines: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield show(text, done, total): a bar if stderr is a terminal; else, with `lines`, a line after 2 s and then one a minute."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, due = bar.add_task("starting", total=None), time.monotonic() + FIRST_LINE

        def show(text: str, done: int, total: int) -> None:
            nonlocal due
            bar.update(task, description=text, completed=done, total=total or None)
            if lines and not console.is_terminal and time.monotonic() > due:
                due = time.monotonic() + LINE_EVERY
                print(f"rag-inspect: {text}", file=sys.stderr, flush=True)

        yield show


def _format_text(words: str) -> Any:
    """Strip control codes and markup from text that others wrote."""
    from rich.text import Text

    return Text(words.translate(_CONTROL_CODES))


def _open_console() -> Console:
    """Return a console as wide as the terminal; 160 columns for a pipe or a file."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            """Raise like any other writer; rich would exit with 1 because the reader closed the pipe."""
            raise BrokenPipeError

    console = Plain()
    return console if console.is_terminal else Plain(width=160)


def _format_cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
