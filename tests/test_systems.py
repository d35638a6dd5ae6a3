"""Evaluations with several first stages: each alone and reranked, one baseline, and no pair scored twice."""

import dataclasses
import json
from urllib.parse import parse_qs

import numpy as np
import pytest
import pytrec_eval

from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.errors import CorpusError, InputError
from rag_inspect.evaluation import EvalProgress, evaluate, runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.document import sort_worst_first
from rag_inspect.evaluation.eval_set import check_evaluation
from rag_inspect.evaluation.fusion import WEIGHTS
from rag_inspect.evaluation.latency import LEAST_QUERIES, measure_reranker, take_p95
from rag_inspect.evaluation.machine import Machine, describe_machine
from rag_inspect.evaluation.outcome import FusedOutcome
from rag_inspect.evaluation.slices import MOST_TAGS
from rag_inspect.evaluation.systems import FirstStageSystem, Latency, list_keys, name_file, split_key
from rag_inspect.exports import export_files, name_files, name_scores, per_query_csv, read_replay, to_replay
from rag_inspect.metrics import NO_PASSAGE, UNJUDGED, parse
from rag_inspect.options import EvalOptions
from rag_inspect.retrieval import RecordedRetriever, find_first_stage
from rag_inspect.retrieval.recorded import clean_tag
from rag_inspect.significance import differences, holm
from rag_inspect.types import Query
from rag_inspect.ui.past_runs import label_runs
from rag_inspect.views.evaluation import caption_html, comparison_html, queue_html, table_html
from rag_inspect.views.formats import format_latency
from rag_inspect.views.report import report_html
from rag_inspect.words import format_p
from tests.evaluating import ExactRetriever, ScriptedReranker, WordRetriever, make_corpus, run_evaluation
from tests.parsing import Page

BOTH = ExactRetriever, WordRetriever
SYSTEMS = ["bag", "bag>>fixed", "bag>>other", "words", "words>>fixed", "words>>other"]


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(30)


@pytest.fixture(scope="module")
def outcome(corpus):
    other = ScriptedReranker(lambda query, passage: float(len(passage.text) % 5), key="other")
    return run_evaluation(corpus, ScriptedReranker(), other, first_stages=BOTH, top_k=12)


@pytest.fixture(scope="module")
def graded_outcome(corpus):
    """Gold from grade 2 on; a query has one such passage, others of grade 1 and 0, and the rest are not judged."""
    ids, test = [passage.passage_id for passage in corpus.passages], corpus.splits["test"]
    graded = {
        qid: {pid: 2 for pid in gold} | {ids[3 * at % len(ids)]: 1, ids[(5 * at + 1) % len(ids)]: 0}
        for at, (qid, gold) in enumerate(test.items())
    }
    graded["q003"] = dict.fromkeys(ids[:4], 1)
    other = ScriptedReranker(lambda query, passage: float(len(passage.text) % 5), key="other")
    of = dataclasses.replace(corpus, splits={"test": graded})
    return run_evaluation(of, ScriptedReranker(), other, first_stages=BOTH, top_k=12, gold_grade=2)


@pytest.fixture(scope="module")
def document(outcome):
    return assess(outcome)


def test_each_first_stage_stands_alone_and_before_each_reranker(outcome, document):
    assert [system.key for system in document.systems] == [*SYSTEMS, "blend"]
    assert [system.key for system in outcome.systems] == SYSTEMS
    assert list_keys(["bag", "words"], ["fixed", "other"]) == SYSTEMS
    for system in document.systems[:-1]:
        rankings = dict(outcome.run(system.key))
        for name, metric in system.metrics.items():
            alone = [
                parse(name).of(rankings[qid].passage_ids, grades) for qid, grades in outcome.qrels.items()
            ]
            assert metric.value == pytest.approx(np.mean(alone))
    written = document.to_json()
    assert [(s["first_stage"], s["reranker"], s["kind"]) for s in written["systems"][3:5]] == [
        ("words", None, "first_stage"), ("words", "fixed", "reranked"),
    ]  # fmt: skip
    assert [stage["score_name"] for stage in written["first_stages"]] == ["cosine", "bm25"]
    assert set(written["ceilings"]) == {"bag", "words"} and len(written["ceiling_bars"]) == 6


