"""The model card is a page beside the app."""

import httpx
import pytest


def test_the_card_of_mini_is_a_page(address):
    answer = httpx.get(f"{address}cards/mini")
    assert answer.status_code == 200 and "<table>" in answer.text and "<h1>" in answer.text
    assert "MRR@5" in answer.text and "<script" not in answer.text


@pytest.mark.parametrize("key", ["base", "nope", "..%2f..%2fapp.py", "<b>"])
def test_other_names_have_no_card(address, key):
    answer = httpx.get(f"{address}cards/{key}")
    assert answer.status_code == 404 and key not in answer.text


@pytest.mark.browser
def test_the_head_of_the_column_leads_to_the_card(visit):
    from tests.browsing import wait_for_ranking

    page = visit()
    wait_for_ranking(page)
    with page.expect_popup() as opened:
        page.locator(".ri-after h2 a").click()
    opened.value.wait_for_load_state()
    assert "mini" in opened.value.title()
