"""Corpora: what every built-in one keeps to, and what a broken folder is told."""

import gzip
import json
import os
import re
from pathlib import Path

import pytest

from rag_inspect.corpora import FORMATS, opener
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.notes import note_search
from rag_inspect.errors import CorpusError
from rag_inspect.evaluation.eval_set import check_evaluation, select_eval_set
from rag_inspect.options import EvalOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.settings import BUILT_IN_CORPORA, Settings
from rag_inspect.types import Corpus, CorpusCard
from rag_inspect.ui.controls import PAGE_TOP_K

BUILT_IN = sorted(path.parent.name for path in BUILT_IN_CORPORA.glob("*/corpus.jsonl*"))
WORD = re.compile(r"\w+")


def read_corpus(name: str, settings: Settings) -> Corpus:
    return CorpusLibrary(settings).open(name)


@pytest.fixture(params=BUILT_IN)
def built_in(request, tmp_path):
    return read_corpus(request.param, Settings(home=tmp_path))


# The contract of a built-in corpus


def test_the_corpus_the_page_opens_with_is_there():
    assert "resources" in BUILT_IN


def test_its_card_is_complete(built_in):
    card = built_in.card
    assert card.name == built_in.path.name
    assert 0 < len(card.description) <= 110
    assert card.title and card.story and card.licence and card.authorship and card.demonstrates
    assert card.language and all(re.fullmatch("[a-z]{2}", code) for code in card.language)


def test_it_is_large_enough_to_mean_something(built_in):
    assert len(built_in.passages) >= 240
    assert sum(bool(built_in.gold(query.query_id)) for query in built_in.queries) >= 80


def test_public_mode_evaluates_it_with_every_built_in_reranker(built_in):
    for split in built_in.splits:
        options = EvalOptions(
            corpus=built_in.card.name, rerankers=list(RERANKERS), top_k=PAGE_TOP_K[1], split=split
        )
        check_evaluation(built_in, options, public=True)


def test_no_passage_is_there_twice(built_in):
    assert len({passage.full_text for passage in built_in.passages}) == len(built_in.passages)
    assert len(built_in.queries_by_text) == len(built_in.queries)


def test_its_examples_are_judged_queries(built_in):
    assert len(built_in.card.examples) >= 3
    assert all(built_in.gold(query_id) for query_id in built_in.card.examples)


def test_every_judged_query_is_in_one_split_only(built_in):
    judged = [query_id for split in built_in.splits.values() for query_id in split]
    assert "test" in built_in.splits and len(judged) == len(set(judged))


def test_no_query_quotes_its_gold(built_in):
    quoted = [
        (query.query_id, pid)
        for query in built_in.queries
        for pid in built_in.gold(query.query_id)
        if _runs(query.text) & _runs(built_in.passage_by_id[pid].full_text)
    ]
    assert not quoted


def _runs(text: str, length: int = 5) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def test_its_texts_have_the_length_of_a_passage(built_in):
    odd = {
        passage.passage_id: len(passage.text)
        for passage in built_in.passages
        if not passage.metadata.get("long") and not 80 <= len(passage.text) <= 1500
    }
    assert not odd


def test_all_built_in_corpora_together_are_small():
    assert sum(path.stat().st_size for path in BUILT_IN_CORPORA.rglob("*") if path.is_file()) < 6_000_000


# Reading


def test_a_folder_is_read_as_it_was_written(corpus_folder, settings):
    passages = [
        {"_id": "a", "title": "A", "text": "one", "metadata": {"x": [1]}},
        {"_id": "b", "text": "two"},
    ]
    qrels = {"test": {"q": {"a": 2, "b": 0}}}
    folder = corpus_folder("mine", passages, {"q": " which? "}, qrels, "description: >-\n  two\n  lines")
    corpus = read_corpus("mine", settings)
    assert corpus.path == folder and corpus.name == "mine" and corpus.card.description == "two lines"
    assert [p.full_text for p in corpus.passages] == ["A\none", "two"]
    assert corpus.passages[0].metadata == {"x": [1]}
    assert corpus.gold("q") == {"a"} and corpus.gold("unknown") == frozenset()
    assert [query.query_id for query in corpus.find_queries("which?")] == ["q"]
    assert read_corpus(str(folder), settings).fingerprint == corpus.fingerprint


