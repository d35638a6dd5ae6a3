"""The Explore page as people meet it, in headless Chromium: nothing here is faked but the corpora's size."""

import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from rag_inspect.settings import Settings
from rag_inspect.tasks import Task
from rag_inspect.workbench import Workbench
from tests.browsing import HOSTILE, ask, wait_for_ranking, wait_for_words

pytestmark = pytest.mark.browser


SEEN = "part => getComputedStyle(part).opacity"


def test_the_first_screen_makes_its_point_without_a_click(visit):
    page = visit()
    page.wait_for_selector(".ri-after .ri-chip", timeout=120_000)
    assert page.locator(".ri-before li.ri-row").count() == page.locator(".ri-after li.ri-row").count() == 20
    assert page.locator("#query textarea").input_value()
    assert page.locator("#query textarea").bounding_box()["height"] < 45, "one line of a query, one line tall"
    assert re.search(r"gold passage (moved|stayed)", page.locator("#sentence").inner_text())
    assert page.locator(".ri-after .ri-gold .ri-badge").first.inner_text() == "gold"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    wait_for_ranking(page)


def test_a_query_shows_both_orders_with_moves_that_agree(visit):
    page = visit()
    wait_for_ranking(page)
    ask(page, "which vector store is a Postgres extension")
    before = page.eval_on_selector_all(".ri-before button", "rows => rows.map(row => row.dataset.passage)")
    after = page.eval_on_selector_all(".ri-after button", "rows => rows.map(row => row.dataset.passage)")
    chips = page.locator(".ri-after .ri-chip").all_inner_texts()
    assert sorted(before) == sorted(after) and len(before) == 20
    for rank, (passage, chip) in enumerate(zip(after, chips, strict=True), 1):
        was = before.index(passage) + 1
        assert chip == (
            "=" if was == rank else f"#{was} → #{rank} {'▲' if was > rank else '▼'}{abs(was - rank)}"
        )
    assert page.locator("path.ri-line").count() == 20
    assert page.locator(".ri-before li").nth(4).evaluate("row => row.classList.contains('ri-last-kept')")
    assert "ms" in page.locator("#aside").inner_text()


def test_hover_lights_both_rows_of_a_passage(visit):
    page = visit("?corpus=fruit")
    wait_for_ranking(page)
    page.locator(".ri-after button").first.hover()
    assert page.locator("li.ri-lit").count() == 2 and page.locator("path.ri-lit").count() == 1
    page.wait_for_timeout(300)  # the fading takes a moment
    others = page.locator("li.ri-row:not(.ri-lit)")
    assert float(others.first.evaluate(SEEN)) >= 0.75, "the others can be read"
    page.mouse.move(2, 2)
    page.wait_for_function("!document.querySelector('.ri-lit')")


