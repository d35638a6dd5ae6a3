"""Parquet files of a corpus: every layout of an export is read, and a hostile file is refused in bounded memory."""

import gzip
import json
import os
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rag_inspect.corpora import opener, parquet, read_path, thrift
from rag_inspect.corpora.faults import Faults
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.lint import lint_named
from rag_inspect.corpora.pages import walk_pages
from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.evaluation.eval_set import select_eval_set

PASSAGES = {"_id": ["d1", "d2", "d3"], "title": ["Kettle", "", None], "text": ["one", "two", "three"]}
QUERIES = {"_id": ["q1", "q2"], "text": ["which", "what"]}
QRELS = {"query-id": ["q1", "q2"], "corpus-id": ["d1", "d3"], "score": [1.0, 2.0]}
HUB = {"corpus/test-00000-of-00001.parquet": PASSAGES}


@pytest.fixture
def folder(settings):
    made = settings.corpora_dir / "hub"
    made.mkdir()
    return made


def write(folder, tables, **options):
    for name, columns in tables.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if isinstance(columns, bytes):
            (folder / name).write_bytes(columns)
        else:
            pq.write_table(
                columns if isinstance(columns, pa.Table) else pa.table(columns), folder / name, **options
            )
    return folder


def refuse(folder):
    """Return the one line that a folder is refused with."""
    with pytest.raises(CorpusError) as caught:
        select_eval_set(read_path(folder))
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 800
    return message


def cut(columns, *ranges):
    return [pa.table(columns).slice(start, length) for start, length in ranges]


# Where the files lie

