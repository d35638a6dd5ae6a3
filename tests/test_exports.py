"""What leaves the house reads back the same, and what comes in from outside is checked."""

import csv
import dataclasses
import errno
import html
import io
import json
import os
import re

import numpy as np
import pytest
import pytrec_eval

from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.evaluation import add_provenance, evaluate, runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.exports import (
    check_out,
    export_files,
    per_query_csv,
    read_replay,
    to_replay,
    trec_qrels,
    trec_run,
    write_all,
)
from rag_inspect.metrics import parse
from rag_inspect.types import Query
from rag_inspect.views.report import report_html
from tests.evaluating import ExactRetriever, ScriptedReranker, make_corpus, score_gold_first

NAMES = {"bag>>fixed": "logit", "bag>>flat": "logit"}


def outcome_of(corpus, *rerankers, **options):
    *_, end = evaluate(corpus, [ExactRetriever(corpus)], rerankers or [ScriptedReranker()], **options)
    return add_provenance(end, corpus)


@pytest.fixture(scope="module")
def outcome():
    return outcome_of(
        make_corpus(30), ScriptedReranker(), ScriptedReranker(lambda q, p: 1.0, key="flat"), top_k=15
    )


@pytest.fixture(scope="module")
def replay(outcome):
    return to_replay(outcome)


def test_trec_eval_finds_our_numbers_in_our_run_ties_and_all(outcome):
    document = assess(outcome)
    qrels: dict[str, dict[str, int]] = {}
    for line in trec_qrels(outcome):
        qid, _, pid, grade = line.split()
        qrels.setdefault(qid, {})[pid] = int(grade)
    for system in document.systems[:-1]:
        run: dict[str, dict[str, float]] = {}
        for line in trec_run(outcome, system.key):
            qid, _, pid, _, score, tag = line.split()
            run.setdefault(qid, {})[pid] = float(np.float32(score))
            assert tag == system.key
        found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.5", "success.1"}).evaluate(run)
        for theirs, ours in (("ndcg_cut_10", "ndcg@10"), ("recall_5", "recall@5"), ("success_1", "hit@1")):
            assert np.mean([row[theirs] for row in found.values()]) == pytest.approx(
                system.metrics[ours].value
            )


def test_white_space_in_an_id_does_not_break_a_trec_line():
    corpus = make_corpus(1)
    odd = dataclasses.replace(
        corpus, queries=(Query("a b\n%", corpus.queries[0].text),), splits={"test": {"a b\n%": {"p000": 1}}}
    )
    line = next(trec_run(outcome_of(odd), "bag"))
    assert len(line.split()) == 6 and line.startswith("a%20b%0A% Q0 ")


def test_the_csv_has_every_query_and_no_formula(outcome):
    document = assess(outcome)
    first, second, *others = document.per_query
    hostile = dataclasses.replace(first, query='=HYPERLINK("http://x","y")')
    broken = dataclasses.replace(second, query="one\rtwo\r\nthree")
    document = dataclasses.replace(document, per_query=(hostile, broken, *others))
    rows = list(csv.DictReader(io.StringIO(per_query_csv(document))))
    assert len(rows) == 30 and rows[0]["query"].startswith("'=HYPERLINK")
    rows = list(csv.DictReader(io.StringIO(per_query_csv(document), newline="")))
    assert len(rows) == 30 and rows[1]["query"] == "one\ntwo\nthree"
    mean = np.mean([float(row["mrr@5 bag>>fixed"]) for row in rows])
    assert mean == pytest.approx(document.systems[1].metrics["mrr@5"].value, abs=1e-6)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r"])
def test_no_cell_begins_like_a_formula(outcome, sign):
    document = assess(outcome)
    hostile = dataclasses.replace(document.per_query[0], query=f"{sign}1+1")
    document = dataclasses.replace(document, per_query=(hostile, *document.per_query[1:]))
    [row, *_] = csv.DictReader(io.StringIO(per_query_csv(document)))
    assert row["query"].startswith("'")


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("before", ["no folder", "an empty folder", "an earlier run"])
def test_a_disk_that_fills_leaves_what_was_there_and_a_retry_works(
    outcome, tmp_path, monkeypatch, at, before
):
    out, evaluation = tmp_path / "new" / "out", Evaluation(outcome, assess(outcome))
    if before != "no folder":
        out.mkdir(parents=True)
    if before == "an earlier run":
        for path in write_all(out, evaluation, report_html):
            path.write_text("old")
    found = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    fsync, calls = os.fsync, []

    def fill(handle):
        calls.append(handle)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", fill)
    with pytest.raises(
        RagInspectError, match=r"cannot be written .No space left on device.; free some space"
    ):
        write_all(out, evaluation, report_html)
    monkeypatch.undo()
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == found
    assert (tmp_path / "new").exists() == (before != "no folder")
    if out.exists():
        (out / ".run.bag.trec.0123456789abcdef.new").touch()  # as a killed process leaves it
    check_out(out, [system.key for system in outcome.systems])
    assert len(write_all(out, evaluation, report_html)) == 8


