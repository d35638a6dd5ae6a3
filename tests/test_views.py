"""What is drawn: whatever others wrote comes out as text, at every moment of a search."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from rag_inspect.pipeline import finish
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Availability, Passage, Query, Ranking, RankMove, Reading, Search
from rag_inspect.ui.controls import model_label
from rag_inspect.views.figures import scatter, slopegraph
from rag_inspect.views.passage import MAX_CHARACTERS, passage_html
from rag_inspect.views.rankings import chip, rankings_html, sigmoid, spoken
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.views.snippets import LIBRARIES, snippet
from tests.fixed_embedder import FixedEmbedder

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing tags": "</textarea></li></ol></div><img src=x onerror=alert(1)>",
    "attribute": '" onmouseover="alert(1)" x=\'',
    "template": "${alert(1)} {{7*7}} {0} %s %(x)s",
    "backslashes": "\\ \\n \\u0041 \\\\",
    "quotes": "'''\"\"\"`'",
    "entities": "&lt;b&gt; &amp;amp; &#60;",
    "right to left": "שלום \u202eevil\u202c עולם",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "control characters": "a\x00b\x1b[31m\x07",
    "line ends": "one\ntwo\r\nthree\u2028four",
    "comment": "<!-- --> <![CDATA[ ]]> <?php ?>",
    "long": "word " * 10_000,
    "one long word": "x" * 50_000,
}
MOMENTS = ("candidates", "partial", "finished")


def searched(words: str, moment: str = "finished", count: int = 6) -> Search:
    """A search in which everything that others write is `words`."""
    passages = {
        f"{words[:200]}{n}": Passage(
            f"{words[:200]}{n}", words, words if n % 2 else "", {words[:50]: [words], "k": words}
        )
        for n in range(count)
    }
    candidates = Ranking.of([(pid, 0.9 - n / 10) for n, pid in enumerate(passages)])
    spec = FixedEmbedder.spec
    search = Search(
        Query("q", words), words, spec, replace(spec, key="fixed-reranker"), count, 2, candidates, passages,
        gold=frozenset(list(passages)[1:3]), timings_ms={"embed": 1.0, "retrieve": 2.0}, notes=(words,),
    )  # fmt: skip
    logits = {pid: float(n * 7 % count) - 3 for n, pid in enumerate(passages)}
    if moment == "candidates":
        return search
    if moment == "partial":
        return replace(search, logits=dict(list(logits.items())[:3]), scored_pairs=3)
    readings = {pid: Reading(100, 100 + n) for n, pid in enumerate(passages)}
    timings = {"load": 2500.0, "embed": 1.0, "retrieve": 2.0, "rerank": 30.0, "total": 33.0}
    return finish(replace(search, logits=logits, readings=readings, timings_ms=timings, scored_pairs=count))


class Page(HTMLParser):
    """Parses a fragment, insists that every tag is closed in turn, and keeps text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def pages(search: Search) -> dict[str, str]:
    first = next(iter(search.passages))
    return {
        "rankings": rankings_html(search),
        "passage": passage_html(search, first),
        "no passage": passage_html(search, search.query.text),
        "sentence": sentence_html(search),
        "timings": timings_html(search),
        "aside": aside_html(search.query.text),
    }


