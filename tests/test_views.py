"""What is drawn: whatever others wrote comes out as text, at every moment of a search."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from rag_inspect.types import FirstStage, Passage, RankMove, Reranking
from rag_inspect.views.passage import MAX_CHARACTERS, passage_html
from rag_inspect.views.rankings import describe_move, format_move, rankings_html, sigmoid
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.views.templates import render
from tests.parsing import Page
from tests.searches import HOSTILE, HUB, MINI, MOMENTS, make_candidates, make_reranking, rank


def open_panel(search: Reranking, passage_id: str) -> str:
    return passage_html(search, search.candidates.passages[passage_id])


def pages(search: Reranking) -> dict[str, str]:
    first, text = next(iter(search.candidates.passages.values())), search.candidates.query.text
    return {
        "rankings": rankings_html(search),
        "passage": passage_html(search, first),
        "another passage": passage_html(search, Passage(text, text, text, {text: text})),
        "sentence": sentence_html(search),
        "timings": timings_html(search),
        "aside": aside_html(search.candidates.query.text),
    }


OURS = set(
    [
        "a",
        "b",
        "button",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "h2",
        "i",
        "label",
        "li",
        "ol",
        "p",
        "path",
        "small",
        "span",
        "summary",
        "svg",
        "textarea",
    ]
)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", HOSTILE)
def test_what_others_wrote_is_text_and_nothing_else(case, moment):
    plain, hostile = pages(make_reranking("plain", moment)), pages(make_reranking(HOSTILE[case], moment))
    for name, html in hostile.items():
        page, expected = Page(html), Page(plain[name])
        # The same tags and the same attributes as for a harmless word: nothing got out of its place. A very long passage
        # cannot be edited in its panel.
        if case not in {"long", "one long word"}:
            assert [tag for tag in page.tags if tag not in {"br"}] == expected.tags
            assert [n for n, _ in page.attributes] == [n for n, _ in expected.attributes]
        assert set(page.tags) <= OURS
        assert {n for n, _ in page.attributes} <= {n for n, _ in expected.attributes}
        assert not any(name.startswith("on") for name, _ in page.attributes)
        assert all(
            "alert" not in (value or "")
            for name, value in page.attributes
            if name in {"href", "src", "style"}
        )


@pytest.mark.parametrize("case", HOSTILE)
def test_the_names_of_models_are_text_too(case):
    """A row of models.yaml is written by hand as well."""
    words = HOSTILE[case][:200]
    for moment in MOMENTS:
        search = make_reranking("plain", moment, replace(MINI, key=words, score_name=words, summary=words))
        stage = replace(search.candidates.first_stage, key=words, score_name=words)
        search = replace(search, candidates=replace(search.candidates, first_stage=stage))
        plain = pages(make_reranking("plain", moment, MINI))
        for name, html in pages(search).items():
            page, expected = Page(html), Page(plain[name])
            assert page.tags == expected.tags
            assert [n for n, _ in page.attributes] == [n for n, _ in expected.attributes]
            assert all((value or "").startswith("cards/") for n, value in page.attributes if n == "href")


def test_the_words_are_all_there():
    for case, words in HOSTILE.items():
        shown = Page(open_panel(make_reranking(words), f"{words[:200]}0")).words
        expected = words[:MAX_CHARACTERS].replace("\x00", "").split()
        assert " ".join(expected) in " ".join(shown.replace("\x00", "").split()), case


def test_a_passage_without_end_is_cut_and_that_is_said():
    html = open_panel(make_reranking("x" * 50_000), "x" * 200 + "0")
    assert "30,000 more characters" in html and len(html) < 30_000


def test_the_columns_stay_small_whatever_the_passages():
    assert len(rankings_html(make_reranking("x" * 50_000))) < 60_000


def test_a_row_is_known_by_its_number_whatever_the_ids_are():
    for words in HOSTILE.values():
        search = make_reranking(words)
        numbers = [value for name, value in Page(rankings_html(search)).attributes if name == "data-passage"]
        assert set(numbers) == {str(hit.rank) for hit in search.candidates.ranking}


# What the columns say


def test_the_candidates_stand_alone_at_first():
    page = Page(rankings_html(make_reranking("plain", "candidates")))
    assert "0 / 6 scored" in page.words and "cosine · fixed" in page.words
    assert page.tags.count("path") == 0 and page.tags.count("button") == 6
    assert "▲" not in page.words and "▼" not in page.words


def test_scores_come_in_without_claims_of_rank():
    search = make_reranking("plain", "partial")
    html = rankings_html(search)
    assert "3 / 6 scored" in html and html.count("ri-empty") == 3
    assert "ri-line" not in html
    assert sentence_html(search).count("3 / 6 scored") == 1


def test_the_finished_columns_mirror_each_other():
    search = make_reranking()
    page = Page(rankings_html(search))
    ids = [value for name, value in page.attributes if name == "data-passage"]
    before, lines, after = ids[:6], ids[6:12], ids[12:]
    first = search.candidates.ranking
    assert before == [str(hit.rank) for hit in first]
    assert lines == after == [str(first.rank_by_id[passage_id]) for passage_id in search.ranking.passage_ids]
    labels = [value or "" for name, value in page.attributes if name == "aria-label"]
    assert labels[0].startswith("Rank 1: plain. cosine 0.900. Passage ")
    assert sum(" Gold." in label for label in labels) == 4
    for move in search.moves:
        assert (
            format_move(move) in page.words
            and sum(f"Passage {describe_move(move)}." in label for label in labels) >= 2
        )
    assert "%" not in page.words


def test_a_move_in_signs_and_in_words():
    assert (
        format_move(RankMove("p", 9, 2)) == "#9 → #2 ▲7"
        and describe_move(RankMove("p", 9, 2)) == "moved up 7, from rank 9 to 2"
    )
    assert (
        format_move(RankMove("p", 2, 9)) == "#2 → #9 ▼7"
        and describe_move(RankMove("p", 2, 9)) == "moved down 7, from rank 2 to 9"
    )
    assert (
        format_move(RankMove("p", 4, 4)) == "=" and describe_move(RankMove("p", 4, 4)) == "stayed at rank 4"
    )


def test_only_a_gold_passage_that_moved_has_a_colour():
    search = make_reranking()
    html = rankings_html(search)
    moved = {
        move.passage_id: move.delta
        for move in search.moves
        if move.passage_id in search.candidates.gold and move.delta
    }
    up = sum(delta > 0 for delta in moved.values())
    # chip and line of each; chips stand in the right column alone
    colours = re.findall(r"ri-(good|bad)\b(?!-)", html)
    assert (colours.count("good"), colours.count("bad")) == (2 * up, 2 * (len(moved) - up))
    assert moved


def test_an_unjudged_passage_is_marked_where_the_eval_set_says_what_is_not_gold():
    search = make_reranking()
    first, second, *_ = search.candidates.ranking.passage_ids
    for grades, marks in (({first: 1, second: 0}, len(search.candidates) - 2), ({first: 1}, 0), ({}, 0)):
        candidates = replace(search.candidates, grades=grades)
        html = rankings_html(replace(search, candidates=candidates))
        assert html.count("ri-unjudged") == 2 * marks, "in both columns"
    judged = replace(search, candidates=replace(candidates, grades={first: 2}))
    assert "<dt>judgement</dt><dd>–</dd>" in open_panel(judged, second)
    assert "<dt>judgement</dt><dd>gold, grade 2</dd>" in open_panel(judged, first)


@pytest.mark.parametrize("scores", [(0.0,), (5.0, 5.0, 5.0), (-1e30, 1e30), (1e-300, 0.0)])
@pytest.mark.parametrize("score_range", [None, (0.0, 1.0)])
def test_bars_of_any_scores(scores, score_range):
    stage = FirstStage(key="bm25", kind="bm25", score_name="bm25", score_range=score_range)
    candidates = make_candidates(scores=scores, stage=stage)
    done = Reranking(
        candidates=candidates, reranker=MINI, top_n=2, ranking=rank(dict(candidates.ranking.score_by_id))
    )
    widths = bar_widths(rankings_html(done))
    assert len(widths) == 2 * len(scores)
    assert all(0 <= width <= 100 for width in widths)


def bar_widths(html: str) -> list[float]:
    styles = [value or "" for name, value in Page(html).attributes if name == "style"]
    return [float(style[len("width:") : -len("%")]) for style in styles if style.startswith("width:")]


def test_a_bar_is_drawn_on_the_scale_the_score_has():
    stage = FirstStage(key="bm25", kind="bm25", score_name="bm25", score_range=None)
    scores = (30.0, 20.0, 10.0)
    for score_range, expected in ((None, [100.0, 50.0, 0.0]), ((0.0, 40.0), [75.0, 50.0, 25.0])):
        candidates = make_candidates(scores=scores, stage=replace(stage, score_range=score_range))
        html = rankings_html(Reranking(candidates=candidates, reranker=MINI, top_n=2))
        assert bar_widths(html) == expected


# Every score by its name


def test_scores_are_called_what_they_are():
    stage = FirstStage(key="bm25", kind="bm25", score_name="bm25 score")
    done = make_reranking(reranker=MINI)
    done = replace(done, candidates=replace(done.candidates, first_stage=stage))
    page, panel = Page(rankings_html(done)), Page(open_panel(done, "plain1")).words
    labels = [value or "" for name, value in page.attributes if name == "aria-label"]
    assert "6 passages · bm25 score · bm25" in page.words and "mini score · mini" in page.words
    assert all(" bm25 score " in label for label in labels[:6])
    assert all(" mini score " in label for label in labels[6:])
    assert "(bm25 score 0.8000)" in panel and "(mini score " in panel
    everything = (rankings_html(done) + open_panel(done, "plain1")).lower()
    assert "logit" not in everything and "cosine" not in everything.replace(MINI.summary, "")


def test_what_a_score_is_made_of_stands_beside_its_name_with_the_model_card():
    page = Page(rankings_html(make_reranking(reranker=MINI)))
    assert "mini score · mini: cosine + word overlap + cross-encoder" in page.words
    assert [value for name, value in page.attributes if name == "href"] == ["cards/mini"]
    assert "a" not in Page(rankings_html(make_reranking(reranker=HUB))).tags
    assert "a" not in Page(rankings_html(make_reranking("plain", "partial", MINI))).tags


def test_a_sigmoid_is_shown_only_where_it_means_something():
    logit, mini = make_reranking(reranker=HUB), make_reranking(reranker=MINI)
    assert rankings_html(logit).count("sigmoid of the logit") == 6
    assert "sigmoid" in open_panel(logit, "plain1")
    assert "σ" not in rankings_html(mini) and "sigmoid" not in rankings_html(mini)
    assert "sigmoid" not in open_panel(mini, "plain1")


def test_the_sigmoid_never_overflows():
    assert sigmoid(0) == 0.5 and sigmoid(2) + sigmoid(-2) == pytest.approx(1)
    assert (sigmoid(-1e6), sigmoid(1e6)) == (0.0, 1.0)


def test_unescaped_text_is_what_was_written():
    words = HOSTILE["entities"]
    assert words in Page(aside_html(words)).words


def test_importing_the_views_reads_no_template():
    code = (
        "import sys; read = []; "
        "sys.addaudithook(lambda event, args: event == 'open' and str(args[0]).endswith('.html') and read.append(args[0])); "
        "import rag_inspect.views.passage, rag_inspect.views.rankings, rag_inspect.views.sentences; print(len(read)); "
        "rag_inspect.views.sentences.aside_html('words'); print(len(read))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["0", "1"]


def test_a_template_that_misses_a_value_fails():
    with pytest.raises(UndefinedError):
        render("passage.html", passage_id="p", text="words", facts=[])
