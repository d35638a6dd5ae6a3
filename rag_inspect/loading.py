"""Load models and open first stages: each once, in a thread of its own, and held open while somebody has a lease on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rag_inspect.embedders import load_embedder
from rag_inspect.errors import ModelError, RetrievalError
from rag_inspect.options import EMBEDDER, FIRST_STAGE
from rag_inspect.rerankers import load_reranker
from rag_inspect.retrieval import (
    DamagedIndexError,
    Engine,
    HybridRetriever,
    RecordedRetriever,
    find_first_stage,
    open_bm25,
)
from rag_inspect.settings import Settings
from rag_inspect.store import Lease, Store
from rag_inspect.tasks import Stage, Task
from rag_inspect.types import Corpus, Embedder, FirstStage, Reranker, Retriever

INDEXES_HELD = 16  # open at once; reopening one takes milliseconds


class Loader:
    """The models and first stages of one workbench. `settings` is asked each time, because they may change."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._engine = Engine(settings)
        self._indexes = Store(INDEXES_HELD, abandonable=True)
        self._models = Store(
            settings().model_memory_mb * 1_000_000, _measure_memory, dependents=self._indexes
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to the folder of the indexes, for whoever gets results."""
        return self._engine.notes

    def embedder(self, key: str = EMBEDDER) -> Lease[Embedder]:
        """Lease an embedder."""

        def make(task: Task[Embedder]) -> Embedder:
            return load_embedder(key, self._settings(), task.report)

        return self._models.lease(("embedder", key), make, f"loading {key}")

    def reranker(self, key: str) -> Lease[Reranker]:
        """Lease a reranker. It may hold its weights only after `warm`."""

        def make(task: Task[Reranker]) -> Reranker:
            prior = task.hold(self.embedder()).value(task.report) if key == "mini" else None
            return load_reranker(key, self._settings(), prior, task.report)

        return self._models.lease(("reranker", key), make, f"loading {key}")

    def warm(self, key: str) -> Task[None]:
        """Return a task that loads a reranker's weights, once. After a failure, the next request reopens the reranker."""

        def make(task: Task[None]) -> None:
            with self.reranker(key) as model:
                try:
                    model.value(task.report).warm_up(task.report)
                except Exception:
                    self._models.forget(("reranker", key))
                    raise

        return Task(make, f"loading {key}")

    def retriever(self, corpus: Corpus, first_stage: str = FIRST_STAGE) -> Lease[Retriever]:
        """Lease a first stage over a corpus. Corpora with the same ids and texts share one, unless it is recorded.

        Take qrels and metadata from your own corpus. Raises ModelError if there is no first stage with this name.
        """
        return self._lease_stage(corpus, find_first_stage(first_stage))

    def _lease_stage(self, corpus: Corpus, stage: FirstStage) -> Lease[Retriever]:
        def make(task: Task[Retriever]) -> Retriever:
            if stage.kind == "recorded":
                return RecordedRetriever(corpus, stage)
            if stage.kind == "bm25":
                return open_bm25(corpus, self._settings().home, task.report)
            if stage.kind == "hybrid":
                leases = [task.hold(self._lease_stage(corpus, part)) for part in stage.parts]
                return HybridRetriever(stage, corpus, [lease.value(task.report) for lease in leases])
            model = task.hold(self.embedder(stage.key)).value(task.report)
            return self._engine.open_index(corpus, model, task.report)

        return self._indexes.lease(_name_index(corpus, stage), make, f"indexing {corpus.name}")

    def fusion(
        self, corpus: Corpus, retrievers: Sequence[Retriever], held: ExitStack
    ) -> Generator[Stage, None, tuple[Retriever, Retriever] | None]:
        """Open the parts of the tuned fusion: the first embedder that these first stages use, and BM25.

        Returns None if they use none. `held` keeps what was opened.
        """
        stages = [retriever.first_stage for retriever in retrievers]
        dense = next((each for each in retrievers if each.first_stage.kind == "dense"), None)
        embedder = next((stage.embedder for stage in stages if stage.embedder), None)
        if embedder is None:
            return None
        missing = ["bm25"] if dense else ["bm25", embedder.key]
        parts = [held.enter_context(self.retriever(corpus, key)) for key in missing]
        yield from prepare(*parts)
        words, *others = (part.value() for part in parts)
        return dense or others[0], words

    @contextmanager
    def reopen_after_failure(self, corpus: Corpus, *first_stages: str) -> Iterator[None]:
        """If retrieval fails, make the next request reopen index and engine: after a panic the engine is unusable."""
        generation = self._engine.generation
        try:
            yield
        except RetrievalError as error:
            for stage in map(find_first_stage, first_stages):
                for each in (stage, *stage.parts):
                    self._indexes.forget(_name_index(corpus, each))
            self._engine.forget()
            if isinstance(error, DamagedIndexError):
                self._engine.set_aside(error, generation)
            raise

    def close(self) -> None:
        """Close everything; a thing in use is closed when its last lease is released."""
        self._indexes.close()
        self._models.close()
        self._engine.close()


def prepare(*things: Lease[Any] | Task[Any]) -> Generator[Stage, None, float]:
    """Yield stages until each thing is loaded, one after the other; raises what its loading raised.

    Returns the milliseconds this took; 0 if everything was loaded before the first stage.
    """
    began, stage = time.perf_counter(), None
    for thing in things:
        for stage in thing.watch():
            yield stage
        thing.value()
    return (time.perf_counter() - began) * 1000 if stage else 0.0


def load_each(
    leases: Iterable[tuple[Any, ...]], held: ExitStack, loaded: list[Any], absent: list[str]
) -> Iterator[Stage]:
    """For each (key, lease, …): load what is leased, and what else has to be prepared for it.

    `absent` gets a note on each key that is not available. Raises ModelError if none is.
    """
    failure: ModelError | None = None
    for key, first, *others in leases:
        try:
            held.enter_context(first)
            yield from prepare(first, *others)
            loaded.append(first.value())
        except ModelError as error:
            failure = error
            absent.append(f"{key} was left out: {error}.")
    if failure and not loaded:
        raise failure


def _name_index(corpus: Corpus, stage: FirstStage) -> tuple[str, ...]:
    """Return what an open first stage depends on; a recorded one also on the folder that its run is in."""
    name = (corpus.fingerprint, stage.key)
    return (*name, str(corpus.path)) if stage.kind == "recorded" else name


def _measure_memory(model: Any) -> int:
    """Return the bytes that a model holds."""
    return getattr(model, "memory_bytes", 0)