LAYOUTS = {
    "plain": {"corpus.parquet": PASSAGES, "queries.parquet": QUERIES, "qrels/test.parquet": QRELS},
    "qrels at the root": {"corpus.parquet": PASSAGES, "queries.parquet": QUERIES, "qrels.parquet": QRELS},
    "Hugging Face": {
        **HUB,
        "queries/test-00000-of-00001.parquet": QUERIES,
        "qrels/test-00000-of-00001.parquet": QRELS,
    },
    "named after what they hold": {
        "corpus/corpus-00000-of-00001.parquet": PASSAGES,
        "queries/queries-00000-of-00001.parquet": QUERIES,
        "qrels/test-00000-of-00001.parquet": QRELS,
    },
    "any name": {"corpus/0000.parquet": PASSAGES, "queries/a.parquet": QUERIES, "qrels/test.parquet": QRELS},
    "mteb": {
        "corpus/corpus-00000-of-00001.parquet": PASSAGES,
        "queries/queries-00000-of-00001.parquet": QUERIES,
        "data/test-00000-of-00001.parquet": QRELS,
    },
    "shards": {
        **{f"corpus/test-0000{at}-of-00003.parquet": cut(PASSAGES, (at, 1))[0] for at in (2, 0, 1)},
        **{
            f"queries-0000{at}-of-00002-0123456789abcde{at}.parquet": cut(QUERIES, (at, 1))[0]
            for at in (0, 1)
        },
        **{f"qrels/test-0000{at}-of-00002.parquet": cut(QRELS, (at, 1))[0] for at in (0, 1)},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(folder, settings, layout):
    write(folder, LAYOUTS[layout])
    library = CorpusLibrary(settings)
    assert list(library.list()) == ["hub"]
    corpus = library.open("hub")
    assert [(p.passage_id, p.title, p.text) for p in corpus.passages] == [
        ("d1", "Kettle", "one"), ("d2", "", "two"), ("d3", "", "three"),
    ]  # fmt: skip
    assert {query.query_id: query.text for query in corpus.queries} == {"q1": "which", "q2": "what"}
    assert corpus.splits == {"test": {"q1": {"d1": 1}, "q2": {"d3": 2}}} and corpus.notes == ()
    assert not [found for found in lint_named("hub", library) if found.level == "error"]


def test_passages_alone_open(folder):
    corpus = read_path(write(folder, HUB))
    assert len(corpus.passages) == 3 and not corpus.queries and not corpus.splits


def test_a_corpus_is_read_again_when_its_second_shard_changes(folder, settings):
    first, second, other = cut(PASSAGES, (0, 1), (1, 1), (1, 2))
    write(folder, {"corpus/a-00000-of-00002.parquet": first, "corpus/a-00001-of-00002.parquet": second})
    library = CorpusLibrary(settings)
    assert len(library.open("hub").passages) == 2
    write(folder, {"corpus/a-00001-of-00002.parquet": other})
    assert len(library.open("hub").passages) == 3


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_shard_is_named(folder, missing):
    there = {f"corpus/a-0000{at}-of-00003.parquet": cut(PASSAGES, (at, 1))[0] for at in {0, 1, 2} - {missing}}
    assert f"a-0000{missing}-of-00003.parquet is missing" in refuse(write(folder, there))


def test_what_is_read_instead_is_named(folder):
    tables = {**HUB, "corpus/train-00000-of-00001.parquet": PASSAGES, "corpus.parquet": PASSAGES}
    [note] = read_path(write(folder, tables)).notes
    assert "corpus/test-00000-of-00001.parquet (corpus.parquet is read instead)" in note
    assert "corpus/train-00000-of-00001.parquet (corpus.parquet is read instead)" in note
    (folder / "corpus.parquet").unlink()
    [note] = read_path(folder).notes
    assert "corpus/train-00000-of-00001.parquet (corpus/test-00000-of-00001.parquet is read instead)" in note


def test_data_is_qrels_only_beside_a_folder_of_passages(folder):
    corpus = read_path(write(folder, {"corpus.parquet": PASSAGES, "data/test-00000-of-00001.parquet": QRELS}))
    assert not corpus.splits and "data/test-00000-of-00001.parquet (not a name of" in corpus.notes[0]


# What the cells hold


@pytest.mark.parametrize(
    "ids", [pa.array([7, 8]), pa.array([7.0, 8.0]), pa.array(["7", "8"]), pa.array([7, 8], pa.uint8()),
            pa.array(["7", "8"]).dictionary_encode(), pa.array(["7", "8"], pa.large_string()), pa.array([b"7", b"8"])],
    ids=lambda ids: str(ids.type),
)  # fmt: skip
def test_an_id_is_the_same_whatever_its_type(folder, ids):
    tables = {
        "corpus.parquet": {"id": ids, "contents": ["a", "b"]},
        "qrels.parquet": {"qid": ids, "docid": ids, "rel": pa.array([1, 1], pa.int8())},
    }
    corpus = read_path(write(folder, tables))
    assert [passage.passage_id for passage in corpus.passages] == ["7", "8"]
    assert corpus.splits["test"] == {"7": {"7": 1}, "8": {"8": 1}}


def test_null_nan_numbers_and_metadata_follow_the_rules_of_every_kind(folder):
    columns = {
        "_id": ["a", "b", "c"],
        "title": [float("nan"), 1984.0, None],
        "text": [1, 2, 3],
        "metadata": [None, '{"lang": "en"}', ""],
        "tags": [["x"], [], None],  # a nested column that nobody needs
    }
    corpus = read_path(write(folder, {"corpus.parquet": columns}))
    found = [(passage.title, passage.text, passage.metadata) for passage in corpus.passages]
    assert found == [("", "1", {}), ("1984", "2", {"lang": "en"}), ("", "3", {})]


def test_whole_decimals_are_grades(folder):
    grades = pa.array([Decimal("1.0"), Decimal("2.0")], pa.decimal128(3, 1))
    assert read_path(write(folder, {**HUB, "qrels.parquet": {**QRELS, "score": grades}})).splits["test"][
        "q2"
    ] == {"d3": 2}


def test_a_broken_row_is_reported_with_its_place_and_the_others_are_read(folder):
    columns = {"_id": ["a", "b", "a", "d", None], "text": [b"x", b"\xff", b"y", b"z", b"w"]}
    write(folder, {"corpus.parquet": columns}, row_group_size=2)
    faults = Faults()
    assert [passage.passage_id for passage in read_path(folder, faults).passages] == ["a", "d"]
    second, third, fifth = faults
    assert second == f"{folder}/corpus.parquet row 2 is not UTF-8 (byte 1 of a text)"
    assert "row 3 repeats" in third and "corpus.parquet row 1" in third and "row 5 has an empty _id" in fifth
    write(folder, {"corpus.parquet": PASSAGES, "qrels.parquet": {**QRELS, "score": [1.0, 0.5]}})
    assert "qrels.parquet row 2 has the grade '0.5'" in refuse(folder)


def test_columns_that_differ_by_dots_are_kept_apart(folder):
    table = {"_id": ["a"], "text": ["t"], "text.fr": ["f"], "meta": [{"text": "m"}]}
    assert read_path(write(folder, {"corpus.parquet": table})).passages[0].text == "t"


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_usual_compression_is_read(folder, compression, version):
    write(folder, HUB, compression=compression, data_page_version=version, use_dictionary=version == "1.0")
    assert len(read_path(folder).passages) == 3


def test_many_rows_in_many_pages_come_in_order(folder):
    count = 20_000
    texts = [f"text {number} " * (number % 40) + "." for number in range(count)]
    table = {"_id": list(range(count)), "text": texts}
    write(folder, {"corpus.parquet": table}, row_group_size=9000, data_page_size=20_000)
    assert [passage.text for passage in read_path(folder).passages] == texts


# What is refused


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"_id": ["a"]}, 'has no "text" \\(found _id\\); BEIR rows need _id and text'),
        ({"_id": ["a"], "text": [["x"]]}, 'has a nested column "text"'),
        ({"_id": ["a"], "text": [{"en": "x"}]}, 'has a nested column "text"'),
        ({"_id": ["a"], "text": ["x"], "metadata": [{"a": 1}]}, "nested column .* \\(metadata as JSON text"),
        ({"_id": pa.array([1], pa.timestamp("s")), "text": ["x"]}, 'has "_id" of a type that is not read'),
        ({"_id": pa.array([b"ab"], pa.binary(2)), "text": ["x"]}, 'has "_id" of a type that is not read'),
        ({"id": ["a"], "docid": ["b"], "text": ["x"]}, "either may be meant"),
        (pa.table([["a"], ["x"], ["y"]], names=["_id", "text", "text"]), '2 columns "text"|either may be'),
        ({"_id": [True], "text": ["x"]}, 'row 1 has "_id" of type bool'),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_read_are_refused_in_one_line(folder, columns, said):
    write(folder, {"corpus.parquet": columns})
    with pytest.raises(CorpusError, match=f"^{folder}/corpus.parquet.* ?{said}"):
        read_path(folder)


