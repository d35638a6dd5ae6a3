"""The app started anew under a browser that stayed: its own runs are still its own, a job that is gone is said to be."""

import pytest

from rag_inspect.settings import Settings
from rag_inspect.workbench import Workbench
from tests.browsing import is_outside, open_past_run, write_corpus

pytestmark = pytest.mark.browser


def test_a_visitors_runs_outlive_a_restart_and_a_lost_job_is_said(chromium, tmp_path):
    from rag_inspect.ui import serve

    texts = ["Apples keep best in a cold cellar.", "Bananas turn brown in the fridge.", "Pears ripen late."]
    write_corpus(tmp_path / "corpora" / "fruit", texts, {"where do apples keep": "p0"})
    settings = Settings(
        tmp_path / "home", corpora_dir=tmp_path / "corpora", hub_endpoint="http://127.0.0.1:9", hub_offline=True, public=True
    )  # fmt: skip
    first = serve(Workbench(settings), host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    address, port = first.local_url, int(first.local_url.rstrip("/").rsplit(":", 1)[1])
    context = chromium.new_context()
    trouble = []
    try:
        tabs = [_open(context, address, trouble) for _ in range(2)]  # both load before the browser has an id
        for page in tabs:
            page.get_by_role("tab", name="Evaluate").click()
            page.get_by_role("button", name="Evaluate", exact=True).click()
            page.locator("#eval-progress").get_by_text("done,").wait_for()
    finally:
        first.close()
    second = serve(Workbench(settings), host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True)
    try:
        page.goto(address, wait_until="domcontentloaded")
        page.get_by_role("tab", name="Evaluate").click()
        page.locator("#eval-progress").get_by_text("was lost when the app restarted").wait_for()
        open_past_run(page, "fruit")
        page.get_by_label("Open one, or compare two").click()
        page.get_by_role("option").filter(has_text="fruit").nth(1).wait_for()  # of both tabs
    finally:
        context.close()
        second.close()
    assert not trouble


def _open(context, address, trouble):
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("request", lambda request: trouble.append(request.url) if is_outside(request.url) else None)
    page.goto(address, wait_until="commit")
    return page
