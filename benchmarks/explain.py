"""Time an explanation: when its first parts can be painted, when it is whole, and when it is asked for again.

    python -m benchmarks.explain [--sentences 12] [--words 10] [--repeats 5] [--reranker mini]

The passage is made of sentences of a built-in corpus, the query of its words. Each turn takes other sentences, so that
nothing comes from the cache but the turn that asks again. Beside it, as the peer, is one call of the same model for the
same pairs: an explanation should cost little more.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from rag_inspect.corpora.library import DEFAULT_CORPUS
from rag_inspect.explain import explain
from rag_inspect.options import SearchOptions
from rag_inspect.parts import split_passage
from rag_inspect.rerankers import RERANKERS
from rag_inspect.score_cache import ScoreCache
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus, Passage, Reranking
from rag_inspect.workbench import Workbench

SEED = 20_261_127


def main() -> None:
    """Read the options, explain as often as asked, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sentences", type=int, default=12, help="of the passage (default 12)")
    parser.add_argument("--words", type=int, default=10, help="of the query (default 10)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns, of which the median counts (default 5)"
    )
    parser.add_argument("--reranker", default="mini", choices=RERANKERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Settings(Path(folder)))
        turns = [
            measure(bench, options.reranker, options.sentences, options.words, at)
            for at in range(options.repeats)
        ]
    first, whole, again, alone, pairs = (median(column) for column in zip(*turns, strict=True))
    print(
        f"{options.reranker}: {options.sentences} sentences, {options.words} words, median of {options.repeats}"
    )
    print(f"first parts {first:,.0f} ms, all {pairs:.0f} pairs {whole:,.0f} ms, asked again {again:,.0f} ms")
    print(
        f"one call of the model for the same pairs: {alone:,.0f} ms, so the explanation takes {whole / alone:.2f} x as long"
    )


def measure(bench: Workbench, reranker: str, sentences: int, words: int, seed: int) -> tuple[float, ...]:
    """Return the milliseconds to the first parts, to the end, when asked again, and of the model alone; and the pairs."""
    corpus = bench.corpus(DEFAULT_CORPUS)
    query, passage = make_pair(corpus, sentences, words, random.Random(SEED + seed))
    moments = bench.search(SearchOptions(query=query, corpus=corpus.name, reranker=reranker))
    *_, search = (moment for moment in moments if isinstance(moment, Reranking))
    with bench.reranker(reranker) as lease:
        model = lease.value()
        model.warm_up()
        cache = ScoreCache(bench.settings.home / f"turn{seed}.sqlite")
        began, first = time.perf_counter(), 0.0
        for moment in explain(search, passage, model, cache):
            if moment.parts and not first:
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        began = time.perf_counter()
        [*_, last] = explain(search, passage, model, cache)
        again = time.perf_counter() - began
        cache.close()
        without = [Passage("x", f"{passage.text} {at}") for at in range(last.total)]
        began = time.perf_counter()
        model.score(query, without)
        alone = time.perf_counter() - began
    return 1000 * first, 1000 * whole, 1000 * again, 1000 * alone, last.total


def make_pair(corpus: Corpus, sentences: int, words: int, dice: random.Random) -> tuple[str, Passage]:
    """Return a query and a passage of so many words and sentences of this corpus."""
    every = [
        span.text for passage in corpus.passages for span in split_passage(Passage("x", passage.text)).spans
    ]
    some = dice.sample([text for text in every if 40 < len(text) < 200 and text.endswith(".")], sentences)
    known = sorted({word for text in some for word in text.split() if word.isalpha()})
    return " ".join(dice.sample(known, words)), Passage("made", " ".join(some))


if __name__ == "__main__":
    main()
