"""Record searches and an evaluation of every built-in corpus with minilm and mini: `python -m rag_inspect.recording`.

With `--untimed`, as on a machine that is busy, the evaluations have no latencies.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.recorded import record_evaluation
from rag_inspect.evaluation.systems import Latency
from rag_inspect.options import EvalOptions, SearchOptions
from rag_inspect.recorded import record
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus, Reranking
from rag_inspect.workbench import Workbench

RERANKER = "mini"


def main(arguments: list[str]) -> None:
    """Search for each corpus's examples, evaluate its test split, and write both to the corpus's folder."""
    bench = Workbench(Settings.from_env())
    for name, path in bench.corpora().items():
        if path.is_relative_to(bench.settings.corpora_dir):
            corpus = bench.corpus(name)
            record(corpus, [_search(bench, corpus, query_id) for query_id in corpus.card.examples])
            _evaluate(bench, corpus, timed="--untimed" not in arguments)


def _search(bench: Workbench, corpus: Corpus, query_id: str) -> Reranking:
    asked = SearchOptions(query="", query_id=query_id, corpus=corpus.name, reranker=RERANKER)
    *_, end = bench.search(asked)
    assert isinstance(end, Reranking)
    print(f"{corpus.name} {query_id}: {end.summary}")
    return end


def _evaluate(bench: Workbench, corpus: Corpus, timed: bool) -> None:
    *_, end = bench.evaluate(EvalOptions(corpus=corpus.name, rerankers=[RERANKER]))
    assert isinstance(end, Evaluation)
    outcome = (
        end.outcome
        if timed
        else replace(end.outcome, latency=dict.fromkeys(end.outcome.latency, Latency()), machine=None)
    )
    record_evaluation(corpus, outcome)
    print(f"{corpus.name}: {end.document.advice[0].text if end.document.advice else 'no advice'}")


if __name__ == "__main__":
    main(sys.argv[1:])
