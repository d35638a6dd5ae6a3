"""The app as browsers reach it: seven tabs at once, while models warm up, below a path, and with a strict policy."""

import threading

import pytest

from rag_inspect.settings import Settings
from rag_inspect.tasks import Task
from rag_inspect.workbench import Workbench
from tests.browsing import ask, wait_for_ranking, wait_for_words, wait_until, write_corpus
from tests.loopback_proxy import loopback_proxy

pytestmark = pytest.mark.browser
FRUIT = ["Apples keep best in a cold cellar.", "Bananas turn brown in the fridge.", "Pears ripen late."]


def test_seven_tabs_of_one_browser_all_work(chromium, address):
    """Browsers allow six connections to one host: an idle tab must hold none."""
    context = chromium.new_context()
    try:
        tabs = []
        for _ in range(7):
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{address}?corpus=fruit", wait_until="domcontentloaded")
            wait_for_ranking(page)
            tabs.append(page)
        for page in (tabs[0], tabs[-1]):
            page.bring_to_front()
            ask(page, "do bananas like the cold")
    finally:
        context.close()


@pytest.fixture
def warming(tmp_path):
    """(the address of an app that warms up until the event is set, that event)."""
    from rag_inspect.ui import serve

    write_corpus(tmp_path / "corpora" / "fruit", FRUIT, {"where do apples keep": "p0"})
    settings = Settings(
        tmp_path / "home",
        corpora_dir=tmp_path / "corpora",
        hub_endpoint="http://127.0.0.1:9",
        hub_offline=True,
    )
    bench, go_on = Workbench(settings), threading.Event()
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    wait_until(lambda: not bench.warming)
    bench._warm_up = Task(lambda task: go_on.wait(120), "indexing slowly").start()
    yield app.local_url, go_on
    go_on.set()
    app.close()


def test_seven_tabs_opened_while_models_warm_up_all_show_their_first_screen(chromium, warming):
    address, go_on = warming
    context, tabs = chromium.new_context(), []
    try:
        for _ in range(7):
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.goto(address, wait_until="domcontentloaded")
            wait_for_words(page, "indexing slowly")
            page.locator("#story").get_by_text("3 passages").wait_for()
            tabs.append(page)
        go_on.set()
        for page in tabs:
            page.bring_to_front()
            wait_for_ranking(page)
    finally:
        context.close()


@pytest.fixture
def waiting(chromium, warming):
    """(a tab that waits for the models, the event that ends the wait)."""
    address, go_on = warming
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(address, wait_until="domcontentloaded")
    wait_for_words(page, "indexing slowly")
    yield page, go_on
    context.close()


def test_a_search_made_while_models_warm_up_is_not_replaced_by_the_first_one(waiting):
    page, go_on = waiting
    ask(page, "pears")
    wait_for_ranking(page)
    go_on.set()
    page.wait_for_timeout(2_000)  # two polls
    assert page.locator(".ri-rankings").get_attribute("data-query") == "pears"


def test_stop_ends_the_wait_for_the_first_search(waiting):
    page, go_on = waiting
    page.get_by_role("button", name="Stop", exact=True).first.click()
    wait_for_words(page, "Stopped before anything was scored")
    go_on.set()
    page.wait_for_timeout(2_000)
    wait_for_words(page, "Stopped before anything was scored")


WATCH_POLICY = "document.addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"


def test_everything_works_under_a_path_and_breaks_no_rule_of_the_pages_policy(chromium, tmp_path):
    from gradio_client import Client

    from rag_inspect.ui import serve

    write_corpus(tmp_path / "corpora" / "fruit", FRUIT, {"where do apples keep": "p0"})
    settings = Settings(
        tmp_path / "home",
        corpora_dir=tmp_path / "corpora",
        hub_endpoint="http://127.0.0.1:9",
        hub_offline=True,
    )
    app = serve(
        Workbench(settings), host="127.0.0.1", root_path="/tools/rag", prevent_thread_lock=True, quiet=True
    )
    context, seen, broken = chromium.new_context(), [], []
    try:
        with loopback_proxy(app.local_url, "/tools/rag") as address:
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.add_init_script(WATCH_POLICY)
            page.on("request", lambda request: seen.append(request.url))
            page.on(
                "console", lambda said: broken.append(said.text) if "policy" in said.text.lower() else None
            )
            answer = page.goto(address, wait_until="domcontentloaded")
            assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
            wait_for_ranking(page)
            ask(page, "pears")
            page.get_by_text("Slopegraph and score scatter").click()
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            with page.expect_download():
                page.get_by_role("button", name="Save both as PNG").click()
            page.get_by_role("tab", name="Evaluate").click()
            page.get_by_role("button", name="Evaluate", exact=True).click()
            page.locator("#eval-progress").get_by_text("done,").wait_for()
            with page.expect_download():
                page.locator("#eval-files a").first.click()
            assert not broken
            with page.expect_console_message(
                lambda said: "policy: connect-src" in said.text
            ):  # the watch works
                assert page.evaluate("fetch('https://example.invalid/').catch(() => 'refused')") == "refused"
            page.goto(f"{address}cards/mini", wait_until="load")
            strayed = [
                url
                for url in seen
                if not url.startswith((address, "data:", "blob:", "https://example.invalid"))
            ]
            assert not strayed
            found = Client(address, verbose=False).predict(
                "where do apples keep", "fruit", api_name="/search"
            )
            assert found["corpus"] == "fruit"
    finally:
        context.close()
        app.close()