def test_alone_or_with_others_a_first_stage_gives_the_same_numbers(corpus, outcome, document):
    for first_stage in BOTH:
        one = assess(run_evaluation(corpus, ScriptedReranker(), first_stages=[first_stage], top_k=12))
        for system in one.systems[:-1]:
            assert system.metrics == document.find(system.key).metrics
            mine, other = system.versus_first_stage, document.find(system.key).versus_first_stage
            assert {name: dataclasses.replace(change, p_holm=0) for name, change in mine.items()} == {
                name: dataclasses.replace(change, p_holm=0) for name, change in other.items()
            }
        [key] = one.first_stages
        assert one.ceilings[key] == document.ceilings[key]


def test_the_baseline_is_the_best_without_a_reranker_and_all_others_are_compared_with_it(outcome, document):
    alone = {key: document.find(key).metrics["mrr@5"].value for key in ("bag", "words")}
    assert document.baseline == max(alone, key=alone.__getitem__) and alone["bag"] != alone["words"]
    values = {key: parse("mrr@5").values(outcome.judged_by(key))[:, None] for key in SYSTEMS}
    others = [key for key in SYSTEMS if key != document.baseline]
    found = [differences(values[document.baseline], values[key])[0] for key in others]
    p_values = [
        *(change.p_value for change in found),
        document.find("blend").versus_baseline["mrr@5"].p_value,
    ]
    for key, change, p_holm in zip(others, found, holm(p_values)[:-1], strict=True):
        shown = document.find(key).versus_baseline["mrr@5"]
        assert [shown.delta, *shown.ci95, shown.p_holm] == pytest.approx([change.delta, *change.ci95, p_holm])
        assert (shown.wins, shown.ties, shown.losses) == (change.wins, change.ties, change.losses)
    assert not document.find(document.baseline).versus_baseline
    assert [bool(system.versus_first_stage) for system in document.systems] == [
        *[False, True, True] * 2,
        False,
    ]


def test_a_verdict_is_against_the_systems_own_first_stage(outcome, document):
    for row in document.per_query:
        for key in row.verdicts:
            assert row.rank_before(key) == row.ranks[split_key(key)[0]]
    unreachable = [row for row in document.per_query if row.ranks["words"] is None]
    assert all(row.verdicts["words>>fixed"] == "unreachable" for row in unreachable)
    written = document.to_json()["per_query"][0]
    assert list(written["ranks"]) == [*SYSTEMS, "blend"]
    assert list(written["verdicts"]) == [key for key in SYSTEMS if ">>" in key]


def test_the_frontier_has_each_first_stage_once_and_each_reranked_system_at_every_depth(document):
    depths = {key: [point.depth for point in document.frontier if point.system == key] for key in SYSTEMS}
    assert depths == {key: list(range(1, 13)) if ">>" in key else [0] for key in SYSTEMS}
    assert sum(point.cheapest for point in document.frontier) == 1


def test_a_pair_is_scored_once_whichever_first_stages_found_it(corpus):
    reranker = ScriptedReranker()
    seen = list(evaluate(corpus, [each(corpus) for each in BOTH], [reranker], top_k=12, timed=False))
    outcome, steps = seen[-1], [moment for moment in seen if isinstance(moment, EvalProgress)]
    pairs = {
        (row, int(place))
        for stage in outcome.stages
        for row in range(30)
        for place in stage.places[row]
        if place >= 0
    }
    found = sum(int((stage.places >= 0).sum()) for stage in outcome.stages)
    assert reranker.read == len(pairs) == outcome.counts["scored_pairs"] < found
    assert [step.pairs_done for step in steps] == sorted(step.pairs_done for step in steps)
    assert steps[-1].pairs_done == steps[-1].pairs == len(pairs) and steps[-1].queries_done == 30
    assert steps[-1].seconds_left == 0
    for first, second in zip(*(stage.logits["fixed"] for stage in outcome.stages), strict=True):
        assert not np.isnan(first).all() or not np.isnan(second).all()
    means = steps[-1].means
    assert means == {
        s.key: pytest.approx({name: s.metrics[name].value for name in means[s.key]})
        for s in assess(outcome).systems
        if s.kind != "fused"
    }


