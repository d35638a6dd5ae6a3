"""Compare a whole evaluation with a plain loop that calls `CrossEncoder.rank` with its defaults for each query.

    python -m benchmarks.eval [--corpus NAME|FOLDER] [--queries 60] [--top-k 20] [--block 20] [--model mini|FOLDER]

Both take turns with the same model (mini without its prior, or a cross-encoder in a folder), the same candidates and
cached query vectors. Then the evaluation runs again from its score cache. The output also shows how much our turns
add to peak memory after the first quarter of the queries: it should not grow with the queries.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder

from rag_inspect.corpora.library import DEFAULT_CORPUS
from rag_inspect.evaluation import evaluate
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.eval_set import select_eval_set
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.metrics import HEADLINE, parse
from rag_inspect.rerankers import RERANKERS
from rag_inspect.rerankers import mini as built_in
from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
from rag_inspect.score_cache import ScoreCache
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus, Query, Retriever
from rag_inspect.workbench import Workbench


def main() -> None:
    """Read the options and run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--corpus", default=DEFAULT_CORPUS, help=f"a corpus with qrels (default {DEFAULT_CORPUS})"
    )
    parser.add_argument("--queries", type=int, default=60, help="number of queries (default 60)")
    parser.add_argument("--top-k", type=int, default=20, help="candidates per query (default 20)")
    parser.add_argument("--block", type=int, default=20, help="queries in each turn (default 20)")
    parser.add_argument(
        "--model", default="mini", help="mini, or the folder of a cross-encoder (default mini)"
    )
    options = parser.parse_args()
    bench = Workbench(Settings.from_env())
    corpus = bench.corpus(options.corpus)
    queries = select_eval_set(corpus).queries[: options.queries]
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = load_models(options.model, Path(folder))
        with bench.retriever(corpus) as index:
            retriever = index.value()
            retriever.search(queries, top_k=1)  # embeds the queries; the retriever caches them
            compare(corpus, queries, retriever, ours, peer, options.top_k, options.block, Path(folder))


def load_models(name: str, folder: Path) -> tuple[CrossEncoderReranker, CrossEncoder]:
    """Load the same weights into rag-inspect and into sentence-transformers."""
    if name == "mini":
        model, tokenizer = built_in.build()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        folder = Path(name)
    spec = replace(RERANKERS["mini"], key="bench")
    ours = CrossEncoderReranker.from_folder(spec, folder, "cpu")
    return ours, CrossEncoder(str(folder), device="cpu", max_length=512)


def compare(
    corpus: Corpus,
    queries: Sequence[Query],
    retriever: Retriever,
    ours: CrossEncoderReranker,
    peer: CrossEncoder,
    top_k: int,
    block: int,
    folder: Path,
) -> None:
    """Time both in alternating turns of `block` queries; print times, a cached run, memory and metrics."""
    cache = ScoreCache(folder / "scores.sqlite")
    spent = {"rag-inspect": 0.0, "plain loop": 0.0}
    ranked: dict[str, list[str]] = {}
    grown = 0.0  # MB that our turns added to the peak after the first quarter of the queries
    for number, start in enumerate(range(0, len(queries), block)):
        some = replace(corpus, queries=tuple(queries[start : start + block]))
        turns: list[tuple[str, Callable[[], Any]]] = [
            ("rag-inspect", partial(run_evaluation, some, retriever, ours, cache, top_k)),
            ("plain loop", partial(plain_loop, some, retriever, peer, top_k, ranked)),
        ]
        for name, turn in turns[:: 1 if number % 2 == 0 else -1]:
            began, before = time.perf_counter(), peak_mb()
            turn()
            spent[name] += time.perf_counter() - began
            if name == "rag-inspect" and start >= len(queries) / 4:
                grown += peak_mb() - before
    whole = replace(corpus, queries=tuple(queries))
    began = time.perf_counter()
    outcome = run_evaluation(whole, retriever, ours, cache, top_k)
    again = time.perf_counter() - began
    cache.close()
    for name, seconds in spent.items():
        print(f"{name:12} {seconds:8.1f} s, {len(queries) * top_k / seconds:7.1f} pairs/s")
    print(f"ratio        {spent['plain loop'] / spent['rag-inspect']:8.2f} (target: at least 2)")
    print(
        f"from cache   {again:8.2f} s, {spent['rag-inspect'] / again:.0f} times faster (target: at least 50)"
    )
    print(
        f"peak memory  {peak_mb():8.0f} MB, of which rag-inspect added {grown:.0f} after a quarter of the queries"
    )
    show_metrics(outcome, ranked)


def run_evaluation(
    corpus: Corpus, retriever: Retriever, reranker: CrossEncoderReranker, cache: ScoreCache, top_k: int
) -> Outcome:
    """Evaluate as the CLI does, but without the latency measurement, which would skip the cache."""
    *_, outcome = evaluate(corpus, [retriever], [reranker], cache, top_k=top_k, timed=False)
    assert isinstance(outcome, Outcome)
    assess(outcome)
    return outcome


def plain_loop(
    corpus: Corpus,
    retriever: Retriever,
    peer: CrossEncoder,
    top_k: int,
    ranked: dict[str, list[str]],
) -> None:
    """Rerank as a first script would; add query_id -> passage ids, best first, to `ranked`."""
    for query in corpus.queries:
        passages = retriever.search([query], top_k)[0].in_order
        order = peer.rank(query.text, [passage.full_text for passage in passages], show_progress_bar=False)
        ranked[query.query_id] = [passages[int(hit["corpus_id"])].passage_id for hit in order]


def show_metrics(outcome: Outcome, ranked: dict[str, list[str]]) -> None:
    """Print the metrics of both; they may differ because the sigmoid of the plain loop can tie different logits."""
    judged = outcome.judged_by(outcome.systems[-1].key)
    for name in HEADLINE:
        metric = parse(name)
        theirs = np.mean([metric.of(ranked[qid], grades) for qid, grades in outcome.qrels.items()])
        print(f"{name:12} {metric.values(judged).mean():8.4f} rag-inspect, {theirs:.4f} plain loop")


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    main()
