"""Tab completion: the script for a shell, which shtab writes from the parser itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rag_inspect.rerankers import RERANKERS
from rag_inspect.settings import Settings
from rag_inspect.workbench import Workbench

SHELLS = ("bash", "zsh", "fish")


class PrintCompletion(argparse.Action):
    """The option that prints the script for its shell, and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(write_script(parser, str(values), Workbench(Settings.from_env()).corpora()))
        parser.exit()


def write_script(parser: argparse.ArgumentParser, shell: str, corpora: Iterable[str]) -> str:
    """The script that completes the parser's commands in bash, zsh or fish.

    What an option's value completes to goes by its metavar: FILE, FOLDER, NAME|FOLDER (the `corpora`, and folders),
    R[,R...] (the rerankers). The parser is marked with that on the way.
    """
    import shtab

    complete = {"FILE": shtab.FILE, "FOLDER": shtab.DIRECTORY, "NAME|FOLDER": _corpus_completer(corpora)}
    for action in _actions(parser):
        if action.metavar == "R[,R...]":
            action.choices = list(RERANKERS)
        elif isinstance(action.metavar, str) and action.metavar in complete:
            action.complete = complete[action.metavar]  # type: ignore[attr-defined]  # where shtab looks
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _corpus_completer(corpora: Iterable[str]) -> dict[str, Any]:
    """In shtab's format: a function for each shell that offers the corpora and the folders."""
    # A folder's name is anybody's, and these go into a script that a shell runs: only harmless ones are offered.
    names = " ".join(name for name in corpora if re.fullmatch(r"\w[\w.-]*", name, re.ASCII))
    bash = f"""\
_rag_inspect_corpus_dirs() {{
  compgen -W "{names}" -- "$1"
  compgen -d -- "$1"
}}"""
    zsh = f"""\
_rag_inspect_corpora() {{
  _alternative 'corpora:corpus:({names})' 'folders:folder:_files -/'
}}"""
    fish = f"""\
function _rag_inspect_corpora
  printf '%s\\tcorpus\\n' {names}
  __fish_complete_directories (commandline -ct)
end"""
    return {
        "bash": "_rag_inspect_corpus_dirs",  # "_dir" in the name lets shtab end a folder with a slash
        "zsh": "_rag_inspect_corpora",
        "fish": "(_rag_inspect_corpora)",
        "preamble": {"bash": bash, "zsh": zsh, "fish": fish},
    }