class Silent(WordRetriever):
    """A first stage that finds nothing for any query."""

    def search(self, queries, top_k):
        return [super(Silent, self).search([Query("", "zzzz")], top_k)[0] for _ in queries]


def test_a_first_stage_that_finds_little_or_nothing_is_fine_and_said(corpus, tmp_path):
    outcome = run_evaluation(corpus, ScriptedReranker(), first_stages=(ExactRetriever, Silent), top_k=12)
    document = assess(outcome)
    assert (
        "words found nothing for 30 queries; no system that starts with it can help there." in document.notes
    )
    assert document.find("words>>fixed").metrics["recall@5"].value == 0 and document.baseline == "bag"
    assert document.thresholds["words>>fixed"].gold_total == 0
    runs.save_run(tmp_path, "20260101-000000-abcdef", outcome, document)
    again = runs.load_run(tmp_path, "20260101-000000-abcdef").document
    assert [s.metrics for s in again.systems] == [s.metrics for s in document.systems]
    assert report_html(document, dict.fromkeys(document.thresholds, "logit"))


def test_a_run_of_short_rankings_alone_can_be_kept_and_opened_again(tmp_path):
    corpus = make_corpus(6, passages=80)
    rare = dataclasses.replace(corpus, queries=tuple(
        dataclasses.replace(query, text=query.text.split()[3]) for query in corpus.queries
    ))  # fmt: skip
    outcome = run_evaluation(rare, ScriptedReranker(), first_stages=[WordRetriever], top_k=50)
    assert outcome.depth < 50
    document = assess(outcome)
    assert any(note.startswith("words found fewer than 50 candidates for ") for note in document.notes)
    runs.save_run(tmp_path, "20260101-000000-abcdef", outcome, document)
    again = runs.load_run(tmp_path, "20260101-000000-abcdef").document
    assert [s.metrics for s in again.systems] == [s.metrics for s in document.systems]
    assert len(again.frontier) == len(document.frontier)


def test_candidates_that_came_with_the_corpus_are_a_first_stage_like_the_others(corpus_folder, settings):
    colours = ["red", "green", "blue", "black", "white"]
    folder = corpus_folder(
        passages={f"p{at}": f"{colour} paint" for at, colour in enumerate(colours)},
        queries={"q": "red paint", "r": "blue paint"},
        qrels={"test": {"q": {"p0": 1}, "r": {"p2": 1}}},
    )
    (folder / "candidates").mkdir()
    rows = [("q", "p1", 3), ("q", "p0", 2), ("q", "gone", 1), ("r", "p2", 5), ("r", "p3", 4)]
    lines = (f"{query} Q0 {pid} 1 {score} the run/1\n".replace("the run", "my") for query, pid, score in rows)
    (folder / "candidates" / "my run.trec").write_text("".join(lines), encoding="utf-8")
    corpus = CorpusLibrary(settings).open("tiny")
    retrievers = [ExactRetriever(corpus), RecordedRetriever(corpus, find_first_stage("recorded:my run"))]
    *_, outcome = evaluate(corpus, retrievers, [ScriptedReranker()], top_k=5)
    document = assess(outcome)
    assert document.find("recorded:my run").metrics["mrr@5"].value == 0.75
    for words in ("1 line names a passage that the corpus lacks", "recorded:my run was read from a file"):
        assert any(words in note for note in document.notes)
    again = read_replay(json.dumps(to_replay(outcome)).encode())
    assert [stage.first_stage for stage in again.stages] == [stage.first_stage for stage in outcome.stages]
    with pytest.raises(InputError, match="has a name with < or >"):
        EvalOptions(corpus="tiny", first_stages=["recorded:a>>b"])


# Latency


