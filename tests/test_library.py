"""The library: every corpus by its name, read once, let go when it changed or was unused for long."""

import gc
import os
import threading
import time
import weakref
from dataclasses import replace
from inspect import unwrap

import pytest

from rag_inspect.corpora import library
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.errors import CorpusError
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.workbench import Workbench

TEXTS = {"a": "one", "b": "two"}


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """The names of the folders that were read, in order; a reading takes a moment."""
    read, names = library.read_path, []

    def slowly(path):
        names.append(path.name)
        time.sleep(0.05)
        return read(path)

    monkeypatch.setattr(library, "read_path", slowly)
    return names


def judge(folder, grade: int) -> None:
    """Another grade in the qrels, at a time of its own: some file systems keep coarse ones."""
    path = folder / "qrels" / "test.tsv"
    path.write_text(f"query-id\tcorpus-id\tscore\nq\ta\t{grade}\n")
    later = time.time_ns() + grade * 10**9
    os.utime(path, ns=(later, later))


def test_twenty_edits_of_the_qrels_leave_one_corpus_in_memory(corpus_folder, settings):
    folder = corpus_folder("tiny", TEXTS, {"q": "?"}, {"test": {"q": {"a": 1}}})
    bench = Workbench(settings)
    made = []
    for grade in range(1, 21):
        judge(folder, grade)
        corpus = bench.corpus("tiny")
        assert corpus.qrels == {"q": {"a": grade}}
        made.append(weakref.ref(corpus))
    del corpus
    gc.collect()
    assert [ref() is not None for ref in made] == [False] * 19 + [True]


def test_the_one_unused_for_longest_gives_way(corpus_folder, settings, readings):
    for name in ("a", "b", "c"):
        corpus_folder(name, TEXTS)
    shelves = CorpusLibrary(settings, held=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        shelves.open(name)
    assert readings == ["a", "b", "c", "b"]


def test_many_who_ask_at_once_wait_for_one_reading(corpus_folder, settings, readings):
    for name in ("x", "y"):
        corpus_folder(name, TEXTS)
    shelves, start, found = CorpusLibrary(settings, held=1), threading.Barrier(8), []

    def ask(name):
        start.wait()
        found.append(shelves.open(name))

    threads = [threading.Thread(target=ask, args=(name,)) for name in "xxxxyyyy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(readings) == ["x", "y"] and len({id(corpus) for corpus in found}) == 2


def test_a_file_that_is_none_of_the_formats_changes_nothing(corpus_folder, settings, readings):
    folder = corpus_folder("tiny", TEXTS)
    shelves = CorpusLibrary(settings)
    before = shelves.open("tiny")
    (folder / "notes.txt").write_text("not of the corpus")
    (folder / "recorded.json").write_text("[]")
    assert shelves.open("tiny") is before and readings == ["tiny"]


@pytest.mark.parametrize("kind", ["card", "queries", "split", "rename"])
def test_any_file_of_the_format_that_comes_or_changes_is_seen(corpus_folder, settings, kind):
    folder = corpus_folder("tiny", TEXTS)
    shelves = CorpusLibrary(settings)
    before = shelves.open("tiny")
    if kind == "card":
        (folder / "corpus.yaml").write_text("licence: MIT\n")
        assert shelves.open("tiny").card.licence == "MIT"
    elif kind == "queries":
        (folder / "queries.jsonl").write_text('{"_id": "q", "text": "?"}\n')
        assert len(shelves.open("tiny").queries) == 1
    elif kind == "split":
        (folder / "qrels").mkdir()
        (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
        assert list(shelves.open("tiny").splits) == ["dev"]
    else:  # another file under the old name, of the same size and time
        path = folder / "corpus.jsonl"
        times = path.stat()
        other = folder / "corpus.new"
        other.write_text(path.read_text().replace("one", "uno"))
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        other.replace(path)
        assert shelves.open("tiny").passages[0].text == "uno"
    assert shelves.open("tiny") is not before


def test_a_corpus_that_broke_is_not_held_and_comes_back(corpus_folder, settings):
    folder = corpus_folder("tiny", TEXTS)
    shelves = CorpusLibrary(settings)
    old = weakref.ref(shelves.open("tiny"))
    good = (folder / "corpus.jsonl").read_text()
    (folder / "corpus.jsonl").write_text(good + "{\n")
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"corpus.jsonl:3 is not JSON"):
            shelves.open("tiny")
    gc.collect()
    assert old() is None
    (folder / "corpus.jsonl").write_text(good)
    assert len(shelves.open("tiny").passages) == 2


def test_a_corpus_that_comes_or_goes_while_the_library_is_open(corpus_folder, settings):
    shelves = CorpusLibrary(settings)
    assert shelves.list() == {}
    folder = corpus_folder("late", TEXTS)
    assert shelves.list() == {"late": folder} and shelves.open("late").name == "late"
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(CorpusError, match='unknown corpus "late"'):
        shelves.open("late")


def test_a_workbench_made_public_opens_no_folder_of_the_server(corpus_folder, settings):
    folder, bench = corpus_folder("tiny", TEXTS), Workbench(settings)
    assert bench.corpus(str(folder)).name == "tiny"
    bench.settings = replace(settings, public=True)
    assert bench.corpus("tiny").name == "tiny"
    with pytest.raises(CorpusError, match="unknown corpus"):
        bench.corpus(str(folder))


def test_where_the_first_corpus_cannot_be_read_the_page_still_lists_the_others(corpus_folder, settings):
    from rag_inspect.ui import build_app, evaluate, search_stream

    broken = corpus_folder("aaa", TEXTS)
    (broken / "corpus.jsonl").write_text("{\n")
    corpus_folder("whole", TEXTS)
    bench = Workbench(settings)
    arriving = search_stream.arrive(bench, {}, search_stream.Run())
    assert next(arriving)[1]["choices"] == ["aaa", "whole"]
    with pytest.raises(CorpusError, match=r"corpus.jsonl:1 is not JSON"):
        next(arriving)
    functions = {unwrap(made.fn): made.fn for made in build_app(bench).fns.values() if made.fn}
    load = next(
        fn for inner, fn in functions.items() if getattr(inner, "func", None) is evaluate._restore_job
    )
    updates = [update for update in load("", "").values() if isinstance(update, dict)]
    corpora, stages, splits = [update["choices"] for update in updates if "choices" in update]
    assert corpora == ["aaa", "whole"] and splits == ["test"]  # a split, though nobody knows which there are
    assert [key for _, key in stages] == list(FIRST_STAGES)