def make_bytes(columns=PASSAGES, **options):
    written = BytesIO()
    pq.write_table(pa.table(columns), written, **options)
    return written.getvalue()


GOOD = make_bytes()
BROKEN = {
    "a stub": b"PAR1\0\0PAR1",
    "nothing": b"",
    "cut short": GOOD[:-20],
    "without its middle": GOOD[:10] + GOOD[-400:],
    "foreign": b"<html>" * 10,
    "encrypted": b"PARE" + GOOD[4:-4] + b"PARE",
    "a footer of zeros": GOOD[:4] + bytes(40) + (40).to_bytes(4, "little") + b"PAR1",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_parquet_file_is_refused_in_one_line(folder, settings, what):
    message = refuse(write(folder, {"corpus/test-00000-of-00001.parquet": BROKEN[what]}))
    assert "not a Parquet file" in message or "cannot be read as Parquet" in message
    assert message in [found.message for found in lint_named("hub", CorpusLibrary(settings))]


def test_gzip_around_parquet_is_named(folder):
    assert "is gzipped; unpack it" in refuse(write(folder, {"corpus.parquet.gz": gzip.compress(GOOD)}))


def test_an_unknown_compression_is_refused(folder):
    raw = bytearray(make_bytes({"_id": ["a"], "text": ["x"]}, compression="zstd", write_statistics=False))
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    codec = raw.index(b"\x15\x0c", footer)  # i32 codec: 6, zigzagged
    while codec >= 0:
        raw[codec + 1] = 0x7E
        codec = raw.find(b"\x15\x0c", codec + 1)
    refuse(write(folder, {"corpus.parquet": bytes(raw)}))


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/hostname")])
@pytest.mark.parametrize("name", ["corpus.parquet", "corpus/a-00001-of-00002.parquet"])
def test_only_regular_files_inside_the_folder_are_read(folder, kind, name):
    write(folder, {"corpus/a-00000-of-00002.parquet": PASSAGES})
    kind(folder / name)
    assert str(folder / name) in refuse(folder)


@pytest.mark.parametrize(
    ("module", "limit", "most"),
    [(opener, "MAX_LINES", 2), (opener, "MAX_BYTES", 20), (opener, "MAX_LINE_BYTES", 4), (parquet, "MAX_PAGE_BYTES", 4),
     (parquet, "MAX_PAGES", 2)],
)  # fmt: skip
def test_every_limit_holds_over_all_shards(folder, monkeypatch, module, limit, most):
    tables = {f"corpus/a-0000{at}-of-00003.parquet": cut(PASSAGES, (at, 1))[0] for at in range(3)}
    monkeypatch.setattr(module, limit, most)
    assert "exceeds the limit of" in refuse(write(folder, tables, use_dictionary=False))


def test_a_footer_has_a_limit(folder, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_FOOTER_BYTES", 100)
    assert "has a footer of" in refuse(write(folder, HUB))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_an_encoding_that_can_stand_for_texts_without_end_is_refused(folder, encoding):
    write(folder, HUB, use_dictionary=False, column_encoding={"text": encoding})
    assert "has a column in an encoding that is not read" in refuse(folder)


BOMBS = """
import resource, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet
from rag_inspect.corpora import read_path
from rag_inspect.errors import CorpusError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[1:]:
    try:
        read_path(Path(folder))
    except CorpusError as fault:
        print(fault)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_a_bomb_is_refused_in_bounded_memory(tmp_path):
    rows = 400_000
    ids = pa.array(range(rows))
    one = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * (8 << 20)])
    bombs = {
        "dictionary": {"_id": ids, "text": one},  # 3 TB
        "page": {"_id": [1], "text": ["x" * (96 << 20)]},
        "pages": {"_id": list(range(6)), "text": [f"{at}" + "x" * (20 << 20) for at in range(6)]},
    }
    for name, columns in bombs.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, {"corpus.parquet": columns}, compression="zstd", use_dictionary=name == "dictionary",
              write_batch_size=1 if name == "pages" else 1024)  # fmt: skip
        assert (tmp_path / name / "corpus.parquet").stat().st_size < 4 << 20
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, *(str(tmp_path / name) for name in bombs)],
        capture_output=True,
        text=True,
    )
    *refused, megabytes = done.stdout.splitlines()
    assert len(refused) == 3 and all("exceeds the limit of" in line for line in refused), done.stderr
    assert int(megabytes) < 400


# The headers of pages

HEADER = b"\x15\x00\x15{size}\x15\x00\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x00\x00"


def test_a_header_says_how_much_a_page_would_take():
    raw = HEADER.replace(b"{size}", b"\xfe\xff\xff\xff\x0f")  # 2 GB
    [page] = walk_pages(BytesIO(raw), 0, 1)
    assert (page.type, page.size, page.values, page.encoding) == (0, 2**31 - 1, 1, 0)


NUMBERS = st.integers(-(2**31), 2**31 - 1)
STRUCTS = st.recursive(
    st.dictionaries(st.tuples(st.integers(1, 300), st.just(thrift.I32)), NUMBERS, max_size=3),
    lambda inner: st.builds(
        lambda fields, struct, structs, texts: {
            **fields, (301, thrift.STRUCT): struct, (302, thrift.LIST): structs, (303, thrift.LIST): texts, (304, thrift.TEXT): b"a" * 200,
        },
        inner, inner, st.lists(inner, max_size=20), st.lists(st.binary(max_size=3), max_size=3),
    ),
    max_leaves=5,
)  # fmt: skip


@given(STRUCTS)
def test_a_struct_is_read_as_it_was_written(struct):
    raw = thrift.write_struct(struct)
    assert thrift.read_struct(raw + b"more") == (struct, len(raw))


@given(st.binary(max_size=80))
def test_a_header_of_any_bytes_is_read_or_refused(raw):
    with suppress(ValueError):
        assert all(page.size >= 0 for page in walk_pages(BytesIO(raw), 0, 5))


PACKED = make_bytes(
    {"_id": list(range(40)), "text": [json.dumps({"a": at % 3}) for at in range(40)]}, row_group_size=20
)


def test_no_byte_of_a_footer_ends_the_process(folder):
    """Asked for a chunk whose statistics are broken, pyarrow itself aborts."""
    small = make_bytes({"_id": [1, 2], "text": ["x", None]})
    for at in range(len(small) - 8 - int.from_bytes(small[-8:-4], "little"), len(small) - 8):
        raw = bytearray(small)
        raw[at] ^= 1
        write(folder, {"corpus.parquet": bytes(raw)})
        with suppress(RagInspectError):
            read_path(folder)


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, len(PACKED)), st.integers(0, 3), st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_a_mutated_file_is_read_or_refused_in_one_line(folder, mutations):
    raw = PACKED
    for at, gone, piece in mutations:
        raw = raw[:at] + piece + raw[at + gone :]
    write(folder, {"corpus.parquet": raw})
    said = ""
    try:
        read_path(folder)
    except RagInspectError as error:
        said = str(error)
    assert "\n" not in said and len(said) < 800
