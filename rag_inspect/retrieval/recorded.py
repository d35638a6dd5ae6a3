"""Recorded candidates as a first stage: what another retriever found, read from a TREC run beside the corpus."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rag_inspect.corpora.candidates import list_recorded, read_run
from rag_inspect.errors import ModelError
from rag_inspect.types import Candidates, Corpus, FirstStage, Passage, Query, Ranking, Reading


def clean_tag(tag: str) -> str:
    """Return a run's tag as the name of its scores: at most 40 characters, all of which can be shown."""
    return "".join(filter(str.isprintable, tag))[:40] or "recorded"


class RecordedRetriever:
    """Returns the recorded ranking of a query, known by its id; a query that the run lacks has no candidates."""

    def __init__(self, corpus: Corpus, first_stage: FirstStage) -> None:
        """Raises ModelError if the corpus has no such run, CorpusError if it cannot be read."""
        found = list_recorded(corpus)
        _, _, name = first_stage.key.partition(":")
        path = found.get(name) if name or len(found) != 1 else next(iter(found.values()))
        if path is None:
            names = ", ".join(f"recorded:{each}" for each in found)
            remedy = f"choose one of {names}" if found else "expected a TREC run in candidates/NAME.trec"
            raise ModelError(f'{corpus.name} has no recorded candidates "{first_stage.key[:80]}"; {remedy}')
        run = read_run(corpus, path)
        self.first_stage = FirstStage(
            key=first_stage.key, kind="recorded", score_name=f"{clean_tag(run.tag)} score"
        )
        self.notes = run.notes
        self._corpus, self._rankings = corpus, run.rankings

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        """Return the first `top_k` recorded hits of each query."""
        return [self._find(query, top_k, timed=len(queries) == 1) for query in queries]

    def _find(self, query: Query, top_k: int, timed: bool) -> Candidates:
        began = time.perf_counter()
        hits = self._rankings.get(query.query_id, Ranking(())).hits
        kept, beyond = hits[:top_k], hits[top_k:]
        nothing = () if kept else (f"The run of {self.first_stage.key} has no candidates for this query.",)
        spent = {"retrieve": (time.perf_counter() - began) * 1000}
        return Candidates(
            query=query,
            first_stage=self.first_stage,
            top_k=top_k,
            ranking=Ranking(kept),
            passages={hit.passage_id: self._corpus.passage_by_id[hit.passage_id] for hit in kept},
            tied=sum(hit.score == kept[-1].score for hit in beyond) if kept else 0,
            timings_ms=spent if timed else {},
            notes=(*self.notes, *nothing),
        )

    def rank_exactly(self, wanted: Sequence[tuple[Query, Sequence[str]]], top_k: int) -> list[dict[str, int]]:
        """Return the recorded rank of each query's wanted passages; without those that the run lacks."""
        ranks = [self._rankings.get(query.query_id, Ranking(())).rank_by_id for query, _ in wanted]
        return [
            {passage_id: known[passage_id] for passage_id in ids if passage_id in known}
            for known, (_, ids) in zip(ranks, wanted, strict=True)
        ]

    def audit(self, queries: Sequence[Query], top_k: int) -> None:
        """Return None: nobody recorded what that retriever missed."""

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return None: nobody recorded what that retriever read."""
        return None
