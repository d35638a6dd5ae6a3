"""Usage errors: what is wrong with the arguments alone is one line on stderr and exit 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeVar

from rag_inspect.errors import InputError, ModelError

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """A parser that prints no usage with an error, only where to find it."""

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")

    def set_run(self, run: Callable[..., None]) -> None:
        """Set the function that runs the command; it gets this parser's `error` with the options."""
        self.set_defaults(run=run, error=self.error)


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