def test_a_system_takes_what_its_first_stage_and_the_reranker_take(outcome):
    rerankers = {}
    for key in ("bag", "words"):
        first = outcome.latency[key]
        for reranker in ("fixed", "other"):
            both = outcome.latency[f"{key}>>{reranker}"]
            alone = [step - first.p50 for step in both.depth_ms]
            assert rerankers.setdefault(reranker, pytest.approx(alone)) == alone, "timed once"
            assert both.p50 == pytest.approx(both.depth_ms[-1])
    assert any("timed on the candidates of bag at depths 1, 3, 6 and 12" in note for note in outcome.notes)


def test_a_latency_is_the_median_and_a_95th_percentile_needs_20_queries():
    assert take_p95(np.arange(19.0)) is None and take_p95(np.arange(21.0)) == 19.0
    reranker = Latency((1.0, 4.0), 4.0, 9.0, 25, "sample")
    first = Latency((2.0,), 2.0, None, 12, "sample")
    assert reranker.after(first) == Latency((3.0, 6.0), 6.0, 11.0, 12, "sample")
    assert reranker.after(Latency()) == Latency() == Latency().after(first)


def test_rankings_shorter_than_the_depth_are_timed_where_there_are_no_others(corpus):
    class Short(WordRetriever):
        def search(self, queries, top_k):
            return super().search(queries, min(top_k, 3))

    found = []

    def measure():
        found.append((yield from measure_reranker(Short(corpus), ScriptedReranker(), corpus.queries, 12)))

    assert list(measure())[-1] == "query 20 of 20"
    assert found[0].queries >= LEAST_QUERIES and len(found[0].depth_ms) == 12


def test_where_and_how_busy_it_was_is_recorded_and_a_busy_machine_is_warned_of(outcome, document):
    here = describe_machine("cpu")
    assert here.cpu and here.cores >= here.threads >= 1 and document.machine.device == "cpu"
    assert document.to_json()["machine"] == outcome.machine.to_json()
    idle = Machine(cpu="test", cores=4, threads=4, device="cpu", load=6.0)
    busy = dataclasses.replace(idle, load=6.1)
    for machine, warned in ((idle, False), (busy, True), (dataclasses.replace(idle, load=None), False)):
        notes = assess(dataclasses.replace(outcome, machine=machine)).notes
        assert any("timed on test, 4 cores, cpu" in note for note in notes)
        assert any("The machine was busy" in note for note in notes) is warned


# What leaves the house


@pytest.mark.parametrize("gold_grade", [1, 2])
def test_trec_eval_finds_the_numbers_of_every_row_from_the_files(outcome, graded_outcome, gold_grade):
    outcome = outcome if gold_grade == 1 else graded_outcome
    document = assess(
        outcome, ["mrr@12"]
    )  # trec_eval's reciprocal rank has no cutoff, and rankings end at 12
    files = dict(export_files(Evaluation(outcome, document), report_html))
    qrels: dict[str, dict[str, int]] = {}
    for line in files["qrels.trec"].splitlines():
        qid, _, pid, grade = line.split()
        qrels.setdefault(qid, {})[pid] = int(grade)
    names = {"recip_rank": "mrr@12"} | {
        f"{theirs}_{k}": f"{ours}@{k}"
        for theirs, ours in (("ndcg_cut", "ndcg"), ("recall", "recall"), ("success", "hit"))
        for k in (1, 5, 10)
    }
    evaluator = pytrec_eval.RelevanceEvaluator(
        qrels,
        {"recip_rank", "ndcg_cut.1,5,10", "recall.1,5,10", "success.1,5,10"},
        relevance_level=gold_grade,
    )
    *rows, blend = document.systems
    assert blend.key == "blend" and sum(name.startswith("run.") for name in files) == len(rows) == 6
    for system in rows:
        run: dict[str, dict[str, float]] = {}
        for line in files[f"run.{name_file(system.key)}.trec"].splitlines():
            qid, _, pid, _, score, tag = line.split()
            run.setdefault(qid, {})[pid] = float(np.float32(score))
            assert tag == system.key
        found = evaluator.evaluate(run).values()
        means = {ours: sum(row[theirs] for row in found) / len(qrels) for theirs, ours in names.items()}
        assert {name: system.metrics[name].value for name in means} == pytest.approx(means), system.key


