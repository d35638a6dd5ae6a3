"""A corpus that is added while the app runs, in a browser: chosen, evaluated and linked to, with no restart."""

import shutil

import pytest

from tests.browsing import ask, wait_for_ranking, write_corpus

pytestmark = pytest.mark.browser
WADER = "which bird stands in the water"


@pytest.fixture
def add_corpus(app_root):
    """add_corpus(name): a folder that appears among the user's own corpora, and goes at the end of the test."""
    folders = []

    def add(name: str) -> None:
        folders.append(app_root / "home" / "corpora" / name)
        texts = ["A heron stands in the shallows.", "A swift sleeps in the air.", "Owls hunt at night."]
        write_corpus(folders[-1], texts, {WADER: "p0", "which bird sleeps flying": "p1"})

    yield add
    for folder in folders:
        shutil.rmtree(folder)


def choose(page, label: str, name: str) -> None:
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_a_corpus_added_while_the_app_runs_can_be_chosen_on_both_tabs(visit, add_corpus):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    add_corpus("birds")
    page.reload(wait_until="domcontentloaded")
    wait_for_ranking(page)
    choose(page, "Corpus", "birds")
    page.wait_for_function("q => document.querySelector('.ri-rankings')?.dataset.query === q", arg=WADER)
    page.wait_for_selector(".ri-after .ri-chip")
    page.get_by_role("tab", name="Evaluate").click()
    choose(page, "Corpus", "birds")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    page.locator("#eval-progress").get_by_text("birds: done,").wait_for(timeout=120_000)
    links = page.locator(".ri-queue a").evaluate_all("rows => rows.map(row => row.getAttribute('href'))")
    assert len(links) == 2 and all(link.startswith("?corpus=birds&") for link in links)
    page.reload(wait_until="domcontentloaded")  # the job is found again, and its corpus with it
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#eval-progress").get_by_text("birds: done,").wait_for()
    assert page.get_by_label("Corpus", exact=True).locator("visible=true").input_value() == "birds"
    assert page.locator(".toast-body").count() == 0


def test_a_link_to_a_corpus_added_while_the_app_runs_opens_it(visit, add_corpus):
    visit()  # a first page, from before
    add_corpus("waders")
    page = visit(f"?corpus=waders&q={WADER}")
    wait_for_ranking(page)
    assert "Unknown corpus" not in page.locator("#aside").inner_text()
    assert page.get_by_label("Corpus", exact=True).locator("visible=true").input_value() == "waders"
    ask(page, "which bird sleeps flying")
    assert page.locator(".ri-after").get_by_text("A swift sleeps").count() >= 1
    assert page.locator(".toast-body").count() == 0


def test_two_queries_of_one_text_keep_their_own_gold(visit, add_corpus, app_root):
    add_corpus("twins")
    folder = app_root / "home" / "corpora" / "twins"
    with (folder / "queries.jsonl").open("a") as file:
        file.write(f'{{"_id": "again", "text": "{WADER}"}}\n')
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("again\tp2\t1\n")
    page = visit("?corpus=twins&query_id=again")
    wait_for_ranking(page)
    gold = page.locator(".ri-before .ri-gold")
    assert "Owls" in gold.inner_text()
    page.locator("#eval-query input").click()
    page.get_by_role("option").filter(has_text=f"{WADER} (q0)").click()
    gold.get_by_text("A heron").first.wait_for()
    page.wait_for_function("new URL(location).searchParams.get('query_id') === 'q0'")
    page.locator("#query textarea").fill("my own words")
    page.locator("#query textarea").press("Enter")
    page.wait_for_function("!new URL(location).searchParams.has('query_id')")
    assert gold.count() == 0 and page.locator("#eval-query input").input_value() == ""
