"""The typed document: its JSON is what it has always been, and nobody changes it once it is made."""

import dataclasses
import json
from pathlib import Path

import pytest

from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.machine import Machine
from rag_inspect.evaluation.systems import Latency, join_key
from rag_inspect.files import format_json
from rag_inspect.types import Query
from tests.evaluating import ScriptedReranker, make_corpus, run_evaluation, score_gold_first

DATA = Path(__file__).parent / "data"
SAVED = DATA / "evaluation.json"
"""The document of `made_outcome` in version 2."""
OLD = DATA / "evaluation-v1.json"
"""The same in version 1, written when documents were not yet typed and had one first stage."""


def drop_judged(value):
    """Leave out judged@k, which version 1 did not have."""
    if isinstance(value, dict):
        return {name: drop_judged(part) for name, part in value.items() if not name.startswith("judged@")}
    return [drop_judged(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def made_outcome():
    """Two rerankers, one of them not timed; a repeated query, two gold passages, one away, a query without gold."""
    corpus = make_corpus(12, seed=10)
    queries = (*corpus.queries, Query("q100", corpus.queries[0].text))
    qrels = {**corpus.splits["test"], "q100": {"p000": 2, "away": 1}, "q001": {"p001": 0}}
    corpus = dataclasses.replace(corpus, queries=queries, splits={"test": qrels})
    rerankers = ScriptedReranker(score_gold_first(corpus)), ScriptedReranker(key="untimed")
    latency = {
        "bag": Latency((2.0,), 2.0, 3.0, 9, "sample"),
        "bag>>fixed": Latency(tuple(2.0 + 5 * n for n in range(1, 7)), 40.0, 50.0, 9, "sample"),
    }
    return dataclasses.replace(
        run_evaluation(corpus, *rerankers, top_k=6),
        latency=latency,
        machine=Machine(cpu="test", cores=2, threads=2, device="cpu", load=3.5),
        notes=("said by the run",),
        created="2026-01-01T00:00:00+00:00",
        versions={"numpy": "2"},
    )


def rounded(text):
    """Equal for equal keys and numbers, but for the last digits, which are the machine's, and the order of the keys."""
    return json.dumps(
        json.loads(text, parse_float=lambda digits: round(float(digits), 9)), indent=1, sort_keys=True
    )


def test_the_json_is_what_it_was_key_by_key_and_number_by_number(made_outcome):
    evaluation = Evaluation(made_outcome, assess(made_outcome, ["ndcg@3"]), "20260101-000000-abcdef")
    assert rounded(format_json(evaluation.to_json())) == rounded(SAVED.read_text(encoding="utf-8"))


def test_with_one_first_stage_every_number_is_that_of_version_1(made_outcome):
    new = drop_judged(json.loads(rounded(format_json(assess(made_outcome, ["ndcg@3"]).to_json()))))
    old = json.loads(rounded(OLD.read_text(encoding="utf-8")))
    first, *rerankers = (system["key"] for system in old["systems"])
    key = {first: first} | {name: join_key(first, name) for name in rerankers}
    for was, now in zip(old["systems"], new["systems"], strict=True):
        assert now["key"] == key[was["key"]] and now["latency_ms"] == was["latency_ms"]
        assert now["metrics"] == was["metrics"]
        assert now.get("versus_first_stage") == was.get("versus_first_stage")
        assert now.get("versus_baseline") == was.get("versus_first_stage"), (
            "the one first stage is the baseline"
        )
    assert new["ceilings"] == {first: old["ceiling"]} and new["verdicts"] == old["verdicts"]
    judged_anew = "within_noise", "keeps_recall", "cheapest"  # what the decision has replaced
    for name in ("ceiling_bars", "frontier"):
        for was, now in zip(old[name], new[name], strict=True):
            kept = {field: value for field, value in was.items() if field not in judged_anew}
            assert now == now | kept | {"system": key[was["system"]]}
    for name in ("gold_flow", "thresholds"):
        assert {key[reranker]: part for reranker, part in old[name].items()} == new[name]
    for was, now in zip(old["per_query"], new["per_query"], strict=True):
        ranks = {first: was["rank_before"]} | {key[name]: rank for name, rank in was["ranks"].items()}
        renamed = {
            name: {key[each]: value for each, value in was[name].items()} for name in ("verdicts", "metrics")
        }
        assert now == was | renamed | {"ranks": ranks}


def test_a_document_does_not_change_once_it_is_made(made_outcome):
    document = assess(made_outcome)
    parts = (
        document,
        document.systems[1],
        document.systems[1].versus_first_stage["mrr@5"],
        document.ceiling_bars[0],
        document.frontier[0],
        document.thresholds["bag>>fixed"],
        document.per_query[0],
        document.advice[0],
        document.decision,
        document.decision.counts,
    )
    for part in parts:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)
    written = document.to_json()
    written["notes"].append("not said")
    written["per_query"][0]["gold"].clear()
    assert "not said" not in document.notes and document.per_query[0].gold


def test_the_verdicts_and_ranks_of_a_row_are_those_of_the_first_reranked_system(made_outcome):
    for row in assess(made_outcome).per_query:
        written = row.to_json()
        assert (written["rank_before"], written["rank_after"]) == (row.ranks["bag"], row.ranks["bag>>fixed"])
        assert row.verdict == written["verdict"] == row.verdicts["bag>>fixed"]
