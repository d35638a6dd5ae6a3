"""What axe-core finds on the page: nothing serious or critical, and no heading out of order, results included."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browsing import wait_for_ranking

pytestmark = pytest.mark.browser
NOT_OURS = [
    [
        ".cm-editor"
    ],  # gradio's code editor: the colour of comments in the dark; it scrolls without being a tab stop
    [".js-plotly-plot"],  # plotly's figures; the numbers they draw are in the tables too
]


def find_faults(page) -> list[str]:
    found = Axe().run(page, context={"exclude": NOT_OURS}).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['html'][:200]}"
        for each in found
        if each["impact"] in {"serious", "critical"} or each["id"] == "heading-order"
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
)
def test_axe_finds_no_faults_on_either_tab(visit, scheme, width):
    page = visit(f"?__theme={scheme}&corpus=resources", color_scheme=scheme, width=width)
    wait_for_ranking(page)
    page.locator(".ri-after button").first.click()
    page.locator(".ri-passage .ri-explain").click()
    page.locator(".ri-passage .ri-copy").wait_for()
    page.get_by_text("Slopegraph and score scatter").click()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 2")
    page.get_by_text("Use in your code").click()
    page.locator(".cm-content").wait_for()
    assert not find_faults(page)
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#eval-queue li").first.wait_for()
    page.get_by_text("Past runs and replays").click()
    page.wait_for_function("document.querySelectorAll('[id^=eval-] .js-plotly-plot').length === 3")
    assert not find_faults(page)
