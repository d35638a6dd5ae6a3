"""An evaluation recorded beside a corpus: Evaluate shows it before anything has run here.

`make record` records one for every built-in corpus (recording.py). It is a replay without the passages' texts, with
scores rounded as far as no order changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.eval_set import select_eval_set
from rag_inspect.evaluation.outcome import Outcome, StageOutcome
from rag_inspect.evaluation.replay import read_replay
from rag_inspect.evaluation.replay_writer import to_replay
from rag_inspect.evaluation.systems import FirstStageSystem, Model
from rag_inspect.files import format_json, write_text
from rag_inspect.types import Corpus, FirstStage, ModelSpec

FILE = "evaluation.json"
DIGITS = 5  # after the point


class RecordedEvaluations:
    """The recorded evaluations of corpora, each assessed once."""

    def __init__(self, first_stages: Mapping[str, FirstStage], rerankers: Mapping[str, ModelSpec]) -> None:
        self._tables = first_stages, rerankers
        self._assessed: dict[str, tuple[Corpus, Evaluation | None]] = {}

    def find(self, corpus: Corpus) -> Evaluation | None:
        """Return the recorded evaluation of this corpus; None if there is none by these models over these texts."""
        known, evaluation = self._assessed.get(corpus.name, (None, None))
        if known is not corpus:
            outcome = read_recorded(corpus, *self._tables)
            evaluation = Evaluation(outcome, assess(outcome)) if outcome else None
            self._assessed[corpus.name] = corpus, evaluation
        return evaluation


def read_recorded(
    corpus: Corpus, first_stages: Mapping[str, FirstStage], rerankers: Mapping[str, ModelSpec]
) -> Outcome | None:
    """Return the outcome recorded beside the corpus; None if the corpus or a model has changed since."""
    path = corpus.path / FILE if corpus.path else None
    if path is None or not path.exists():
        return None
    try:
        outcome = read_replay(path)
        chosen = select_eval_set(corpus, outcome.split, outcome.gold_grade)
    except RagInspectError:
        return None  # from another version, or damaged: nothing has run yet, as without a record
    asked = [(query.query_id, query.text) for query in outcome.queries]
    same = (
        outcome.corpus_fingerprint == corpus.fingerprint
        and asked == [(query.query_id, query.text) for query in chosen.queries]
        and outcome.qrels == chosen.qrels
        and all(stage.first_stage == _find_first_stage(first_stages, stage.key) for stage in outcome.stages)
        and all(model == _find_reranker(rerankers, model.key) for model in outcome.rerankers)
    )
    found = {pid: corpus.passage_by_id[pid] for pid in outcome.passage_ids} if same else {}
    texts = {pid: (passage.title, passage.text) for pid, passage in found.items()}
    return replace(outcome, corpus=corpus.name, passages=texts) if same else None


def _find_first_stage(table: Mapping[str, FirstStage], key: str) -> FirstStageSystem | None:
    return FirstStageSystem.of(table[key]) if key in table else None


def _find_reranker(table: Mapping[str, ModelSpec], key: str) -> Model | None:
    return Model.of(table[key]) if key in table else None


def record_evaluation(corpus: Corpus, outcome: Outcome) -> None:
    """Write the outcome to the corpus's folder.

    Raises CorpusError for a corpus without a folder, and ValueError if rounding changes the order of a ranking.
    """
    if corpus.path is None:
        raise CorpusError(
            f"{corpus.name} has no folder, so its evaluation cannot be recorded; read it from a folder"
        )
    light = replace(outcome, stages=tuple(map(_round, outcome.stages)), passages={})
    for system in outcome.systems:
        if not np.array_equal(light.order(system.key), outcome.order(system.key)):
            raise ValueError(f"{DIGITS} digits do not keep the order of {system.key} on {corpus.name}")
    write_text(corpus.path / FILE, format_json(to_replay(light)))


def _round(stage: StageOutcome) -> StageOutcome:
    logits = {key: np.round(values, DIGITS) for key, values in stage.logits.items()}
    return replace(stage, scores=np.round(stage.scores, DIGITS), logits=logits)
