"""The composition root: it owns settings, corpora, indexes, models and caches, and connects the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from rag_inspect import pipeline
from rag_inspect.admission import OURSELVES, Admission, Asker
from rag_inspect.corpora.language import find_languages
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.notes import note_evaluation, note_search
from rag_inspect.errors import InputError
from rag_inspect.evaluation import EvalProgress, Fusion, add_provenance, evaluate
from rag_inspect.evaluation.archive import Archive
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.eval_set import check_evaluation
from rag_inspect.evaluation.jobs import Job, Jobs, JobSettings
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.recorded import RecordedEvaluations
from rag_inspect.evaluation.turn import Turn
from rag_inspect.explain import MOST_PAIRS, explain
from rag_inspect.files import sweep_drafts, sweep_set_aside
from rag_inspect.hub import HubProbe
from rag_inspect.loading import Loader, load_each, prepare
from rag_inspect.locate import find_passage, locate
from rag_inspect.options import FIRST_STAGE, EvalOptions, SearchOptions, check_explained, check_length
from rag_inspect.recorded import read_record
from rag_inspect.rerankers import RERANKERS, default_reranker, list_models
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import lacks_scores
from rag_inspect.sessions import LOCAL, Sessions, Visitor
from rag_inspect.settings import Settings
from rag_inspect.store import Lease
from rag_inspect.tasks import Stage, Task
from rag_inspect.transformer import choose_device
from rag_inspect.types import (
    Availability,
    Corpus,
    Explanation,
    Location,
    ModelSpec,
    Reranker,
    Reranking,
    Retriever,
    WhatIf,
)
from rag_inspect.what_if import ask_what_if


class Workbench:
    """Everything that lives while the app or a command runs. Making one is cheap: it loads no model and no index."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._probe = HubProbe()
        self.loader = Loader(lambda: self.settings)
        self._warm_up: Task[None] | None = None
        self.jobs = Jobs()
        self.recorded_evaluations = RecordedEvaluations(FIRST_STAGES, RERANKERS)
        self.replay: Outcome | None = None  # what `serve --replay` shows; needs no model

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Rebuild the library and the sessions, which depend on the settings: `serve` makes an existing workbench public."""
        self._settings = settings
        self.library, self.sessions = CorpusLibrary(settings), Sessions(settings)
        self.archive = Archive(settings.home / "runs", self.sessions)
        (each, near), (few, some) = ((8, 24), (2, 6)) if settings.public else ((32, 32), (8, 8))
        self.searches = Admission("searches", most=32, each=each, each_address=near)
        self.evaluations = Admission("evaluations", most=8, each=few, each_address=some)

    # Corpora and models by name

    def corpora(self, visitor: Visitor = LOCAL) -> dict[str, Path]:
        return self.library.list(visitor)

    def models(self) -> list[tuple[ModelSpec, Availability]]:
        return list_models(self.settings, self._probe)

    @cached_property
    def default_reranker(self) -> str:
        return default_reranker(self.settings)

    @property
    def default_corpus(self) -> str:
        return self.library.default

    def open_on(self, corpus: str) -> None:
        """Make the app open on this corpus, and list it if it is a folder. Raises CorpusError if it cannot be read."""
        self.corpus(corpus)
        path = self.library.find(corpus)
        self.settings = replace(self.settings, opened_corpus=path.resolve())

    @cached_property
    def score_cache(self) -> ScoreCache:
        return ScoreCache(self.settings.home / "scores.sqlite", self.settings.cache_mb * 1_000_000)

    def corpus(self, name: str, visitor: Visitor = LOCAL) -> Corpus:
        return self.library.open(name, visitor)

    def find_recorded(self, corpus: Corpus, query_id: str | None) -> Reranking | None:
        """Return the recorded search for this query, or None if there is none at the models' current revisions."""
        return read_record(corpus, query_id, FIRST_STAGES, RERANKERS)

    def find_recorded_evaluation(self, corpus: Corpus) -> Evaluation | None:
        """Return the evaluation recorded beside the corpus, or None if there is none at the models' current revisions."""
        return self.recorded_evaluations.find(corpus)

    # Models and first stages by name: see Loader

    def reranker(self, key: str) -> Lease[Reranker]:
        return self.loader.reranker(key)

    def retriever(self, corpus: Corpus, first_stage: str = FIRST_STAGE) -> Lease[Retriever]:
        """Lease a first stage over a corpus, as `Loader.retriever` does."""
        if self._warm_up and (corpus.name, first_stage) != (self.default_corpus, FIRST_STAGE):
            self._warm_up.stop()  # somebody needs another index now; do not compete with it
        return self.loader.retriever(corpus, first_stage)

    def sweep(self) -> None:
        """Delete the drafts that killed processes left here, and what was set aside as damaged more than a month ago."""
        for folder in (self.settings.home, self.settings.home / "bm25", self.archive.folder):
            sweep_drafts(folder)
            sweep_set_aside(folder)

    def warm_up(self) -> None:
        """Load what the first screen needs, in the background."""

        def make(task: Task[None]) -> None:
            with self.loader.retriever(self.corpus(self.default_corpus)) as index:
                index.value(task.report)
            self.loader.warm(self.default_reranker).value(task.report)

        self._warm_up = Task(make, "starting").start()

    @property
    def warming(self) -> Stage | None:
        """The progress of the warm-up; None if it is over or never started."""
        return None if self._warm_up is None or self._warm_up.over else self._warm_up.stage

    # Searches and evaluations

    def search(self, options: SearchOptions, who: Asker = OURSELVES) -> Iterator[Stage | Reranking]:
        """Yield a Stage while something loads, then Rerankings as the query is scored; the last one is complete.

        Loads the reranker's weights only if the score cache lacks a pair. Raises a RagInspectError; if the request
        is wrong, or `searches` has no place for `who`, before any slow work.
        """
        chosen, key = self.corpus(options.corpus), options.reranker or self.default_reranker
        query, _ = pipeline.make_query(options.query, chosen, options.query_id)
        if self.settings.public:
            check_length(replace(options, query=options.query or query.text))
        with self.searches.take(who):
            yield from self._search(options, chosen, key)

    def _search(self, options: SearchOptions, chosen: Corpus, key: str) -> Iterator[Stage | Reranking]:
        with (
            self.loader.reopen_after_failure(chosen, options.first_stage),
            self.retriever(chosen, options.first_stage) as index,
            self.reranker(key) as model,
        ):
            load_ms = yield from prepare(index, model)
            candidates = pipeline.find_candidates(
                index.value(),
                chosen,
                options.query,
                options.top_k,
                options.query_id,
                options.keep_identical_ids,
                options.gold_grade,
            )
            reranker, cache = model.value(), self.score_cache
            if lacks_scores(reranker, candidates.pairs, cache):
                load_ms += yield from prepare(self.loader.warm(key))
            loaded, known = {"load": load_ms} if load_ms else {}, note_search(chosen)
            for moment in pipeline.rerank(candidates, reranker, cache, options.kept):
                times, notes = {**loaded, **moment.timings_ms}, self.loader.notes + cache.notes + known
                if "total" in times:
                    times["total"] += load_ms
                yield replace(moment, timings_ms=times, notes=moment.notes + notes)

    def locate(
        self, search: Reranking, passage_id: str, who: Asker = OURSELVES, *, corpus: str = ""
    ) -> Location:
        """Locate a passage for a complete search: for its own first stage, and for those that need no other embedder.

        `corpus` is what was searched, if its name is not enough to find it: a folder. Waits until they are open. Raises a RagInspectError; if `searches` has no place for `who`, before any slow work.
        """
        chosen, own = self.corpus(corpus or search.candidates.corpus), search.candidates.first_stage
        others = [key for key, stage in FIRST_STAGES.items() if stage.reader in (own.reader, "bm25")]
        keys = dict.fromkeys([own.key, *others])
        with ExitStack() as held, self.loader.reopen_after_failure(chosen, own.key):
            held.enter_context(self.searches.take(who))
            leases = {key: held.enter_context(self.loader.retriever(chosen, key)) for key in keys}
            retrievers = {key: lease.value() for key, lease in leases.items()}
            return locate(search, chosen, passage_id, retrievers)

    def explain(
        self, search: Reranking, passage_id: str, who: Asker = OURSELVES, *, corpus: str = ""
    ) -> Iterator[Stage | Explanation]:
        """Yield a Stage while something loads, then the Explanation of a passage for a complete search, as it grows.

        `corpus` as for `locate`. Raises a RagInspectError; InputError if the corpus has no such passage or `searches` no place for `who`.
        """
        chosen = self.corpus(corpus or search.candidates.corpus)
        passage = search.candidates.passages.get(passage_id) or find_passage(chosen, passage_id)
        if self.settings.public:
            check_explained(search.candidates.query.text, MOST_PAIRS)
        with self.searches.take(who), self.reranker(search.reranker.key) as model:
            yield from prepare(model)
            language = next(iter(find_languages(chosen)[0]), "en")
            yield from explain(search, passage, model.value(), self.score_cache, language)

    def ask_what_if(
        self, search: Reranking, passage_id: str, *, text: str, query: str, who: Asker = OURSELVES
    ) -> WhatIf:
        """Score an edited candidate for an edited query, as `explain.ask_what_if` does. Raises a RagInspectError."""
        passage = search.candidates.passages.get(passage_id)
        if passage is None:
            raise InputError(f'"{passage_id[:80]}" is not among the candidates')
        if self.settings.public:
            check_explained(query, search.candidates.top_k)
        with self.searches.take(who), self.reranker(search.reranker.key) as model:
            return ask_what_if(search, passage, model.value(), self.score_cache, text=text, query=query)

    def past_runs(self, visitor: Visitor = LOCAL) -> list[dict[str, Any]]:
        """Return summaries of the saved runs that this visitor may see, newest first."""
        return self.archive.list(visitor)

    def past_run(self, run_id: str, visitor: Visitor = LOCAL) -> Evaluation:
        """Load a saved run. Raises InputError if it does not exist or this visitor may not see it."""
        return self.archive.open(run_id, visitor)

    def evaluate(
        self,
        options: EvalOptions,
        *,
        stopped: Callable[[], bool] = lambda: False,
        visitor: Visitor = LOCAL,
        who: Asker | None = None,
    ) -> Iterator[Stage | EvalProgress | Evaluation]:
        """Yield a Stage while it waits its turn or loads something, then EvalProgress, then the Evaluation.

        A machine runs one evaluation at a time. Once `stopped()` is true, it ends without an Evaluation, and the
        scores so far stay in the cache. In public mode only `visitor` sees the saved run, and a run of nobody is not
        saved. Raises a RagInspectError; if the request is wrong, or `evaluations` has no place for `who` (default:
        the visitor), before any slow work.
        """
        with self.evaluations.take(who or Asker(visitor.owner)):
            yield from self._evaluate(options, stopped, visitor)

    def _evaluate(
        self, options: EvalOptions, stopped: Callable[[], bool], visitor: Visitor
    ) -> Iterator[Stage | EvalProgress | Evaluation]:
        chosen, keys = self.corpus(options.corpus), options.rerankers or (self.default_reranker,)
        check_evaluation(chosen, replace(options, rerankers=keys), public=bool(self.settings.public))
        turn = Turn(
            self.settings.home, f"{chosen.name} with {', '.join(keys)}", private=bool(self.settings.public)
        )
        try:
            yield from turn.wait(stopped)
            if stopped():
                return
            with ExitStack() as held, self.loader.reopen_after_failure(chosen, *options.first_stages):
                indexes: list[Retriever] = []
                models: list[Reranker] = []
                absent: list[str] = []
                stages = ((key, self.retriever(chosen, key)) for key in options.first_stages)
                rerankers = ((key, self.reranker(key), self.loader.warm(key)) for key in keys)
                loading = load_each(stages, held, indexes, absent), load_each(rerankers, held, models, absent)
                for stage in chain(*loading):
                    yield stage
                    if stopped():
                        return
                parts = yield from self.loader.fusion(chosen, indexes, held)
                for moment in evaluate(
                    chosen, indexes, models, self.score_cache, fusion=Fusion(*parts) if parts else None, aim=options.aim,
                    split=options.split, gold_grade=options.gold_grade, top_k=options.top_k, top_n=options.kept,
                    cutoffs=options.depths, keep_identical_ids=options.keep_identical_ids, stopped=stopped,
                    device=str(choose_device(self.settings.device)),
                ):  # fmt: skip
                    if isinstance(moment, EvalProgress):
                        yield moment
                    else:
                        known = note_evaluation(chosen, options.split)
                        notes = (*absent, *known, *self.loader.notes, *self.score_cache.notes)
                        stamp = add_provenance(moment, chosen, notes)
                        yield self.archive.save(stamp, options.metrics, visitor)
        finally:
            turn.free()

    def start_evaluation(self, options: EvalOptions, visitor: Visitor = LOCAL, address: str = "") -> Job:
        """Run `evaluate` as a job in its own thread; its visitor finds it again with `job`, by its id.

        `address` is the network address that asks, "" if that is this machine.
        Raises CorpusError or InputError if the request is wrong, InputError if `evaluations` has no place for the
        visitor, and in public mode for a visitor without an id, who could neither watch nor stop it.
        """
        if not self.sessions.may_see(visitor, visitor.owner):
            raise InputError("this page has no visitor id yet; wait a moment or reload it, then try again")
        check_evaluation(self.corpus(options.corpus), options, public=bool(self.settings.public))
        place = self.evaluations.take(Asker(visitor.owner, address))
        job = Job(
            lambda stopped: self._evaluate(options, stopped, visitor),
            options.corpus,
            JobSettings.of(options),
            owner=visitor.owner,
            on_over=place.release,
        )
        return self.jobs.start(job)

    def job(self, job_id: object, visitor: Visitor = LOCAL) -> Job | None:
        """Return the job with this id; None if it does not exist, is gone, or this visitor may not see it."""
        job = self.jobs.get(job_id)
        return job if job and self.sessions.may_see(visitor, job.owner) else None

    def close(self) -> None:
        """Stop the running tasks and close everything; a thing in use is closed when its last lease is released."""
        for task in (self._warm_up, *self.jobs.running):
            if task:
                task.stop()
        self.loader.close()
        if "score_cache" in self.__dict__:
            self.score_cache.close()
