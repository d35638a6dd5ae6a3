"""Time the first stages on many passages: indexing, a query, the size on disk, and what the vector index loses.

    python -m benchmarks.first_stage [--passages 100000] [--repeats 3]

The passages are the built-in ones, repeated with a third of their words exchanged. A copy's vector is the original's
with noise, so that no model has to embed 100,000 texts: the index does not know the difference. Queries are the built-in
ones, embedded by minilm before the clock starts. The peers: bm25s with its own tokenizer and stop words, and a brute
force over all vectors in memory, for the same queries in alternating turns.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import bm25s
import numpy as np
import Stemmer

from rag_inspect.embedders import load_embedder
from rag_inspect.retrieval import DenseRetriever, HybridRetriever, connect, find_first_stage, open_bm25
from rag_inspect.settings import Settings
from rag_inspect.terminal import print_table
from rag_inspect.types import Corpus, CorpusCard, Embedder, Passage, Query, Reading, Retriever
from rag_inspect.workbench import Workbench

SEED, TOP_K, QUERIES = 20_261_127, 20, 100
NOISE = (
    0.6  # length of the noise beside a vector of length 1: copies are as far apart as passages of one subject
)


def main() -> None:
    """Read the options, build the corpus, and time each first stage on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passages", type=int, default=100_000, help="passages to index (default 100,000)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="turns of each, of which the median counts (default 3)"
    )
    options = parser.parse_args()
    minilm = load_embedder("minilm", Settings.from_env())
    corpus, queries, vectors = make_corpus(options.passages, minilm)
    with tempfile.TemporaryDirectory() as folder:
        time_stages(corpus, queries, Perturbed(minilm, corpus, vectors), Path(folder), options.repeats)


def make_corpus(count: int, embedder: Embedder) -> tuple[Corpus, list[Query], np.ndarray]:
    """Return a corpus of `count` passages, queries of the built-in corpora, and the passages' vectors, (count, dimensions)."""
    bench, chance = Workbench(Settings.from_env()), np.random.default_rng(SEED)
    built_in = [bench.corpus(name) for name in bench.corpora()]
    originals = [passage for corpus in built_in for passage in corpus.passages]
    words = sorted({word for passage in originals for word in passage.text.split()})
    known = embedder.embed_passages(originals)
    dice, passages = random.Random(SEED), []
    for number in range(count):
        original = originals[number % len(originals)]
        text = " ".join(
            dice.choice(words) if dice.random() < 1 / 3 and number >= len(originals) else word
            for word in original.text.split()
        )
        passages.append(Passage(f"p{number}", f"{text} {number}", original.title))
    noise = chance.normal(size=(count, known.shape[1])).astype(np.float32)
    noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    vectors = known[np.arange(count) % len(originals)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = [query for corpus in built_in for query in corpus.queries]
    card = CorpusCard(name="copies", language=("en",))
    return Corpus(card=card, path=None, passages=tuple(passages)), dice.sample(asked, QUERIES), vectors


class Perturbed:
    """minilm, with vectors made before for the passages and the queries remembered."""

    def __init__(self, minilm: Embedder, corpus: Corpus, vectors: np.ndarray) -> None:
        self.spec, self.fingerprint = minilm.spec, f"{minilm.fingerprint}-copies"
        self.minilm, self.vectors = minilm, vectors
        self.places = {passage.passage_id: place for place, passage in enumerate(corpus.passages)}
        self.known: dict[str, np.ndarray] = {}

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Embed each query once, float32 (n, dimensions)."""
        for text in texts:
            if text not in self.known:
                self.known[text] = self.minilm.embed_queries([text])[0]
        return np.stack([self.known[text] for text in texts])

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return the vectors made before, float32 (n, dimensions)."""
        return self.vectors[[self.places[passage.passage_id] for passage in passages]]

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return None: nobody asks here."""
        return None


def time_stages(
    corpus: Corpus, queries: list[Query], embedder: Perturbed, folder: Path, repeats: int
) -> None:
    """Index the corpus with each first stage, time the queries in alternating turns, and print the table."""
    settings = Settings(folder)
    embedder.embed_queries([query.text for query in queries])
    dense = DenseRetriever(connect(settings, folder / "dense"), corpus, embedder)
    built = {"minilm": seconds(dense.index)}
    found: list[Retriever] = []
    built["bm25"] = seconds(lambda: found.append(open_bm25(corpus, folder / "bm25")))
    [bm25] = found
    hybrid = HybridRetriever(find_first_stage("hybrid"), corpus, [dense, bm25])
    peer, built["bm25s alone"] = build_peer(corpus)
    stages: dict[str, Callable[[Query], object]] = {
        "minilm": lambda query: dense.search([query], TOP_K),
        "brute force": lambda query: search_exactly(embedder, query),
        "bm25": lambda query: bm25.search([query], TOP_K),
        "bm25s alone": peer,
        "hybrid": lambda query: hybrid.search([query], TOP_K),
    }
    times: dict[str, list[float]] = {name: [] for name in stages}
    for query in queries * repeats:
        for name, search in stages.items():
            times[name].append(1000 * seconds(lambda search=search, query=query: search(query)))  # type: ignore[misc]
    sizes = {
        name: size for name, at in (("minilm", "dense"), ("bm25", "bm25")) if (size := measure(folder / at))
    }
    rows = [
        {
            "first stage": name,
            "index s": f"{built[name]:,.1f}" if name in built else "",
            "on disk MB": f"{sizes[name] / 1e6:,.0f}" if name in sizes else "",
            "query p50 ms": f"{median(of):.1f}",
            "p95 ms": f"{np.percentile(of, 95):.1f}",
        }
        for name, of in times.items()
    ]
    print_table(
        f"{len(corpus.passages):,} passages, top {TOP_K}, {len(queries)} queries", list(rows[0]), rows
    )
    share: list[float | None] = []
    took = seconds(lambda: share.append(dense.audit(queries, TOP_K)))
    print(
        f"the index of minilm returns {share[0]:.2%} of the true top {TOP_K}; finding out took {took:.1f} s"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(
        f"peak memory {peak:,.0f} MB, of which {embedder.vectors.nbytes / 1e6:,.0f} are the vectors held here"
    )


def build_peer(corpus: Corpus) -> tuple[Callable[[Query], object], float]:
    """Return bm25s's own search of one query, with its defaults for English, and the seconds its index took."""
    stemmer, index = Stemmer.Stemmer("english"), bm25s.BM25()

    def build() -> None:
        texts = [passage.full_text for passage in corpus.passages]
        tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
        index.index(tokens, show_progress=False)

    def search(query: Query) -> object:
        tokens = bm25s.tokenize(query.text, stopwords="en", stemmer=stemmer, show_progress=False)
        return index.retrieve(tokens, k=TOP_K, show_progress=False)

    return search, seconds(build)


def search_exactly(embedder: Perturbed, query: Query) -> np.ndarray:
    """Return the places of the nearest passages, by comparing all."""
    cosines = embedder.vectors @ embedder.embed_queries([query.text])[0]
    best = np.argpartition(-cosines, TOP_K)[:TOP_K]
    return np.asarray(best[np.argsort(-cosines[best])])


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
