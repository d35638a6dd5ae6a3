"""Fixtures of the browser tests: a running app, a Chromium, and pages that must not fail or reach another machine."""

import json
import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rag_inspect.settings import BUILT_IN_CORPORA, Settings
from rag_inspect.workbench import Workbench

HOSTILE = [
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "${window.hacked = 1} `${alert(1)}` {{value}} </button></li></ol>",
    "C:\\users\\new\\table \\u0041 \\n",
    "شالوم שלום مرحبا كيف الحال",
    "🦜🦜🦜 " * 40,
    "word " * 10_000,
    "quotes \" and ' and &amp; <b>bold</b>",
    "plain passage about hostile text and how pages show it",
]

FRUIT = [
    "Apples keep best in a cold cellar.",
    "Bananas turn brown in the fridge.",
    "Pears ripen off the tree.",
]


def write_corpus(folder: Path, texts: list[str], queries: dict[str, str] | None = None) -> None:
    """Write a BEIR folder with passages p0, p1, …; `queries`: query text -> id of its gold passage."""
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"p{at}", "title": text[:60], "text": text} for at, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = list(enumerate(queries or {}))
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{at}", "text": text}) + "\n" for at, text in asked)
    )
    judged = "".join(f"q{at}\t{(queries or {})[text]}\t1\n" for at, text in asked)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


@pytest.fixture(scope="session")
def app_root(tmp_path_factory) -> Path:
    """The folder of the running app, with its `corpora` and its `home`."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="session")
def address(app_root):
    """The address of a running app with the corpora resources (built in), hostile, fruit and unjudged; models are warm."""
    from rag_inspect.ui import serve

    root = app_root
    shutil.copytree(BUILT_IN_CORPORA / "resources", root / "corpora" / "resources")
    write_corpus(
        root / "corpora" / "hostile",
        HOSTILE,
        {"<script>window.hacked = 1</script> ${window.hacked = 1}": "p0"},
    )
    write_corpus(
        root / "corpora" / "fruit", FRUIT, {"where do apples keep": "p0", "do bananas like the cold": "p1"}
    )
    judged = root / "corpora" / "fruit" / "qrels"
    shutil.copy(judged / "test.tsv", judged / "dev.tsv")
    write_corpus(root / "corpora" / "unjudged", FRUIT)
    shutil.rmtree(root / "corpora" / "unjudged" / "qrels")
    settings = Settings(
        root / "home", corpora_dir=root / "corpora", hub_endpoint="http://127.0.0.1:9", hub_offline=True
    )
    bench = Workbench(settings)
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield app.local_url
    app.close()


@pytest.fixture(scope="session")
def chromium():
    """The browser. Without one, tests are skipped with a hint on what to install, but fail on CI."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        word = "no Chromium here: install it (Debian: apt install chromium) or point CHROMIUM at one"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(word)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """visit(link, width=…) opens a new page; the test fails if a page had a script error or reached another machine."""
    contexts, trouble = [], []

    def open_page(link: str = "", **options):
        context = chromium.new_context(
            viewport={"width": options.pop("width", 1280), "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: trouble.append(f"script error: {error}"))
        page.on("request", lambda request: trouble.append(request.url) if is_outside(request.url) else None)
        page.goto(address + link, wait_until="domcontentloaded")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


def is_outside(url: str) -> bool:
    return urlsplit(url).scheme not in {"data", "blob"} and urlsplit(url).hostname not in {
        "127.0.0.1",
        "localhost",
    }


def wait_until(happened, seconds: float = 60) -> None:
    """Wait until `happened()` is true; fail after so many seconds."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def wait_for_ranking(page) -> None:
    """Wait until the page shows a live, finished ranking."""
    page.wait_for_selector(".ri-after .ri-chip")
    wait_for_words(page, "from the cache")


def wait_for_words(page, words: str, timeout: float = 60_000) -> None:
    """Wait until the quiet line below the sentence contains these words."""
    script = "words => document.querySelector('#aside')?.innerText.includes(words)"
    page.wait_for_function(script, arg=words, timeout=timeout)


def ask(page, query: str) -> None:
    box = page.locator("#query textarea")
    box.fill(query)
    box.press("Enter")
    page.wait_for_function(
        "q => document.querySelector('.ri-rankings')?.dataset.query === q", arg=query[:200]
    )
    page.wait_for_selector(".ri-after .ri-chip")


def open_past_run(page, corpus: str) -> None:
    """Open the newest past run of a corpus on the Evaluate tab and wait for its table."""
    page.get_by_text("Past runs and replays").click()
    page.get_by_label("Open one, or compare two").click()
    page.get_by_role("option").filter(has_text=corpus).first.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open", exact=True).click()
    # Look in the table: a running job would overwrite the progress line.
    page.locator("#eval-table").get_by_text(f"{corpus}, split test").filter(
        has_text="evaluated 20"
    ).wait_for()
