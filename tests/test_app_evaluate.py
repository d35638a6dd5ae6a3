"""The Evaluate page in headless Chromium: run, stop, reload, past runs, replays of friends and foes."""

import json
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from rag_inspect.exports import read_replay
from rag_inspect.settings import BUILT_IN_CORPORA, Settings
from rag_inspect.ui import serve
from rag_inspect.workbench import Workbench
from tests.browsing import open_past_run, wait_for_ranking

pytestmark = pytest.mark.browser


def open_evaluate(visit, corpus: str, **options):
    page = visit("?corpus=fruit&q=where do apples keep", **options)
    wait_for_ranking(page)
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#eval-settings").wait_for()
    choose(page, "Corpus", corpus)
    return page


def choose(page, label: str, value: str) -> None:
    page.locator("#eval-settings").get_by_label(label).click()
    page.get_by_role("option", name=value, exact=True).click()
    page.wait_for_timeout(300)


def evaluate(page) -> None:
    page.get_by_role("button", name="Evaluate", exact=True).click()


def finished(page) -> None:
    page.wait_for_function(
        "document.querySelector('#eval-progress')?.innerText.includes('done,')", timeout=120_000
    )
    page.locator("#eval-table table").first.wait_for()


def toast(page, words: str) -> None:
    page.get_by_text(words).first.wait_for()


