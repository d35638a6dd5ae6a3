"""What mini does to corpora with an eval set, part by part, beside the embedding order:

    python -m rag_inspect.training.judge ../shared/data/dev/covid_faq ../shared/data/train:tatqa code

A corpus is a folder in BEIR layout, a source that training holds out (FOLDER:SOURCE), or `code`: functions of the
Python packages installed here, asked for by their docstrings.

Rows: the embedding order (minilm), the prior alone (embedding and words), the cross-encoder alone, mini (their
sum; with --logits 0.5,2 also with its logit times so much), and, for each --against FOLDER[:COSINE_WEIGHT], that
BertForSequenceClassification plus so much cosine.
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
from rag_inspect.training.examples import code_source, read_sources
from rag_inspect.types import Corpus, CorpusCard, Embedder, Pair, Query

METRICS = ("recall@5", "mrr@5", "ndcg@10")
GAINED = "mrr@5"
FUNCTIONS = 1500
Score = Callable[[Sequence[Pair]], np.ndarray]
"""pairs -> one number each; the higher ranks first."""


@dataclass(frozen=True)
class Candidates:
    """Every judged query's candidates in embedding order: pairs of shape (n, top_k), flattened, and cosines."""

    pairs: list[Pair]
    cosines: np.ndarray  # (n, top_k)
    grades: np.ndarray  # (n, top_k)
    qrels: list[Mapping[str, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m rag_inspect.training.judge")
    parser.add_argument("corpora", nargs="+", metavar="FOLDER|FOLDER:SOURCE|code", help="what to judge it on")
    parser.add_argument("--queries", type=int, default=150, help="a sample of so many judged queries of each")
    parser.add_argument("--top-k", type=int, default=20, help="how deep the first stage goes")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a file that train.py wrote")
    parser.add_argument(
        "--logits",
        type=numbers,
        default=[],
        help="weights of the logit to try beside the file's own, comma-separated",
    )
    parser.add_argument(
        "--against", action="append", default=[], help="FOLDER[:COSINE_WEIGHT], 40 by default"
    )
    options = parser.parse_args(arguments)
    try:
        judge(options)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def numbers(text: str) -> list[float]:
    """Comma-separated numbers. Raises ValueError, which argparse has a word for."""
    return [float(part) for part in text.split(",")]


def judge(options: argparse.Namespace) -> None:
    """Print each corpus's rows as they come. Raises RagInspectError."""
    from rag_inspect.embedders import load_embedder
    from rag_inspect.settings import Settings

    embedder = load_embedder("minilm", Settings.from_env())
    prior = build_prior(embedder, options.weights)
    cross_encoder = _cross_encoder(*build(options.weights))
    rivals = {name: _rival(name) for name in options.against}
    columns = [*METRICS, f"{GAINED} over the embedding order"]
    print("| corpus | system | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    for name in options.corpora:
        corpus = read(name)
        found = candidates(corpus, embedder, options.queries, options.top_k)
        cosines, priors = found.cosines.ravel(), np.array(prior(found.pairs))
        logits = cross_encoder(found.pairs)
        systems = {"embedding order": cosines, "prior alone": priors, "cross-encoder alone": logits}
        systems |= {"mini": logits + priors}
        systems |= {f"mini, logit x {weight:g}": weight * logits + priors for weight in options.logits}
        systems |= {rival: score(found.pairs) + weight * cosines for rival, (score, weight) in rivals.items()}
        first = values(cosines, found)
        for system, scores in systems.items():
            measured = first if scores is cosines else values(scores, found)
            _print(corpus.name, system, measured, first)


def read(name: str) -> Corpus:
    """A corpus by what the command line calls it. Raises CorpusError."""
    from rag_inspect.corpora.beir import read_beir

    folder, _, source = name.rpartition(":")
    if name == "code":
        passages, asked = code_source(Path(sysconfig.get_paths()["purelib"]), FUNCTIONS)
    elif folder and not Path(name).exists():
        name, (passages, asked) = source, read_sources(Path(folder)).get(source, ([], []))
    else:
        return read_beir(Path(name))
    queries = tuple(Query(str(at), query.text) for at, query in enumerate(asked))
    qrels = {str(at): dict.fromkeys(query.positives, 1) for at, query in enumerate(asked)}
    return Corpus(CorpusCard(name=name), Path(name), tuple(passages), queries, {"test": qrels})


def candidates(corpus: Corpus, embedder: Embedder, queries: int, top_k: int) -> Candidates:
    """The first stage's candidates of a sample of the corpus's judged queries (its test split, if it has one)."""
    qrels = corpus.splits.get("test") or corpus.qrels
    asked = [
        query
        for query in corpus.queries
        if any(grade > 0 for grade in qrels.get(query.query_id, {}).values())
    ]
    if not asked:
        raise CorpusError(f"{corpus.path or corpus.name} has no judged queries; nothing to measure")
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


def values(scores: np.ndarray, found: Candidates) -> np.ndarray:
    """METRICS of every query when its candidates are sorted by these scores, shape (n, 3)."""
    from rag_inspect.metrics import Judged, ideal_grades, parse

    ideal, gold = ideal_grades(found.qrels, width=10)
    order = np.argsort(-scores.reshape(found.grades.shape), axis=1, kind="stable")
    judged = Judged(found.grades, ideal, gold).reordered(order)
    return np.stack([parse(name).values(judged) for name in METRICS], axis=1)


def _print(corpus: str, system: str, measured: np.ndarray, first: np.ndarray) -> None:
    """One row: each metric's mean with its interval, and the paired difference to the first stage's."""
    from rag_inspect.significance import differences, intervals

    cells = [
        f"{mean:.3f} ({low:.3f}–{high:.3f})"
        for mean, (low, high) in zip(measured.mean(axis=0), intervals(measured), strict=True)
    ]
    change = differences(first, measured)[METRICS.index(GAINED)]
    delta, low, high = (100 * value for value in (change.delta, *change.ci95))
    cells.append(f"{delta:+.1f} ({low:+.1f} to {high:+.1f})" if measured is not first else "–")
    print(f"| {corpus} ({len(measured)}) | {system} | " + " | ".join(cells) + " |", flush=True)


def _cross_encoder(model: object, tokenizer: object) -> Score:
    """The logits of a model, without a prior."""
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


def _rival(name: str) -> tuple[Score, float]:
    """(score, cosine weight) of FOLDER[:COSINE_WEIGHT]."""
    from safetensors.torch import load_file

    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.mini.weights import as_model
    from rag_inspect.training.train import first_state

    folder, _, weight = name.partition(":")
    base = load_file(minilm_folder() / "model.safetensors")
    model = as_model(first_state([folder], base), minilm_folder())
    return _cross_encoder(*model), float(weight or 40)


if __name__ == "__main__":
    sys.exit(main())
