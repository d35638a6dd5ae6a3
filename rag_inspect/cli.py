"""The command line: serve, search, explain, eval, bench, corpora, models. `--json` prints one document on stdout and nothing else."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from contextlib import closing
from io import TextIOWrapper
from typing import Any

from rag_inspect import __version__, cli_bench, cli_corpora, cli_eval, cli_search
from rag_inspect.cli_examples import add_examples
from rag_inspect.completion import SHELLS, PrintCompletion
from rag_inspect.errors import INTERRUPTED, RagInspectError
from rag_inspect.settings import Settings
from rag_inspect.terminal import add_json, print_error, print_json, print_lines, print_table
from rag_inspect.usage import Parser, as_argparse_type, parse_port
from rag_inspect.workbench import Workbench


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 success, 1 error (one line on stderr), 2 usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no arrows prints question marks
    code = _run(options)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _stdout_failed(error) or code
    return code


def _run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code. Its last output may still be buffered."""
    try:
        with closing(Workbench(Settings.from_env())) as bench:
            options.run(bench, options)
    except RagInspectError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt as interruption:
        print_error(str(interruption) or "stopped")
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno != errno.ENOSPC:
            raise
        return _stdout_failed(error)
    return 0


def _stdout_failed(error: OSError) -> int:
    """Drop the buffered output; return 0 if the reader closed the pipe, else 1 with a line on stderr (a full disk)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    print_error(f"the output could not be written ({error.strerror})")
    return 1


def parser() -> argparse.ArgumentParser:
    """Define all commands and their options; a test compares the README with it."""
    top = Parser("rag-inspect", description=sys.modules["rag_inspect"].__doc__)
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print this shell's completion script",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    _add_serve(commands)
    cli_search.add_commands(commands)
    cli_eval.add_commands(commands)
    cli_bench.add_commands(commands)

    cli_corpora.add_command(commands)

    command = commands.add_parser("models", help="list the models, their revisions, and which are available")
    add_json(command)
    command.set_run(_models)
    add_examples(top, commands.choices)
    return top


def _add_serve(commands: Any) -> None:
    command = commands.add_parser("serve", help="open the web app")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    command.add_argument(
        "--port", type=as_argparse_type(parse_port), default=7860, help="port to listen on (default: 7860)"
    )
    command.add_argument(
        "--root-path",
        default="",
        metavar="PATH|URL",
        help="where a reverse proxy serves the app: /tools/rag, or the whole URL",
    )
    command.add_argument(
        "--corpus", metavar="NAME|FOLDER", help="open on this corpus; a BEIR folder is added to the list"
    )
    command.add_argument(
        "--replay", metavar="FILE", help="open the replay.json that eval --out wrote; needs no model"
    )
    command.set_run(_serve)


def _serve(bench: Workbench, options: argparse.Namespace) -> None:
    if options.corpus is not None:
        bench.open_on(options.corpus)
    if options.replay:
        from rag_inspect.exports import read_replay

        bench.replay = read_replay(options.replay)
    from rag_inspect.ui import serve

    seen = bench.settings.has_screen and sys.stdout.isatty()
    serve(bench, host=options.host, port=options.port, root_path=options.root_path, inbrowser=seen)


def _models(bench: Workbench, options: argparse.Namespace) -> None:
    rows = [
        {
            "key": spec.key,
            "kind": spec.kind,
            "model": spec.model,
            "revision": spec.revision,
            "parameters": spec.parameters,
            "max_tokens": spec.max_tokens,
            "languages": list(spec.languages),
            "licence": spec.licence,
            "available": here.available,
            "source": spec.source,
            "score_name": spec.score_name,
            "price_per_1000": spec.price_per_1000,
            "on_disk": here.on_disk,
            "reason": here.reason,
        }
        for spec, here in bench.models()
    ]
    if options.json:
        print_json(rows)
    else:
        print_table(
            "Models",
            ["key", "kind", "model", "max_tokens", "licence", "source", "available", "on_disk"],
            rows,
        )
        reasons = dict.fromkeys(str(row["reason"]) for row in rows if row["reason"])
        for reason in reasons:  # once for all the models that it is true of
            print_lines(f"{', '.join(str(row['key']) for row in rows if row['reason'] == reason)}: {reason}")
