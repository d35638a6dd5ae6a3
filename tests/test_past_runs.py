"""The list of past runs: what a label says, and runs that would read the same told apart."""

from rag_inspect.ui.past_runs import label_runs


def make_summary(created: str, run_id: str = "20260102-030405-aaaa", split: str = "test") -> dict:
    return {
        "created": created, "run_id": run_id, "corpus": "tiny", "split": split, "queries": 2, "top_k": 20, "top_n": 5,
        "systems": [
            {"first_stage": first, "reranker": reranker}
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
