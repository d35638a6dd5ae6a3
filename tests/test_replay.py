"""Replays across versions: what was written before still opens with the same numbers, and what is written now says more."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag_inspect.errors import InputError
from rag_inspect.evaluation import runs
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.outcome import FirstStageSystem
from rag_inspect.exports import read_replay, to_replay
from tests.evaluating import ScriptedReranker, make_corpus, run_evaluation

DATA = Path(__file__).parent / "data"
RUN = "20261126-124827-497451d4d37a7151"  # kept by the app when it wrote version 1


def flatten(metrics):
    """(system, metric) -> [value, low, high]."""
    return {
        (system, name): [found["value"], *found["ci95"]]
        for system, named in metrics.items()
        for name, found in named.items()
    }


METRICS = flatten(json.loads((DATA / "replay-v1.metrics.json").read_text(encoding="utf-8")))


def metrics_of(document):
    """As METRICS, to the last digits: sums may be taken in another order."""
    found = flatten({system["key"]: system["metrics"] for system in document.to_json()["systems"]})
    return {key: pytest.approx(values, abs=1e-12) for key, values in found.items()}


def test_a_replay_of_version_1_opens_with_the_metrics_it_was_written_with():
    assert json.loads((DATA / "replay-v1.json").read_text(encoding="utf-8"))["version"] == 1
    outcome = read_replay(DATA / "replay-v1.json")
    assert metrics_of(assess(outcome)) == METRICS
    stage = outcome.first_stage
    assert (stage.key, stage.kind, stage.score_name) == ("minilm", "dense", "cosine")
    assert stage.embedder and stage.embedder.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert len(outcome.passages) == len(outcome.passage_ids) > 8


def test_written_again_it_is_version_2_with_the_same_numbers():
    outcome = read_replay(DATA / "replay-v1.json")
    document = to_replay(outcome)
    assert document["version"] == 2 and "embedder" not in document
    assert document["first_stage"] | {"embedder": None} == {
        "key": "minilm", "kind": "dense", "score_name": "cosine", "embedder": None,
    }  # fmt: skip
    assert set(document["queries"][0]) == {"query_id", "text", "qrels", "candidates", "scores", "logits"}
    again = read_replay(json.dumps(document).encode())
    assert assess(again) == assess(outcome) and to_replay(again) == document


def test_a_run_kept_before_version_2_is_listed_and_opens(tmp_path):
    shutil.copy(DATA / f"{RUN}.json", tmp_path)
    assert [run["run_id"] for run in runs.list_runs(tmp_path)] == [RUN]
    document = runs.load_run(tmp_path, RUN).document
    assert metrics_of(document) == METRICS and document.embedder == "minilm"


def test_a_first_stage_without_an_embedder_is_read_back_with_scores_of_any_size():
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(), top_k=5)
    stage = FirstStageSystem(key="bm25", kind="bm25", score_name="bm25")
    lexical = dataclasses.replace(outcome, first_stage=stage, scores=outcome.scores * 40, latency={})
    again = read_replay(json.dumps(to_replay(lexical)).encode())
    assert again.first_stage == stage
    assert dict(again.run(None)) == dict(lexical.run(None))
    assert assess(again).to_json()["embedder"] == {"key": "bm25", "revision": ""}


@pytest.mark.parametrize("key", ["scores", "cosines", "logits"])
def test_a_reranker_may_have_the_name_of_a_field(key):
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(key=key), top_k=5)
    again = read_replay(json.dumps(to_replay(outcome)).encode())
    assert again.scores.tolist() == outcome.scores.tolist()
    assert again.logits[key].tolist() == outcome.logits[key].tolist()


def test_the_first_stage_is_asked_for_by_none_and_not_by_its_key():
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(), top_k=5)
    assert outcome.reranker_of("bag") is None and outcome.reranker_of("fixed") == "fixed"
    assert outcome.order(None).tolist() == [list(range(5))] * 6
    with pytest.raises(KeyError):
        outcome.order("bag")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"version": 3},
            'has "version": 3; expected a whole number from 1 to 2: update rag-inspect, or write the replay again',
        ),
        ({"version": True}, 'has "version": True; expected a whole number from 1 to 2'),
        (
            {"version": 1.0},
            r'has "version": 1\.0; expected a whole number from 1 to 2: write the replay again',
        ),
        ({"kind": "else"}, r'is not a replay; expected "kind": "rag-inspect replay"'),
        ({"split": 5}, "split is a int; expected a string"),
        ({"created": "today"}, "created is 'today'; expected a time as"),
        ({"notes": [""] * 101}, "notes has 101 entries; expected at most 100"),
        ({"counts": {"x": -1}}, r"counts.x is -1; expected at least 0"),
        ({"queries": [{}]}, r'queries\[0\] has no "query_id"; expected a replay as eval --out writes it'),
        ({"rerankers": []}, "rerankers has 0 entries; expected at least 1"),
        ({"first_stage": {}}, 'first_stage has no "key"'),
    ],
)
def test_a_refusal_names_the_place_what_is_there_and_what_should_be(change, message):
    document = to_replay(read_replay(DATA / "replay-v1.json"))
    with pytest.raises(InputError, match=f"^the replay:? {message}"):
        read_replay(json.dumps(document | change).encode())


@pytest.mark.parametrize("statement", ["import rag_inspect.__main__", "import rag_inspect.exports"])
def test_pydantic_is_loaded_when_a_replay_is_read_and_not_before(statement):
    code = f"import sys; {statement}; sys.exit('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