def test_gold_from_grade_2_is_so_in_the_gold_the_counts_the_replay_and_the_words(graded_outcome):
    document = assess(graded_outcome)
    assert document.gold_grade == document.to_json()["gold_grade"] == 2
    assert document.left_out["without_gold"] == 1, "q003 has nothing of grade 2"
    assert "q003" not in {row.query_id for row in document.per_query}
    for row in document.per_query:
        assert row.gold == tuple(
            sorted(pid for pid, grade in graded_outcome.qrels[row.query_id].items() if grade >= 2)
        )
    again = read_replay(json.dumps(to_replay(graded_outcome)).encode())
    assert again.gold_grade == 2
    assert [s.metrics for s in assess(again).systems] == [s.metrics for s in document.systems]
    assert "gold from grade 2" in caption_html(document) and "gold from grade 2" in report_html(
        document, name_scores(document)
    )
    shares = {s.key: s.metrics["judged@5"].value for s in document.systems}
    assert 0 < min(shares.values()) < max(shares.values()) < 1
    assert any(note.startswith("Judged are, of the first 5 passages") for note in document.notes)


def test_where_only_gold_was_judged_unjudged_says_nothing(document):
    assert not any("Judged are" in note for note in document.notes)


def test_a_gold_grade_that_no_judgement_reaches_is_refused_in_words(corpus):
    with pytest.raises(CorpusError, match="finds no gold; gold starts at grade 7, and its highest grade is"):
        run_evaluation(corpus, gold_grade=7)


def test_two_systems_that_would_share_a_file_are_refused_before_the_work(corpus):
    options = EvalOptions(corpus="x", first_stages=["recorded:a", "recorded:a.mini"], rerankers=["mini"])
    with pytest.raises(InputError, match=r"recorded:a>>mini and recorded:a.mini would have the same file"):
        check_evaluation(corpus, options, public=False)
    check_evaluation(
        corpus, dataclasses.replace(options, first_stages=["recorded:a", "minilm"]), public=False
    )


@pytest.mark.parametrize(
    "stages", [["recorded:" + "x" * 300], ["recorded:a\x07b"], [f"recorded:m{n}" for n in range(17)]]
)
def test_first_stages_that_no_replay_could_name_are_refused(stages):
    with pytest.raises(InputError, match="first stage"):
        EvalOptions(corpus="x", first_stages=stages)


def test_huge_recorded_scores_many_tags_and_odd_run_names_open_again(corpus):
    queries = tuple(
        dataclasses.replace(
            query, metadata={"kind": [f"k{n % 20}" for n in range(at, at + 19)] * 4, "size": f"s{at % 4}"}
        )
        for at, query in enumerate(corpus.queries)
    )
    outcome = run_evaluation(dataclasses.replace(corpus, queries=queries), ScriptedReranker(), top_k=5)
    [stage] = outcome.stages
    big = dataclasses.replace(
        stage,
        scores=stage.scores * 2e14,
        first_stage=FirstStageSystem(
            key="recorded:x", kind="recorded", score_name=f"{clean_tag('my' + chr(7) + 'run')} score"
        ),
    )
    outcome = dataclasses.replace(outcome, stages=(big,), latency={})
    assert max(map(len, outcome.tags.values())) <= MOST_TAGS
    assert (
        read_replay(json.dumps(to_replay(outcome)).encode()).stages[0].first_stage.score_name == "myrun score"
    )


def test_a_fused_ranking_that_is_short_has_no_unjudged_passages_past_its_end(outcome):
    grades = np.full((len(WEIGHTS), len(outcome.queries), outcome.depth), UNJUDGED)
    grades[:, 3, 4:] = NO_PASSAGE
    fused = FusedOutcome(key="fusion:bag+words", embedder=outcome.rerankers[0], grades=grades)
    again = read_replay(json.dumps(to_replay(dataclasses.replace(outcome, fused=fused))).encode())
    assert np.array_equal(again.fused.grades, grades)


