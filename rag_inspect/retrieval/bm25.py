"""BM25 as a first stage, by bm25s (https://github.com/xhluca/bm25s): its Lucene variant, k1 1.5 and b 0.75.

An index is a folder under `bm25/`, memory-mapped. It belongs to the corpus's texts and to how they are split into
terms; if either changes, another one is made.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_inspect.corpora.language import find_languages
from rag_inspect.errors import RagInspectError
from rag_inspect.files import find_set_aside_time, set_aside, write_folder
from rag_inspect.retrieval.tokens import Terms
from rag_inspect.types import Candidates, Corpus, FirstStage, Passage, Progress, Query, Ranking, Reading

if TYPE_CHECKING:
    from bm25s import BM25

BM25_STAGE = FirstStage(key="bm25", kind="bm25", score_name="bm25")
UNUSED_DAYS = 30  # an index not opened for this long is deleted
REPORTED = 1000  # passages between two reports of progress
NOTHING_KNOWN = "bm25 found nothing: no word of the query is in the corpus."


class Bm25Retriever:
    """Ranks the passages that share a term with the query; the others are no candidates, so there may be few or none."""

    first_stage = BM25_STAGE

    def __init__(self, corpus: Corpus, index: BM25, terms: Terms, notes: tuple[str, ...] = ()) -> None:
        self._corpus, self._index, self._terms = corpus, index, terms
        self.notes = notes  # what became of a damaged index

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        """Find the candidates of each query by BM25 score. `timings_ms` has `retrieve`, only for a single query."""
        found = []
        for query in queries:
            began = time.perf_counter()
            places, scores = self.score(query.text)
            best = _select_best(scores, top_k)
            passages = [self._corpus.passages[places[at]] for at in best]
            last = scores[best[-1]] if len(best) == top_k else np.inf
            spent = {"retrieve": (time.perf_counter() - began) * 1000}
            found.append(
                Candidates(
                    query=query,
                    first_stage=self.first_stage,
                    top_k=top_k,
                    ranking=Ranking.of(
                        [(p.passage_id, float(scores[at])) for p, at in zip(passages, best, strict=True)]
                    ),
                    passages={passage.passage_id: passage for passage in passages},
                    tied=int((scores == last).sum() - (scores[best] == last).sum()),
                    timings_ms=spent if len(queries) == 1 else {},
                    notes=self.notes if passages else (*self.notes, NOTHING_KNOWN),
                )
            )
        return found

    def score(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (places in the corpus, in order; their scores above 0) of the passages with a term of the query."""
        known = self._index.get_tokens_ids(self._terms(query))
        if not known:
            return np.empty(0, dtype=int), np.empty(0, dtype=np.float32)
        scores = self._index.get_scores_from_ids(known)
        places = np.flatnonzero(scores > 0)
        return places, scores[places]

    def rank_exactly(self, wanted: Sequence[tuple[Query, Sequence[str]]], top_k: int) -> list[dict[str, int]]:
        """Return the rank of each query's wanted passages among all; without those that share no term with it."""
        found = []
        for query, ids in wanted:
            places, scores = self.score(query.text)
            order = places[np.argsort(-scores, kind="stable")].tolist()
            ranks = {self._corpus.passages[place].passage_id: rank for rank, place in enumerate(order, 1)}
            found.append({passage_id: ranks[passage_id] for passage_id in ids if passage_id in ranks})
        return found

    def audit(self, queries: Sequence[Query], top_k: int) -> None:
        """Return None: every passage is scored."""

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return None: BM25 reads all of every text."""
        return None

    def close(self) -> None:
        """Let go of the memory-mapped files."""
        del self._index


def _select_best(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Return where the `top_k` highest scores are, best first; equal scores keep their order."""
    if len(scores) > top_k:
        least = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
        kept = np.flatnonzero(scores >= least)
    else:
        kept = np.arange(len(scores))
    return kept[np.argsort(-scores[kept], kind="stable")][:top_k]


def open_bm25(corpus: Corpus, home: Path, report: Progress | None = None) -> Bm25Retriever:
    """Return the corpus's BM25 index: from the folder under `home`, else made now and written there.

    An index that cannot be read is set aside and made again; where nothing can be written, it stays in memory.
    """
    terms = Terms(find_languages(corpus)[0])
    folder = home / "bm25" / f"{corpus.fingerprint[:24]}.{terms.name}"
    notes: tuple[str, ...] = ()
    try:
        index = _read_index(folder, len(corpus.passages))
    except (OSError, ValueError, KeyError, TypeError) as error:
        kept = set_aside(folder)
        notes = (f"The BM25 index was damaged ({error}). It was set aside as {kept}, and a new one made.",)
        index = None
    if index is None:
        index = build_index([passage.full_text for passage in corpus.passages], terms, corpus.name, report)
        with suppress(RagInspectError), write_folder(folder) as draft:
            index.save(draft, show_progress=False)
        _delete_unused(folder.parent, keep=folder.name)
    return Bm25Retriever(corpus, index, terms, notes)


def build_index(texts: Sequence[str], terms: Terms, name: str, report: Progress | None = None) -> BM25:
    """Index these texts in their order; `name` is what progress calls the corpus."""
    from bm25s import BM25

    vocabulary: dict[str, int] = {}
    ids: list[list[int]] = []
    for done, text in enumerate(texts, 1):
        ids.append([vocabulary.setdefault(term, len(vocabulary)) for term in terms(text)])
        if report and (done % REPORTED == 0 or done == len(texts)):
            report(done, len(texts), f"passages of {name} indexed by bm25")
    if not vocabulary:  # nothing but marks: bm25s would divide by the mean length, 0
        ids, vocabulary = [[0]] * len(texts), {"": 0}
    index = BM25()
    index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    return index


def _read_index(folder: Path, passages: int) -> BM25 | None:
    """Return the index in this folder, or None if there is none. Raises OSError, ValueError, KeyError or TypeError."""
    from bm25s import BM25

    if not folder.is_dir():
        return None
    size = json.loads((folder / "params.index.json").read_text("utf-8"))["num_docs"]
    index = BM25.load(folder, mmap=True, show_progress=False)
    starts = index.scores["indptr"]
    entries = len(index.scores["data"]), len(index.scores["indices"]), int(starts[-1])
    if size != passages or len(set(entries)) > 1 or len(starts) <= max(index.vocab_dict.values(), default=0):
        raise ValueError(
            f"it holds {size} passages and {entries[0]} entries, expected {passages} and {entries[2]}"
        )
    with suppress(OSError):
        os.utime(folder)  # used today
    return index


def _delete_unused(folder: Path, keep: str) -> None:
    """Delete the indexes that nobody has opened for UNUSED_DAYS; those that were set aside wait for their own sweep."""
    with suppress(OSError):
        for path in folder.iterdir():
            if find_set_aside_time(path.name) is not None:
                continue
            if path.name != keep and time.time() - path.stat().st_mtime > UNUSED_DAYS * 86400:
                shutil.rmtree(path, ignore_errors=True)