def test_a_pin_by_mouse_opens_the_whole_passage_and_escape_closes_it(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator(".ri-after button").filter(has_text="Apples").click()
    panel = page.locator(".ri-passage")
    panel.wait_for()
    text = panel.inner_text()
    assert "Apples keep best in a cold cellar." in text and "embedding rank" in text and "tokens read" in text
    assert page.locator("li.ri-pinned").count() == 2
    panel.get_by_text("True ranks in the whole corpus: minilm 1").wait_for()
    page.keyboard.press("Escape")
    panel.wait_for(state="detached")
    assert page.locator("li.ri-pinned").count() == 0


def test_a_panel_never_shows_where_a_passage_was_for_another_search(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator(".ri-before button").first.click()
    page.locator(".ri-passage .ri-where").wait_for()
    page.evaluate("document.querySelector('#located .ri-where').textContent = 'of the search before'")
    ask(page, "which fruit is yellow")
    page.locator(".ri-before button").first.click()
    where = page.locator(".ri-passage .ri-where")
    where.wait_for()
    assert "True ranks in the whole corpus: minilm 1" in where.inner_text()


def test_a_passage_is_explained_in_its_panel_beside_the_one_above_it(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator(".ri-after button").nth(1).click()
    page.locator(".ri-passage .ri-explain").click()
    page.locator(".ri-passage .ri-copy").wait_for()
    panel = page.locator(".ri-passage")
    sides = panel.locator(".ri-beside section")
    assert sides.count() == 2 and panel.locator(".ri-whole").count() == 0
    assert "2nd" in sides.first.inner_text() and "1st" in sides.nth(1).inner_text()
    assert "Apples keep best in a cold cellar." in "".join(sides.nth(1).inner_text().split("+"))
    words = panel.inner_text()
    assert "the score by" in words and " above " in words and "too few parts to check" in words
    assert panel.locator(".ri-part").count() >= 2 * 4, "the words of the query, twice"
    page.locator(".ri-after button").first.click()
    panel.locator(".ri-whole").wait_for()
    assert panel.locator(".ri-explained").count() == 0, "that was another passage's"
    page.locator(".ri-passage .ri-explain").focus()
    page.keyboard.press("Enter")
    page.locator(".ri-passage .ri-copy").wait_for()
    assert "1st" in sides.first.inner_text() and "2nd" in sides.nth(1).inner_text()
    page.keyboard.press("Escape")
    panel.wait_for(state="detached")


def test_an_edited_passage_is_scored_in_its_panel_and_there_is_a_way_back(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator(".ri-after button").nth(1).click()
    panel = page.locator(".ri-passage")
    panel.get_by_text("What if it read otherwise?").click()
    box = panel.locator(".ri-edit-text")
    original = box.input_value()
    box.fill("Apples keep in the cellar: that is where apples keep.")
    panel.get_by_role("button", name="Score it").click()
    panel.get_by_text("It would be 1st instead of 2nd").wait_for()
    panel.get_by_role("button", name="Back to the original").click()
    assert box.input_value() == original and panel.locator(".ri-outcome").inner_text() == ""
    panel.get_by_role("button", name="Score it").click()
    panel.get_by_text("It would stay 2nd").wait_for()
    box.fill(" ")
    panel.get_by_role("button", name="Score it").click()
    page.get_by_text("the edit is empty").first.wait_for()


def test_another_first_stage_names_its_column_and_its_score(visit):
    page = visit("?corpus=fruit&q=where do apples keep&first_stage=hybrid")
    wait_for_ranking(page)
    column = page.locator(".ri-before")
    assert "Hybrid order" in column.inner_text() and "rrf" in column.inner_text()
    assert "minilm 1 · bm25 1" in column.locator("li").first.inner_text()
    page.get_by_role("listbox", name="First stage").or_(page.get_by_label("First stage")).first.click()
    page.get_by_role("option", name="bm25 · words").click()
    page.locator(".ri-before h2").filter(has_text="BM25 order").wait_for()
    page.wait_for_url(lambda url: "first_stage=bm25" in url)


def test_a_query_of_which_bm25_knows_nothing_says_so(visit):
    page = visit("?corpus=fruit&q=zzz&first_stage=bm25")
    page.get_by_text("no word of the query is in the corpus").wait_for()


def test_any_passage_is_found_and_located(visit):
    page = visit("?corpus=resources&first_stage=bm25&k=5")
    wait_for_ranking(page)
    page.get_by_role("button", name="Find a passage").click()
    page.get_by_label("Its id, or words from it").fill("milvus-lite")
    page.get_by_label("Its id, or words from it").press("Enter")
    panel = page.locator(".ri-passage")
    panel.wait_for()
    text = panel.inner_text()
    assert "milvus-lite" in text and "true rank in bm25" in text


def test_a_found_passage_is_located_anew_after_every_search_and_a_long_panel_scrolls(visit):
    page = visit("?corpus=resources&first_stage=bm25&k=5")
    wait_for_ranking(page)
    page.get_by_role("button", name="Find a passage").click()
    box, panel = page.get_by_label("Its id, or words from it"), page.locator(".ri-passage")
    for query in (None, "which vector store keeps its index on disk"):
        if query:
            ask(page, query)
        box.fill("milvus-lite")
        box.press("Enter")
        panel.get_by_text("true rank in bm25").wait_for()
    assert box.evaluate(
        "box => box.getBoundingClientRect().bottom < document.querySelector('#passage').getBoundingClientRect().top"
    )
    box.fill("no passage has these words")
    box.press("Enter")
    page.get_by_text("try fewer words").first.wait_for()
    assert panel.count() == 0, "what was found before is no answer"
    page.set_viewport_size({"width": 390, "height": 500})
    page.locator(".ri-after button").first.click()
    panel.wait_for()
    page.mouse.move(200, 450)
    page.mouse.wheel(0, 300)
    page.wait_for_function("document.querySelector('#passage').scrollTop > 100")


def test_the_keyboard_alone_moves_jumps_to_the_twin_and_pins(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator(".ri-before button").first.focus()
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.passage")
    assert focused == page.locator(".ri-before button").nth(1).get_attribute("data-passage")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.ri-after') !== null")
    assert page.evaluate("document.activeElement.dataset.passage") == focused
    assert "rank" in page.evaluate("document.activeElement.getAttribute('aria-label')").lower()
    page.keyboard.press("Enter")
    page.locator(f".ri-passage[data-passage='{focused}']").wait_for()


def test_a_column_is_one_tab_stop_and_escape_returns_to_the_row_it_left(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    focused = (
        "[document.activeElement.closest('.ri-column')?.className, document.activeElement.dataset.passage]"
    )
    page.locator("#copy-link").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    column, passage = page.evaluate(focused)
    assert column == "ri-column ri-before" and passage == "2"
    page.keyboard.press("Enter")
    page.locator(".ri-passage").wait_for()
    page.keyboard.press("Escape")
    page.locator(".ri-passage").wait_for(state="detached")
    assert page.evaluate(focused) == [column, passage]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused)[0] == "ri-column ri-after", (
        "the next stops: the model card, the other column"
    )
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == [column, passage], "back on the row, not on the first"


def test_tab_through_the_lists_leaves_none_open(visit):
    page = visit("?corpus=resources")  # its list of eval queries is long enough to scroll
    wait_for_ranking(page)
    page.locator("#query textarea").focus()
    lists = 0
    for _ in range(17):  # the last but one is the story of the corpus
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body")
        on_list = page.evaluate("document.activeElement.getAttribute('role') === 'combobox'")
        lists += on_list
        opened = "open => document.querySelectorAll('[role=listbox]').length === Number(open)"
        page.wait_for_function(opened, arg=on_list, timeout=5_000)  # a list that closes fades out
    assert lists == 4 and page.evaluate("document.activeElement.closest('.ri-before') !== null")


def test_a_permalink_reopens_exactly_this_view(visit):
    page = visit("?corpus=fruit&q=do bananas like the cold&k=9&n=2")
    wait_for_ranking(page)
    ask(page, "ripening pears")
    page.wait_for_function("location.search.includes('ripening')")
    link = urlsplit(page.url).query
    assert {name: values[0] for name, values in parse_qs(link).items()} == {
        "q": "ripening pears", "corpus": "fruit", "first_stage": "minilm", "reranker": "mini", "k": "9", "n": "2",
    }  # fmt: skip
    again = visit("?" + link)
    wait_for_ranking(again)
    assert again.locator("#query textarea").input_value() == "ripening pears"
    order = ".ri-after button", "rows => rows.map(row => [row.dataset.passage, row.innerText])"
    assert again.eval_on_selector_all(*order) == page.eval_on_selector_all(*order)


@pytest.mark.parametrize(
    "link", ["?k=999&n=-3&corpus=fruit", "?corpus=../../etc&q=x", "?reranker=gpt&k=abc&corpus=fruit"]
)
def test_a_link_that_makes_no_sense_is_clamped_not_broken(visit, link):
    page = visit(link)
    wait_for_ranking(page)
    assert page.locator(".ri-after .ri-chip").count() > 0


def test_hostile_passages_are_text_and_nothing_runs(visit):
    page = visit("?corpus=hostile&k=8")
    wait_for_ranking(page)
    assert page.locator(".ri-after li.ri-row").count() == len(HOSTILE)
    for number in range(1, len(HOSTILE) + 1):
        page.locator(f".ri-after button[data-passage='{number}']").click()
        page.locator(f".ri-passage[data-passage='{number}']").wait_for()
    shown = page.locator(".ri-before").inner_text()
    assert "<script>window.hacked" in shown and "${window.hacked = 1}" in shown and "C:\\users" in shown
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    heights = page.eval_on_selector_all(
        "li.ri-row", "rows => [...new Set(rows.map(row => row.offsetHeight))]"
    )
    assert heights == [58]


def test_results_say_what_they_are_of_and_turn_grey_when_the_controls_move_on(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    caption = page.locator(".ri-caption")
    assert "“where do apples keep” · fruit · minilm → mini" in caption.inner_text()
    assert "judged to answer this query" in caption.inner_text()
    grey = page.locator("body.ri-outdated-explore")
    assert grey.count() == 0 and not page.get_by_text("not the settings above").is_visible()
    page.locator("#query textarea").fill("where do apples")
    grey.wait_for()
    assert page.get_by_text("not the settings above").is_visible()
    page.locator("#query textarea").fill(" where do  apples keep ")
    grey.wait_for(state="detached")
    ask(page, "a fruit nobody judged")
    assert "Nobody judged this query" in caption.inner_text() and grey.count() == 0


def test_a_blank_query_says_so_and_leaves_no_headline(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    box = page.locator("#query textarea")
    box.fill("   ")
    box.press("Enter")
    wait_for_words(page, "blank")
    assert page.locator("#sentence").inner_text().strip() == ""
    assert page.locator(".ri-rankings").get_attribute("data-query") == "where do apples keep"
    page.locator("body.ri-outdated-explore").wait_for()
    assert box.input_value() == "   "
    said = page.locator("#aside .ri-lines")
    assert said.evaluate(SEEN) == "1" and page.locator(".ri-rankings").evaluate(SEEN) < "0.5"
    assert said.get_attribute("role") == "alert" and page.locator(".toast-body").count() == 0, "said once"


def test_stop_with_nothing_running_says_so_and_leaves_the_headline(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    headline = page.locator("#sentence").inner_text()
    page.locator("#ask").get_by_role("button", name="Stop").click()
    page.get_by_text("No search is running.").first.wait_for()
    assert headline and page.locator("#sentence").inner_text() == headline


def test_top_n_above_top_k_is_a_clear_word(visit):
    page = visit("?corpus=fruit&q=where do apples keep&k=5&n=5")
    wait_for_ranking(page)
    page.locator("#settings input[type=number]").nth(1).fill("9")
    page.get_by_role("button", name="Search").click()
    wait_for_words(page, "top_n cannot exceed top_k (9 > 5)")


def test_a_huge_query_is_cut_and_said_so(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator("#query textarea").fill("apples " * 15_000)
    page.get_by_role("button", name="Search").click()
    wait_for_words(page, "104,999 characters")


def test_a_model_that_cannot_be_had_gives_way_to_mini_in_words(visit):
    page = visit("?corpus=fruit&q=where do apples keep&reranker=base")
    wait_for_words(page, "Showing mini instead", timeout=90_000)
    assert "HF_HUB_OFFLINE" in page.locator("#aside").inner_text()
    page.wait_for_function("document.querySelector('.ri-after h2')?.innerText.includes('mini score · mini')")


def test_eval_queries_are_stepped_with_the_arrows(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.locator("#next-query").click()
    page.wait_for_function(
        "document.querySelector('.ri-rankings')?.dataset.query === 'do bananas like the cold'"
    )
    assert page.locator("#query textarea").input_value() == "do bananas like the cold"


def test_the_picker_lets_go_of_its_query_when_another_is_typed(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    picker = page.locator("#eval-query input")
    assert picker.input_value() == "where do apples keep"
    page.locator("#query textarea").fill("a fruit of no list")
    page.get_by_role("button", name="Search").click()
    page.wait_for_function("document.querySelector('#eval-query input').value === ''")
    page.locator("#query textarea").fill("do bananas like the cold")
    page.get_by_role("button", name="Search").click()
    page.wait_for_function("document.querySelector('#eval-query input').value.startsWith('do bananas')")


def test_copy_link_says_that_it_did(visit):
    page = visit("?corpus=fruit")
    wait_for_ranking(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy-link").click()
    page.get_by_text("Copied", exact=True).wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()} == {
        "q": "where do apples keep", "corpus": "fruit", "first_stage": "minilm", "reranker": "mini", "k": "20", "n": "5",
        "query_id": "q0",
    }, "the whole view, also before anybody has searched"  # fmt: skip


def test_two_browsers_with_different_corpora_do_not_mix(visit):
    one, two = visit("?corpus=fruit&q=where do apples keep"), visit("?corpus=resources")
    wait_for_ranking(one)
    wait_for_ranking(two)
    box = one.locator("#query textarea")
    box.fill("do bananas like the cold")
    box.press("Enter")
    ask(two, "a fork of Elasticsearch")
    wait_for_ranking(one)
    assert one.locator(".ri-after li.ri-row").count() == 3
    assert set(one.eval_on_selector_all(".ri-after button", "rows => rows.map(r => r.dataset.passage)")) == {
        "1",
        "2",
        "3",
    }
    one.locator(".ri-after button").filter(has_text="Bananas").click()
    one.locator(".ri-passage").wait_for()
    assert "Bananas" in one.locator(".ri-passage").inner_text()


def test_the_figures_and_the_code_come_on_demand(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    page.get_by_text("Slopegraph and score scatter").click()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save both as SVG").click()
    assert download.value.suggested_filename.endswith(".svg")
    page.get_by_text("Use in your code").click()
    code = page.locator(".cm-content")
    code.get_by_text("load_reranker('mini'").wait_for()
    page.get_by_label("Library").click()
    page.get_by_role("option", name="sentence-transformers", exact=True).click()
    code.get_by_text("2cfc18c9415c912f9d8155881c133215df768a70").wait_for()
    page.get_by_text("base instead of mini, which sentence-transformers cannot load").wait_for()


def test_a_phone_has_the_settings_folded_under_a_line_that_says_them(visit):
    page = visit("?corpus=fruit&q=where do apples keep&k=9&n=2", width=390)
    wait_for_ranking(page)
    fold = page.locator(".ri-fold").locator("visible=true")
    assert "fruit · minilm → mini · top_k 9, top_n 2" in fold.inner_text()
    assert not page.locator("#settings").is_visible() and not page.locator("#picker").is_visible()
    fold.click()
    assert page.locator("#settings").is_visible() and fold.get_attribute("aria-expanded") == "true"
    assert page.locator(".ri-title").first.evaluate("title => title.scrollWidth <= title.clientWidth")
    numbers = page.locator("#settings").get_by_test_id("number-input")
    sliders = page.locator("#settings").get_by_test_id("range-input")
    gaps = [sliders.nth(at).bounding_box()["y"] - numbers.nth(at).bounding_box()["y"] for at in (0, 1)]
    assert abs(gaps[0] - gaps[1]) < 2, "both sliders stand as far below their names"
    page.locator(".ri-after button").first.click()
    page.wait_for_function("document.querySelector('.ri-passage')?.getBoundingClientRect().right <= 390 - 8")
    wide = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(wide)
    assert wide.locator("#settings").is_visible() and not wide.locator(".ri-fold").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_sees_everything_stacked(visit, scheme):
    page = visit("?__theme=" + scheme, width=390, color_scheme=scheme)
    wait_for_ranking(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(f".ri-{side}").bounding_box() for side in ("after", "before")]
    assert boxes[0]["y"] < boxes[1]["y"] and all(box["width"] > 300 for box in boxes)
    query, go = (page.locator(one).bounding_box() for one in ("#query", "#ask button:has-text('Search')"))
    assert query["width"] > 350 and go["y"] >= query["y"] + query["height"] and go["height"] < 50
    ink = page.locator(".ri-sentence").evaluate("p => getComputedStyle(p).color")
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 380) is (scheme == "dark")


def test_while_the_models_warm_the_recorded_example_is_shown(tmp_path, chromium):
    """The record comes before any model: here the warm-up never ends."""
    from rag_inspect.ui import serve

    def wait(_: Task[None]) -> None:
        threading.Event().wait(60)

    class NeverWarm(Workbench):
        def warm_up(self) -> None:
            self._warm_up = Task(wait, "loading torch").start()

    bench = NeverWarm(Settings(tmp_path, hub_endpoint="http://127.0.0.1:9", hub_offline=True))
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    page = chromium.new_page()
    try:
        page.goto(app.local_url)
        page.wait_for_selector(".ri-after .ri-chip", timeout=30_000)
        wait_for_words(page, "Recorded with mini")
        assert page.locator(".ri-after .ri-chip").count() == 20
    finally:
        page.close()
        app.close()
