"""The examples at the end of each command's `--help`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("serve", "open the web app"),
        (
            'search "loads the reranker weights all over again" --corpus resources',
            "run one query through both stages",
        ),
        ("eval --corpus product-help", "run an eval set through both stages"),
        ("--print-completion bash", "print the completion script for bash"),
    ),
    "serve": (
        ("serve", "open http://127.0.0.1:7860 with the built-in corpora"),
        ("serve --corpus ./my-corpus", "open on a BEIR folder of your own"),
        ("serve --replay results/replay.json", "open an evaluation written by eval --out"),
        ("serve --host 0.0.0.0 --port 8000", "public mode: other machines can reach it"),
    ),
    "search": (
        (
            'search "loads the reranker weights all over again" --corpus resources',
            "print a table of what moved",
        ),
        (
            'search "how do I get rid of the watermark" --corpus product-help --json',
            "print one JSON document",
        ),
        (
            'search "refunds" --corpus ./my-corpus --top-k 50 --top-n 10',
            "search a folder of your own, with a deeper first stage",
        ),
    ),
    "explain": (
        (
            "explain --query-id rb012 --corpus resources --passage streamlit",
            "say why this passage is in the top 5, and what each of its sentences does",
        ),
        (
            'explain "refunds" --corpus ./my-corpus --passage p17 --first-stage hybrid --json',
            "print one JSON document",
        ),
    ),
    "eval": (
        ("eval --corpus product-help", "use the default reranker"),
        ("eval --corpus product-help --reranker mini,base --split dev", "compare two rerankers"),
        (
            "eval --corpus product-help --first-stage minilm,nomic",
            "compare two first stages, each alone and reranked",
        ),
        ("eval --corpus ./my-corpus --out results", "write TREC runs, CSV, JSON, report and replay"),
        ('eval --corpus ./my-corpus --fail-under "mrr@5=0.8"', "exit with 1 below a limit, to fail a build"),
    ),
    "bench": (
        ("bench", "measure every reranker on disk"),
        ("bench --reranker mini --json", "measure one reranker; print JSON"),
    ),
    "corpora": (
        ("corpora", "list the corpora"),
        ("corpora ./my-corpus", "read one folder and count what is in it"),
        ("corpora lint", "check all of them"),
        ("corpora lint ./my-corpus", "check one folder"),
    ),
    "models": (
        ("models", "list the models and which are available"),
        ("models --json", "the same as JSON"),
    ),
}
"""command -> (arguments, what they do); "" stands for `rag-inspect --help`."""


def add_examples(top: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """Add the examples to the end of the help of `rag-inspect` and of each command."""
    for name, parser in {"": top, **commands}.items():
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        lines = [f"  {top.prog} {arguments}\n      {what}" for arguments, what in EXAMPLES[name]]
        parser.epilog = "\n".join(["examples:", *lines])
