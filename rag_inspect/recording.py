"""Record searches and an evaluation of every built-in corpus with minilm and mini: `python -m rag_inspect.recording`.

With `--untimed`, as on a machine that is busy, the evaluations have no latencies.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from rag_inspect.corpora import card
from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.recorded import record_evaluation
from rag_inspect.evaluation.systems import Latency
from rag_inspect.options import EvalOptions, SearchOptions
from rag_inspect.recorded import record
from rag_inspect.settings import Settings
from rag_inspect.terminal import print_error
from rag_inspect.types import Corpus, Reranking
from rag_inspect.workbench import Workbench

RERANKER = "mini"


def run() -> int:
    """Record with the arguments of this process; return its exit code: 1 after an error, one line on stderr."""
    try:
        main(sys.argv[1:])
    except RagInspectError as error:
        print_error(str(error))
        return 1
    return 0


def main(arguments: list[str]) -> None:
    """Search for each corpus's examples, evaluate its test split, and write both to the corpus's folder."""
    bench = Workbench(Settings.from_env())
    for name, path in bench.corpora().items():
        if path.is_relative_to(bench.settings.corpora_dir):
            corpus = bench.corpus(name)
            record(corpus, [_search(bench, corpus, query_id) for query_id in list_examples(corpus)])
            _evaluate(bench, corpus, timed="--untimed" not in arguments)


def list_examples(corpus: Corpus) -> tuple[str, ...]:
    """Return the query ids of the card's examples. Raises CorpusError if no query has one of them."""
    for query_id in corpus.card.examples:
        if query_id not in corpus.query_by_id:
            place = corpus.path / card.FILE if corpus.path else corpus.name
            raise CorpusError(
                f'{place} has the example "{query_id[:80]}", which no query of {corpus.name} has as its id; '
                "expected ids of its queries: correct the example, or remove it"
            )
    return corpus.card.examples


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
    sys.exit(run())
