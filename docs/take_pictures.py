"""Take the README's pictures of both tabs: `make pictures`. Needs Chromium, as the browser tests do."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.options import EvalOptions
from rag_inspect.settings import Settings
from rag_inspect.ui import serve
from rag_inspect.workbench import Workbench

DOCS = Path(__file__).parent
CORPUS = "ticker-notes"
QUERY = "bounce in orders turned out to be distributors beating a price increase"
SIZE = {"width": 1280, "height": 1000}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def take_pictures(home: Path) -> None:
    """Search and evaluate with mini in this home, and write explore.png and evaluate.png."""
    bench = Workbench(Settings(home, hub_offline=True))
    bench.open_on(CORPUS)
    *_, end = bench.evaluate(EvalOptions(corpus=CORPUS, rerankers=("mini",)))
    assert isinstance(end, Evaluation)
    bench.replay = end.outcome
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(120_000)
        page.goto(app.local_url, wait_until="domcontentloaded")
        page.get_by_text("W / T / L").first.wait_for()
        page.wait_for_timeout(2000)  # the figures draw themselves
        page.screenshot(path=DOCS / "evaluate.png")
        page.goto(f"{app.local_url}?{urlencode({'corpus': CORPUS, 'reranker': 'mini', 'q': QUERY})}")
        page.get_by_role("tab", name="Explore").click()
        page.wait_for_function("document.querySelector('#aside')?.innerText.includes('from the cache')")
        page.wait_for_timeout(1000)
        page.screenshot(path=DOCS / "explore.png")
        browser.close()
    app.close()
    bench.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        take_pictures(Path(folder))
