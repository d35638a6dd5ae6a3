"""The linter: silent on the built-in corpora, and on each kind of mistake it names the file, the line and the words."""

from dataclasses import replace

import pytest

from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.lint import lint, lint_named
from rag_inspect.errors import CorpusError
from rag_inspect.settings import BUILT_IN_CORPORA, Settings

LONG = "a heron stands in the shallow water of the bay before the tide turns and waits for fish"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in BUILT_IN_CORPORA.glob("*/corpus.jsonl")))
def test_a_built_in_corpus_has_nothing_worse_than_notes(name, tmp_path):
    assert [f for f in lint_named(name, CorpusLibrary(Settings(tmp_path))) if f.level != "note"] == []


@pytest.mark.parametrize(
    ("passages", "queries", "qrels", "place", "words"),
    [
        ({"a": LONG, "b": LONG.upper()}, {}, {}, "corpus.jsonl:1 a", "same text as b"),
        ({"a": LONG, "b": LONG + " in the reeds"}, {}, {}, "corpus.jsonl:1 a", "runs of eight words"),
        ({"a": LONG}, {"q": "when does it stand in the shallow water of a bay"}, {"q": {"a": 1}}, "queries.jsonl:1 q", "word for word"),
        ({"a": LONG}, {"q": "heron fish tide bay"}, {"q": {"a": 1}}, "queries.jsonl:1 q", "too easy to find"),
        ({"a": LONG}, {"q": "which bird"}, {"q": {"a": 0}}, "queries.jsonl:1 q", "none above 0"),
        ({"a": LONG}, {"q": "which bird", "r": "Which bird"}, {"q": {"a": 1}}, "queries.jsonl:2 r", "text of another query"),
    ],
)  # fmt: skip
def test_what_would_mislead_is_a_warning(corpus_folder, settings, passages, queries, qrels, place, words):
    folder = corpus_folder("tiny", passages, queries, {"test": qrels} if qrels else None)
    warnings = [f for f in lint(CorpusLibrary(settings).open("tiny")) if f.level == "warning"]
    assert (f"{folder}/{place}", True) in [(f.place, words in f.message) for f in warnings]


def test_what_is_worth_knowing_is_a_note(corpus_folder, settings):
    corpus_folder(
        "tiny", {"a": "鳥" * 600, "b": LONG}, {"q": "which bird", "r": "what fish"}, {"test": {"q": {"b": 1}}}
    )
    notes = " ".join(f.message for f in lint(CorpusLibrary(settings).open("tiny")) if f.level == "note")
    for words in (
        "longer than 512 tokens",
        "under 200",
        "1 judged query",
        "1 query without judgements",
        "licence",
    ):
        assert words in notes


def test_every_broken_row_is_an_error_and_the_others_are_checked(corpus_folder, settings):
    qrels = {"test": {"q": {"a": 1}}, "dev": {"q": {"a": 1, "lost": 1}}}
    folder = corpus_folder(
        "tiny", {"a": LONG, "b": LONG.upper()}, {"q": "which bird"}, qrels, "licence: [[MIT]]"
    )
    for name, rows in {
        "corpus.jsonl": b'{"_id": "c"}\n{\n{"_id": "a", "text": "again"}\n',
        "queries.jsonl": b'{"_id": "r", "text": null}\n\xff\n',
        "qrels/test.tsv": b"q\ta\t0.5\nq\tb\n",
    }.items():
        with (folder / name).open("ab") as file:
            file.write(rows)
    findings = lint_named("tiny", CorpusLibrary(settings))
    errors = " ".join(finding.message for finding in findings if finding.level == "error")
    for words in (
        'corpus.jsonl:3 has no "text"',
        "corpus.jsonl:4 is not JSON",
        'corpus.jsonl:5 repeats _id "a"',
        "queries.jsonl:2 has a query without visible text",
        "queries.jsonl:3 is not UTF-8",
        "test.tsv:3 has the grade '0.5'",
        "test.tsv:4 has 2 columns",
        'corpus.yaml:1 has "licence" with a list',
    ):
        assert words in errors
    warnings = " ".join(finding.message for finding in findings if finding.level == "warning")
    assert "same text as b" in warnings
    assert 'The split dev judges 1 passage that the corpus does not have; the first is "lost"' in warnings


def test_a_file_of_broken_rows_is_counted_to_its_end(corpus_folder, settings):
    folder = corpus_folder("tiny", {"a": LONG})
    (folder / "corpus.jsonl").write_text("{\n" * 1500)
    errors = [f.message for f in lint_named("tiny", CorpusLibrary(settings)) if f.level == "error"]
    assert len(errors) == 1001 and errors[-1].startswith("500 more faults")


def test_a_corpus_that_is_not_there_is_said_so(corpus_folder, settings):
    corpus_folder("tiny", {"a": LONG})
    for name, words in {
        "nowhere": 'unknown corpus "nowhere"; choose one of tiny',
        "./nowhere": 'no folder "./nowhere"; choose one of tiny',
        str(settings.corpora_dir / "tiny" / "corpus.jsonl"): "no folder",
    }.items():
        with pytest.raises(CorpusError, match=words):
            lint_named(name, CorpusLibrary(settings))


def test_a_corpus_that_is_in_no_file_is_linted_by_its_ids(corpus_folder, settings):
    corpus_folder("tiny", {"a": LONG, "b": LONG.upper()})
    corpus = replace(CorpusLibrary(settings).open("tiny"), path=None)
    assert [f.place for f in lint(corpus) if f.level == "warning"] == ["a"]