OURS = {
    "div",
    "ol",
    "li",
    "button",
    "span",
    "b",
    "i",
    "small",
    "h3",
    "h4",
    "svg",
    "path",
    "p",
    "dl",
    "dt",
    "dd",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", HOSTILE)
def test_what_others_wrote_is_text_and_nothing_else(case, moment):
    plain, hostile = pages(searched("plain", moment)), pages(searched(HOSTILE[case], moment))
    for name, html in hostile.items():
        page, expected = Page(html), Page(plain[name])
        # The same tags and the same attributes as for a harmless word: nothing got out of its place.
        assert [tag for tag in page.tags if tag not in {"br"}] == expected.tags or case in {
            "long",
            "one long word",
        }
        assert set(page.tags) <= OURS
        assert [n for n, _ in page.attributes] == [n for n, _ in expected.attributes]
        assert not any(name.startswith("on") for name, _ in page.attributes)
        assert all(
            "alert" not in (value or "")
            for name, value in page.attributes
            if name in {"href", "src", "style"}
        )


def test_the_words_are_all_there():
    for case, words in HOSTILE.items():
        shown = Page(passage_html(searched(words), f"{words[:200]}0")).words
        expected = words[:MAX_CHARACTERS].replace("\x00", "").split()
        assert " ".join(expected) in " ".join(shown.replace("\x00", "").split()), case


def test_a_passage_without_end_is_cut_and_that_is_said():
    html = passage_html(searched("x" * 50_000), "x" * 200 + "0")
    assert "30,000 more characters" in html and len(html) < 30_000


def test_the_columns_stay_small_whatever_the_passages():
    assert len(rankings_html(searched("x" * 50_000))) < 60_000


def test_an_id_finds_its_way_back_out_of_the_page():
    for words in HOSTILE.values():
        search = searched(words)
        ids = [value for name, value in Page(rankings_html(search)).attributes if name == "data-passage"]
        assert {value.replace("\r\n", "\n") for value in ids if value} <= {
            pid.replace("\r\n", "\n") for pid in search.passages
        }


# What the columns say


def test_the_candidates_stand_alone_at_first():
    page = Page(rankings_html(searched("plain", "candidates")))
    assert "0 / 6 scored" in page.words and "cosine · fixed" in page.words
    assert page.tags.count("path") == 0 and page.tags.count("button") == 6
    assert "▲" not in page.words and "▼" not in page.words


def test_scores_come_in_without_claims_of_rank():
    search = searched("plain", "partial")
    html = rankings_html(search)
    assert "3 / 6 scored" in html and html.count("ri-empty") == 3
    assert "ri-line" not in html
    assert sentence_html(search).count("3 / 6 scored") == 1


def test_the_finished_columns_mirror_each_other():
    search = searched("plain")
    page = Page(rankings_html(search))
    ids = [value for name, value in page.attributes if name == "data-passage"]
    before, lines, after = ids[:6], ids[6:12], ids[12:]
    assert before == list(search.candidates.passage_ids)
    assert lines == after == list(search.reranked.passage_ids)
    labels = [value or "" for name, value in page.attributes if name == "aria-label"]
    assert labels[0].startswith("Rank 1: plain. cosine 0.900. Passage ")
    assert sum(" Gold." in label for label in labels) == 4
    for move in search.moves:
        assert chip(move) in page.words and sum(f"Passage {spoken(move)}." in label for label in labels) >= 2
    assert "%" not in page.words


def test_a_move_in_signs_and_in_words():
    assert (
        chip(RankMove("p", 9, 2)) == "#9 → #2 ▲7"
        and spoken(RankMove("p", 9, 2)) == "moved up 7, from rank 9 to 2"
    )
    assert (
        chip(RankMove("p", 2, 9)) == "#2 → #9 ▼7"
        and spoken(RankMove("p", 2, 9)) == "moved down 7, from rank 2 to 9"
    )
    assert chip(RankMove("p", 4, 4)) == "=" and spoken(RankMove("p", 4, 4)) == "stayed at rank 4"


def test_only_a_gold_passage_that_moved_has_a_colour():
    search = searched("plain")
    html = rankings_html(search)
    moved = {
        move.passage_id: move.delta for move in search.moves if move.passage_id in search.gold and move.delta
    }
    up = sum(delta > 0 for delta in moved.values())
    # chip and line of each; chips stand in the right column alone
    colours = re.findall(r"ri-(good|bad)\b(?!-)", html)
    assert (colours.count("good"), colours.count("bad")) == (2 * up, 2 * (len(moved) - up))
    assert moved


@pytest.mark.parametrize("logits", [[0.0], [5.0, 5.0, 5.0], [-1e30, 1e30], [1e-300, 0.0]])
def test_bars_of_any_logits(logits):
    ids = [f"p{n}" for n in range(len(logits))]
    search = searched("plain")
    done = finish(
        replace(
            search,
            candidates=Ranking.of([(pid, -0.2) for pid in ids]),
            passages={pid: Passage(pid, "text") for pid in ids},
            logits=dict(zip(ids, logits, strict=True)),
        )
    )
    widths = [
        value
        for name, value in Page(rankings_html(done)).attributes
        if name == "style" and "width" in (value or "")
    ]
    assert len(widths) == 2 * len(ids)
    assert all(0 <= float(width.removeprefix("width:").removesuffix("%")) <= 100 for width in widths if width)


def test_the_sigmoid_never_overflows():
    assert sigmoid(0) == 0.5 and sigmoid(2) + sigmoid(-2) == pytest.approx(1)
    assert (sigmoid(-1e6), sigmoid(1e6)) == (0.0, 1.0)


# The lines and the panel


def test_the_timings_say_what_was_cold_and_what_was_cut():
    words = Page(timings_html(searched("plain"))).words
    assert "embed the query 1 ms" in words and "rerank 30 ms" in words
    assert "before that, once: loading 2.5 s" in words
    assert "6 pairs scored, 0 from the score cache" in words
    assert (
        "5 passages are longer than fixed-reranker reads beside this query: up to 5 tokens were not read"
        in words
    )


def test_the_sentence_comes_from_the_search():
    search = searched("plain")
    assert Page(sentence_html(search)).words == search.summary != ""


def test_the_panel_says_both_ranks_and_what_was_read():
    search = searched("plain")
    words = Page(passage_html(search, "plain1")).words
    rank = search.reranked.rank_by_id["plain1"]
    assert f"{rank} (logit {search.logits['plain1']:+.4f}" in words and "2 (cosine 0.8000)" in words
    assert "100 of 101" in words and "gold" in words
    unfinished = Page(passage_html(searched("plain", "partial"), "plain1")).words
    assert "not yet known" in unfinished
    assert "not among these candidates" in passage_html(search, "<b>")


# Figures and snippets


@pytest.mark.parametrize("draw", [slopegraph, scatter])
@pytest.mark.parametrize("moment", MOMENTS)
def test_figures_of_any_moment_and_any_words(draw, moment):
    for words in ("plain", *HOSTILE.values()):
        figure = draw(searched(words, moment)).to_plotly_json()
        for trace in figure["data"]:
            texts = (
                trace["hovertext"] if isinstance(trace["hovertext"], tuple | list) else [trace["hovertext"]]
            )
            assert all("<" not in text.replace("<br>", "") and len(text) < 1000 for text in texts)


def test_the_slopegraph_joins_both_ranks():
    search = searched("plain")
    traces = slopegraph(search).to_plotly_json()["data"]
    assert [tuple(trace["y"]) for trace in traces] == [(move.before, move.after) for move in search.moves]
    assert len({trace["line"]["color"] for trace in traces}) == 2


def test_the_scatter_sets_gold_apart():
    search = searched("plain")
    traces = scatter(search).to_plotly_json()["data"]
    assert [(trace["name"], len(trace["x"])) for trace in traces] == [("candidate", 4), ("gold", 2)]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_snippet_is_python_whatever_the_query(library, case):
    search = searched(HOSTILE[case])
    for reranker in (RERANKERS["base"], RERANKERS["mini"]):
        code = snippet(replace(search, reranker=reranker), library, RERANKERS["base"])
        compile(code, "snippet", "exec")
        names: dict[str, object] = {}
        [line] = [line for line in code.splitlines() if line.startswith("query = ")]
        exec(line, names)
        assert names["query"] == search.query.text
        shown = reranker if library == "rag-inspect" or reranker.files else RERANKERS["base"]
        if library != "rag-inspect":
            assert shown.revision in code and shown.model in code
    assert "built into rag-inspect" in snippet(
        replace(search, reranker=RERANKERS["mini"]), "Transformers", RERANKERS["base"]
    )


def test_the_snippet_of_this_package_runs(models, capsys):
    search = replace(searched("How long does a goldfish live?"), reranker=RERANKERS["mini"])
    code = snippet(search, "rag-inspect", RERANKERS["base"])
    code = code.replace("[...]", "['Fish live ten years.', 'The ferry leaves at noon.', 'The tea is hot.']")
    exec(compile(code, "snippet", "exec"), {})
    printed = capsys.readouterr().out.split()
    assert printed[0] == "0" and len(printed) == 2 * search.top_n


def test_unescaped_text_is_what_was_written():
    words = HOSTILE["entities"]
    assert unescape(sentence_html(searched("plain"))) and words in Page(aside_html(words)).words


def test_a_model_that_is_not_here_says_so_in_three_words():
    reason = "not on disk, and " + "the hub did not answer: Temporary failure in name resolution " * 5
    label = model_label(RERANKERS["base"], Availability(False, "hub", reason))
    assert label == "base · not on disk, no hub"
    assert "download" in model_label(RERANKERS["base"], Availability(True, "hub", "choosing it downloads"))
