"""A corpus folder from anybody: nothing hangs, nothing outside is read, and whatever is wrong is said in one line."""

import gzip
import os
import socket

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rag_inspect.corpora import opener, read_path
from rag_inspect.corpora.faults import Faults, raise_fault
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.lint import lint_named
from rag_inspect.corpora.notes import note_evaluation, note_search
from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.evaluation.eval_set import select_eval_set
from rag_inspect.files import format_json
from rag_inspect.recorded import FILE, read_record
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES

CARD = "title: Kettles\nlanguage: [en]\nexamples: [q]\n"


@pytest.fixture
def folder(corpus_folder):
    return corpus_folder(
        "tiny", {"a": "one", "b": "two"}, {"q": "?"}, {"test": {"q": {"a": 1}}, "dev": {"q": {"b": 1}}}, CARD
    )


def bind_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket is short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


ODD_FILES = {
    "a named pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": bind_socket,
    "a link out of its folder": lambda path: path.symlink_to("/etc/hostname"),
    "cannot be read": lambda path: path.symlink_to(path.name),  # a loop
}
FILES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "corpus.yaml")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ODD_FILES)
def test_only_regular_files_inside_the_folder_are_read(folder, settings, kind, name):
    (folder / name).unlink()
    ODD_FILES[kind](folder / name)
    with pytest.raises(CorpusError) as caught:
        select_eval_set(CorpusLibrary(settings).open("tiny"))
    message = str(caught.value)
    assert str(folder / name) in message and kind in message and "\n" not in message
    [error] = [f.message for f in lint_named("tiny", CorpusLibrary(settings)) if f.level == "error"]
    assert error in message


def test_a_device_is_not_opened(folder, settings, monkeypatch):
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl").symlink_to("/dev/zero")
    with pytest.raises(CorpusError, match="a link out of its folder"):
        CorpusLibrary(settings).open("tiny")
    with pytest.raises(CorpusError, match=r"/dev/zero is a device; .* regular files only"):
        opener.CorpusFile(opener.Path("/dev"), opener.Path("/dev/zero")).read_text(10)


def test_a_link_inside_the_folder_is_followed(folder, settings):
    (folder / "blobs").mkdir()
    (folder / "corpus.jsonl").rename(folder / "blobs" / "1f2e")
    (folder / "corpus.jsonl").symlink_to("blobs/1f2e")
    assert len(CorpusLibrary(settings).open("tiny").passages) == 2


def test_a_folder_behind_a_link_out_is_not_even_listed(folder, settings, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "salaries.tsv").write_text("q\ta\t1\n")
    (folder / "data").symlink_to(tmp_path / "secret")
    corpus = CorpusLibrary(settings).open("tiny")
    assert "salaries" not in " ".join(corpus.notes)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_gzip_is_measured_by_what_comes_out(folder, settings, monkeypatch, name):
    monkeypatch.setattr(opener, "MAX_BYTES", 1 << 20)
    (folder / name).write_bytes(gzip.compress(b"\n" * (2 << 20)))
    with pytest.raises(CorpusError, match=rf"{name}:1048577 exceeds the limit"):
        select_eval_set(CorpusLibrary(settings).open("tiny"))


def test_a_file_of_line_ends_is_not_counted_to_its_end(folder, settings, monkeypatch):
    monkeypatch.setattr(opener, "MAX_LINES", 1000)
    (folder / "qrels" / "test.tsv").write_bytes(gzip.compress(b"\n" * (2 << 20)))
    with pytest.raises(CorpusError, match=r"test.tsv:1001 exceeds the limit"):
        select_eval_set(CorpusLibrary(settings).open("tiny"))


def test_a_csv_row_over_many_lines_has_a_limit(folder, settings, monkeypatch):
    monkeypatch.setattr(opener, "MAX_LINE_BYTES", 1 << 12)
    (folder / "qrels" / "test.csv").write_text("query-id,corpus-id,score\n" + '"' + '\n","' * 5000)
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(CorpusError, match=r"test.csv:2 begins a row of more than"):
        select_eval_set(CorpusLibrary(settings).open("tiny"))


def test_metadata_that_is_nested_without_end_is_refused(folder, settings):
    for deep in ('{"a": ' * 100 + "1" + "}" * 100, '{"a": ' + "[" * 800 + "]" * 800 + "}"):
        (folder / "corpus.jsonl").write_text(f'{{"_id": "a", "text": "x", "metadata": {deep}}}\n')
        with pytest.raises(CorpusError, match=r"corpus.jsonl:1 has metadata nested more than 32 deep"):
            CorpusLibrary(settings).open("tiny")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.write_text("[" * 100_000), lambda path: path.mkdir()]
)
def test_a_record_that_is_none_is_left_out(folder, settings, make):
    make(folder / FILE)
    corpus = CorpusLibrary(settings).open("tiny")
    assert read_record(corpus, "?", FIRST_STAGES, RERANKERS) is None


# Whatever the bytes are

NAMES = (
    *FILES,
    "qrels/dev.csv",
    "qrels/dev.jsonl",
    "qrels/dev.json",
    "queries.csv",
    "corpus.tsv",
    "qrels.trec",
)
PIECES = st.sampled_from(
    [b'"', b",", b"\t", b"\n", b"\r", b" ", b"0", b"1.5", b"NaN", b"null", b"{", b"}", b"[", b"]", b":", b"\xff", b"\0", b"*a",
     b"&a", b"<<: ", b"- ", b'"_id"', b'"text"', b"\xef\xbb\xbf", b"\x1f\x8b", b"query-id", b"9" * 400, b"\\ud800", b"1e999"]
)  # fmt: skip
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 12), PIECES | st.binary(max_size=8)), max_size=4
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(NAMES), mutations=MUTATIONS, pack=st.booleans())
def test_a_mutated_file_is_read_or_refused_in_one_line(folder, name, mutations, pack):
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    document = b'{"q1": {"p1": 1, "p2": 0}}' if name.endswith(".json") else None
    raw = before or document or (folder / "qrels" / "test.tsv").read_bytes().replace(b"\t", b",")
    for at, cut, piece in mutations:
        raw = raw[:at] + piece + raw[at + cut :]
    path.write_bytes(gzip.compress(raw) if pack else raw)
    try:
        for report in (raise_fault, Faults()):
            said = _use(folder, report)
            assert "\n" not in said and len(said) < 2000
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def _use(folder, report):
    """Read and evaluate all there is; what it is refused with, or ""."""
    try:
        corpus = read_path(folder, report)
        format_json([dict(passage.metadata) for passage in corpus.passages])
        note_search(corpus)
        for split in corpus.splits:
            select_eval_set(corpus, split)
            note_evaluation(corpus, split)
    except RagInspectError as error:
        return str(error)
    return ""