def test_a_replay_brings_every_number_back(outcome, tmp_path):
    evaluation = Evaluation(outcome, assess(outcome), "20260101-000000-abcdef")
    files = {path.name: path for path in write_all(tmp_path / "out", evaluation, report_html)}
    assert set(files) == {
        "run.bag.trec",
        "run.bag.fixed.trec",
        "run.bag.flat.trec",
        "qrels.trec",
        "per_query.csv",
        "metrics.json",
        "report.html",
        "replay.json",
    }
    again = read_replay(files["replay.json"])
    ours, theirs = evaluation.document.to_json(), assess(again).to_json()
    for point, other in zip(ours.pop("frontier"), theirs.pop("frontier"), strict=True):
        assert point.pop("latency_ms") == pytest.approx(other.pop("latency_ms"), abs=1e-3)
        assert point == other
    decisions = [each.pop("decision") for each in (ours, theirs)]
    times = [[each.pop("latency_ms"), each.pop("kept_cost") or 0.0] for each in decisions]
    assert times[0] == pytest.approx(times[1], abs=1e-3) and decisions[0] == decisions[1]
    assert {k: v for k, v in ours.items() if k != "advice"} == {
        k: v for k, v in theirs.items() if k != "advice"
    }
    assert again.passages == outcome.passages and len(again.passages) > 5
    assert not list((tmp_path / "out").glob(".*"))
    metrics = json.loads(files["metrics.json"].read_text())
    assert "per_query" not in metrics and metrics["run_id"] == evaluation.run_id


def test_files_are_the_same_bytes_each_time(outcome):
    first, second = (dict(export_files(Evaluation(outcome, assess(outcome)), report_html)) for _ in range(2))
    assert first == second


BROKEN = {
    "kind": ("kind", "other"),
    "version": ("version", 99),
    "corpus is a path": ("corpus.name", "../../etc/passwd"),
    "corpus is a windows path": ("corpus.name", "C:\\x"),
    "fingerprint": ("corpus.fingerprint", "zz"),
    "language": ("corpus.language_source", "guess"),
    "top_k": ("settings.top_k", 10**9),
    "top_k is a float": ("settings.top_k", 15.0),
    "top_k is true": ("settings.top_k", True),
    "top_n": ("settings.top_n", 16),
    "cutoffs": ("settings.cutoffs", []),
    "cutoffs are words": ("settings.cutoffs", ["1"]),
    "no rerankers": ("rerankers", []),
    "key is a path": ("rerankers.0.key", "../x"),
    "keys clash": ("rerankers.0.key", "flat"),
    "ids repeat": ("passage_ids.0", "p001"),
    "ids are numbers": ("passage_ids.0", 5),
    "id is half a pair": ("passage_ids.0", "\ud800"),
    "no queries": ("queries", []),
    "queries are an object": ("queries", {}),
    "candidate out of range": ("queries.0.stages.0.candidates.0", 10_000),
    "candidate negative": ("queries.0.stages.0.candidates.0", -1),
    "candidate twice": ("queries.0.stages.0.candidates.0", None),
    "too deep": ("queries.0.stages.0.candidates", list(range(16))),
    "score missing": ("queries.0.stages.0.scores", [0.5]),
    "logit is a word": ("queries.0.stages.0.logits.fixed.0", "1"),
    "logit is null": ("queries.0.stages.0.logits.fixed.0", None),
    "logit is huge": ("queries.0.stages.0.logits.fixed.0", 1e300),
    "logits of another": ("queries.0.stages.0.logits", {"other": []}),
    "grade": ("queries.0.qrels", {"p000": 10**30}),
    "no gold": ("queries.0.qrels", {"p000": 0}),
    "query id repeats": ("queries.0.query_id", "q001"),
    "query text": ("queries.0.text", ""),
    "latency": ("latency.bag>>fixed.p50", -5),
    "latency source": ("latency.bag>>fixed.source", "magic"),
    "notes": ("notes", ["x" * 100_000]),
    "versions": ("versions", {"a": 1}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_or_hostile_replay_is_refused_in_one_line(replay, case):
    way, value = BROKEN[case]
    document = json.loads(json.dumps(replay))
    *parents, last = way.split(".")
    node = document
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    if case == "candidate twice":
        value = document["queries"][0]["stages"][0]["candidates"][1]
    if isinstance(node, list):
        last = int(last)
        if case == "ids repeat":
            value = document["passage_ids"][1]
    node[last] = value
    with pytest.raises(InputError) as caught:
        read_replay(json.dumps(document).encode())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "way",
    [
        "kind",
        "corpus",
        "split",
        "first_stages",
        "machine",
        "queries",
        "settings",
        "passage_ids",
        "latency",
        "passages",
        "counts",
    ],
)
def test_a_replay_without_a_part_is_refused(replay, way):
    with pytest.raises(InputError, match=f'has no "{way}"'):
        read_replay(json.dumps({key: part for key, part in replay.items() if key != way}).encode())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"kind": NaN}',
        b"[" * 100_000,
        b"1" * 10_000,
        b'{"kind": 1e999}',
        b"PK\x03\x04",
    ],
)
def test_what_is_no_replay_at_all_is_refused(text):
    with pytest.raises(InputError):
        read_replay(text)


