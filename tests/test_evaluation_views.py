"""What the Evaluate tab and the report draw: one table, one ceiling bar, one way to write a number, words as text."""

import dataclasses
import re
from html import escape

import pytest

from rag_inspect.evaluation import runs
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.document import Advice, sort_worst_first
from rag_inspect.evaluation.systems import Latency
from rag_inspect.exports import name_scores
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import VERDICTS
from rag_inspect.views import eval_figures, evaluation, formats
from rag_inspect.views.report import report_html
from rag_inspect.words import format_p
from tests.evaluating import ScriptedReranker, make_corpus, run_evaluation, score_gold_first
from tests.parsing import Page
from tests.searches import HOSTILE

NAMES = {"bag>>fixed": "mini score", "bag>>flat": "logit"}


@pytest.fixture(scope="module")
def document():
    corpus = make_corpus(30)
    flat = ScriptedReranker(lambda query, passage: 1.0, key="flat")
    outcome = run_evaluation(corpus, ScriptedReranker(score_gold_first(corpus)), flat, top_k=15)
    timed = {"bag>>fixed": Latency(tuple(map(float, range(1, 16))), 1240.0, 2050.4, 20, "sample")}
    created = "2026-01-01T10:20:30+00:00"
    return assess(dataclasses.replace(outcome, latency=timed, created=created))


@pytest.fixture(scope="module")
def report(document):
    return report_html(document, NAMES)


def draw_pages(document):
    """Every piece of the page, by name."""
    means = {"bag": {"mrr@5": 0.5}, "bag>>fixed": {"mrr@5": 0.75}}
    return {
        "advice": evaluation.advice_html(document),
        "ceiling": evaluation.ceiling_html(document),
        "table": evaluation.table_html(document),
        "queue": evaluation.queue_html(
            document, "bag>>fixed", "", sort_worst_first(document.per_query, "bag>>fixed")
        ),
        "notes": evaluation.notes_html(document),
        "progress": evaluation.progress_html(document.notes[0], 0.5),
        "running": evaluation.running_html(means, 3, 30),
        "comparison": evaluation.comparison_html(
            runs.compare_runs(document, document, "bag>>flat", "bag>>fixed")
        ),
    }


def spoil(document, words):
    """The document with these words wherever others may write some."""
    rows = tuple(dataclasses.replace(row, query=words[:400]) for row in document.per_query)
    advice = tuple(
        Advice(rule=line.rule, text=words, looks_at=words, source=words) for line in document.advice
    )
    return dataclasses.replace(
        document, corpus=words[:100], split=words[:40], per_query=rows, advice=advice,
        notes=tuple(words for _ in document.notes), versions={words[:40]: words[:40]},
    )  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_others_wrote_is_text_in_an_evaluation_too(document, case):
    plain = draw_pages(spoil(document, "plain"))
    for name, html in draw_pages(spoil(document, HOSTILE[case])).items():
        page, expected = Page(html), Page(plain[name])
        assert page.tags == expected.tags
        links = {"href", "target", "rel"}  # a query too long for a link has none
        assert [n for n, _ in page.attributes if n not in links] == [
            n for n, _ in expected.attributes if n not in links
        ]
        assert all((value or "").startswith("?corpus=") for n, value in page.attributes if n == "href")


def test_the_page_and_the_report_draw_the_same_table_and_the_same_bars(document, report):
    table = evaluation.table_html(document).partition("<table>")[2].partition("</table>")[0]
    bars = evaluation.ceiling_html(document).partition("</h2>")[2].rpartition("</div>")[0].strip()
    assert table in report and bars in report
    assert bars.count('class="ri-ceiling"') == 3 and table.count("<tr>") == 5  # no ceiling of the blend


def test_a_part_that_does_not_fit_is_named_only_where_there_is_one(document):
    assert "does not fit" not in evaluation.ceiling_html(document)
    bars = tuple(
        dataclasses.replace(bar, achieved=0.0, recoverable=0.25, unreachable=0.5, does_not_fit=0.25)
        for bar in document.ceiling_bars
    )
    html = evaluation.ceiling_html(dataclasses.replace(document, ceiling_bars=bars))
    assert "does not fit: more gold than 5 passages can hold" in html and "does not fit 25.0%" in html
    spoken = [value for name, value in Page(html).attributes if name == "aria-label"]
    assert spoken[1] == (
        "bag>>fixed: achieved 0.0%, recoverable 25.0%, unreachable 50.0%, does not fit 25.0%"
    )


def test_metrics_are_written_one_way(document, report):
    ours = dataclasses.replace(document, advice=(), notes=("none",))
    pages = draw_pages(ours) | {"report": report_html(ours, NAMES)}
    for name, html in pages.items():
        assert not re.search(r"\b(mrr|ndcg)@", html), name
    assert "MRR@5" in pages["running"] and "nDCG@10" in pages["comparison"]
    figure = eval_figures.frontier(document)
    assert figure.layout.yaxis.title.text == "MRR@5"
    assert all("mrr@5" not in words for trace in figure.data for words in trace.hovertext)


