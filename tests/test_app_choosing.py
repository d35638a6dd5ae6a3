"""Lists on the page: what is chosen counts once, by mouse or by keyboard, and a mere look at one counts for nothing."""

import pytest
from playwright.sync_api import Page

from tests.browsing import wait_for_ranking, wait_for_words

pytestmark = pytest.mark.browser
APPLES = "where do apples keep"


@pytest.fixture
def fruit(visit):
    """A ranked page on the small corpus."""
    page = visit(f"?corpus=fruit&q={APPLES}")
    wait_for_ranking(page)
    page.wait_for_timeout(1000)  # the labels come in a moment after the page
    return page


@pytest.fixture
def asked(fruit) -> list[tuple[str, str]]:
    """The searches that the page sends from now on, as (query, reranker)."""
    searches: list[tuple[str, str]] = []

    def keep(request) -> None:
        data = (request.post_data_json or {}).get("data", []) if "queue/join" in request.url else []
        if len(data) > 5 and data[1] == "fruit":
            searches.append((data[0], data[3]))

    fruit.on("request", keep)
    return searches


def open_list(page: Page, label: str):
    box = page.get_by_label(label, exact=True)
    box.click()
    return box


def settle(page: Page) -> None:
    """Wait for whatever else might come."""
    page.wait_for_timeout(1500)


def test_a_reranker_chosen_is_one_search_and_the_list_shows_what_ran(fruit, asked):
    open_list(fruit, "Reranker")
    fruit.get_by_role("option").filter(has_text="base").click()
    wait_for_words(fruit, "Showing mini instead")
    fruit.wait_for_function(
        "document.querySelector('#settings input[aria-label=Reranker]').value.startsWith('mini')"
    )
    settle(fruit)
    assert asked == [(APPLES, "base")]
    assert fruit.locator("body.ri-outdated-explore").count() == 0


def test_a_reranker_chosen_with_the_keyboard_is_one_search(fruit, asked):
    box = open_list(fruit, "Reranker")
    box.fill("large")
    box.press("Enter")
    wait_for_words(fruit, "Showing mini instead")
    settle(fruit)
    assert asked == [(APPLES, "large")]


def test_an_eval_query_chosen_is_one_search_and_can_be_chosen_again(fruit, asked):
    for text in ("do bananas like the cold", APPLES, "do bananas like the cold"):
        fruit.locator("#eval-query input").click()
        fruit.get_by_role("option").filter(has_text=text).click()
        fruit.wait_for_function("q => document.querySelector('.ri-rankings')?.dataset.query === q", arg=text)
        settle(fruit)
        assert asked == [(text, "mini")]
        asked.clear()


def test_a_search_waits_for_the_end_of_the_one_before(fruit, asked):
    held = []  # a late end would end the search that it makes room for
    fruit.route("**/run/predict*", lambda route: held.append(route))
    fruit.locator("#eval-query input").click()
    fruit.get_by_role("option").filter(has_text="do bananas like the cold").click()
    settle(fruit)
    assert len(held) == 1 and asked == []
    held.pop().continue_()
    fruit.wait_for_function("document.querySelector('.ri-rankings').dataset.query.includes('bananas')")


def test_a_corpus_chosen_is_one_search_of_its_first_example(fruit, asked):
    open_list(fruit, "Corpus")
    fruit.get_by_role("option").filter(has_text="hostile").click()
    fruit.wait_for_function("document.querySelector('.ri-rankings').dataset.query.includes('<script>')")
    settle(fruit)
    assert asked == []  # none of fruit
    open_list(fruit, "Corpus")
    fruit.get_by_role("option").filter(has_text="fruit").click()
    fruit.wait_for_function("q => document.querySelector('.ri-rankings').dataset.query === q", arg=APPLES)
    settle(fruit)
    assert asked == [(APPLES, "mini")]


def test_enter_chooses_a_corpus_and_keeps_the_focus(fruit, asked):
    box = open_list(fruit, "Corpus")
    box.fill("hostile")
    box.press("Enter")
    fruit.wait_for_function("document.querySelector('.ri-rankings').dataset.query.includes('<script>')")
    assert fruit.evaluate("document.activeElement.getAttribute('aria-label')") == "Corpus"
    assert fruit.get_by_role("listbox").count() == 0
    settle(fruit)
    assert asked == []  # none of fruit


@pytest.mark.parametrize("kind", ["range", "number"])
def test_the_keyboard_moves_a_slider_and_one_search_follows(fruit, asked, kind):
    box = fruit.locator(f"#settings input[type={kind}]").nth(1)
    box.focus()
    for _ in range(3):
        box.press("ArrowDown")
    fruit.wait_for_function("document.querySelector('.ri-rankings').dataset.of.endsWith(', 2]')")
    settle(fruit)
    assert len(asked) == 1 and fruit.locator("body.ri-outdated-explore").count() == 0


def test_enter_in_the_number_box_of_a_slider_searches_within_its_range(fruit, asked):
    box = fruit.locator("#settings input[type=number]").nth(1)
    for typed, taken in (("3", "3"), ("99", "20")):
        box.fill(typed)
        box.press("Enter")
        fruit.wait_for_function(
            "n => document.querySelector('.ri-rankings').dataset.of.endsWith(`, ${n}]`)", arg=taken
        )
    settle(fruit)
    assert len(asked) == 2 and box.input_value() == "20" and fruit.locator(".toast-body").count() == 0


def test_a_drag_is_one_search(fruit, asked):
    place = fruit.locator("#settings input[type=range]").nth(1).bounding_box()
    at = place["y"] + place["height"] / 2
    fruit.mouse.move(place["x"] + place["width"] * 0.2, at)
    fruit.mouse.down()
    fruit.mouse.move(place["x"] + place["width"] * 0.7, at, steps=5)
    fruit.mouse.up()
    settle(fruit)
    assert len(asked) == 1 and fruit.locator("body.ri-outdated-explore").count() == 0


@pytest.mark.parametrize("label", ["Corpus", "Reranker", "First stage", "Eval queries of this corpus (2)"])
def test_a_look_into_a_list_changes_nothing(fruit, asked, label):
    fruit.locator("#query textarea").fill("my own words")
    fruit.wait_for_timeout(500)
    open_list(fruit, label)
    fruit.keyboard.press("Escape")
    fruit.locator("#query textarea").click()
    settle(fruit)
    assert asked == []
    assert fruit.locator("#query textarea").input_value() == "my own words"
    assert fruit.locator(".toast-body").count() == 0


def test_a_look_into_the_corpora_leaves_the_split_chosen(visit):
    page = visit("?corpus=fruit")
    page.get_by_role("tab", name="Evaluate").click()
    corpora = page.get_by_label("Corpus", exact=True).locator("visible=true")
    corpora.click()
    page.get_by_role("option").filter(has_text="fruit").click()
    split = page.get_by_label("Split", exact=True)
    for name in ("test", "dev"):
        split.click()
        page.get_by_role("option", name=name, exact=True).click()
    corpora.click()
    page.keyboard.press("Escape")
    page.get_by_label("Cutoffs").click()
    settle(page)
    assert split.input_value() == "dev"
