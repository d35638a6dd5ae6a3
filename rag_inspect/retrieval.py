"""The first stage: passages embedded once into Chroma, then the top_k by cosine. The only user of chromadb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import numpy as np

from rag_inspect.errors import RetrievalError
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus, Embedder, Embedding, Passage, Progress, Ranking

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

BATCH = 32  # passages embedded and stored at a time: what a kill costs
MAX_TOP_K = 200
TIES = 50  # fetched beyond top_k: Chroma may cut equal cosines anywhere, we cut them in the corpus's order
PROBE_SECONDS = 5.0  # how long a Chroma server may take to say that it is there
_P = ParamSpec("_P")
_T = TypeVar("_T")


def _clear(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Chroma's many exceptions as one RetrievalError that says what to do."""

    @wraps(call)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        import sqlite3

        import chromadb.errors
        import httpx

        broken = (
            chromadb.errors.ChromaError,
            sqlite3.Error,
            httpx.HTTPError,
            OSError,
            ValueError,
            RuntimeError,
        )
        try:
            return call(*args, **kwargs)
        except broken as error:
            cause = " ".join(str(error).split())[:300] or type(error).__name__
            raise RetrievalError(
                f"the Chroma index failed: {cause}; check the disk and RAG_INSPECT_CHROMA_URL, "
                "or delete the folder chroma under RAG_INSPECT_HOME and index again"
            ) from error

    return wrapped


@_clear
def connect(settings: Settings) -> ClientAPI:
    """A client of the embedded Chroma under `settings.home`, or of the server at `settings.chroma_url`."""
    import chromadb
    import httpx

    quiet = chromadb.Settings(anonymized_telemetry=False)
    if settings.chroma_url is None:
        folder = settings.home / "chroma"
        folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(path=str(folder), settings=quiet)
    url = urlsplit(settings.chroma_url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise RetrievalError(
            f"RAG_INSPECT_CHROMA_URL is {settings.chroma_url!r}; expected http(s)://host:port"
        )
    ssl = url.scheme == "https"
    port = url.port or (443 if ssl else 8000)
    # Chroma's own client waits for an answer without end.
    httpx.get(
        f"{url.scheme}://{url.hostname}:{port}/api/v2/heartbeat", timeout=PROBE_SECONDS
    ).raise_for_status()
    return chromadb.HttpClient(host=url.hostname, port=port, ssl=ssl, settings=quiet)


class ChromaRetriever:
    """One index: the passages of one corpus as vectors of one embedder.

    The collection's name holds the corpus fingerprint and the embedder's key and fingerprint: a changed
    corpus is a new index, an unchanged one is never embedded again.
    """

    def __init__(self, client: ClientAPI, corpus: Corpus, embedder: Embedder) -> None:
        self.corpus = corpus
        self.embedder = embedder
        made_by = sha256(embedder.fingerprint.encode()).hexdigest()
        self.name = f"{corpus.fingerprint[:24]}.{embedder.spec.key}.{made_by[:12]}"
        self._collection = self._open(client)
        self._position = {p.passage_id: place for place, p in enumerate(corpus.passages)}
        self._carrying: dict[str, Passage] = {}

    @_clear
    def _open(self, client: ClientAPI) -> Any:
        # A wide beam: these corpora are small, and a reranker demo must not lose candidates to the index.
        hnsw: Any = {"space": "cosine", "ef_construction": 200, "ef_search": 2 * MAX_TOP_K}
        return client.get_or_create_collection(
            self.name,
            configuration={"hnsw": hnsw},
            embedding_function=None,
            metadata={"corpus": self.corpus.name},
        )

    @_clear
    def missing(self) -> list[Passage]:
        """The passages the index does not hold yet: all at first, the rest after a kill, none when it is whole."""
        if self._collection.count() == len(self.corpus.passages):
            return []
        held = set(self._collection.get(include=[])["ids"])
        return [p for p in self.corpus.passages if p.passage_id not in held]

    def index(self, on_progress: Progress | None = None) -> int:
        """Embed and store what is missing; returns how many passages that was. Safe to repeat, safe to kill."""
        todo = self.missing()
        done = len(self.corpus.passages) - len(todo)
        # Near lengths together, so that a batch is not padded to its one long passage.
        todo.sort(key=lambda passage: len(passage.full_text))
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            self._store(batch, self.embedder.embed_passages(batch))
            if on_progress:
                on_progress(
                    done + start + len(batch),
                    len(self.corpus.passages),
                    f"passages of {self.corpus.name} embedded",
                )
        return len(todo)

    @_clear
    def _store(self, passages: Sequence[Passage], vectors: np.ndarray) -> None:
        # upsert, not add: two processes may be indexing the same corpus.
        self._collection.upsert(ids=[p.passage_id for p in passages], embeddings=vectors)

    @_clear
    def retrieve(self, vectors: np.ndarray, top_k: int) -> list[tuple[Ranking, list[Passage]]]:
        """For each query vector, shape (n, dimensions): its candidates by cosine, and their passages.

        The passages carry the vectors the index holds. Equal cosines keep the corpus's order.
        """
        found = self._collection.query(
            query_embeddings=vectors,
            n_results=min(top_k + TIES, len(self.corpus.passages)),
            include=["distances"],
        )
        rankings = [
            self._ranking(ids, distances, top_k)
            for ids, distances in zip(found["ids"], found["distances"], strict=True)
        ]
        wanted = {hit.passage_id for ranking in rankings for hit in ranking}
        self._carry(wanted)
        if lost := sorted(wanted - self._carrying.keys()):
            raise RetrievalError(
                f"the index of {self.corpus.name} lost {len(lost)} of its passages while it was asked ({lost[0]!r}); "
                "start again: what it lacks is embedded first"
            )
        return [(ranking, [self._carrying[hit.passage_id] for hit in ranking]) for ranking in rankings]

    def _ranking(self, ids: Sequence[str], distances: Sequence[float], top_k: int) -> Ranking:
        order = sorted(range(len(ids)), key=lambda at: (distances[at], self._position[ids[at]]))[:top_k]
        return Ranking.of([(ids[at], 1.0 - distances[at]) for at in order])

    def _carry(self, passage_ids: set[str]) -> None:
        """Fetch the vectors not fetched before: Chroma is slow to hand them out, and each is wanted again."""
        from dataclasses import replace

        new = [passage_id for passage_id in passage_ids if passage_id not in self._carrying]
        if not new:
            return
        stored = self._collection.get(ids=new, include=["embeddings"])
        for passage_id, vector in zip(stored["ids"], stored["embeddings"], strict=True):
            embedding = Embedding(self.embedder.fingerprint, np.asarray(vector, dtype=np.float32))
            self._carrying[passage_id] = replace(self.corpus.passage_by_id[passage_id], embedding=embedding)
