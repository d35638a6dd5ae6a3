"""Record the example searches of every built-in corpus with minilm and mini: `python -m rag_inspect.recording`."""

from __future__ import annotations

from rag_inspect.options import SearchOptions
from rag_inspect.recorded import record
from rag_inspect.settings import Settings
from rag_inspect.types import Reranking
from rag_inspect.workbench import Workbench


def main() -> None:
    """Search for each corpus's examples and write the results to the corpus's folder."""
    bench = Workbench(Settings.from_env())
    for name, path in bench.corpora().items():
        if not path.is_relative_to(bench.settings.corpora_dir):
            continue
        corpus = bench.corpus(name)
        searches = []
        for query_id in corpus.card.examples:
            asked = SearchOptions(query="", query_id=query_id, corpus=name, reranker="mini")
            *_, end = bench.search(asked)
            assert isinstance(end, Reranking)
            searches.append(end)
            print(f"{name} {query_id}: {end.summary}")
        record(corpus, searches)


if __name__ == "__main__":
    main()
