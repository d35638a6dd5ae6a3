"""Dense retrieval: texts embedded once into Chroma, then the top_k by cosine."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_inspect.errors import RetrievalError
from rag_inspect.retrieval.chroma import explain_failures, stamp
from rag_inspect.types import (
    Candidates,
    Corpus,
    Embedder,
    Embedding,
    FirstStage,
    ModelSpec,
    Passage,
    Progress,
    Query,
    Ranking,
    hash_text,
)

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

BATCH = 32  # texts embedded and stored at a time: what a kill costs
BEAM = 400  # Chroma's ef_search: these corpora are small, and a reranker demo must not lose candidates to the index
TIES = 50  # fetched beyond top_k: Chroma may cut equal cosines anywhere, we cut them in the corpus's order
VECTORS_HELD = 20_000  # fetched before and likely wanted again: 31 MB of minilm


def describe_dense(spec: ModelSpec) -> FirstStage:
    """The first stage that an embedder makes."""
    return FirstStage(
        key=spec.key, kind="dense", score_name=spec.score_name, embedder=spec, score_range=(0.0, 1.0)
    )


class DenseRetriever:
    """One index: the texts of one corpus as vectors of one embedder.

    An entry of the index is a text, known by its hash: passages of one text share its vector and tie exactly. The
    collection's name holds the corpus fingerprint and the embedder's key and fingerprint: a changed corpus is a new
    index, an unchanged one is never embedded again.
    """

    def __init__(self, client: ClientAPI, corpus: Corpus, embedder: Embedder) -> None:
        self.first_stage = describe_dense(embedder.spec)
        self._corpus, self._embedder = corpus, embedder
        self._holders: dict[str, list[int]] = {}  # text hash -> places of its passages in the corpus
        for place, passage in enumerate(corpus.passages):
            self._holders.setdefault(hash_text(passage.full_text), []).append(place)
        made_by = sha256(f"texts by hash|{embedder.fingerprint}".encode()).hexdigest()
        self.name = f"{corpus.fingerprint[:24]}.{embedder.spec.key}.{made_by[:12]}"
        self._collection = self._open(client)
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @explain_failures
    def _open(self, client: ClientAPI) -> Any:
        hnsw: Any = {"space": "cosine", "ef_construction": 200, "ef_search": BEAM}
        collection = client.get_or_create_collection(
            self.name,
            configuration={"hnsw": hnsw},
            embedding_function=None,
            metadata={"corpus": self._corpus.name},
        )
        stamp(collection, date.today())
        return collection

    @explain_failures
    def find_missing(self) -> dict[str, Passage]:
        """By text hash, a passage of each text that the index does not hold: all at first, none when it is whole."""
        passages = self._corpus.passages
        texts = {key: passages[places[0]] for key, places in self._holders.items()}
        if self._collection.count() == len(texts):
            return {}
        held = set(self._collection.get(include=[])["ids"])
        return {key: passage for key, passage in texts.items() if key not in held}

    def index(self, on_progress: Progress | None = None) -> int:
        """Embed and store what is missing; returns how many texts that was. Safe to repeat, safe to kill."""
        missing, total = self.find_missing(), len(self._holders)
        # Near lengths together, so that a batch is not padded to its one long text.
        todo = sorted(missing.items(), key=lambda item: len(item[1].full_text))
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            self._store([key for key, _ in batch], self._embedder.embed_passages([p for _, p in batch]))
            if on_progress:
                done = total - len(todo) + start + len(batch)
                on_progress(done, total, f"passages of {self._corpus.name} embedded")
        return len(todo)

    @explain_failures
    def _store(self, keys: list[str], vectors: np.ndarray) -> None:
        # upsert, not add: two processes may be indexing the same corpus.
        self._collection.upsert(ids=keys, embeddings=vectors)

    @explain_failures
    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        """The candidates of each query by cosine; the passages carry the vectors that the index holds.

        Equal cosines keep the corpus's order. `timings_ms` has embed and retrieve, for a single query.
        """
        if not queries:
            return []
        began = time.perf_counter()
        vectors = self._embedder.embed_queries([query.text for query in queries])
        embedded = time.perf_counter()
        found = self._collection.query(
            query_embeddings=vectors,
            n_results=min(top_k + TIES, len(self._holders)),
            include=["distances"],
        )
        ranked = [
            self._rank(keys, distances, top_k)
            for keys, distances in zip(found["ids"], found["distances"], strict=True)
        ]
        carried = self._carry({place for places in ranked for place, _ in places})
        retrieved = time.perf_counter()
        timings = {"embed": (embedded - began) * 1000, "retrieve": (retrieved - embedded) * 1000}
        return [
            Candidates(
                query=query,
                first_stage=self.first_stage,
                top_k=top_k,
                ranking=Ranking.of([(carried[place].passage_id, cosine) for place, cosine in places]),
                passages={carried[place].passage_id: carried[place] for place, _ in places},
                timings_ms=timings if len(queries) == 1 else {},
            )
            for query, places in zip(queries, ranked, strict=True)
        ]

    def close(self) -> None:
        """Let the vectors go; the index on disk stays."""
        with self._lock:
            self._vectors.clear()

    def _rank(self, keys: Sequence[str], distances: Sequence[float], top_k: int) -> list[tuple[int, float]]:
        """(place in the corpus, cosine), best first: every passage of each text that was found."""
        near = [
            (distance, place)
            for key, distance in zip(keys, distances, strict=True)
            for place in self._holders.get(key, ())
        ]
        return [(place, 1.0 - distance) for distance, place in sorted(near)[:top_k]]

    def _carry(self, places: Iterable[int]) -> Mapping[int, Passage]:
        """These passages with their vectors. Chroma is slow to hand those out, so the latest are remembered."""
        wanted = {place: hash_text(self._corpus.passages[place].full_text) for place in places}
        known = self._fetch(set(wanted.values()))
        if lost := sorted(place for place, key in wanted.items() if key not in known):
            name = self._corpus.passages[lost[0]].passage_id
            raise RetrievalError(
                f"the index of {self._corpus.name} lost {len(lost)} of its passages while it was asked ({name!r}); "
                "start again: what it lacks is embedded first"
            )
        made_by = self._embedder.fingerprint
        return {
            place: replace(self._corpus.passages[place], embedding=Embedding(key, made_by, known[key]))
            for place, key in wanted.items()
        }

    def _fetch(self, keys: set[str]) -> Mapping[str, np.ndarray]:
        with self._lock:
            known = {key: self._vectors[key] for key in keys if key in self._vectors}
        new = sorted(keys - known.keys())
        if new:
            stored = self._collection.get(ids=new, include=["embeddings"])
            for key, vector in zip(stored["ids"], stored["embeddings"], strict=True):
                known[key] = np.asarray(vector, dtype=np.float32)
        with self._lock:
            for key, vector in known.items():
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > VECTORS_HELD:
                self._vectors.popitem(last=False)
        return known
