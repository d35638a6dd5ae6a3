"""Evaluations recorded beside a corpus: shown as long as they are true, and passed over once anything has changed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.errors import CorpusError
from rag_inspect.evaluation import add_provenance
from rag_inspect.evaluation.recorded import (
    DIGITS,
    FILE,
    RecordedEvaluations,
    read_recorded,
    record_evaluation,
)
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.settings import BUILT_IN_CORPORA
from tests.evaluating import ExactRetriever, ScriptedReranker, run_evaluation

BUILT_IN = sorted(path.parent.name for path in BUILT_IN_CORPORA.glob("*/corpus.jsonl"))


@pytest.fixture
def tiny(corpus_folder, settings):
    words = "red green blue black white"
    texts = {f"p{n}": f"{colour} paint number {n}" for n, colour in enumerate(words.split() * 3)}
    corpus_folder(
        passages=texts,
        queries={"q": "red paint", "r": "blue paint"},
        qrels={"test": {"q": {"p5": 1}, "r": {"p2": 1}}},
    )
    return CorpusLibrary(settings).open("tiny")


@pytest.fixture
def tables(tiny):
    return {"bag": ExactRetriever(tiny).first_stage}, {"fixed": ScriptedReranker().spec}


@pytest.fixture
def outcome(tiny):
    return add_provenance(run_evaluation(tiny, ScriptedReranker()), tiny)


def test_what_was_recorded_comes_back_with_the_texts_of_its_passages(tiny, outcome, tables):
    record_evaluation(tiny, outcome)
    found = read_recorded(tiny, *tables)
    assert found is not None and found.passages == outcome.passages and found.created == outcome.created
    assert np.array_equal(found.order("bag>>fixed"), outcome.order("bag>>fixed"))
    [kept], [made] = found.stages, outcome.stages
    assert np.allclose(kept.logits["fixed"], made.logits["fixed"], atol=10**-DIGITS, equal_nan=True)
    records = RecordedEvaluations(*tables)
    assert records.find(tiny).document.queries == 2 and records.find(tiny) is records.find(tiny)


def test_a_record_of_another_corpus_eval_set_or_model_is_not_shown(tiny, outcome, tables):
    record_evaluation(tiny, outcome)
    stages, rerankers = tables
    first, *rest = tiny.passages
    assert read_recorded(replace(tiny, passages=(replace(first, text="new"), *rest)), *tables) is None
    judged = {"test": {**tiny.splits["test"], "q": {"p5": 1, "p0": 1}}}
    assert read_recorded(replace(tiny, splits=judged), *tables) is None
    assert read_recorded(replace(tiny, splits={}), *tables) is None
    asked = tuple(replace(query, text=query.text + "?") for query in tiny.queries)
    assert read_recorded(replace(tiny, queries=asked), *tables) is None
    assert read_recorded(tiny, stages, {"fixed": replace(ScriptedReranker().spec, revision="new")}) is None
    assert read_recorded(tiny, {}, rerankers) is None and read_recorded(tiny, stages, {}) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"kind": "rag-inspect replay", "version": 2}'])
def test_a_broken_record_is_as_none(tiny, tables, raw):
    (tiny.path / FILE).write_bytes(raw)
    assert read_recorded(tiny, *tables) is None


def test_rounding_that_would_change_an_order_is_refused(tiny, outcome):
    [stage] = outcome.stages
    close = stage.logits["fixed"].copy()
    close[0, :2] = 3.000001, 3.000002
    with pytest.raises(ValueError, match="do not keep the order of bag>>fixed"):
        record_evaluation(tiny, replace(outcome, stages=(replace(stage, logits={"fixed": close}),)))


def test_a_corpus_that_is_in_no_folder_has_no_record_and_takes_none(tiny, outcome, tables):
    nowhere = replace(tiny, path=None)
    assert read_recorded(nowhere, *tables) is None
    with pytest.raises(CorpusError, match="tiny has no folder"):
        record_evaluation(nowhere, outcome)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_corpus_ships_one_that_agrees_with_its_recorded_searches(name, settings):
    corpus = CorpusLibrary(replace(settings, corpora_dir=BUILT_IN_CORPORA)).open(name)
    found = read_recorded(corpus, FIRST_STAGES, RERANKERS)
    assert found is not None, "a recorded evaluation is no longer true; run make record"
    assert (corpus.path / FILE).stat().st_size < 100_000
    searches = json.loads((corpus.path / "recorded.json").read_text(encoding="utf-8"))
    texts = [query.text.strip() for query in found.queries]
    runs = [dict(found.run("minilm")), dict(found.run("minilm>>mini"))]
    for search in (search for search in searches if search["query"] in texts):
        query_id = found.queries[texts.index(search["query"])].query_id
        for run, hits in zip(runs, (search["candidates"], search["reranked"]), strict=True):
            assert list(run[query_id].passage_ids) == [hit["passage_id"] for hit in hits]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_first_example_of_a_built_in_corpus_is_a_rescue(name):
    first, *_ = json.loads((BUILT_IN_CORPORA / name / "recorded.json").read_text(encoding="utf-8"))
    assert first["verdict"] == "rescued"