def test_a_folder_with_passages_alone_is_a_corpus(corpus_folder, settings):
    corpus_folder(passages={"a": "one"})
    corpus = read_corpus("tiny", settings)
    assert (corpus.queries, corpus.splits, corpus.gold("q")) == ((), {}, frozenset())


def test_gzipped_files_are_read_as_plain_ones(corpus_folder, settings):
    folder = corpus_folder(
        passages={"a": "één", "b": "two"}, queries={"q": "?"}, qrels={"test": {"q": {"b": 1}}}
    )
    plain = read_corpus("tiny", settings)
    splits = dict(plain.splits)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = read_corpus("tiny", settings)
    assert packed.passages == plain.passages and packed.queries == plain.queries
    assert packed.splits == splits and packed.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(lambda raw: b"\xef\xbb\xbf" + raw, id="byte order mark"),
        pytest.param(lambda raw: raw.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda raw: b"\n \n" + raw.replace(b"\n", b"\n\n"), id="blank lines"),
        pytest.param(lambda raw: raw.rstrip(b"\n"), id="no newline at the end"),
    ],
)
def test_how_an_editor_saves_a_file_makes_no_difference(corpus_folder, settings, rewrite):
    folder = corpus_folder(
        passages={"a": "one", "b": "two"}, queries={"q": "?"}, qrels={"test": {"q": {"b": 1}}}
    )
    before = read_corpus("tiny", settings)
    splits = dict(before.splits)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.write_bytes(rewrite(path.read_bytes()))
    after = read_corpus("tiny", settings)
    assert after.fingerprint == before.fingerprint
    assert after.queries == before.queries and after.splits == splits


def test_numbers_serve_as_ids(corpus_folder, settings):
    corpus_folder(
        passages=[{"_id": 7, "text": "one"}],
        queries=[{"_id": 1, "text": "?"}],
        qrels={"test": {"1": {"7": 1}}},
    )
    assert read_corpus("tiny", settings).gold("1") == {"7"}


def test_a_query_judged_in_two_splits_keeps_the_judgements_of_both(corpus_folder, settings):
    corpus_folder(
        passages={"a": "one", "b": "two"},
        queries={"q": "?"},
        qrels={"dev": {"q": {"a": 1}}, "test": {"q": {"b": 1}}},
    )
    corpus = read_corpus("tiny", settings)
    assert corpus.gold("q") == {"a", "b"}
    assert corpus.splits["dev"] == {"q": {"a": 1}}


def test_the_fingerprint_follows_the_texts_and_nothing_else(corpus_folder, settings):
    def fingerprint(**changes):
        row = {"_id": "a", "title": "t", "text": "x", **changes}
        corpus_folder(passages=[row])
        return read_corpus("tiny", settings).fingerprint

    assert fingerprint() == fingerprint(metadata={"k": 1})
    different = [{}, {"_id": "b"}, {"title": "tx", "text": ""}, {"title": "", "text": "tx"}, {"text": "y"}]
    assert len({fingerprint(**changes) for changes in different}) == len(different)


def test_a_format_names_the_files_it_reads_and_no_other(corpus_folder):
    folder = corpus_folder(
        passages={"a": "one"}, queries={"q": "?"}, qrels={"dev": {}, "test": {}}, card="name: x\n"
    )
    (folder / "recorded.json").write_text("[]")
    (folder / "README.md").write_text("notes")
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(b""))  # the plain file comes first
    named = {str(path.relative_to(folder)) for path in FORMATS["beir"].files(folder)}
    assert named == {"corpus.jsonl", "queries.jsonl", "corpus.yaml", "qrels/dev.tsv", "qrels/test.tsv"}
    (folder / "queries.jsonl").unlink()
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "test.tsv.gz")
    named = {str(path.relative_to(folder)) for path in FORMATS["beir"].files(folder)}
    assert named == {"corpus.jsonl", "queries.jsonl.gz", "corpus.yaml", "qrels/dev.tsv", "qrels/test.tsv.gz"}


