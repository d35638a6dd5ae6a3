"""Explanations: parts that slice to the very text, effects that are differences of scores, and the check of them."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_inspect.errors import InputError, RerankError
from rag_inspect.explain import DRAWS, explain, write_explanation
from rag_inspect.parts import MOST, leave_out, split_passage, split_query
from rag_inspect.pipeline import find_candidates, rerank
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Explanation, Location, Passage, Ranking, Reranking
from rag_inspect.views.explanation import (
    describe_check,
    describe_effect,
    describe_rivals,
    describe_unread,
    explained_html,
    format_ordinal,
    write_markdown,
)
from tests.evaluating import ExactRetriever, ScriptedReranker, make_corpus
from tests.parsing import Page

SENTENCES = {
    "en": ["Dr. Smith went home at 5 p.m. yesterday.", "He slept!", "Why did he?", "Nobody knows…"],
    "de": ["Das ist z. B. ein Satz.", "Über Öl 😀 wird geredet.", "Ende é̂ gut!"],
    "zh": ["今天天气很好。", "我们去公园吧！", "你呢？"],
    "ja": ["東京は日本の首都です。", "人口は約1400万人です。"],
    "ar": ["مرحبا بالعالم.", "كيف حالك؟", "أنا بخير."],
    "hi": ["यह एक वाक्य है।", "यह दूसरा है।"],
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_passage_is_split_into_its_title_and_its_sentences(language):
    space = "" if language in {"zh", "ja"} else " "
    passage = Passage("p", space.join(SENTENCES[language]), "A title, with a comma")
    found = split_passage(passage, language)
    assert [span.text for span in found.spans] == ["A title, with a comma", *SENTENCES[language]]
    assert found.found == len(found.spans)


@given(st.text(max_size=300), st.text(max_size=30), st.sampled_from([*SENTENCES, "xx", ""]))
@settings(max_examples=200, deadline=None)
def test_offsets_slice_to_the_very_text_and_nothing_but_white_space_is_left(text, title, language):
    passage = Passage("p", text, title)
    spans = split_passage(passage, language).spans
    whole = passage.full_text
    assert all(whole[span.start : span.end] == span.text and span.text.strip() for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert not leave_out(whole, spans).strip()


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_the_words_of_a_query_slice_to_the_very_text(query):
    spans = split_query(query).spans
    assert all(query[span.start : span.end] == span.text for span in spans) and len(spans) <= MOST


def test_a_text_without_sentences_is_split_at_clauses_else_into_windows():
    def texts(text):
        return [span.text for span in split_passage(Passage("p", text)).spans]

    assert texts("first this, then that; and at last the end") == [
        "first this,",
        "then that;",
        "and at last the end",
    ]
    assert texts("one two three four five six seven eight nine ten") == [
        "one two three four five", "six seven eight nine ten",
    ]  # fmt: skip
    assert texts("word") == ["word"] and texts("  ") == []
    assert len(texts("漢" * 40)) == 5, "no space to go by"


def test_long_texts_are_joined_into_few_parts_and_say_so():
    passage = Passage("p", " ".join(f"Sentence number {n} is here." for n in range(500)), "title")
    found = split_passage(passage)
    assert found.found == 501 and len(found.spans) == MOST
    lengths = [span.end - span.start for span in found.spans[1:]]
    assert max(lengths) < 4 * min(lengths), "joined by size"
    assert len(split_query("word " * 90).spans) == MOST


def test_only_what_is_read_is_split():
    passage = Passage("p", "The first sentence. The second one. The third.", "title")
    end = len("title\nThe first sentence. The sec")
    assert [span.text for span in split_passage(passage, "en", end).spans] == [
        "title",
        "The first sentence.",
        "The sec",
    ]


# Explanations


def search_with(reranker, cache=None, text="When did the otter meet the heron?", **options) -> Reranking:
    corpus = make_corpus(10)
    candidates = find_candidates(ExactRetriever(corpus), corpus, text, options.pop("top_k", 8))
    *_, end = rerank(candidates, reranker, cache, options.pop("top_n", 3))
    return end


def run(search, passage, reranker, cache=None) -> Explanation:
    *_, end = explain(search, passage, reranker, cache)
    return end


LONG = Passage(
    "long",
    " ".join(f"Here is what number {n} says of it." for n in range(9)) + " The needle is here.",
    "A heading",
)


def test_effects_are_differences_of_scores_made_anew(tmp_path):
    reranker = ScriptedReranker(lambda query, passage: len(passage.full_text) / 10 + len(query) ** 2 / 50)
    cache = ScoreCache(tmp_path / "scores.sqlite")
    search = search_with(reranker, cache)
    for passage in (LONG, search.candidates.in_order[2]):
        found = run(search, passage, reranker, cache)
        query = search.candidates.query.text
        [whole] = reranker.score(query, [passage])
        assert found.score == whole and found.text == passage.full_text and found.complete
        for effect in found.parts:
            [without] = reranker.score(query, [Passage("x", leave_out(found.text, [effect.span]))])
            assert effect.score_without == without and effect.delta == whole - without
        for effect in found.words:
            [without] = reranker.score(leave_out(query, [effect.span]), [passage])
            assert effect.score_without == without and effect.delta == whole - without
        others = [hit.score for hit in search.ranking if hit.passage_id != passage.passage_id]
        for effect in (*found.parts, *found.words):
            above = sum(score > effect.score_without for score in others)
            equal = sum(score == effect.score_without for score in others)
            assert above < effect.rank_without <= above + equal + 1
    cache.close()


def test_asking_again_costs_nothing(tmp_path):
    reranker = ScriptedReranker()
    cache = ScoreCache(tmp_path / "scores.sqlite")
    search = search_with(reranker, cache)
    first = run(search, LONG, reranker, cache)
    read = reranker.read
    assert run(search, LONG, reranker, cache) == first and reranker.read == read
    cache.close()


def test_one_word_that_counts_carries_the_score_and_the_check_says_so():
    reranker = ScriptedReranker(lambda query, passage: 5.0 * ("needle" in passage.full_text))
    found = run(search_with(reranker), LONG, reranker)
    [strongest] = [effect for effect in found.parts if effect.delta]
    assert strongest.span.text == "The needle is here." and strongest.delta == found.score == 5.0
    assert found.check and found.check.carried and found.check.change == 5.0 and found.check.usual == 0
    assert found.check.draws == DRAWS and describe_check(found).startswith("Checked: ")
    assert describe_effect(strongest, found.rank).startswith(
        "This sentence raises the score by 5.00: without it"
    )


def test_scores_by_chance_are_carried_by_nothing_and_the_check_says_so():
    def draw(seed):
        return lambda query, passage: random.Random(f"{seed}{query}{passage.full_text}").gauss(0, 1)

    carried = 0
    for seed in range(40):
        reranker = ScriptedReranker(draw(seed))
        found = run(search_with(reranker), LONG, reranker)
        carried += found.check.carried
        if not found.check.carried:
            assert describe_check(found).startswith("No single sentence carries this score")
    assert carried <= 4, "about one in twenty at most, by construction"


def test_a_passage_of_few_parts_is_not_checked_and_says_so():
    reranker = ScriptedReranker()
    found = run(search_with(reranker), Passage("p", "One. Two. Three."), reranker)
    assert found.check is None and found.complete and "too few parts" in describe_check(found)


def test_it_grows_and_can_be_stopped(tmp_path):
    reranker = ScriptedReranker()
    reranker.batch = 4
    cache = ScoreCache(tmp_path / "scores.sqlite")
    search = search_with(reranker, cache)
    moments = explain(search, LONG, reranker, cache)
    first, second = next(moments), next(moments)
    assert first.done < second.done < second.total and not second.complete and second.check is None
    assert describe_check(second) == ""
    moments.close()
    before = reranker.read
    run(search, LONG, reranker, cache)
    assert reranker.read - before <= second.total - second.done, "what was scored is kept"
    cache.close()


def test_a_reranker_that_fails_in_the_middle_keeps_what_was_measured():
    class Failing(ScriptedReranker):
        def score_pairs(self, pairs):
            for at, batch in enumerate(super().score_pairs(pairs)):
                if at == 2:
                    raise RerankError("the engine is gone")
                yield batch

    reranker, seen = Failing(), []
    reranker.batch = 8
    search = search_with(ScriptedReranker())
    with pytest.raises(RerankError, match="gone"):
        seen.extend(explain(search, LONG, reranker))
    assert seen and seen[-1].parts


def test_what_lies_past_the_window_is_said_and_not_split():
    reranker = ScriptedReranker()
    reranker.ends = 40
    search = search_with(reranker)
    found = run(search, LONG, reranker)
    assert max(effect.span.end for effect in found.parts) <= 40
    assert describe_unread(found) == [f"fixed reads the first 40 of {len(LONG.full_text)} characters."]
    document = found.to_json()["reading"]
    assert document["read_characters"] == 40 and document["total_characters"] == len(LONG.full_text)


def test_a_very_long_passage_is_explained_by_few_parts():
    reranker = ScriptedReranker()
    long = Passage("long", "A sentence of some length, with a clause. " * 1200)
    found = run(search_with(reranker), long, reranker)
    assert len(long.text) > 50_000 and len(found.parts) == MOST and found.total <= 2 * MOST + DRAWS + 2
    assert any("1,200 parts of the passage were joined into 40" in note for note in found.notes)


def test_two_passages_of_one_query_and_what_decides_between_them():
    def score(query, passage):
        return 4.0 * ("needle" in passage.full_text) - 1.5 * ("dull" in passage.full_text)

    reranker = ScriptedReranker(score)
    search = search_with(reranker)
    other = replace(LONG, passage_id="dull", text=LONG.text.replace("The needle is here.", "A dull end."))
    one, two = run(search, LONG, reranker), run(search, other, reranker)
    words = describe_rivals(two, one)
    assert (
        words
        == "long is 5.50 above dull: long has “The needle is here.” (+4.00); dull loses to “A dull end.” (-1.50)."
    )
    where = Location(
        passage_id="long", exact_ranks={}, exact_rank=None, first_stage_rank=None, reranked_rank=None, top_n=3,
        cause="first_stage_missed",
    )  # fmt: skip
    document = write_explanation(search, where, one, two)
    assert document["against"]["passage_id"] == "dull" and document["where"]["cause"] == "first_stage_missed"
    for key in ("parts", "query_words"):
        for row in document[key]:
            assert row["delta"] == document["score"] - row["score_without"]
            text = document["text"] if key == "parts" else document["query"]
            assert text[row["start"] : row["end"]] == row["text"]


def test_the_panel_and_the_markdown_say_what_was_measured_whatever_the_texts_say():
    hostile = '<img src=x onerror="alert(1)"> | `code` **bold** [x](http://evil)'
    passages = [
        Passage("p1", f"{hostile}. Another sentence. A third one.", hostile),
        Passage("p2", "Quite another."),
    ]
    search = search_with(ScriptedReranker())
    candidates = replace(search.candidates, passages={p.passage_id: p for p in passages})
    candidates = replace(candidates, ranking=Ranking.of([("p1", 0.9), ("p2", 0.8)]))
    search = replace(search, candidates=candidates, ranking=Ranking.of([("p1", 2.0), ("p2", 1.0)]))
    explained = [run(search, passage, ScriptedReranker()) for passage in passages]
    html = explained_html(search, explained)
    assert "<img" not in html and "ri-stop" not in html
    page = Page(html)
    assert "Another sentence." in page.words and f"{explained[0].parts[1].delta:+.2f}" in page.words
    markdown = write_markdown(search, explained)
    for line in markdown.splitlines():
        assert line.count("|") - line.count("\\|") in (0, 4), "every cell in its column"
    assert "[x](http" not in markdown and "**bold" not in markdown and "\\<img" in markdown
    assert "ri-unseen" not in html
    short = replace(explained[0], read={"minilm": explained[0].parts[1].span.start, "fixed": 10_000})
    first = replace(search.candidates.first_stage, key="minilm")
    cut = explained_html(replace(search, candidates=replace(candidates, first_stage=first)), [short])
    assert (
        cut.count("ri-unseen") == len(short.parts) - 1 and "What minilm does not read has a wavy line." in cut
    )
    growing = explained_html(search, [replace(explained[0], done=3, check=None)])
    assert "ri-stop" in growing and "ri-copy" not in growing and 'data-done="3"' in growing


def test_minis_prior_has_its_share_of_every_effect(models):
    mini = models.mini
    query = "how do I reset the password?"
    passage = Passage(
        "p", "Open the settings page. Choose reset the password. Then sign in again.", "Account"
    )
    whole = mini.components([(query, passage)])
    assert set(whole) == {"cosine", "word overlap"}
    search = search_with(mini, text=query, top_k=4, top_n=2)
    found = run(search, passage, mini)
    for effect in (*found.parts, *found.words):
        assert sum(effect.shares.values()) == pytest.approx(effect.delta, abs=1e-6)
        assert list(effect.shares) == ["cosine", "word overlap", "cross-encoder"]
    best = max(found.parts, key=lambda effect: effect.delta)
    assert "reset the password" in best.span.text and best.shares["word overlap"] > 0


@pytest.mark.parametrize(
    ("rank", "words"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (111, "111th"), (1203, "1,203rd")],
)  # fmt: skip
def test_ordinals(rank, words):
    assert format_ordinal(rank) == words


def test_a_passage_that_is_not_there_names_the_nearest():
    from rag_inspect.locate import find_passage

    corpus = make_corpus(10)
    with pytest.raises(InputError, match="the nearest ids are p0"):
        find_passage(corpus, "p00")
