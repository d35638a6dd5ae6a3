"""The examples at the end of each command's `--help`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("serve", "open the web app"),
        ('search "binary quantisation" --corpus resources', "one query through both stages"),
        ("eval --corpus product-help", "an eval set through both stages"),
        ("--print-completion bash", "the script that completes all this in bash"),
    ),
    "serve": (
        ("serve", "on http://127.0.0.1:7860, with the built-in corpora"),
        ("serve --corpus ./my-corpus", "open on a BEIR folder of your own"),
        ("serve --replay results/replay.json", "show an evaluation that eval --out wrote"),
        ("serve --host 0.0.0.0 --port 8000", "public mode: other machines can reach it"),
    ),
    "search": (
        ('search "binary quantisation" --corpus resources', "a table of what moved"),
        ('search "how do I get rid of the watermark" --corpus product-help --json', "one JSON document"),
        ('search "refunds" --corpus ./my-corpus --top-k 50 --top-n 10', "a folder, and a deeper first stage"),
    ),
    "eval": (
        ("eval --corpus product-help", "with the default reranker"),
        ("eval --corpus product-help --reranker mini,base --split dev", "compare two rerankers"),
        ("eval --corpus ./my-corpus --out results", "write TREC runs, CSV, JSON, report and replay"),
        ('eval --corpus ./my-corpus --fail-under "mrr@5=0.8"', "fail a build below a limit"),
    ),
    "bench": (
        ("bench", "every reranker that is on disk"),
        ("bench --reranker mini --json", "one reranker, as JSON"),
    ),
    "corpora": (
        ("corpora", "what there is to search"),
        ("corpora lint", "check all of them"),
        ("corpora lint ./my-corpus", "check one folder"),
    ),
    "models": (
        ("models", "which models can be used now"),
        ("models --json", "the same as JSON"),
    ),
}
"""command -> (arguments, what they do); "" is `rag-inspect --help` itself."""


def add_examples(top: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """End the help of `rag-inspect` and of each command with its examples."""
    for name, parser in {"": top, **commands}.items():
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        lines = [f"  {top.prog} {arguments}\n      {what}" for arguments, what in EXAMPLES[name]]
        parser.epilog = "\n".join(["examples:", *lines])
