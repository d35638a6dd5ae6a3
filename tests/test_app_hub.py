"""Choosing a model of the hub on the page: its download shown, its ranking shown, its failure said, mini in its place."""

import pytest
from huggingface_hub import constants

from rag_inspect.rerankers import RERANKERS
from rag_inspect.settings import Settings
from rag_inspect.workbench import Workbench
from tests.browsing import wait_for_ranking, wait_for_words, write_corpus
from tests.loopback_hub import loopback_hub
from tests.tiny_models import write_reranker

pytestmark = pytest.mark.browser
FRUIT = [
    "Apples keep best in a cold cellar.",
    "Bananas turn brown in the fridge.",
    "Pears ripen off the tree.",
]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A loopback hub that gives out `base`, a few kilobytes at a time, into a cache of this test's own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with loopback_hub() as serving:
        serving.serve(RERANKERS["base"].model, RERANKERS["base"].revision, write_reranker(tmp_path / "base"))
        yield serving


@pytest.fixture
def page(tmp_path, hub, chromium):
    from rag_inspect.ui import serve

    write_corpus(tmp_path / "corpora" / "fruit", FRUIT, {"where do apples keep": "p0"})
    settings = Settings(tmp_path / "home", corpora_dir=tmp_path / "corpora", hub_endpoint=hub.endpoint)
    app = serve(Workbench(settings), host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    page = chromium.new_page()
    page.set_default_timeout(60_000)
    page.goto(app.local_url, wait_until="domcontentloaded")
    wait_for_ranking(page)
    yield page
    page.close()
    app.close()


def choose_base(page, label: str = "base") -> None:
    """Choose it, once its label says so."""
    page.get_by_label("Reranker", exact=True).click()
    page.get_by_role("option").filter(has_text=label).click()


def test_the_download_is_shown_and_then_its_ranking(page, hub):
    hub.seconds_a_chunk = 0.2
    choose_base(page, "base · download 1.1 GB")
    wait_for_words(page, "BAAI/bge-reranker-base")
    page.wait_for_function("document.querySelector('.ri-after h2')?.innerText.includes('logit · base')")
    assert page.locator(".ri-after .ri-chip").count() == 3


def test_stop_answers_at_once_and_then_says_what_was_stopped(page, hub):
    hub.seconds_a_chunk = 1.0
    choose_base(page)
    wait_for_words(page, "BAAI/bge-reranker-base")
    page.evaluate(
        """() => {
            window.said = [];
            const aside = document.querySelector('#aside');
            new MutationObserver(() => window.said.push(aside.innerText.trim())).observe(
                aside, { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.locator("#ask").get_by_role("button", name="Stop").click()
    wait_for_words(page, "Stopped before anything was scored")
    page.wait_for_timeout(500)
    said = page.evaluate("window.said")
    assert "Stopping …" in said and said[-1].startswith("Stopped before anything was scored")
    hub.seconds_a_chunk = 0  # the download goes on, and would end in the cache of a later test
    page.get_by_role("button", name="Search").click()
    page.wait_for_function("document.querySelector('.ri-after h2')?.innerText.includes('logit · base')")


@pytest.mark.parametrize(
    ("failure", "words"),
    [("500", "answered with an error"), ("wrong bytes", "checksum"), ("gated", "refuses access")],
)
def test_a_failed_download_is_said_and_mini_takes_its_place(page, hub, failure, words):
    hub.failure = failure
    choose_base(page)
    wait_for_words(page, "Showing mini instead")
    assert words in page.locator("#aside").inner_text()
    page.wait_for_function("document.querySelector('.ri-after h2')?.innerText.includes('mini score · mini')")
    hub.failure = None
    choose_base(page)  # the list shows mini now
    page.wait_for_function("document.querySelector('.ri-after h2')?.innerText.includes('logit · base')")