def test_a_replay_that_is_too_large_or_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rag_inspect.evaluation.replay.MAX_BYTES", 10)
    with pytest.raises(InputError, match="too large; the limit is"):
        read_replay(b"x" * 11)
    with pytest.raises(InputError, match="cannot be read"):
        read_replay(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_replay(tmp_path)


def test_the_report_opens_alone_and_runs_nothing_that_a_corpus_says():
    corpus = make_corpus(12)
    hostile = tuple(
        dataclasses.replace(q, text=f"{q.text} <script>alert(1)</script><img src=x onerror=alert(1)>")
        for q in corpus.queries
    )
    card = dataclasses.replace(corpus.card, name='"><script>alert(2)</script>')
    document = assess(outcome_of(dataclasses.replace(corpus, queries=hostile, card=card)))
    page = report_html(document, NAMES)
    assert "<script" not in page and "<img" not in page and "default-src 'none'" in page
    assert not re.search(r"""(src|href)=|url\(|@import""", page.replace("&lt;img src=x", ""))
    for part in (
        "Ceiling",
        "Depth and latency",
        "Verdicts",
        "Where the gold went",
        "Score cutoffs",
        "Queries",
        "@media print",
    ):
        assert part in page
    assert len(page) < 200_000


def test_the_report_of_many_queries_stays_small():
    document = assess(outcome_of(make_corpus(20)))
    many = dataclasses.replace(document, per_query=document.per_query * 2000)
    assert len(report_html(many, NAMES).encode()) < 6_000_000


def test_runs_are_saved_listed_loaded_and_compared(tmp_path, outcome):
    corpus = make_corpus(30)
    better = outcome_of(corpus, ScriptedReranker(score_gold_first(corpus)), top_k=15)
    ids = []
    for one, created in ((outcome, "2026-01-01T00:00:00+00:00"), (better, "2026-01-02T00:00:00+00:00")):
        one = dataclasses.replace(one, created=created)
        ids.append(runs.new_run_id(created))
        runs.save_run(tmp_path, ids[-1], one, assess(one))
    (tmp_path / "20260103-000000-abcdef.json").write_text("junk")
    (tmp_path / "20260104-000000-abcdef.json").write_text(
        '{"summary": {"created": "2026", "systems": [1]},\n'
    )
    (tmp_path / "20260105-000000-abcdef.json").write_text('{"summary": {"created": "2026"},\n')
    (tmp_path / "notes.json").write_text("{}")
    listed = runs.list_runs(tmp_path)
    assert [run["run_id"] for run in listed] == ids[::-1]
    assert listed[0]["corpus"] == "animals" and "mrr@5" in listed[0]["systems"][1]["metrics"]
    old, again = (runs.load_run(tmp_path, run_id) for run_id in ids)
    before, after = old.document, again.document
    assert [old.run_id, again.run_id] == ids
    assert np.array_equal(again.outcome.order("bag>>fixed"), better.order("bag>>fixed"))
    found = runs.compare_runs(before, after)
    assert found.queries == 30 and found.only_in_one == 0
    assert [run.corpus for run in found.runs] == [before.corpus, after.corpus]
    assert found.metrics["mrr@5"].delta > 0 and found.metrics["mrr@5"].ci95[0] > 0
    verdicts = [{row.query_id: row.verdict for row in document.per_query} for document in (before, after)]
    assert {row.query_id for row in found.changed} == {
        q for q in verdicts[0] if verdicts[0][q] != verdicts[1][q]
    }
    assert runs.compare_runs(after, after).changed == ()
    for wrong in ("none", "../20260101-000000-abcdef", "20260103-000000-abcdef"):
        with pytest.raises(InputError):
            runs.load_run(tmp_path, wrong)


def test_a_run_that_could_not_be_opened_again_is_not_saved(tmp_path, outcome):
    long = dataclasses.replace(outcome, languages=("x" * 60,))
    with pytest.raises(InputError, match=r"the run: corpus.languages\[0\] has 60 characters"):
        runs.save_run(tmp_path, runs.new_run_id(outcome.created), long, assess(long))
    assert not list(tmp_path.iterdir())


def test_runs_without_a_shared_query_are_not_compared(outcome):
    other = assess(outcome_of(make_corpus(5, seed=9)))
    renamed = tuple(dataclasses.replace(row, query_id="x") for row in other.per_query)
    with pytest.raises(InputError, match="share no query"):
        runs.compare_runs(assess(outcome), dataclasses.replace(other, per_query=renamed))


@pytest.mark.parametrize("letters", ["狐", '"<', "a"])
def test_a_report_of_many_long_queries_stays_under_six_megabytes(outcome, letters):
    document = assess(outcome)
    row = dataclasses.replace(document.per_query[0], query=(letters * 400)[:400])
    html = report_html(dataclasses.replace(document, per_query=(row,) * 12_000), NAMES)
    assert len(html.encode()) < 6_000_000 and "more are in per_query.csv" in html
    assert html.count('<span class="words">') > 1_500


def test_figures_are_drawn_from_the_document_alone(outcome):
    from rag_inspect.views import eval_figures

    document = assess(outcome)
    flow = eval_figures.gold_flow(document, "bag>>fixed")
    for figure in (
        flow,
        eval_figures.frontier(document),
        eval_figures.thresholds(document, "bag>>fixed", "logit", 1.0),
    ):
        assert figure.to_json() and figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert sum(flow.data[0].link.value) == 30
    # Every band has its words in the margin, where no ribbon runs, at the height of its node.
    words = [note for note in flow.layout.annotations if "rank" not in note.text]
    assert [1 - note.y for note in words] == pytest.approx(list(flow.data[0].node.y))
    assert all(note.x in (0, 1) for note in words) and not any(flow.data[0].node.label)
    drawn = eval_figures.frontier(document)
    assert [html.unescape(line.name) for line in drawn.data][:2] == ["bag (first stage)", "bag>>fixed"]
    assert (
        drawn.layout.legend.y < 0 and "Ring: what the decision recommends" in drawn.layout.annotations[0].text
    )
    assert "of 30 queries left empty" in eval_figures.describe_cutoff(document, "bag>>fixed", "logit", 20)
    points = tuple(dataclasses.replace(point, latency_ms=None) for point in document.frontier)
    untimed = dataclasses.replace(document, frontier=points)
    assert "not measured" in eval_figures.frontier(untimed).layout.xaxis.title.text
    assert "not measured" in report_html(untimed, NAMES)
    for each in (document, untimed):
        for words in (eval_figures.frontier(each).to_json(), report_html(each, NAMES)):
            assert "Ring: what the decision recommends" in words and "fastest" not in words


def test_the_fold_has_every_metric_its_meaning_and_every_system(outcome):
    from rag_inspect.views.evaluation import table_html

    document = assess(dataclasses.replace(outcome, cutoffs=(3, 20)))
    table, fold = table_html(document).split("<details>")
    assert "All metrics and what they mean" in fold and "recall@20" not in table
    names = re.findall(r"<tr><th>(\w+@\d+) <small>", fold)
    assert names == [parse(name).label for name in document.tooltips] and {"recall@3", "nDCG@20"} <= set(
        names
    )
    values = re.findall(r"<td>(\d\.\d{3}) <small>\d\.\d\d–\d\.\d\d</small>", fold)
    expected = [f"{s.metrics[name].value:.3f}" for name in document.tooltips for s in document.systems]
    assert values == expected
    for sentence in document.tooltips.values():
        assert sentence.partition(": ")[2] in html.unescape(fold)
    for meaning in re.findall(r'<abbr title="([^"]+)">', table):
        assert meaning.partition(": ")[2] in fold or meaning in fold
    assert "bag (first stage)" in table and "bag&gt;&gt;fixed (first stage)" not in table


def test_a_queue_without_links_opens_nothing(outcome):
    from rag_inspect.views.evaluation import queue_html

    document = assess(outcome)
    rows = document.per_query
    assert queue_html(document, "bag>>fixed", "", rows).count("href=") == 30
    plain = queue_html(document, "bag>>fixed", "", rows, links=False)
    assert "href" not in plain and "click" not in plain and plain.count("<li>") == 30
    assert "1 of 1 query:" in queue_html(document, "bag>>fixed", "", rows[:1])


def test_the_ceiling_says_every_part_below_its_bar(outcome):
    from rag_inspect.views.evaluation import ceiling_html

    document = assess(outcome)
    page = ceiling_html(document)
    for bar in document.ceiling_bars:
        for name in ("achieved", "recoverable", "unreachable"):
            assert f"</i>{name} {getattr(bar, name):.1%}</span>" in page
    assert "<b>bag (first stage)</b>" in page and "<b>bag (first stage)</b>" in report_html(document, NAMES)
