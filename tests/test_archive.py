"""The past runs of many visitors: a cap for each, one for all, and nothing saved that nobody could open."""

import json

import pytest

from rag_inspect.evaluation import add_provenance, runs
from rag_inspect.evaluation.archive import Archive
from rag_inspect.evaluation.assessment import assess
from rag_inspect.sessions import LOCAL, Sessions, Visitor
from rag_inspect.settings import Settings
from tests.evaluating import ExactRetriever, ScriptedReranker, evaluate, make_corpus

ANN, BOB = Visitor("ann"), Visitor("bob")


@pytest.fixture(scope="module")
def outcome():
    corpus = make_corpus(5)
    *_, end = evaluate(corpus, [ExactRetriever(corpus)], [ScriptedReranker()], top_k=5)
    return add_provenance(end, corpus)


def write_runs(folder, owner, count, day):
    """Summaries of runs without their replays, one a second."""
    folder.mkdir(exist_ok=True)
    system = {"key": "mini"}
    for at in range(count):
        run_id = f"202601{day:02}-0000{at:02}-{'ab' * 8}"
        summary = {
            "owner": owner, "queries": 1, "top_k": 3, "top_n": 2, "created": "2026-01-01", "corpus": "fruit",
            "split": "test", "advice": "", "systems": [system],
        }  # fmt: skip
        (folder / f"{run_id}.json").write_text(f'{{"summary": {json.dumps(summary)},\n"replay": {{}}}}\n')


def count(folder):
    found = [run["owner"] for run in runs.list_runs(folder)]
    return {owner: found.count(owner) for owner in set(found)}


def test_each_owner_keeps_so_many_and_nobody_pushes_anothers_out(tmp_path, outcome, monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 5)
    write_runs(tmp_path, BOB.owner, 3, day=1)
    write_runs(tmp_path, ANN.owner, 5, day=2)
    for at in range(3):
        runs.save_run(tmp_path, f"20260201-00000{at}-{'cd' * 8}", outcome, assess(outcome), ANN.owner)
    assert count(tmp_path) == {ANN.owner: 5, BOB.owner: 3}
    newest = [run["run_id"] for run in runs.list_runs(tmp_path) if run["owner"] == ANN.owner][:3]
    assert all(run_id.startswith("20260201") for run_id in newest)


def test_where_all_have_too_many_who_has_most_gives_way(tmp_path, outcome, monkeypatch):
    monkeypatch.setattr(runs, "ALL_KEPT", 6)
    write_runs(tmp_path, BOB.owner, 2, day=1)
    write_runs(tmp_path, ANN.owner, 5, day=2)
    runs.save_run(tmp_path, f"20260201-000000-{'cd' * 8}", outcome, assess(outcome), "eve")
    assert count(tmp_path) == {ANN.owner: 3, BOB.owner: 2, "eve": 1}


@pytest.mark.parametrize(
    ("public", "visitor", "saved"), [(True, LOCAL, 0), (True, ANN, 1), (False, LOCAL, 1)]
)
def test_in_public_mode_a_run_of_nobody_is_not_saved(tmp_path, outcome, public, visitor, saved):
    archive = Archive(tmp_path / "runs", Sessions(Settings(tmp_path, public=public)))
    evaluation = archive.save(outcome, (), visitor)
    assert len(list(archive.folder.glob("*.json"))) == saved == len(archive.list(visitor))
    assert bool(evaluation.run_id) is bool(saved)
