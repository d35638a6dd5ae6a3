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
from rag_inspect.evaluation.systems import FirstStageSystem
from rag_inspect.exports import read_replay, to_replay
from tests.evaluating import ExactRetriever, ScriptedReranker, WordRetriever, make_corpus, run_evaluation

DATA = Path(__file__).parent / "data"
RUN = "20261126-124827-497451d4d37a7151"  # kept by the app when it wrote version 1


def flatten(metrics):
    """(system, metric) -> [value, low, high]; until version 3 a reranker's key stood for its system."""
    return {
        (system if system in {"minilm", "minilm>>mini"} else f"minilm>>{system}", name): [
            found["value"], *found["ci95"],
        ]
        for system, named in metrics.items()
        for name, found in named.items()
    }  # fmt: skip


def read_metrics(version):
    return flatten(json.loads((DATA / f"replay-v{version}.metrics.json").read_text(encoding="utf-8")))


def metrics_of(document):
    """As `read_metrics`, to the last digits: sums may be taken in another order. They had no judged@k."""
    found = flatten({system["key"]: system["metrics"] for system in document.to_json()["systems"]})
    return {
        (system, name): pytest.approx(values, abs=1e-12)
        for (system, name), values in found.items()
        if not name.startswith("judged@")
    }


@pytest.mark.parametrize("version", [1, 2])
def test_a_replay_of_an_older_version_opens_with_the_metrics_it_was_written_with(version):
    path = DATA / f"replay-v{version}.json"
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == version
    outcome = read_replay(path)
    assert metrics_of(assess(outcome)) == read_metrics(version)
    [stage] = outcome.stages
    assert (stage.key, stage.first_stage.kind, stage.first_stage.score_name) == ("minilm", "dense", "cosine")
    embedder = stage.first_stage.embedder
    assert embedder and embedder.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert len(outcome.passages) == len(outcome.passage_ids) > 8
    latency = outcome.latency["minilm>>mini"]
    assert latency.p50 and latency.p95 is None, (
        "fewer than 20 queries have no 95th percentile, whoever wrote one"
    )


@pytest.mark.parametrize("version", [1, 2])
def test_written_again_it_is_version_3_with_the_same_numbers(version):
    outcome = read_replay(DATA / f"replay-v{version}.json")
    document = to_replay(outcome)
    assert document["version"] == 3 and not {"embedder", "first_stage"} & set(document)
    [stage] = document["first_stages"]
    assert stage | {"embedder": None} == {
        "key": "minilm", "kind": "dense", "score_name": "cosine", "embedder": None,
    }  # fmt: skip
    assert set(document["queries"][0]) == {
        "query_id",
        "text",
        "qrels",
        "stages",
        "fused",
        "fused_length",
        "tags",
    }
    assert set(document["queries"][0]["stages"][0]) == {"candidates", "scores", "logits"}
    again = read_replay(json.dumps(document).encode())
    assert assess(again) == assess(outcome) and to_replay(again) == document


def test_a_run_kept_before_version_2_is_listed_and_opens(tmp_path):
    shutil.copy(DATA / f"{RUN}.json", tmp_path)
    [summary] = runs.list_runs(tmp_path)
    assert summary["run_id"] == RUN
    systems = [(each["key"], each["first_stage"], each["reranker"]) for each in summary["systems"]]
    assert systems == [("minilm", "minilm", None), ("minilm>>mini", "minilm", "mini")]
    document = runs.load_run(tmp_path, RUN).document
    assert metrics_of(document) == read_metrics(1) and document.first_stages == ("minilm",)


def test_a_first_stage_without_an_embedder_is_read_back_with_scores_of_any_size():
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(), top_k=5)
    [stage] = outcome.stages
    key = "hybrid:bag+bm25"
    first = FirstStageSystem(key=key, kind="bm25", score_name="bm25")
    other = dataclasses.replace(stage, first_stage=first, scores=stage.scores * 40)
    lexical = dataclasses.replace(outcome, stages=(other,), latency={})
    again = read_replay(json.dumps(to_replay(lexical)).encode())
    assert again.stages[0].first_stage == first
    assert dict(again.run(key)) == dict(lexical.run(key))
    assert assess(again).to_json()["first_stages"] == [first.to_json()]


@pytest.mark.parametrize("key", ["scores", "cosines", "logits"])
def test_a_reranker_may_have_the_name_of_a_field(key):
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(key=key), top_k=5)
    [stage], [again] = outcome.stages, read_replay(json.dumps(to_replay(outcome)).encode()).stages
    assert again.scores.tolist() == stage.scores.tolist()
    assert again.logits[key].tolist() == stage.logits[key].tolist()


def test_a_system_is_asked_for_by_its_key():
    outcome = run_evaluation(make_corpus(6), ScriptedReranker(), top_k=5)
    assert [system.key for system in outcome.systems] == ["bag", "bag>>fixed"]
    assert outcome.find("bag") == (outcome.stages[0], None)
    assert outcome.find("bag>>fixed") == (outcome.stages[0], "fixed")
    assert outcome.order("bag").tolist() == [list(range(5))] * 6
    for key in ("fixed", "bag>>none", "none>>fixed"):
        with pytest.raises(KeyError):
            outcome.order(key)


def test_two_first_stages_are_read_back_with_where_they_were_timed():
    outcome = run_evaluation(
        make_corpus(8), ScriptedReranker(), first_stages=(ExactRetriever, WordRetriever), top_k=9
    )
    document = to_replay(outcome)
    again = read_replay(json.dumps(document).encode())
    assert to_replay(again) == document and again.machine == outcome.machine
    for system in outcome.systems:
        assert dict(again.run(system.key)) == dict(outcome.run(system.key))
    short = json.loads(json.dumps(document))
    del short["queries"][3]["stages"][1]
    with pytest.raises(
        InputError, match=r"queries\[3\].stages has 1 entries; expected 2, one for each first stage"
    ):
        read_replay(json.dumps(short).encode())
    document["first_stages"][1]["key"] = "bag.fixed"
    with pytest.raises(InputError, match="first_stages has keys that look the same in the name of a file"):
        read_replay(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"version": 4},
            'has "version": 4; expected a whole number from 1 to 3: update rag-inspect, or write the replay again',
        ),
        ({"version": True}, 'has "version": True; expected a whole number from 1 to 3'),
        (
            {"version": 1.0},
            r'has "version": 1\.0; expected a whole number from 1 to 3: write the replay again',
        ),
        ({"kind": "else"}, r'is not a replay; expected "kind": "rag-inspect replay"'),
        ({"split": 5}, "split is a int; expected a string"),
        ({"created": "today"}, "created is 'today'; expected a time as"),
        ({"notes": [""] * 101}, "notes has 101 entries; expected at most 100"),
        ({"counts": {"x": -1}}, r"counts.x is -1; expected at least 0"),
        ({"queries": [{}]}, r'queries\[0\] has no "query_id"; expected a replay as eval --out writes it'),
        ({"rerankers": []}, "rerankers has 0 entries; expected at least 1"),
        ({"first_stages": [{}]}, r'first_stages\[0\] has no "key"'),
    ],
)
def test_a_refusal_names_the_place_what_is_there_and_what_should_be(change, message):
    document = to_replay(read_replay(DATA / "replay-v1.json"))
    with pytest.raises(InputError, match=f"^the replay:? {message}"):
        read_replay(json.dumps(document | change).encode())


@pytest.mark.parametrize("statement", ["import rag_inspect.cli", "import rag_inspect.exports"])
def test_pydantic_is_loaded_when_a_replay_is_read_and_not_before(statement):
    code = f"import sys; {statement}; sys.exit('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
