"""The list of past runs: what a label says, and runs that would read the same told apart."""

from types import SimpleNamespace

from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.jobs import Job, JobSettings
from rag_inspect.options import EvalOptions
from rag_inspect.ui import build_app
from rag_inspect.ui.past_runs import label_runs
from rag_inspect.workbench import Workbench
from tests.evaluating import make_corpus, run_evaluation


def make_summary(created: str, run_id: str = "20260102-030405-aaaa", split: str = "test") -> dict:
    return {
        "created": created, "run_id": run_id, "corpus": "tiny", "split": split, "queries": 2, "top_k": 20, "top_n": 5,
        "gold_grade": 1,
        "systems": [
            {"first_stage": first, "reranker": reranker, "kind": "reranked" if reranker else "first_stage"}
            for first in ("minilm", "bm25") for reranker in (None, "mini", "base")
        ],
    }  # fmt: skip


def test_a_label_says_when_what_and_how():
    [label] = label_runs([make_summary("2026-01-02T03:04:05+00:00")])
    assert label == "2026-01-02 03:04 · tiny · minilm, bm25 → mini, base · top_k 20, top_n 5 · 2 queries"
    [label] = label_runs([make_summary("2026-01-02T03:04:05+00:00", split="dev")])
    assert "tiny (dev)" in label


def test_runs_that_would_read_the_same_say_the_second_or_the_end_of_their_id():
    times = ["2026-01-02T03:04:05", "2026-01-02T03:04:09", "2026-01-02T03:04:09", "2026-01-02T03:07:00"]
    labels = label_runs([make_summary(time, f"run-{at}abcd{at}") for at, time in enumerate(times)])
    starts = [label.partition(" · ")[0] for label in labels]
    assert starts == [
        "2026-01-02 03:04:05", "2026-01-02 03:04:09 bcd1", "2026-01-02 03:04:09 bcd2", "2026-01-02 03:07",
    ]  # fmt: skip


def test_the_end_of_a_job_does_not_replace_a_past_run_opened_meanwhile(settings, corpus_folder):
    corpus_folder(passages={"p": "words"})
    bench, outcome = Workbench(settings), run_evaluation(make_corpus(queries=5))
    app = build_app(bench)
    poll = next(made.fn for made in app.fns.values() if getattr(made.fn, "__name__", "") == "poll")
    past, finished, unsaved = (Evaluation(outcome, assess(outcome), name) for name in ("run-1", "run-2", ""))

    def poll_the_end(result: Evaluation, shown: Evaluation | None) -> dict:
        options = JobSettings.of(EvalOptions(corpus="tiny", rerankers=["mini"]))
        job = bench.jobs.start(Job(lambda stopped: iter([result]), "tiny", options))
        list(job.watch())
        polled = poll(SimpleNamespace(session_hash="a tab"), job.job_id, 0, "", shown)
        return {part.elem_id: value for part, value in polled.items()}

    drawn = poll_the_end(finished, None)
    assert "bag" in drawn["eval-table"] and "tiny: done" in drawn["eval-progress"]
    kept = poll_the_end(finished, past)
    assert "eval-table" not in kept and "Open it under Past runs" in kept["eval-progress"]
    assert "eval-table" in poll_the_end(finished, finished), "its own result may be drawn again"
    assert "eval-table" in poll_the_end(unsaved, past), "it could not be opened"
