"""Tab completion: scripts for shells, which shtab writes from the argument parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.settings import Settings
from rag_inspect.workbench import Workbench

SHELLS = ("bash", "zsh", "fish")


class PrintCompletion(argparse.Action):
    """The option that prints the script for a shell and exits."""

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
    """Write the script that completes the parser's commands in bash, zsh or fish.

    The metavar of an option says how to complete its value: FILE, FOLDER, NAME|FOLDER (the `corpora`, and folders),
    R[,R...] (the rerankers), F and F[,F...] (the first stages), lint (itself). Adds completers to the parser's actions.
    """
    import shtab

    complete = {
        "FILE": shtab.FILE,
        "FOLDER": shtab.DIRECTORY,
        "NAME|FOLDER": _write_corpus_completer(corpora),
    }
    stages = list(FIRST_STAGES)
    lists = {"R[,R...]": list(RERANKERS), "F[,F...]": stages, "F": stages, "lint": ["lint"]}
    for action in _walk_actions(parser):
        if isinstance(action.metavar, str) and action.metavar in lists:
            action.choices = lists[action.metavar]
        elif isinstance(action.metavar, str) and action.metavar in complete:
            action.complete = complete[action.metavar]  # type: ignore[attr-defined]  # where shtab looks
    return str(shtab.complete(parser, shell))


def _walk_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _walk_actions(command)


def _write_corpus_completer(corpora: Iterable[str]) -> dict[str, Any]:
    """Write, in shtab's format, a function for each shell that offers corpora and folders."""
    # A folder's name may hold shell code, and a shell runs this script: offer only harmless names.
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