def test_a_format_says_in_which_line_a_query_or_passage_stands(corpus_folder):
    folder = corpus_folder(passages={"a": "one", "b": "two"}, queries={"q": "?"})
    assert FORMATS["beir"].line_numbers(folder) == {
        "q": f"{folder}/queries.jsonl:1 q", "a": f"{folder}/corpus.jsonl:1 a", "b": f"{folder}/corpus.jsonl:2 b"
    }  # fmt: skip


# Names and folders


def test_what_the_user_brought_is_listed_after_the_built_in_ones(corpus_folder, settings):
    corpus_folder("shared", {"a": "built in"})
    for name in ("shared", "own"):
        folder = settings.home / "corpora" / name
        folder.mkdir(parents=True)
        (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "brought"}\n')
    (settings.home / "corpora" / "notes").mkdir()  # no corpus in it
    assert list(CorpusLibrary(settings).list()) == ["shared", "own"]
    assert read_corpus("shared", settings).passages[0].text == "built in"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "nope",
        "../nope",
        "a\0b",
        "~nobody-of-that-name/x",
        "x" * 5000,
        "two\nlines",
        "\ud800",
        None,
        7,
        ["tiny"],
    ],
    ids=lambda name: repr(name)[:20],
)
def test_a_name_there_is_none_of_is_told_the_names_there_are(corpus_folder, settings, name):
    corpus_folder(passages={"a": "one"})
    with pytest.raises(CorpusError, match=r"(unknown corpus|no folder) .*choose one of tiny") as caught:
        read_corpus(name, settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_space_reads_no_folder_of_the_server(corpus_folder, settings, tmp_path):
    folder = corpus_folder(passages={"a": "one"})
    space = Settings(home=settings.home, corpora_dir=settings.corpora_dir, public=True)
    assert read_corpus("tiny", space).name == "tiny"
    for name in (str(folder), "../corpora/tiny", "./tiny", os.path.relpath(folder)):
        with pytest.raises(CorpusError, match="unknown corpus"):
            read_corpus(name, space)


def test_a_folder_without_a_corpus_is_told_what_is_missing(settings, tmp_path):
    with pytest.raises(CorpusError, match=r"BEIR needs a corpus.jsonl"):
        read_corpus(str(tmp_path), settings)


# Broken files: place, what was found, what was expected

ROW = b'{"_id": "a", "text": "one"}\n'
BROKEN_ROWS = {
    "broken JSON": (ROW + b'{"_id": "b"\n', ":2 is not JSON", "one object a line"),
    "not JSON": (b"hello\n", ":1 is not JSON", "one object a line"),
    "array": (ROW + b'["b", "two"]\n', ":2 is a JSON list", "object with _id and text"),
    "null": (ROW + b"null\n", ":2 is a JSON NoneType", "object with _id and text"),
    "deep nesting": (b"[" * 200_000 + b"\n", ":1 is not JSON", "one object a line"),
    "endless number": (b'{"_id": ' + b"1" * 10_000 + b', "text": "x"}\n', ":1 has a number of thousands of digits", "write it as a string"),
    "no _id": (ROW + b'{"key": "b", "text": "two"}\n', ':2 has no "_id" (found key, text)', "need _id and text"),
    "two ids": (b'{"id": "b", "ID": "c", "text": "two"}\n', ':1 has "id" and "ID"', 'rename the right one to "_id"'),
    "no text": (ROW + b'{"_id": "b"}\n', ':2 has no "text" (found _id)', "need _id and text"),
    "empty row": (ROW + b"{}\n", ':2 has no "_id" (found nothing)', "need _id and text"),
    "odd keys": (ROW + b'{"a\\nb": 1, "' + b"k" * 5000 + b'": 2}\n', ':2 has no "_id"', "need _id and text"),
    "empty _id": (b'{"_id": "", "text": "x"}\n', ":1 has an empty _id", "its own"),
    "_id true": (b'{"_id": true, "text": "x"}\n', ':1 has "_id" of type bool', "a string"),
    "_id null": (b'{"_id": null, "text": "x"}\n', ":1 has an empty _id", "its own"),
    "_id 1e999": (b'{"_id": 1e999, "text": "x"}\n', ':1 has a "_id" that is too large for a number', "write it as a string"),
    "_id NaN": (b'{"_id": NaN, "text": "x"}\n', ":1 has an empty _id", "its own"),
    "_id float": (b'{"_id": 1.5, "text": "x"}\n', ':1 has "_id" of type float', "a string"),
    "text a list": (b'{"_id": "a", "text": ["x"]}\n', ':1 has "text" of type list', "a string"),
    "repeated _id": (ROW + b"\n" + ROW, ':3 repeats _id "a"', "ids must differ"),
    "number and string": (b'{"_id": 1, "text": "x"}\n{"_id": "1", "text": "y"}\n', ':2 repeats _id "1"', "must differ"),
    "long _id, twice": ((b'{"_id": "' + b"i\\n" * 5000 + b'", "text": "x"}\n') * 2, ":2 repeats _id", "must differ"),
    "metadata a list": (b'{"_id": "a", "text": "x", "metadata": [1]}\n', ":1 has metadata of type list", "an object"),
    "Latin-1": (ROW + '{"_id": "b", "text": "één"}\n'.encode("latin-1"), ":2 is not UTF-8 (byte", "save the file as UTF-8"),
    "UTF-16": ('{"_id": "b"}\n'.encode("utf-16"), ":1 is not UTF-8", "save the file as UTF-8"),
    "surrogate in text": (b'{"_id": "a", "text": "\\ud83d"}\n', ':1 has half a surrogate pair in "text"', "Unicode"),
    "surrogate in _id": (b'{"_id": "\\udc00", "text": "x"}\n', ':1 has half a surrogate pair in "_id"', "Unicode"),
    "surrogate in metadata": (
        b'{"_id": "a", "text": "x", "metadata": {"k": ["\\ud83d"]}}\n',
        ':1 has half a surrogate pair in "metadata"',
        "Unicode",
    ),
}  # fmt: skip
BROKEN_PASSAGES = {
    "title a list": (
        b'{"_id": "a", "text": "x", "title": ["3"]}\n',
        ':1 has "title" of type list',
        "a string",
    ),
    "title true": (b'{"_id": "a", "text": "x", "title": true}\n', ':1 has "title" of type bool', "a string"),
    "surrogate in title": (
        b'{"_id": "a", "text": "x", "title": "\\ud83d"}\n',
        'surrogate pair in "title"',
        "Unicode",
    ),
    "no words": (
        b'{"_id": "a", "title": " ", "text": "\\t"}\n',
        "has no passages",
        "1 row is empty",
    ),
    "empty file": (b"", "has no passages", "at least one row"),
    "blank file": (b"\n\n  \n", "has no passages", "at least one row"),
}


def _refused(folder: Path, settings: Settings, *said: str) -> str:
    with pytest.raises(CorpusError) as caught:
        read_corpus(folder.name, settings)
    message = str(caught.value)
    for words in said:
        assert words in message
    assert "\n" not in message and len(message) < 700
    return message


@pytest.mark.parametrize("case", BROKEN_ROWS | BROKEN_PASSAGES)
def test_a_broken_corpus_file(corpus_folder, settings, case):
    raw, found, expected = (BROKEN_ROWS | BROKEN_PASSAGES)[case]
    folder = corpus_folder(passages={"a": "one"})
    (folder / "corpus.jsonl").write_bytes(raw)
    _refused(folder, settings, str(folder / "corpus.jsonl"), found, expected)


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_a_broken_query_stops_nobody_who_did_not_ask_for_it(corpus_folder, settings, case):
    raw, found, expected = BROKEN_ROWS[case]
    folder = corpus_folder(passages={"a": "one"})
    (folder / "queries.jsonl").write_bytes(raw + b'\n{"_id": "last", "text": "?"}\n')
    corpus = read_corpus("tiny", settings)
    fault = next(iter(corpus.broken_queries.values()))
    assert str(folder / "queries.jsonl") + found in fault and expected in fault and "\n" not in fault
    assert len(fault) < 600 and corpus.queries[-1].query_id == "last"
    [note] = corpus.notes
    assert "cannot be read and" in note and f"left out; the first: {fault}" in note


def test_a_broken_query_is_said_to_whoever_evaluates_it(corpus_folder, settings):
    qrels = {"test": {"q": {"a": 1}, "r": {"a": 1}}, "dev": {"q": {"a": 1}}}
    corpus_folder(passages={"a": "one"}, queries={"q": "?", "r": " "}, qrels=qrels)
    corpus = read_corpus("tiny", settings)
    assert [query.query_id for query in select_eval_set(corpus, "dev").queries] == ["q"]
    with pytest.raises(CorpusError, match=r"queries.jsonl:2 has a query without visible text"):
        select_eval_set(corpus, "test")


def test_a_judged_query_that_may_stand_in_a_broken_row_is_not_just_dropped(corpus_folder, settings):
    qrels = {"test": {"q": {"a": 1}, "r": {"a": 1}}, "dev": {"q": {"a": 1}}}
    folder = corpus_folder(passages={"a": "one"}, queries={"q": "?"}, qrels=qrels)
    whole = (folder / "queries.jsonl").read_bytes()
    (folder / "queries.jsonl").write_bytes(whole + b'{"_id": "r", "text": "!"\n')
    corpus = read_corpus("tiny", settings)
    assert len(select_eval_set(corpus, "dev").queries) == 1
    with pytest.raises(
        CorpusError, match=r'queries.jsonl:2 is not JSON.*judges the query "r", which is not there'
    ):
        select_eval_set(corpus, "test")
    (folder / "queries.jsonl").write_bytes(gzip.compress(whole + os.urandom(9000))[:-2000])
    corpus = read_corpus("tiny", settings)
    assert "The queries cannot be read to their end: " in corpus.notes[-1]
    with pytest.raises(CorpusError, match=r"queries\.jsonl"):
        select_eval_set(corpus, "test")


def test_of_many_broken_queries_some_are_held_and_all_are_counted(corpus_folder, settings):
    folder = corpus_folder(passages={"a": "one"})
    (folder / "queries.jsonl").write_bytes(b"{\n" * 2500)
    corpus = read_corpus("tiny", settings)
    assert len(corpus.broken_queries) == 1000 and "2,500 queries cannot be read" in corpus.notes[0]


HEADER = b"query-id\tcorpus-id\tscore\n"
BROKEN_QRELS = {
    "no number": (b"q\ta\tyes\n", ":1 has the header 'q a yes'", "expected query-id, corpus-id, score"),
    "four columns": (b"q 1 a 1\n", ":1 has four columns and no header", "the second is not the 0 of TREC's qrels"),
    "a run": (b"q Q0 a 1 0.5 bm25\n", ":1 is a line of a TREC run", "write the judgements here"),
    "no grades": (b"q\ta\n", ":1 has two columns", "add a column of 1"),
    "header without a grade": (b"query-id\tcorpus-id\nq\ta\n", ":1 has two columns", "add a column of 1"),
    "five columns": (b"q\ta\t1\t2\t3\n", ":1 has no header and more columns", "any may be meant"),
    "two grades": (b"qid\tdocno\trel\tlabel\nq\ta\t1\t0\n", ':1 has "rel" and "label"', 'rename the right one to "score"'),
    "two columns": (HEADER + b"q\ta\n", ":2 has 2 columns", "expected 3, tab-separated"),
    "spaces for tabs": (HEADER + b"q a 1\n", ":2 has 1 columns", "tab-separated"),
    "not TREC throughout": (b"q 0 a 1\nq 0 b\n", ":2 has 3 columns", "expected 4, separated by spaces"),
    "half a grade": (HEADER + b"q\ta\t0.5\n", ":2 has the grade '0.5'", "multiply all grades, or round them"),
    "no grade": (HEADER + b"q\ta\t\n", ":2 has the grade ''", "a whole number"),
    "grade NaN": (HEADER + b"q\ta\tNaN\n", ":2 has the grade 'NaN'", "a whole number"),
    "endless grade": (HEADER + b"q\ta\t" + b"9" * 9000 + b"\n", ":2 has the grade", "a whole number"),
    "huge grade": (HEADER + b"q\ta\t" + b"9" * 400 + b"\n", ":2 has the grade", "a whole number"),
    "no id": (HEADER + b"\ta\t1\n", ":2 has an empty query-id", "its own"),
    "judged twice": (
        HEADER + b"q\ta\t1\nq\ta\t0\n",
        ':3 judges passage "a" for query "q" again',
        "keep one grade per pair",
    ),
    "not UTF-8": (HEADER + b"q\t\xff\t1\n", ":2 is not UTF-8", "save the file as UTF-8"),
    "open quote": (b'query-id,corpus-id,score\nq,"a,1\n', ":2 is not CSV", "close each quote"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_QRELS)
def test_broken_qrels_stop_whoever_asks_for_their_split_and_nobody_else(corpus_folder, settings, case):
    raw, found, expected = BROKEN_QRELS[case]
    qrels = {"dev": {}, "test": {"q": {"a": 1}}}
    folder = corpus_folder(passages={"a": "one", "b": "two"}, queries={"q": "?"}, qrels=qrels)
    (folder / "qrels" / "dev.tsv").write_bytes(raw)
    corpus = read_corpus("tiny", settings)
    with pytest.raises(CorpusError) as caught:
        select_eval_set(corpus, "dev")
    message = str(caught.value)
    assert str(folder / "qrels" / "dev.tsv") + found in message and expected in message
    assert "\n" not in message and len(message) < 700
    assert select_eval_set(corpus, "test").qrels == corpus.qrels == {"q": {"a": 1}}
    assert corpus.broken_splits == {"dev": message}
    assert [note for note in note_search(corpus) if "The split dev cannot be read" in note]


def test_no_judgements_are_no_fault(corpus_folder, settings):
    folder = corpus_folder(passages={"a": "one"}, queries={"q": "?"}, qrels={"test": {}})
    (folder / "qrels" / "dev.tsv").write_bytes(b"\n")
    assert read_corpus("tiny", settings).splits == {"dev": {}, "test": {}}


def test_qrels_without_queries_ask_nothing(corpus_folder, settings):
    corpus_folder(passages={"a": "one"}, qrels={"test": {"q": {"a": 1}}})
    corpus = read_corpus("tiny", settings)
    assert corpus.gold("q") == {"a"}
    with pytest.raises(CorpusError, match=r"has no queries.*add queries.jsonl"):
        select_eval_set(corpus)


def test_qrels_of_other_queries_are_said_to_be(corpus_folder, settings):
    corpus_folder(passages={"a": "one"}, queries={"q": "?"}, qrels={"test": {"7": {"a": 1}}})
    with pytest.raises(CorpusError, match=r"judges none of the corpus's queries \(its first is \"7\"\)"):
        select_eval_set(read_corpus("tiny", settings))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
BROKEN_CARDS = {
    "broken": ("name: a\ntitle: [", ":2 cannot be read as YAML"),
    "a list": ("- name\n", ":1 is a list; expected keys"),
    "a word": ("hello", ":1 is a word; expected keys"),
    "unknown key": ("name: a\nlicense: MIT\n", ":2 has the unknown key 'license'; expected name, title"),
    "a list for a key": ("? [a]\n: b\n", ":1 has the unknown key 'a list'"),
    "a mapping for text": ("title:\n  en: Tools\n", ':2 has "title" with a mapping in it'),
    "a mapping for languages": ("language: {en: 1}\n", ':1 has "language" with a mapping in it'),
    "nested languages": ("language: [[en]]\n", '"language" with a list in it'),
    "surrogate": ('title: "\\ud83d"\n', 'half a surrogate pair in "title"'),
    "a character that YAML lacks": ("title: \x01\n", ":1 cannot be read as YAML"),
    "bomb": (BOMB, ":2 cannot be read as YAML: found the alias *a0"),
    "recursion": ("title: &a [*a]\n", ":1 cannot be read as YAML: found the alias *a"),
    "merge key": ("name: &a x\n<<: *a\n", ":2 cannot be read as YAML: found the alias *a"),
    "nesting": ("title: " + "[" * 20_000, ":1 cannot be read as YAML"),
    "too long": ("title: " + "x" * 70_000, "has more than 64 KB"),
}


@pytest.mark.parametrize("case", BROKEN_CARDS)
def test_a_broken_card(corpus_folder, settings, case):
    card, said = BROKEN_CARDS[case]
    folder = corpus_folder(passages={"a": "one"}, card=card)
    _refused(folder, settings, str(folder / "corpus.yaml"), said)


def test_a_card_that_is_not_utf8(corpus_folder, settings):
    folder = corpus_folder(passages={"a": "one"})
    (folder / "corpus.yaml").write_bytes(b"name: a\ntitle: \xff\n")
    _refused(folder, settings, f"{folder / 'corpus.yaml'}:2 is not UTF-8")


def test_a_card_is_read_as_it_is_written(corpus_folder, settings):
    written = "title: 0x1F\ndate: 2026-13-45\nlanguage: no\nexamples: [1, 010]\nlicence: !!int 1" + "0" * 9000
    corpus_folder(passages={"a": "one"}, queries={"1": "?", "010": "!"}, card=written)
    card = read_corpus("tiny", settings).card
    assert (card.title, card.date, card.language, card.examples) == (
        "0x1F", "2026-13-45", ("no",), ("1", "010")
    )  # fmt: skip
    assert card.licence == "1" + "0" * 9000


def test_an_example_that_is_no_query_is_noted(corpus_folder, settings):
    corpus_folder(passages={"a": "one"}, queries={"q": "?"}, card="examples: [q, q9]\n")
    assert read_corpus("tiny", settings).notes == (
        'corpus.yaml has 1 example that no query has as its id; the first is "q9".',
    )


@pytest.mark.parametrize("card", ["\n# nothing yet\n", "name:\ntitle: null\nlanguage: ~\n", "null"])
def test_an_empty_card_is_a_card(corpus_folder, settings, card):
    corpus_folder(passages={"a": "one"}, card=card)
    assert read_corpus("tiny", settings).card == CorpusCard(name="tiny")


# Packed files that are not what they seem


def test_a_truncated_gzip(corpus_folder, settings):
    folder = corpus_folder(passages={"a": "one"})
    rows = b"".join(
        json.dumps({"_id": str(n), "text": os.urandom(40).hex()}).encode() + b"\n" for n in range(200)
    )
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(rows)[:-2000])
    _refused(folder, settings, "corpus.jsonl.gz cannot be read")


def test_a_gzip_that_is_none(corpus_folder, settings):
    folder = corpus_folder(passages={"a": "one"})
    (folder / "corpus.jsonl").rename(folder / "corpus.jsonl.gz")
    _refused(folder, settings, "corpus.jsonl.gz cannot be read", "gzip")


def test_a_gzip_bomb_ends_at_the_limit(corpus_folder, settings, monkeypatch):
    monkeypatch.setattr(opener, "MAX_BYTES", 1 << 20)
    folder = corpus_folder(passages={"a": "one"})
    (folder / "corpus.jsonl").unlink()
    rows = b"".join(b'{"_id": "%d", "text": "%s"}\n' % (n, b"0" * 9000) for n in range(300))
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(rows))
    _refused(folder, settings, "corpus.jsonl.gz:117 exceeds the limit")


def test_a_line_without_end_is_not_read_to_its_end(corpus_folder, settings, monkeypatch):
    monkeypatch.setattr(opener, "MAX_LINE_BYTES", 1 << 16)
    folder = corpus_folder(passages={"a": "one"})
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "' + b"0" * 50_000_000))
    _refused(folder, settings, "corpus.jsonl.gz:1 exceeds the limit")