def test_past_runs_say_their_gold_grade_and_only_their_own_first_stages(outcome, graded_outcome, tmp_path):
    documents = [assess(outcome), assess(graded_outcome)]
    for number, (each, document) in enumerate(zip((outcome, graded_outcome), documents, strict=True)):
        each = dataclasses.replace(each, created=f"2026-01-0{number + 1}T00:00:00+00:00")
        runs.save_run(tmp_path, runs.new_run_id(each.created), each, document)
    graded, plain = label_runs(runs.list_runs(tmp_path))
    assert "bag, words → fixed, other" in plain and "blend" not in plain and "grade" not in plain
    assert "gold from grade 2" in graded
    found = runs.compare_runs(*documents, "bag>>fixed", "bag>>fixed")
    assert found.queries + found.other_gold == len(documents[1].per_query)
    assert "since their gold differs" in comparison_html(found) or not found.other_gold
    assert "gold from grade 2" in comparison_html(found)
    none = dataclasses.replace(documents[1], per_query=())
    with pytest.raises(InputError, match="they count gold from grade 1 and from grade 2"):
        runs.compare_runs(documents[0], none, "bag>>fixed", "bag>>fixed")


def test_files_are_named_after_systems_and_a_replay_brings_all_back(outcome, document):
    files = dict(export_files(Evaluation(outcome, document), report_html))
    assert list(files) == name_files(SYSTEMS)
    assert {"run.bag.trec", "run.bag.fixed.trec", "run.words.other.trec"} <= set(files)
    assert name_file("hybrid:nomic+bm25>>mini") == "hybrid-nomic-bm25.mini"
    assert name_file("recorded:my run/1") == "recorded-my%20run%2F1"
    again = read_replay(files["replay.json"].encode())
    assert to_replay(again) == json.loads(files["replay.json"])
    assert [s.metrics for s in assess(again).systems] == [s.metrics for s in document.systems]
    head = per_query_csv(document).splitlines()[0]
    assert head.startswith("query_id,query,gold,rank bag,rank bag>>fixed,verdict bag>>fixed,rank bag>>other")


def test_runs_are_compared_by_the_systems_they_share(corpus, document):
    one = assess(run_evaluation(corpus, ScriptedReranker(), first_stages=[WordRetriever], top_k=12))
    assert runs.list_shared_systems(document, one) == ["words>>fixed"]
    found = runs.compare_runs(document, one, "words>>fixed", "words>>fixed")
    assert found.changed == () and found.metrics["mrr@5"].delta == 0
    across = runs.compare_runs(document, document, "bag", "words")
    assert all(row.rank_before != row.rank_after for row in across.changed) or not across.changed
    for run, key in zip(across.runs, ("bag", "words"), strict=True):
        own = document.find(key)
        assert run.latency == own.latency
        assert run.metrics == pytest.approx({name: mean.value for name, mean in own.metrics.items()})


def test_a_comparison_shows_values_p_and_latency_and_says_what_is_identical(document):
    same = runs.compare_runs(document, document, "bag>>other", "bag>>other")
    assert same.identical and "Identical: every metric" in comparison_html(same)
    found = runs.compare_runs(document, document, "bag", "bag>>fixed")
    words = Page(comparison_html(found)).words
    assert not found.identical and "Identical" not in words
    for run in found.runs:
        assert f"{run.metrics['mrr@5']:.3f}".lstrip("0") in words and format_latency(run.latency) in words
    assert format_p(found.metrics["mrr@5"].p_value) in words


# The page


def test_the_page_names_systems_and_a_query_opens_with_its_own_first_stage_and_reranker(document):
    words = Page(table_html(document)).words
    assert all(key in words for key in SYSTEMS) and words.count("(first stage)") == 4
    assert f"against {document.baseline}" in table_html(document)
    assert "bag, words → fixed, other" in Page(caption_html(document)).words
    for key in ("bag>>other", "words>>fixed"):
        rows = sort_worst_first(document.per_query, key)
        page = Page(queue_html(document, key, "", rows))
        links = [parse_qs((value or "")[1:]) for name, value in page.attributes if name == "href"]
        first, reranker = split_key(key)
        assert {link["reranker"][0] for link in links} == {reranker}
        assert {link["first_stage"][0] for link in links} == {first}
