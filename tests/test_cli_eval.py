"""`eval` and `bench` as a shell sees them: with the real mini, on a corpus of twelve passages."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag_inspect.cli import main
from rag_inspect.errors import CorpusError, InputError, ModelError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.turn import Turn
from rag_inspect.exports import check_out, read_replay
from rag_inspect.options import EvalOptions
from rag_inspect.sessions import LOCAL, Visitor
from rag_inspect.settings import Settings
from rag_inspect.tasks import Stage
from rag_inspect.workbench import Workbench

FACTS = {
    "goldfish": (
        "How long does a goldfish live?",
        "With clean water these fish reach ten to fifteen years, some thirty.",
    ),
    "ferry": (
        "How often does the island ferry leave?",
        "The ferry to the island leaves every forty minutes from the eastern pier.",
    ),
    "bread": (
        "Why does dough rise?",
        "Yeast eats sugar and gives off gas, which swells the dough before it is baked.",
    ),
    "tower": (
        "How tall is the radio tower?",
        "The mast on the hill measures two hundred and ten metres to its tip.",
    ),
    "tea": (
        "How hot should water for green tea be?",
        "Pour it at seventy to eighty degrees, or the leaves turn bitter.",
    ),
    "tax": ("When are tax returns due?", "Returns must reach the office by the last day of July."),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "facts"
    (root / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "title": "", "text": text} for key, (_, text) in FACTS.items()]
    rows += [
        {
            "_id": f"{key}-price",
            "title": "",
            "text": f"The price of anything to do with {key} went up last year.",
        }
        for key in FACTS
    ]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q-{key}", "text": asked}) + "\n" for key, (asked, _) in FACTS.items())
    )
    judged = "".join(f"q-{key}\t{key}\t1\n" for key in FACTS)
    (root / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return root


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory, folder):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name, value in {
            "RAG_INSPECT_HOME": str(home),
            "RAG_INSPECT_CORPORA_DIR": str(folder.parent),
            "HF_HUB_OFFLINE": "1",
            "RAG_INSPECT_DEVICE": "cpu",
        }.items():
            patch.setenv(name, value)
        yield home


MINI = ["--reranker", "mini", "--top-k", "6"]


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """One evaluation: what it printed on stdout and on stderr, and the folder of its files."""
    out, printed, said = tmp_path_factory.mktemp("written") / "new" / "out", io.StringIO(), io.StringIO()
    arguments = ["eval", "--corpus", str(folder), *MINI, "--cutoffs", "1,3", "--out", str(out), "--json"]
    limits = ["--fail-under", "mrr@5=0", "--fail-under", "precision@7=0.01"]  # a 7 that no cutoff has
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        assert main([*arguments, *limits]) == 0
    return printed.getvalue(), said.getvalue(), out


def test_eval_prints_one_document_writes_every_file_and_keeps_the_run(written, home):
    printed, said, out = written
    document = json.loads(printed)
    assert [system["key"] for system in document["systems"]] == ["minilm", "minilm>>mini"] and document[
        "queries"
    ] == 6
    assert {"recall@5", "mrr@5", "ndcg@10", "hit@1", "recall@3", "precision@1"} <= set(
        document["systems"][1]["metrics"]
    )
    assert (
        document["version"] == 2
        and "recall@6" in document["ceilings"]["minilm"]
        and sum(document["verdicts"].values()) == 6
    )
    assert document["systems"][1]["latency_ms"]["p50"] > document["systems"][0]["latency_ms"]["p50"] > 0
    names = {
        "run.minilm.trec",
        "run.minilm.mini.trec",
        "qrels.trec",
        "per_query.csv",
        "metrics.json",
        "report.html",
        "replay.json",
    }
    assert {path.name for path in out.iterdir()} == names
    assert (home / "runs" / f"{document['run_id']}.json").exists()
    assert "7 files in" in said


def test_a_folder_that_holds_something_else_is_refused_unless_forced(folder, written, tmp_path, capsys):
    out = shutil.copytree(written[2], tmp_path / "out")
    arguments = ["eval", "--corpus", str(folder), *MINI, "--out", str(out)]
    (out / "notes.txt").write_text("mine")
    (out / "run.minilm.base.trec").write_text("of an earlier evaluation")
    assert main(arguments) == 1
    printed, err = capsys.readouterr()
    assert printed == "" and err.count("\n") == 1
    assert f"{out} holds notes.txt and 1 more file, which this evaluation does not replace; choose" in err
    check_out(out, ["minilm", "minilm>>mini"], force=True)
    (out / "notes.txt").unlink()
    check_out(out, ["minilm", "minilm>>mini", "minilm>>base"])  # what is there is what it writes


def test_an_evaluation_that_fails_leaves_no_folder(folder, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert main(["eval", "--corpus", str(folder), "--split", "dev", "--out", str(out)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_fail_under_prints_what_to_do_and_fails_with_a_clear_line(folder, capsys):
    arguments = ["eval", "--corpus", str(folder), *MINI]
    assert main([*arguments, "--fail-under", "mrr@5=0", "--fail-under", "precision@7=0.99"]) == 1
    printed, err = capsys.readouterr()
    assert "12 passages: under 200 a reranker seldom pays" in printed
    assert (
        "verdicts of minilm>>mini, against minilm: lost" in printed
        and "\nminilm>>mini " in printed
        and printed.isascii()
    )
    assert "precision@7 of minilm>>mini is 0." in err and "below 0.99 (--fail-under, facts, n=6)" in err
    assert "MRR" not in err


def test_a_reranker_that_is_not_here_is_the_last_word_and_a_failure_and_the_results_are_written(
    folder, tmp_path, capsys
):
    out = tmp_path / "out"
    code = main(
        [
            "eval",
            "--corpus",
            str(folder),
            "--reranker",
            "mini,base",
            "--top-k",
            "6",
            "--out",
            str(out),
            "--json",
        ]
    )
    printed, said = capsys.readouterr()
    assert code == 1 and json.loads(printed)["systems"][1]["key"] == "minilm>>mini"
    assert said.splitlines()[-1].startswith(
        "rag-inspect: base was left out: base (BAAI/bge-reranker-base at "
    )
    assert (out / "run.minilm.mini.trec").is_file() and not (out / "run.minilm.base.trec").exists()


def test_fail_under_fails_and_files_are_written_whoever_reads(folder, tmp_path, capsys, monkeypatch):
    """`eval … | head` in a build: the gate holds when the reader has gone, and on a full disk too."""
    arguments = ["eval", "--corpus", str(folder), *MINI]
    arguments += ["--fail-under", "precision@7=0.99", "--out", str(tmp_path / "out")]
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "below 0.99" in err and "Traceback" not in err
    assert len(list((tmp_path / "out").iterdir())) == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rag_inspect", "models"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr == (
        "rag-inspect: the output could not be written (No space left on device)\n"
    )


def test_an_unknown_split_is_refused_in_one_line(folder, capsys):
    assert main(["eval", "--corpus", str(folder), "--split", "dev"]) == 1
    captured = capsys.readouterr()
    assert 'no split "dev"; choose one of test' in captured.err
    assert captured.err.count("\n") == 1 and not captured.out


def test_a_corpus_without_qrels_is_refused(folder, tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "corpus.jsonl").write_text('{"_id": "a", "text": "alone"}\n')
    assert main(["eval", "--corpus", str(tmp_path / "bare")]) == 1
    assert "has no qrels" in capsys.readouterr().err


def test_the_same_evaluation_again_reads_nothing_gives_the_same_numbers_and_tells_a_log(
    folder, written, capsys, monkeypatch
):
    monkeypatch.setattr("rag_inspect.terminal.LINE_EVERY", 0.0)
    monkeypatch.setattr("rag_inspect.terminal.FIRST_LINE", -1.0)
    arguments = ["eval", "--corpus", str(folder), *MINI, "--cutoffs", "1,3", "--json"]
    assert main([*arguments, "--fail-under", "precision@7=0.01"]) == 0
    out, err = capsys.readouterr()
    first, again = json.loads(written[0]), json.loads(out)
    assert again["scored_pairs"] == 0 and again["cached_pairs"] == 36
    assert first["systems"][1]["metrics"] == again["systems"][1]["metrics"]
    assert first["per_query"] == again["per_query"]
    assert "rag-inspect: 0 / 6 queries, " in err
    assert "rag-inspect: 6 queries, 36 pairs scored; timing mini" in err


def test_a_second_evaluation_waits_its_turn(folder, home):
    bench = Workbench(Settings.from_env())
    turn = Turn(home, "something long")
    assert turn.take()
    job = bench.start_evaluation(EvalOptions(corpus=str(folder), rerankers=["mini"], top_k=6))
    try:
        assert any("queued" in str(moment) for moment, _ in zip(job.watch(0.05), range(100), strict=False))
        assert isinstance(job.moment, Stage) and not job.over
        turn.free()
        end = job.value()
    finally:
        turn.free()
    assert isinstance(end, Evaluation) and len(job.rows) == 6 and bench.jobs.get(job.job_id) is job


def test_a_folder_that_cannot_be_written_is_known_before_the_work(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ["eval", "--corpus", str(folder), "--reranker", "mini", "--out", str(tmp_path / "file")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and "cannot be written" in err and "choose another folder" in err


def test_in_public_mode_everyone_sees_their_own_runs_only(folder):
    bench = Workbench(Settings.from_env())
    options = EvalOptions(corpus=str(folder), rerankers=["mini"], top_k=6)
    *_, end = bench.evaluate(options, visitor=Visitor("ann"))
    ids = [end.run_id]
    ids += [bench.archive.save(end.outcome, (), Visitor(visitor)).run_id for visitor in ("ann", "bob", "")]
    assert {run["run_id"] for run in bench.past_runs()} >= set(ids)
    assert bench.past_run(ids[0]).run_id == ids[0]
    bench.settings = dataclasses.replace(bench.settings, public=True)
    assert {run["run_id"] for run in bench.past_runs(Visitor("ann"))} == set(ids[:2])
    assert [run["run_id"] for run in bench.past_runs(Visitor("bob"))] == ids[2:3]
    assert bench.past_runs() == [] == bench.past_runs(Visitor("eve"))
    assert bench.past_run(ids[0], Visitor("ann")).run_id == ids[0]
    for run_id, visitor in ((ids[0], "bob"), (ids[3], ""), (ids[3], "ann")):
        with pytest.raises(InputError, match="no saved run"):
            bench.past_run(run_id, Visitor(visitor))
    assert not any(b'"ann"' in path.read_bytes() for path in bench.archive.folder.glob("*.json"))


def test_a_full_disk_costs_the_saving_and_not_the_result(written, monkeypatch):
    bench = Workbench(Settings.from_env())
    monkeypatch.setattr("rag_inspect.evaluation.runs.write_text", _full)
    end = bench.archive.save(read_replay(written[2] / "replay.json"), (), LOCAL)
    assert isinstance(end, Evaluation) and end.run_id == ""
    assert any("was not saved: the disk is full" in note for note in end.document.notes)


def _full(path, text):
    raise CorpusError("the disk is full")


def test_what_is_wrong_is_known_before_a_model_is_loaded(folder):
    bench = Workbench(Settings.from_env())
    with pytest.raises(ModelError, match='unknown first stage "none"; choose one of minilm, '):
        EvalOptions(corpus=str(folder), rerankers=["mini"], first_stages=["minilm", "none"])
    with pytest.raises(InputError, match="unknown metric"):
        EvalOptions(corpus=str(folder), rerankers=["mini"], metrics=["map@5"])
    with pytest.raises(InputError, match="cutoffs"):
        EvalOptions(corpus=str(folder), rerankers=["mini"], cutoffs=[0])
    assert not len(bench.loader._models) and not len(bench.loader._indexes)


def test_serve_refuses_a_broken_replay_before_it_opens_anything(tmp_path, capsys):
    (tmp_path / "replay.json").write_text("{}")
    assert main(["serve", "--replay", str(tmp_path / "replay.json")]) == 1
    assert 'has no "kind"' in capsys.readouterr().err


def test_bench_measures_what_is_here_and_names_what_is_not(capsys, monkeypatch):
    monkeypatch.setattr("rag_inspect.evaluation.cost.DEPTHS", (2, 4))
    monkeypatch.setattr("rag_inspect.evaluation.cost.SECONDS", 0.1)
    assert main(["bench", "--reranker", "mini,mini", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    [mini] = document["rerankers"]
    assert [row["depth"] for row in mini["depths"]] == [2, 4] and all(
        row["p50_ms"] > 0 for row in mini["depths"]
    )
    assert document["machine"]["device"] == "cpu" and document["first_stage"]["p50_ms"] > 0
    assert {row["key"] for row in document["left_out"]} == {"base", "large", "v2-m3"}


def test_the_commands_help_loads_no_torch_and_no_scipy():
    code = "import sys; from rag_inspect.cli import parser; parser(); sys.exit(bool({'torch', 'scipy', 'plotly', 'chromadb'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_evaluation_that_is_stopped_while_it_waits_neither_loads_nor_runs(folder, home):
    bench = Workbench(Settings.from_env())
    turn = Turn(home, "something long")
    assert turn.take()
    try:
        job = bench.start_evaluation(EvalOptions(corpus=str(folder), rerankers=["mini"], top_k=6))
        assert any("queued" in str(moment) for moment, _ in zip(job.watch(0.05), range(100), strict=False))
        job.stop()
        for _ in job.watch(0.05):
            pass
        assert (
            job.stopped and not job.rows and not len(bench.loader._models) and not len(bench.loader._indexes)
        )
    finally:
        turn.free()
