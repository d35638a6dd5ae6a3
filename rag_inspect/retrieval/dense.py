"""Dense retrieval: embed each text once into Chroma, then return the top_k by cosine."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_inspect.errors import RetrievalError
from rag_inspect.retrieval.chroma import explain_failures, stamp_opened
from rag_inspect.retrieval.exact import TOLERANCE, Block, find_least_cosines, rank_vectors
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
    Reading,
    hash_text,
)

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

BATCH = 32  # texts embedded and stored at a time: the most work that a kill loses
BEAM = 400  # Chroma's ef_search; high, because the corpora are small and the index must not lose candidates
TIES = 50  # fetched beyond top_k: Chroma returns equal cosines in any order, we keep the corpus's
BLOCK = 2_000  # texts whose vectors are read at a time by brute force: 3 MB of minilm's
VECTORS_HELD = 20_000  # kept in memory after the first use: 31 MB of minilm's


def describe_dense(spec: ModelSpec) -> FirstStage:
    """Describe the first stage that an embedder makes."""
    return FirstStage(
        key=spec.key, kind="dense", score_name=spec.score_name, embedder=spec, score_range=(0.0, 1.0)
    )


class DenseRetriever:
    """One index: the texts of one corpus as vectors of one embedder.

    An entry of the index is a text, identified by its hash: passages with the same text share a vector and tie
    exactly. The collection's name holds the corpus fingerprint and the embedder's key and fingerprint: a changed corpus
    gets a new index, an unchanged one is never embedded again.
    """

    def __init__(self, client: ClientAPI, corpus: Corpus, embedder: Embedder) -> None:
        self.first_stage = describe_dense(embedder.spec)
        self._corpus, self._embedder = corpus, embedder
        self._holders: dict[str, list[int]] = {}  # text hash -> places of its passages in the corpus
        for place, passage in enumerate(corpus.passages):
            self._holders.setdefault(hash_text(passage.full_text), []).append(place)
        self._place_by_id = {passage.passage_id: place for place, passage in enumerate(corpus.passages)}
        made_by = sha256(f"texts by hash|{embedder.fingerprint}".encode()).hexdigest()
        self.name = f"{corpus.fingerprint[:24]}.{embedder.spec.key}.{made_by[:12]}"
        self._collection = self._open(client)
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.on_close: Callable[[], None] | None = None  # called once

    @explain_failures
    def _open(self, client: ClientAPI) -> Any:
        hnsw: Any = {"space": "cosine", "ef_construction": 200, "ef_search": BEAM}
        collection = client.get_or_create_collection(
            self.name,
            configuration={"hnsw": hnsw},
            embedding_function=None,
            metadata={"corpus": self._corpus.name},
        )
        stamp_opened(collection, date.today())
        return collection

    @explain_failures
    def check(self) -> None:
        """Ask the index for one vector and its neighbour, so that a damaged one is known before it is needed."""
        some = self._collection.get(limit=1, include=["embeddings"])
        if some["ids"]:
            self._collection.query(query_embeddings=some["embeddings"], n_results=1, include=["distances"])

    @explain_failures
    def find_missing(self) -> dict[str, Passage]:
        """Return, by text hash, a passage of each text that is missing from the index."""
        passages = self._corpus.passages
        texts = {key: passages[places[0]] for key, places in self._holders.items()}
        if self._collection.count() == len(texts):
            return {}
        held = set(self._collection.get(include=[])["ids"])
        return {key: passage for key, passage in texts.items() if key not in held}

    def index(self, on_progress: Progress | None = None) -> int:
        """Embed and store the missing texts; returns how many. Safe to repeat and to kill."""
        missing, total = self.find_missing(), len(self._holders)
        # Similar lengths together, so that one long text does not pad a whole batch.
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
        """Find the candidates of each query by cosine; their passages come with their vectors.

        Equal cosines keep the corpus's order. `timings_ms` has `embed` and `retrieve`, only for a single query.
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
            self._rank(keys, distances)
            for keys, distances in zip(found["ids"], found["distances"], strict=True)
        ]
        passages = self._attach_passages({place for places in ranked for place, _ in places[:top_k]})
        retrieved = time.perf_counter()
        timings = {"embed": (embedded - began) * 1000, "retrieve": (retrieved - embedded) * 1000}
        return [
            Candidates(
                query=query,
                first_stage=self.first_stage,
                top_k=top_k,
                ranking=Ranking.of(
                    [(passages[place].passage_id, cosine) for place, cosine in places[:top_k]]
                ),
                passages={passages[place].passage_id: passages[place] for place, _ in places[:top_k]},
                tied=sum(cosine == places[top_k - 1][1] for _, cosine in places[top_k:]),
                timings_ms=timings if len(queries) == 1 else {},
            )
            for query, places in zip(queries, ranked, strict=True)
        ]

    def rank_exactly(self, wanted: Sequence[tuple[Query, Sequence[str]]], top_k: int) -> list[dict[str, int]]:
        """Return the true rank of each query's wanted passages, by brute force over all stored vectors."""
        queries = self._embedder.embed_queries([query.text for query, _ in wanted])
        targets = []
        for _, ids in wanted:
            places = np.array([self._place_by_id[passage_id] for passage_id in ids], dtype=int)
            passages = self._attach_passages(places.tolist())
            targets.append((places, np.array([self._stored(passages[place]) for place in places.tolist()])))
        targets = [(places, vectors.reshape(len(places), queries.shape[1])) for places, vectors in targets]
        ranks = rank_vectors(queries, targets, self._read_blocks())
        return [
            dict(zip(ids, found.tolist(), strict=True)) for (_, ids), found in zip(wanted, ranks, strict=True)
        ]

    def audit(self, queries: Sequence[Query], top_k: int) -> float:
        """Return the share, 0 to 1, of the true `top_k` passages of these queries that the index returns."""
        least = find_least_cosines(
            self._embedder.embed_queries([query.text for query in queries]), top_k, self._read_blocks()
        )
        found = [
            sum(hit.score >= cosine - TOLERANCE for hit in candidates.ranking)
            for candidates, cosine in zip(self.search(queries, top_k), least, strict=True)
        ]
        return sum(found) / (len(queries) * min(top_k, len(self._corpus.passages)))

    def _read_blocks(self) -> Iterator[Block]:
        """Yield all vectors of the index, BLOCK texts at a time; passages of one text repeat its vector."""
        keys = list(self._holders)
        for start in range(0, len(keys), BLOCK):
            yield self._read_block(keys[start : start + BLOCK])

    @explain_failures
    def _read_block(self, keys: list[str]) -> Block:
        stored = self._collection.get(ids=keys, include=["embeddings"])
        places = [self._holders[key] for key in stored["ids"]]
        vectors = np.asarray(stored["embeddings"], dtype=np.float32)
        return np.concatenate(places), np.repeat(vectors, [len(each) for each in places], axis=0)

    def _stored(self, passage: Passage) -> np.ndarray:
        assert passage.embedding is not None  # `_attach_passages` raises if a vector is missing
        return passage.embedding.values

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return how much of each passage, and of the query, its vector stands for."""
        return self._embedder.readings(query, passages)

    def close(self) -> None:
        """Free the vectors in memory; the index on disk stays."""
        with self._lock:
            self._vectors.clear()
        release, self.on_close = self.on_close, None
        if release:
            release()

    def _rank(self, keys: Sequence[str], distances: Sequence[float]) -> list[tuple[int, float]]:
        """Return (place in the corpus, cosine), best first, of every passage of each text found."""
        near = [
            (distance, place)
            for key, distance in zip(keys, distances, strict=True)
            for place in self._holders.get(key, ())
        ]
        return [(place, 1.0 - distance) for distance, place in sorted(near)]

    def _attach_passages(self, places: Iterable[int]) -> Mapping[int, Passage]:
        """Return these passages with their vectors, which are cached because Chroma is slow to return them."""
        wanted = {place: hash_text(self._corpus.passages[place].full_text) for place in places}
        known = self._fetch(set(wanted.values()))
        if lost := sorted(place for place, key in wanted.items() if key not in known):
            name = self._corpus.passages[lost[0]].passage_id
            raise RetrievalError(
                f"the index of {self._corpus.name} lost {len(lost)} passage{'s' * (len(lost) > 1)} during the search ({name!r}); "
                "run it again; missing passages are embedded first"
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
