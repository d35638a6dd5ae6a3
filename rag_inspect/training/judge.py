"""Compare mini and each of its parts with the embedding order, on corpora with an eval set:

    python -m rag_inspect.training.judge ../shared/data/dev/covid_faq ../shared/data/train:tatqa code

A corpus is a folder in BEIR layout, a source that training holds out (FOLDER:SOURCE), or `code`: functions of the
installed Python packages, with their docstrings as queries.

Rows: the embedding order (minilm), the prior alone (embedding and words), the cross-encoder alone, and mini (their
sum). --logits 0.5,2 adds mini with its logit multiplied by each of these weights. Each --against FOLDER[:COSINE_WEIGHT]
adds that BertForSequenceClassification plus the weighted cosine.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.rerankers.mini import WEIGHTS, build, build_prior
from rag_inspect.training.examples import make_code_source, read_sources
from rag_inspect.types import Corpus, CorpusCard, Embedder, Pair, Query

METRICS = ("recall@5", "mrr@5", "ndcg@10")
GAINED = "mrr@5"
FUNCTIONS = 1500
Score = Callable[[Sequence[Pair]], np.ndarray]
"""pairs -> one score each; higher is better."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of n judged queries in embedding order; `pairs` is (n, top_k) flattened."""

    pairs: list[Pair]
    cosines: np.ndarray  # (n, top_k)
    grades: np.ndarray  # (n, top_k)
    qrels: list[Mapping[str, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table. Exit codes: 0 success, 1 error (one line on stderr), 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m rag_inspect.training.judge")
    parser.add_argument(
        "corpora", nargs="+", metavar="FOLDER|FOLDER:SOURCE|code", help="corpora to judge it on"
    )
    parser.add_argument("--queries", type=int, default=150, help="judged queries to sample from each corpus")
    parser.add_argument("--top-k", type=int, default=20, help="candidates of each query")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a file that train.py wrote")
    parser.add_argument(
        "--logits",
        type=numbers,
        default=[],
        help="more weights of the logit to try, comma-separated",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        help="a rival model, FOLDER[:COSINE_WEIGHT] (default weight: 40)",
    )
    options = parser.parse_args(arguments)
    try:
        compare_parts(options)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def numbers(text: str) -> list[float]:
    """Parse comma-separated numbers. Raises ValueError; argparse puts this function's name into its message."""
    return [float(part) for part in text.split(",")]


def compare_parts(options: argparse.Namespace) -> None:
    """Print the rows of each corpus as soon as they are known. Raises RagInspectError."""
    from rag_inspect.embedders import load_embedder
    from rag_inspect.metrics import parse
    from rag_inspect.settings import Settings

    embedder = load_embedder("minilm", Settings.from_env())
    prior = build_prior(embedder, options.weights)
    cross_encoder = _make_score(*build(options.weights))
    rivals = {name: _load_rival(name) for name in options.against}
    columns = [*(parse(name).label for name in METRICS), f"{parse(GAINED).label} over the embedding order"]
    print("| corpus | system | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    for name in options.corpora:
        corpus = read(name)
        found = find_candidates(corpus, embedder, options.queries, options.top_k)
        cosines, priors = found.cosines.ravel(), np.array(prior(found.pairs))
        logits = cross_encoder(found.pairs)
        systems = {"embedding order": cosines, "prior alone": priors, "cross-encoder alone": logits}
        systems |= {"mini": logits + priors}
        systems |= {f"mini, logit x {weight:g}": weight * logits + priors for weight in options.logits}
        systems |= {rival: score(found.pairs) + weight * cosines for rival, (score, weight) in rivals.items()}
        first = compute_metrics(cosines, found)
        for system, scores in systems.items():
            measured = first if scores is cosines else compute_metrics(scores, found)
            _print_row(corpus.name, system, measured, first)


def read(name: str) -> Corpus:
    """Read a corpus by its name on the command line. Raises CorpusError."""
    from rag_inspect.corpora.beir import read_beir

    folder, _, source = name.rpartition(":")
    if name == "code":
        passages, asked = make_code_source(Path(sysconfig.get_paths()["purelib"]), FUNCTIONS)
    elif folder and not Path(name).exists():
        name, (passages, asked) = source, read_sources(Path(folder)).get(source, ([], []))
    else:
        return read_beir(Path(name))
    queries = tuple(Query(str(at), query.text) for at, query in enumerate(asked))
    qrels = {str(at): dict.fromkeys(query.positives, 1) for at, query in enumerate(asked)}
    return Corpus(CorpusCard(name=name), Path(name), tuple(passages), queries, {"test": qrels})


def find_candidates(corpus: Corpus, embedder: Embedder, queries: int, top_k: int) -> Candidates:
    """Find the candidates of a sample of judged queries, from the test split if there is one."""
    qrels = corpus.splits.get("test") or corpus.qrels
    asked = [
        query
        for query in corpus.queries
        if any(grade > 0 for grade in qrels.get(query.query_id, {}).values())
    ]
    if not asked:
        raise CorpusError(
            f"{corpus.path or corpus.name} has no judged queries, so there is nothing to measure"
        )
    sample = np.random.default_rng(1).permutation(len(asked))[:queries]
    asked = [asked[at] for at in sample]
    cosines = embedder.embed_queries([q.text for q in asked]) @ embedder.embed_passages(corpus.passages).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :top_k]
    grades = [
        [max(qrels[query.query_id].get(corpus.passages[at].passage_id, 0), 0) for at in row]
        for query, row in zip(asked, nearest, strict=True)
    ]
    return Candidates(
        pairs=[(q.text, corpus.passages[at]) for q, row in zip(asked, nearest, strict=True) for at in row],
        cosines=np.take_along_axis(cosines, nearest, axis=1),
        grades=np.array(grades, dtype=float),
        qrels=[qrels[query.query_id] for query in asked],
    )


def compute_metrics(scores: np.ndarray, found: Candidates) -> np.ndarray:
    """Compute METRICS of every query with its candidates sorted by these scores, shape (n, 3)."""
    from rag_inspect.metrics import Judged, ideal_grades, parse

    ideal, gold = ideal_grades(found.qrels, width=10)
    order = np.argsort(-scores.reshape(found.grades.shape), axis=1, kind="stable")
    judged = Judged(found.grades, ideal, gold).reordered(order)
    return np.stack([parse(name).values(judged) for name in METRICS], axis=1)


def _print_row(corpus: str, system: str, measured: np.ndarray, first: np.ndarray) -> None:
    """Print a row: the mean and interval of each metric, and the paired difference from the first stage."""
    from rag_inspect.significance import differences, intervals

    cells = [
        f"{mean:.3f} ({low:.3f}–{high:.3f})"
        for mean, (low, high) in zip(measured.mean(axis=0), intervals(measured), strict=True)
    ]
    change = differences(first, measured)[METRICS.index(GAINED)]
    delta, low, high = (100 * value for value in (change.delta, *change.ci95))
    cells.append(f"{delta:+.1f} ({low:+.1f} to {high:+.1f})" if measured is not first else "–")
    print(f"| {corpus} ({len(measured)}) | {system} | " + " | ".join(cells) + " |", flush=True)


def _make_score(model: object, tokenizer: object) -> Score:
    """Make a Score that returns the logits of a model, without a prior."""
    from rag_inspect.rerankers import RERANKERS
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
    from rag_inspect.transformer import Weights, choose_device

    reranker = CrossEncoderReranker(RERANKERS["mini"], Weights.of(model), tokenizer, choose_device())

    def score(pairs: Sequence[Pair]) -> np.ndarray:
        logits = np.empty(len(pairs))
        for batch in reranker.score_pairs(pairs):
            logits[list(batch)] = list(batch.values())
        return logits

    return score


def _load_rival(name: str) -> tuple[Score, float]:
    """Load the model in FOLDER[:COSINE_WEIGHT]; returns (score, cosine weight)."""
    from safetensors.torch import load_file

    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.mini.weights import make_model
    from rag_inspect.training.train import load_start

    folder, _, weight = name.partition(":")
    base = load_file(minilm_folder() / "model.safetensors")
    model = make_model(load_start([folder], base), minilm_folder())
    return _make_score(*model), float(weight or 40)


if __name__ == "__main__":
    sys.exit(main())