@pytest.mark.parametrize(
    ("write", "value", "words"),
    [
        (formats.format_mean, 0.84249, "0.842"),
        (formats.format_mean_range, (0.7949, 0.8861), "0.79–0.89"),
        (formats.format_change, 0.0312, "+0.031"),
        (formats.format_change, -0.0312, "-0.031"),
        (formats.format_change_range, (-0.0042, 0.058), "-0.004 to +0.058"),
        (format_p, 0.0009, "< 0.001"),
        (format_p, 0.0421, "0.042"),
        (formats.format_latency, Latency((), 1240.4, 2050.6, 20), "1,240 / 2,051 (20)"),
        (formats.format_latency, Latency((), 1240.4, None, 9), "1,240 / – (9)"),
        (formats.format_latency, Latency(), "not measured"),
        (formats.format_metric, "ndcg@10", "nDCG@10"),
        (formats.format_date, "2026-01-01T10:20:30+00:00", "2026-01-01 10:20"),
    ],
)
def test_a_number_of_each_kind(write, value, words):
    assert write(value) == words


def test_the_ranks_of_a_query():
    assert formats.format_ranks(9, 2) == "#9 → #2"
    assert formats.format_ranks(None, None) == "not among the candidates"


def test_where_every_candidate_is_kept_the_ceiling_says_that_recall_cannot_change(document):
    words = "all 15 candidates are kept, so reranking changes their order and not recall@"
    assert words not in evaluation.ceiling_html(document)
    assert words in evaluation.ceiling_html(dataclasses.replace(document, top_n=15))


def test_a_record_says_so_and_what_a_run_would_be(document):
    words = evaluation.describe_record(document)
    assert words.startswith("Recorded on 2026-01-01 with bag r1, fixed r1, flat r1; nothing has run here.")
    assert "up to 900 pairs of 30 queries." in words, "flat was not timed, so no time is promised"


def test_the_table_says_its_p_values_and_latencies(document):
    words = Page(evaluation.table_html(document)).words
    assert "1,240 / 2,050 (20)" in words and "not measured" in words and "baseline" in words
    assert "evaluated 2026-01-01 10:20. Small print: 95 % bootstrap intervals." in words


# Every score by its name


def test_a_rerankers_number_is_called_what_it_is(document, report):
    for key, name in NAMES.items():
        assert f"{escape(key)}: keep {name}s from" in report
        figure = eval_figures.thresholds(document, key, name)
        assert figure.layout.xaxis.title.text == escape(f"{name} ({key})")
        assert eval_figures.describe_cutoff(document, key, name, 0).startswith(f"Keeping {name}s from ")
    only_mini = report_html(document, dict.fromkeys(NAMES, "mini score"))
    assert "logit" not in only_mini


def test_the_table_of_models_says_what_a_number_is_called(document):
    def of(key, model):
        first, second, *_ = document.systems
        reranker = dataclasses.replace(second.system.reranker, key=key, model=model)
        system = dataclasses.replace(second.system, reranker=reranker)
        return dataclasses.replace(document, systems=(first, dataclasses.replace(second, system=system)))

    assert name_scores(of("mini", RERANKERS["mini"].model)) == {"bag>>mini": "mini score"}
    assert name_scores(of("base", RERANKERS["base"].model)) == {"bag>>base": "logit"}
    # A run from elsewhere: a model that is not in the table, or another one under the same key.
    assert name_scores(of("acme", "acme/one")) == {"bag>>acme": "acme score"}
    assert name_scores(of("base", "acme/base")) == {"bag>>base": "base score"}


# Advice and verdicts in words


def test_advice_says_what_it_is_based_on(document, report):
    advice = Advice(rule="r", text="Do this.", looks_at="the number of queries", source="a paper")
    one = dataclasses.replace(document, advice=(advice,))
    for html in (evaluation.advice_html(one), report_html(one, NAMES)):
        assert "Do this." in html and "Based on the number of queries. Source: a paper." in html
        for words in (one.decision.counted, one.decision.depth_kept):
            assert words and escape(words) in html
    none = evaluation.advice_html(dataclasses.replace(document, advice=()))
    assert Page(none).words.strip() == "No advice for this run; see the table."


def test_each_verdict_has_its_meaning_on_the_page_and_in_the_report(document, report):
    for verdict in VERDICTS:
        meaning = evaluation.describe_verdict(verdict, 5)
        assert "{" not in meaning and meaning in report
        assert meaning in evaluation.queue_html(document, "bag>>fixed", verdict, document.per_query)
    assert evaluation.describe_verdict("lost", 3) == "the best gold passage dropped out of the top 3"
    body = Page(report.partition("<body>")[2].partition("</body>")[0])
    assert "near miss" in body.words and "near_miss" not in body.words
