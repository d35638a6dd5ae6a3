"""What Evaluate shows before a run: the recorded evaluation of Explore's corpus, until one is chosen here."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rag_inspect.options import SPLIT
from rag_inspect.sessions import Visitor
from rag_inspect.ui import eval_results
from rag_inspect.ui.controls import watch_choice
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.eval_page import CHOSEN, QUIET, Page
from rag_inspect.ui.eval_settings import split_update, stages_update
from rag_inspect.ui.newest import Newest
from rag_inspect.views.evaluation import describe_record
from rag_inspect.views.sentences import aside_html
from rag_inspect.words import format_count
from rag_inspect.workbench import Workbench

# Explore's list is not on the page while Evaluate is open; page.js remembers what it said.
TAKE_EXPLORED = "(...values) => [...values.slice(0, -1), window.riExplored()]"


def wire(page: Page, bench: Workbench, tab: gr.Tab, newest: Newest) -> None:
    """Connect the opening of the tab and the choice of a corpus."""
    opening = _Opening(page, bench, newest)
    shown, whose = [page.progress, *page.results], [page.job_id, page.visitor, page.corpus]
    lists, choice = [page.split, page.first_stages], [*whose, page.first_stages]
    taken = [*choice, page.followed, page.corpus]
    opened = tab.select(show_errors(opening.follow), taken, [page.corpus, *lists], js=TAKE_EXPLORED, **QUIET)
    # After it: the results count as those of what the form says when they come.
    opened.then(show_errors(opening.show_first), [*whose, page.followed, page.progress], shown, **QUIET)
    watch_choice(page.corpus).change(show_errors(opening.choose_corpus), choice, [*lists, *shown], **QUIET)


class _Opening:
    """The listeners; each takes the values of the components that `wire` names."""

    def __init__(self, page: Page, bench: Workbench, newest: Newest) -> None:
        self.page, self.bench, self.newest = page, bench, newest
        self.nothing_said = page.progress.value

    def follow(
        self, job_id: str, visitor: object, corpus: str, first_stages: list[str], followed: str | None,
        explored: str | None,
    ) -> dict[Any, Any]:  # fmt: skip
        """Take the corpus that Explore shows."""
        if explored == corpus or explored not in self.bench.corpora():
            return {self.page.corpus: gr.skip()}
        if not self._follows(job_id, visitor, followed):
            return {self.page.corpus: gr.skip()}
        return {self.page.corpus: explored} | self._list_choices(explored, first_stages)

    def show_first(
        self, request: gr.Request, job_id: str, visitor: object, corpus: str, followed: str | None, said: str
    ) -> dict[Any, Any]:
        """Show the record of the corpus that was taken, unless it is there already."""
        page, before = self.page, self.newest.of(request)
        if followed == corpus or not self._follows(job_id, visitor, followed):
            return page.unchanged
        # What was said before the tab was opened stays, or is on its way: that this job, now unknown, is lost.
        kept = page.unchanged if followed is None and (job_id or said != self.nothing_said) else {}
        shown = show_recorded(page, self.bench, corpus) | {page.followed: corpus} | kept
        # An evaluation that was started while this was drawn has the page to itself.
        return shown if self.newest.of(request) == before else page.unchanged

    def choose_corpus(
        self, request: gr.Request, job_id: str, visitor: object, corpus: str, first_stages: list[str]
    ) -> dict[Any, Any]:
        """Show the record of the corpus that was chosen on this tab; while a job runs, only fill the lists."""
        chosen = self._list_choices(corpus, first_stages) | {self.page.followed: CHOSEN}
        job, before = self.bench.job(job_id or "", Visitor.from_browser(visitor)), self.newest.of(request)
        if job and not job.over:
            return chosen
        shown = show_recorded(self.page, self.bench, corpus)
        return chosen | shown if self.newest.of(request) == before else chosen

    def _follows(self, job_id: str, visitor: object, followed: str | None) -> bool:
        if not visitor:  # what the browser stores is not here yet: there may be a job
            return False
        known = self.bench.job(job_id or "", Visitor.from_browser(visitor))
        return followed != CHOSEN and not known and self.bench.replay is None

    def _list_choices(self, corpus: str, first_stages: list[str]) -> dict[Any, Any]:
        return {
            self.page.split: split_update(self.bench, corpus, SPLIT),
            self.page.first_stages: stages_update(self.bench, corpus, first_stages),
        }


def show_recorded(page: Page, bench: Workbench, name: str) -> dict[Any, Any]:
    """Draw the evaluation recorded beside the corpus, marked as that; without one, say what a run would be."""
    corpus = bench.corpus(name)
    evaluation = bench.find_recorded_evaluation(corpus)
    if evaluation is not None:
        words = describe_record(evaluation.document)
        return eval_results.draw_results(page, evaluation) | {page.progress: aside_html(words)}
    if not corpus.splits:
        words = f"{name} has no qrels, so there is nothing to evaluate; add qrels/test.tsv"
    else:
        judged = format_count(sum(bool(corpus.gold(query.query_id)) for query in corpus.queries))
        words = f"Not run yet. {name} has {judged} with gold; Evaluate runs those of the split through both stages."
    return eval_results.clear_results(page) | {page.progress: aside_html(words)}
