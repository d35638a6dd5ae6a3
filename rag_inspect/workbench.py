"""The composition root: owns settings, corpora, indexes, models and caches, and puts the parts together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_inspect import pipeline
from rag_inspect.corpora import list_corpora, read_corpus
from rag_inspect.embedders import EMBEDDERS, load_embedder
from rag_inspect.errors import ModelError
from rag_inspect.loading import Load, Loads, Stage
from rag_inspect.recorded import read_record
from rag_inspect.rerankers import RERANKERS, default_reranker, list_models, load_reranker
from rag_inspect.retrieval import ChromaRetriever, connect
from rag_inspect.score_cache import ScoreCache
from rag_inspect.settings import Settings
from rag_inspect.types import Availability, Corpus, Embedder, ModelSpec, Passage, Progress, Reranker, Search

DEFAULT_EMBEDDER = "minilm"
DEFAULT_CORPUS = "resources"


class Workbench:
    """Everything that lives while the app or a command runs. Making one is cheap: no model, no index yet."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loads = Loads()
        self._corpora: dict[Path, tuple[tuple[int, ...], Corpus]] = {}
        self._lock = threading.Lock()
        self._warm_up: Load[None] | None = None

    # What there is

    def corpora(self) -> dict[str, Path]:
        return list_corpora(self.settings)

    def models(self) -> list[tuple[ModelSpec, Availability]]:
        return list_models(self.settings)

    @cached_property
    def default_reranker(self) -> str:
        return default_reranker(self.settings)

    @property
    def default_corpus(self) -> str:
        names = list(self.corpora())
        return DEFAULT_CORPUS if DEFAULT_CORPUS in names or not names else names[0]

    @cached_property
    def score_cache(self) -> ScoreCache:
        return ScoreCache(self.settings.home / "scores.sqlite")

    def corpus(self, name: str) -> Corpus:
        """The corpus as its files are now; read again only when one of them has changed."""
        path = self.corpora().get(name)
        if path is None:
            return read_corpus(name, self.settings)
        stamp = tuple(p.stat().st_mtime_ns for p in sorted(path.rglob("*")) if p.is_file())
        with self._lock:
            kept = self._corpora.get(path)
        if kept is None or kept[0] != stamp:
            kept = (stamp, read_corpus(name, self.settings))
            with self._lock:
                self._corpora[path] = kept
        return kept[1]

    def recorded(self, corpus: Corpus, query: str) -> Search | None:
        """The search of this query that was recorded with the models as they are now, if there is one."""
        return read_record(corpus, query, EMBEDDERS | RERANKERS)

    # What has to be loaded: each once, in its own thread, watched by all who wait for it

    def _client(self) -> Load[Any]:
        return self._loads.get("client", lambda _: connect(self.settings), "opening the index")

    def embedder(self, key: str = DEFAULT_EMBEDDER) -> Load[Embedder]:
        def make(on_progress: Progress) -> Embedder:
            return load_embedder(key, self.settings, on_progress)

        return self._loads.get(("embedder", key), make, f"loading {key}")

    def reranker(self, key: str) -> Load[Reranker]:
        def make(on_progress: Progress) -> Reranker:
            prior = self.embedder(DEFAULT_EMBEDDER).value(on_progress) if key == "mini" else None
            reranker = load_reranker(key, self.settings, prior, on_progress)
            on_progress(0, 0, f"warming {key} up")
            reranker.score("warm up", [Passage("warm-up", "The first inference of a model is its slowest.")])
            return reranker

        return self._loads.get(("reranker", key), make, f"loading {key}")

    def retriever(self, corpus: Corpus, embedder: str = DEFAULT_EMBEDDER) -> Load[ChromaRetriever]:
        def make(on_progress: Progress) -> ChromaRetriever:
            parts = self._client().value(on_progress), corpus, self.embedder(embedder).value(on_progress)
            retriever = ChromaRetriever(*parts)
            retriever.index(on_progress)
            return retriever

        return self._loads.get(("index", corpus.fingerprint, corpus.path, embedder), make, f"indexing {corpus.name}")

    def prepare(self, corpus: Corpus, embedder: str, reranker: str) -> Iterator[Stage]:
        """Stages until both models and the index are there; raises what went wrong with any of them."""
        for start in (lambda: self.retriever(corpus, embedder), lambda: self.reranker(reranker)):
            load: Load[Any] = start()
            yield from load.watch()
            load.value()

    def warm_up(self) -> None:
        """Load, in the background, what the first screen needs."""

        def make(on_progress: Progress) -> None:
            self.retriever(self.corpus(self.default_corpus)).value(on_progress)
            self.reranker(self.default_reranker).value(on_progress)

        self._warm_up = self._loads.get("warm-up", make, "starting")

    @property
    def warming(self) -> Stage | None:
        """How far the warm-up is; None once it is over, or where none was asked for."""
        return None if self._warm_up is None or self._warm_up.over else self._warm_up.stage

    # What it is all for

    def search(
        self,
        query: str,
        corpus: str,
        embedder: str = DEFAULT_EMBEDDER,
        reranker: str | None = None,
        top_k: int = 20,
        top_n: int = 5,
    ) -> Iterator[Stage | Search]:
        """Stages while something loads, then one query through both stages; the last thing yielded is the end.

        Raises a RagInspectError: checked first is what was asked for, before anything slow is begun.
        """
        pipeline.check_depths(top_k, top_n)
        chosen, key = self.corpus(corpus), reranker or self.default_reranker
        for asked, table, kind in ((embedder, EMBEDDERS, "embedder"), (key, RERANKERS, "reranker")):
            if asked not in table:
                raise ModelError(f'no {kind} "{str(asked)[:80]}"; there are {", ".join(table)}')
        pipeline.make_query(query, chosen)
        began = time.perf_counter()
        stage = None
        for stage in self.prepare(chosen, embedder, key):
            yield stage
        loaded = {"load": (time.perf_counter() - began) * 1000} if stage else {}
        parts = self.retriever(chosen, embedder).value(), self.reranker(key).value()
        for moment in pipeline.search(query, *parts, self.score_cache, top_k, top_n):
            trouble = (self.score_cache.trouble,) if self.score_cache.trouble else ()
            yield replace(moment, timings_ms={**loaded, **moment.timings_ms}, notes=moment.notes + trouble)
