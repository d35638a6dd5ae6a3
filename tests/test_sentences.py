"""The lines of text around a search, and the panel of one passage: what they say."""

from dataclasses import replace

import pytest

from rag_inspect.types import Location, Passage, Reading
from rag_inspect.views.formats import format_ms
from rag_inspect.views.passage import passage_html
from rag_inspect.views.rankings import sigmoid
from rag_inspect.views.sentences import sentence_html, story_html, timings_html
from tests.parsing import Page
from tests.searches import MINI, make_reranking

PLAIN = make_reranking().candidates.passages["plain1"]


def test_the_timings_say_what_was_cold_and_what_was_cut():
    words = Page(timings_html(make_reranking())).words
    assert "embed the query 1 ms · retrieve 2 ms · rerank 30 ms · 6 pairs scored, 0 from the cache" in words
    assert "first use: loading and indexing took 2.5 s" in words and "33" not in words
    assert "fixed-reranker read only the start of 5 passages (up to 5 tokens cut off)." in words


def test_the_timings_name_the_steps_there_were():
    search = replace(
        make_reranking(), timings_ms={"retrieve": 1234.4, "fuse": 5.0, "total": 1239.4}, readings={}
    )
    words = Page(timings_html(search)).words
    assert "retrieve 1,234 ms · fuse 5 ms" in words
    assert "embed" not in words and "rerank" not in words and "first use" not in words


@pytest.mark.parametrize(
    ("cached", "scored", "took", "words"),
    [
        (6, 0, 679.4, "rerank: 6 scores from the cache; they took 679 ms when scored"),
        (1, 0, 0.2, "rerank: 1 score from the cache; it took under 1 ms when scored"),
        (6, 0, None, "rerank: 6 scores from the cache, so not timed"),
        (2, 4, 1410.0, "rerank: 2 from the cache (took 1,410 ms when scored), 4 scored in 30 ms"),
        (2, 4, None, "rerank 30 ms · 4 pairs scored, 2 from the cache"),
        (0, 6, 0.0, "rerank 30 ms · 6 pairs scored, 0 from the cache"),
        (0, 1, 0.0, "rerank 30 ms · 1 pair scored, 0 from the cache"),
    ],
)
def test_scores_from_the_cache_took_what_they_took_when_scored(cached, scored, took, words):
    search = replace(make_reranking(), scored_pairs=scored, cached_pairs=cached, cached_ms=took)
    said = Page(timings_html(search)).words
    assert f"embed the query 1 ms · retrieve 2 ms · {words} · first use" in said
    assert ("30 ms" in said) == bool(scored)


def test_while_it_scores_what_the_cached_ones_took_is_known():
    search = replace(make_reranking(moment="partial"), cached_pairs=2, scored_pairs=1, cached_ms=8.0)
    assert "rerank: 2 from the cache (took 8 ms when scored), 1 scored" in Page(timings_html(search)).words
    assert "rerank" not in Page(timings_html(make_reranking(moment="candidates"))).words


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        ([0, 0], ""),
        ([0, 1], "mini read only the start of 1 passage (1 token cut off)."),
        ([0, 1200], "mini read only the start of 1 passage (1,200 tokens cut off)."),
        ([1, 120], "mini read only the start of 2 passages (up to 120 tokens cut off)."),
    ],
)
def test_what_was_not_read_is_said_once(cuts, words):
    readings = {f"plain{n}": Reading(100, 100 + cut) for n, cut in enumerate(cuts)}
    search = replace(make_reranking(reranker=MINI), readings=readings)
    said = Page(timings_html(search)).words
    assert ("read only" in said) == bool(words) and words in said


def test_notes_of_both_stages_are_shown():
    search = make_reranking()
    search = replace(
        search, notes=("of the rerank",), candidates=replace(search.candidates, notes=("of the corpus",))
    )
    words = Page(timings_html(search)).words
    assert words.index("of the corpus") < words.index("of the rerank")


def test_a_reranker_that_does_not_tell_what_it_read_has_no_line_of_it():
    search = replace(make_reranking(), readings={})
    assert "tokens read" in passage_html(make_reranking(), PLAIN)
    assert "tokens read" not in passage_html(search, PLAIN) and "read only" not in timings_html(search)


def test_the_sentence_comes_from_the_search():
    search = make_reranking()
    assert Page(sentence_html(search)).words.strip() == search.summary != ""
    assert Page(sentence_html(make_reranking(moment="candidates"))).words.strip() == (
        "0 / 6 scored by fixed-reranker …"
    )


def test_the_panel_says_both_ranks_and_what_was_read():
    search = make_reranking()
    words = Page(passage_html(search, PLAIN)).words
    rank, score = search.ranking.rank_by_id["plain1"], search.ranking.score_by_id["plain1"]
    assert f"{rank} (logit {score:+.4f}, sigmoid {sigmoid(score):.4f})" in words
    assert "2 (cosine 0.8000)" in words
    assert "100 of 101" in words and "gold" in words
    unfinished = Page(passage_html(make_reranking("plain", "partial"), PLAIN)).words
    assert "not yet known" in unfinished


def test_the_panel_says_where_a_passage_is_that_was_not_found():
    location = Location(
        passage_id="<b>", exact_ranks={"minilm": 1234, "bm25": None}, exact_rank=1234, first_stage_rank=None,
        reranked_rank=None, top_n=5, cause="first_stage_missed",
    )  # fmt: skip
    page = passage_html(make_reranking(), Passage("<b>", "text", "<i>"), location)
    words = Page(page).words
    assert "no reranker sees it" in words and "not among the 6 candidates" in words
    assert "true rank in minilm1,234" in words and "true rank in bm25not found" in words
    assert "<b>" not in page and "<i>" not in page


def test_no_step_takes_0_ms():
    assert [format_ms(value) for value in (0.2, 0.5001, 1234.4)] == ["under 1", "1", "1,234"]


def test_the_story_of_a_corpus_opens_from_its_first_sentence():
    told = story_html("3 passages", "A shop sells fruit.  It is <small>. Nobody comes.")
    assert (
        "<summary>3 passages. A shop sells fruit.</summary>It is &lt;small&gt;. Nobody comes.</details>"
        in told
    )
    assert "<details" not in story_html("3 passages", "One sentence.")
    assert "3 passages." in story_html("3 passages", "")