def test_an_eval_set_becomes_advice_a_ceiling_a_table_and_a_queue(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    assert page.locator(".ri-ceiling").count() == 2
    assert "achieved" in page.locator(".ri-stack").first.get_attribute("aria-label")
    rows = page.locator("#eval-table table").first.locator("tbody tr").all_inner_texts()
    assert rows[0].startswith("minilm (first stage)") and rows[1].startswith("minilm>>mini")
    assert "under 200 a reranker seldom pays" in page.locator("#eval-advice").inner_text()
    assert page.locator(".ri-queue li").count() == 2
    names = page.locator("a[download]").evaluate_all("links => links.map(link => link.download)")
    assert {
        "qrels.trec",
        "run.minilm.mini.trec",
        "report.html",
        "replay.json",
        "per_query.csv",
        "metrics.json",
    } <= set(names)


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.locator("#eval-settings" if name == "Evaluate" else "#settings").wait_for()


def corpus_on_evaluate(page) -> str:
    return page.locator("#eval-settings").get_by_label("Corpus").input_value()


def choose_on_explore(page, corpus: str) -> None:
    open_tab(page, "Explore")
    page.locator("#settings").get_by_label("Corpus").click()
    page.get_by_role("option", name=corpus, exact=True).click()
    wait_for_ranking(page)


def test_evaluate_shows_explores_corpus_until_one_is_chosen_there(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    said = page.locator("#eval-progress")
    open_tab(page, "Evaluate")
    said.get_by_text("fruit has 2 queries with gold").wait_for()
    assert corpus_on_evaluate(page) == "fruit" and page.locator("#eval-table table").count() == 0
    choose_on_explore(page, "resources")
    open_tab(page, "Evaluate")
    page.locator("#eval-table").get_by_text("resources, split test").wait_for()
    assert corpus_on_evaluate(page) == "resources" and "Recorded" in said.inner_text()
    page.wait_for_timeout(300)
    assert page.locator("body.ri-outdated-evaluate").count() == 0
    choose(page, "Corpus", "fruit")
    said.get_by_text("fruit has 2 queries with gold").wait_for()
    choose_on_explore(page, "hostile")
    open_tab(page, "Evaluate")
    page.wait_for_timeout(1000)
    assert corpus_on_evaluate(page) == "fruit" and "fruit has 2 queries" in said.inner_text()


def test_what_was_run_stays_whatever_explore_shows(visit):
    page = visit("?corpus=fruit&q=where do apples keep")
    wait_for_ranking(page)
    open_tab(page, "Evaluate")
    page.locator("#eval-progress").get_by_text("fruit has 2 queries with gold").wait_for()
    evaluate(page)
    finished(page)
    choose_on_explore(page, "resources")
    open_tab(page, "Evaluate")
    page.wait_for_timeout(1000)
    assert corpus_on_evaluate(page) == "fruit"
    page.locator("#eval-table").get_by_text("fruit, split test").wait_for()


def test_a_verdict_opens_its_query_in_explore(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    row = page.locator(".ri-queue a").first
    query = row.locator(".ri-query").inner_text()
    with page.context.expect_page() as opened:
        row.click()
    wait_for_ranking(opened.value)
    assert opened.value.locator("#query textarea").input_value() == query


def test_several_first_stages_are_rows_of_one_table_and_the_queue_opens_with_the_chosen_system(visit):
    page = open_evaluate(visit, "fruit")
    choose(page, "First stages", "bm25 · words, no model")
    page.keyboard.press("Escape")
    evaluate(page)
    finished(page)
    rows = page.locator("#eval-table table").first.locator("tbody tr").all_inner_texts()
    systems = ["minilm (first stage)", "minilm>>mini", "bm25 (first stage)", "bm25>>mini"]
    assert [row.split("\t")[0] for row in rows] == systems
    assert "minilm, bm25 → mini" in page.locator("#eval-advice").inner_text()
    assert "reranker=mini" in page.locator(".ri-queue a").first.get_attribute("href")
    page.get_by_label("Show results of").click()
    page.get_by_role("option", name="bm25>>mini", exact=True).click()
    page.wait_for_function("document.querySelector('.ri-queue a').getAttribute('href').includes('=bm25&')")
    with page.context.expect_page() as opened:
        page.locator(".ri-queue a").first.click()
    wait_for_ranking(opened.value)
    assert "bm25 → mini" in opened.value.locator(".ri-caption").first.inner_text()


def test_a_reload_finds_the_job_again(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("tab", name="Evaluate").click()
    finished(page)


def test_rows_come_in_while_it_runs_and_stop_keeps_them(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    choose(page, "Corpus", "resources")
    evaluate(page)
    page.get_by_text("so far").wait_for(timeout=120_000)
    page.locator("#eval-table").get_by_text("of 100 queries").first.wait_for()
    assert page.locator(".ri-queue a").first.get_attribute("href").startswith("?corpus=resources&")
    assert page.locator("#eval-advice .ri-sentence").count() == 0  # that was the other corpus's
    page.get_by_role("button", name="Stop").last.click()
    page.wait_for_function(
        "document.querySelector('#eval-progress')?.innerText.includes('stopped')", timeout=60_000
    )
    assert page.locator(".ri-queue li").count() >= 6  # of the first chunk


def test_a_reload_while_it_runs_finds_job_and_settings_and_a_past_run_opened_meanwhile_stays_whole(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    choose(page, "Corpus", "resources")
    evaluate(page)
    page.get_by_text("so far").wait_for(timeout=120_000)
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("tab", name="Evaluate").click()
    page.get_by_text("so far").wait_for(timeout=120_000)
    corpus = page.locator("#eval-settings").get_by_label("Corpus")
    expect(corpus).to_have_value("resources", timeout=30_000)
    assert page.locator("#eval-progress .ri-lines").inner_text().startswith("resources: ")
    open_past_run(page, "fruit")
    page.locator("#eval-table").get_by_text("fruit, split test").wait_for()
    page.locator("#eval-progress").get_by_text("resources: ").wait_for()
    page.get_by_role("button", name="Stop").last.click()
    page.locator("#eval-progress").get_by_text("stopped").wait_for(timeout=60_000)
    assert "fruit, split test" in page.locator("#eval-table").inner_text()


def test_the_cutoff_moves_by_keyboard(visit):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    before = page.locator("#eval-threshold").inner_text()
    page.locator("#eval-cutoff input[type=range]").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('#eval-threshold').innerText !== before", arg=before
    )


def test_a_corpus_without_an_eval_set_says_so(visit):
    page = open_evaluate(visit, "unjudged")
    page.locator("#eval-progress").get_by_text("there is nothing to evaluate").wait_for()
    assert page.locator("#eval-table table").count() == 0


def test_the_recorded_evaluation_is_shown_first_and_marked_and_greyed_when_the_form_moves_on(visit):
    page = visit("?corpus=resources")
    wait_for_ranking(page)
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#eval-progress").get_by_text("Recorded on 20").wait_for()
    said = page.locator("#eval-progress").inner_text()
    assert "nothing has run here" in said and "2,000 pairs of 100 queries" in said
    assert "Results for resources (test) · minilm → mini" in page.locator("#eval-advice").inner_text()
    grey = page.locator("body.ri-outdated-evaluate")
    assert page.locator(".ri-queue li").count() == 100 and grey.count() == 0
    page.get_by_label("Cutoffs").fill("1, 3")
    grey.wait_for()
    page.get_by_label("Cutoffs").fill("1, 5,10")
    grey.wait_for(state="detached")
    page.get_by_role("tab", name="Explore").click()
    page.get_by_role("tab", name="Evaluate").click()
    page.wait_for_timeout(800)
    assert page.locator(".ri-queue li").count() == 100 and page.locator(".toast-body").count() == 0
    choose(page, "Corpus", "fruit")
    page.locator("#eval-progress").get_by_text("Not run yet. fruit has 2 queries with gold").wait_for()
    assert page.locator("#eval-table table").count() == 0 and grey.count() == 0


def test_a_stopped_run_does_not_overwrite_the_next_one(visit):
    page = open_evaluate(visit, "resources")
    evaluate(page)
    page.locator("#eval-progress").get_by_text("resources: ").wait_for()
    page.get_by_role("button", name="Stop").last.click()
    page.locator("#eval-progress").get_by_text("topp").wait_for()
    choose(page, "Corpus", "fruit")
    evaluate(page)
    finished(page)
    assert page.locator("#eval-progress").inner_text().startswith("fruit: done")
    page.wait_for_timeout(1500)  # a late word about the stopped run would come now
    assert page.locator(".toast-body.error").count() == 0
    assert page.locator("#eval-progress").inner_text().startswith("fruit: done")
    assert "fruit, split test" in page.locator("#eval-table").inner_text()


def test_a_replay_opens_without_a_model_and_a_hostile_one_is_refused(visit, tmp_path):
    page = open_evaluate(visit, "fruit")
    evaluate(page)
    finished(page)
    with page.expect_download() as download:
        page.locator("a[download='replay.json']").first.click()
    replay = tmp_path / "replay.json"
    download.value.save_as(replay)
    document = json.loads(replay.read_text())
    document["queries"][0]["text"] = "<img src=x onerror='window.hacked = 1'>"
    replay.write_text(json.dumps(document))
    other = visit()
    other.get_by_role("tab", name="Evaluate").click()
    other.get_by_text("Past runs and replays").click()
    other.locator("input[type=file]").last.set_input_files(replay)
    other.locator("#eval-progress").get_by_text("Opened fruit").wait_for()
    assert "onerror" in other.locator(".ri-queue").inner_text() and other.evaluate(
        "window.hacked === undefined"
    )
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind": "rag-inspect replay", "version": 1, "queries": [[[]]]}')
    third = visit()
    third.get_by_role("tab", name="Evaluate").click()
    third.get_by_text("Past runs and replays").click()
    third.locator("input[type=file]").last.set_input_files(broken)
    toast(third, "broken.json")
    document["corpus"]["name"] = "<img src=x onerror='window.hacked = 1'>/"
    broken.write_text(json.dumps(document))
    fourth = visit()
    fourth.get_by_role("tab", name="Evaluate").click()
    fourth.get_by_text("Past runs and replays").click()
    fourth.locator("input[type=file]").last.set_input_files(broken)
    toast(fourth, "<img src=x")
    assert fourth.evaluate("window.hacked === undefined")


def test_two_past_runs_are_compared(visit):
    page = open_evaluate(visit, "fruit")
    for _ in range(2):
        evaluate(page)
        finished(page)
        page.wait_for_timeout(1200)
    page.get_by_text("Past runs and replays").click()
    for at in range(2):
        page.get_by_label("Open one, or compare two").click()
        page.get_by_role("option").filter(has_text="fruit").nth(at).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare").click()
    page.locator("#eval-comparison table").wait_for()
    words = page.locator("#eval-comparison").inner_text()
    assert "changed verdict" in words and words.count("minilm>>mini on fruit (test, top 20, 5 kept), 20") == 2


def test_serve_replay_opens_on_the_replay_with_its_settings_in_the_form(tmp_path, chromium):
    """It needs no model: here none is ever loaded."""

    class NeverWarm(Workbench):
        def warm_up(self) -> None: ...

    bench = NeverWarm(Settings(tmp_path, hub_endpoint="http://127.0.0.1:9", hub_offline=True))
    bench.replay = replace(read_replay(BUILT_IN_CORPORA / "catalysts" / "evaluation.json"), top_n=3)
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True)
    page = chromium.new_page()
    try:
        page.goto(app.local_url)
        page.locator("#eval-progress").get_by_text("Opened catalysts").wait_for(timeout=60_000)
        page.wait_for_function(
            "document.querySelector('#eval-settings input[aria-label=Corpus]').value === 'catalysts'"
        )
        assert page.locator("#eval-depths input[type=number]").nth(1).input_value() == "3"
        assert page.locator("body.ri-outdated-evaluate, .toast-body").count() == 0
    finally:
        page.close()
        app.close()
