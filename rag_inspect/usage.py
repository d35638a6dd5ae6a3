"""What several commands share: the options of both stages, and usage errors (one line on stderr, exit 2)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeVar

from rag_inspect.errors import InputError, ModelError
from rag_inspect.metrics import GOLD_GRADE
from rag_inspect.options import MAX_TOP_K, TOP_K, TOP_N

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """A parser that prints no usage with an error, only where to find it."""

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")

    def set_run(self, run: Callable[..., None]) -> None:
        """Set the function that runs the command; it gets this parser's `error` with the options."""
        self.set_defaults(run=run, error=self.error)


def add_gold_grade(command: argparse.ArgumentParser) -> None:
    """Add --gold-grade."""
    command.add_argument(
        "--gold-grade", type=int, default=GOLD_GRADE, metavar="N",
        help=f"the lowest grade of gold; TREC DL counts from 2 (default: {GOLD_GRADE})",
    )  # fmt: skip


def add_depths(command: argparse.ArgumentParser) -> None:
    """How deep the candidates go, and which of them count: the same for every command."""
    command.add_argument(
        "--top-k", type=int, default=TOP_K, help=f"candidates to rerank, 1 to {MAX_TOP_K} (default: {TOP_K})"
    )
    command.add_argument(
        "--top-n", type=int, help=f"reranked hits to keep (default: {TOP_N}, or top_k if smaller)"
    )
    command.add_argument(
        "--keep-identical-ids",
        action="store_true",
        help="keep a candidate that has the id of its judged query (default: it is the query, and left out)",
    )


def as_argparse_type(read: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap `read` so that its InputError is a usage error."""

    def parse_argument(text: str) -> T:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def check_usage(options: argparse.Namespace, read: Callable[[argparse.Namespace], T]) -> T:
    """Return `read(options)`; an error in it, which needs neither corpus nor model to be found, is a usage error."""
    try:
        return read(options)
    except (InputError, ModelError) as error:
        options.error(str(error))
        raise AssertionError("error() exits") from error


def parse_port(text: str) -> int:
    """Parse a port to listen on. Raises InputError."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 65535):
        raise InputError(f"{text[:60]!r} is not a port; expected a whole number from 1 to 65535")
    return int(text)
