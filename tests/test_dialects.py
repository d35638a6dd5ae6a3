"""What real exports look like: every dialect that can be read without guessing is read, and what is not read is named."""

import dataclasses
import gzip
import json

import pytest
import pytrec_eval

from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.lint import lint_named
from rag_inspect.corpora.notes import note_evaluation, note_search
from rag_inspect.errors import CorpusError
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.eval_set import select_eval_set
from rag_inspect.exports import name_ids, trec_qrels, trec_run
from tests.evaluating import run_evaluation

PASSAGES = {
    "d1": "To descale the kettle fill it half with vinegar and boil it once.",
    "d2": "Take the mesh filter out of the spout and brush it once a month.",
    "d3": "The warranty lasts two years from the day of purchase.",
    "d4": "The base draws 2200 watts while heating.",
}
QUERIES = {"q1": "how do I descale, and how often", "q2": "how long is the warranty"}
QRELS = {"q1": {"d1": 1}, "q2": {"d3": 2, "d2": 0}}


@pytest.fixture
def kettle(corpus_folder, settings):
    """Write a corpus whose files are as given, None for a file that is not there; read it."""

    def read(files, passages=PASSAGES):
        folder = corpus_folder("kettle", passages, QUERIES, {"test": QRELS})
        for name, content in files.items():
            path = folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return CorpusLibrary(settings).open("kettle")

    return read


def rows(separator, *header):
    judged = [(query, passage, grade) for query, grades in QRELS.items() for passage, grade in grades.items()]
    return "".join(separator.join(map(str, row)) + "\n" for row in ([header] if header else []) + judged)


def trec(separator, iteration="0"):
    return "".join(
        separator.join((query, iteration, passage, str(grade))) + "\n"
        for query, grades in QRELS.items()
        for passage, grade in grades.items()
    )


def json_rows(query="query-id", passage="corpus-id", grade="score", of=float):
    return "".join(
        json.dumps({query: qid, passage: pid, grade: of(value)}) + "\n"
        for qid, grades in QRELS.items()
        for pid, value in grades.items()
    )


GONE = {"qrels/test.tsv": None}
DIALECTS = {
    "no header": {"qrels/test.tsv": rows("\t")},
    "TREC": {"qrels/test.tsv": trec(" ")},
    "TREC with tabs and Q0": {"qrels/test.tsv": trec("\t", "Q0")},
    "TREC in columns": {"qrels/test.tsv": trec("    ")},
    "underscores": {"qrels/test.tsv": rows("\t", "query_id", "corpus_id", "score")},
    "PyTerrier": {"qrels/test.tsv": rows("\t", "qid", "docno", "rel")},
    "ir_datasets": {"qrels/test.tsv": "query_id\tdoc_id\trelevance\titeration\nq1\td1\t1\t0\nq2\td3\t2\t0\nq2\td2\t0\t0\n"},
    "other order": {"qrels/test.tsv": "score\tcorpus-id\tquery-id\n1\td1\tq1\n2\td3\tq2\n0\td2\tq2\n"},
    "extra column": {"qrels/test.tsv": rows("\t", "query-id", "corpus-id", "score").replace("\n", "\tann7\n").replace("ann7", "source", 1)},
    "spaces": {"qrels/test.tsv": rows(" ", "query-id", "corpus-id", "score")},
    "spaces, no header": {"qrels/test.txt": rows("  "), **GONE},
    "quotes": {"qrels/test.tsv": '"query-id"\t"corpus-id"\t"score"\n"q1"\t"d1"\t1\n"q2"\t"d3"\t"2"\nq2\td2\t0\n'},
    "CSV": {"qrels/test.csv": rows(",", "query-id", "corpus-id", "score"), **GONE},
    "CSV with quotes": {"qrels/test.csv": 'query-id,corpus-id,score,note\n"q1","d1",1,"a, b"\nq2,d3,2,"two\nlines"\n"q2","d2","0",\n', **GONE},
    "CSV under another name": {"qrels/test.tsv": rows(", ")},
    "semicolons": {"qrels/test.csv": rows(";"), **GONE},
    "tabs named CSV": {"qrels/test.csv": rows("\t", "query-id", "corpus-id", "score"), **GONE},
    "JSON Lines": {"qrels/test.jsonl": json_rows(), **GONE},
    "JSON Lines, other names": {"qrels/test.jsonl": json_rows("queryId", "docid", "label", str), **GONE},
    "one JSON document": {"qrels/test.json": json.dumps(QRELS), **GONE},
    "one JSON document, at the root, whole floats": {"qrels.json": json.dumps({key: {at: float(grade) for at, grade in judged.items()} for key, judged in QRELS.items()}, indent=1), **GONE},
    "at the root": {"qrels.tsv": rows("\t", "query-id", "corpus-id", "score"), **GONE},
    "at the root, MS MARCO": {"qrels.test.tsv": trec("\t"), **GONE},
    "gzipped": {"qrels/test.tsv.gz": gzip.compress(rows("\t").encode()), **GONE},
    "gzipped, and not named so": {"qrels/test.tsv": gzip.compress(rows("\t").encode())},
    "byte order mark": {"qrels/test.tsv": b"\xef\xbb\xbf" + rows("\t", "query-id", "corpus-id", "score").encode()},
    "byte order mark, no header": {"qrels/test.tsv": b"\xef\xbb\xbf" + rows("\t").encode()},
    "whole floats": {"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1.0\nq2\td3\t2.\nq2\td2\t0.00\n"},
    "judged twice alike": {"qrels/test.tsv": rows("\t") * 2},
}  # fmt: skip


@pytest.mark.parametrize("case", DIALECTS)
def test_qrels_are_read_in_any_dialect(kettle, case):
    corpus = kettle(DIALECTS[case])
    assert corpus.splits == {"test": QRELS} and note_evaluation(corpus, "test") == ()
    assert len(select_eval_set(corpus).queries) == 2


JSON_QUERIES = [json.dumps({"_id": key, "text": text}) for key, text in QUERIES.items()]
QUERY_FILES = {
    "MS MARCO": {"queries.tsv": "".join(f"{key}\t{text}\n" for key, text in QUERIES.items())},
    "TSV with a header": {"queries.tsv": "qid\tquery\n" + "".join(f"{k}\t{t}\n" for k, t in QUERIES.items())},
    "CSV": {"queries.csv": "_id,text\n" + "".join(f'{key},"{text}"\n' for key, text in QUERIES.items())},
    "CSV without a header": {"queries.csv": "".join(f'{key},"{text}"\n' for key, text in QUERIES.items())},
    "id": {"queries.jsonl": "\n".join(JSON_QUERIES).replace("_id", "id")},
    "other names": {"queries.jsonl": "\n".join(JSON_QUERIES).replace("_id", "query_id").replace('"text"', '"question"')},
    "both ids": {"queries.jsonl": "\n".join(JSON_QUERIES).replace("{", '{"id": 7, ')},
}  # fmt: skip


@pytest.mark.parametrize("case", QUERY_FILES)
def test_queries_are_read_in_any_dialect(kettle, case):
    gone = {} if "queries.jsonl" in QUERY_FILES[case] else {"queries.jsonl": None}
    corpus = kettle({**gone, **QUERY_FILES[case]})
    assert {query.query_id: query.text for query in corpus.queries} == QUERIES and corpus.notes == ()


PASSAGE_FILES = {
    "MS MARCO": {"collection.tsv": "".join(f"{key}\t{text}\n" for key, text in PASSAGES.items())},
    "TSV": {"corpus.tsv": "id\ttext\ttitle\n" + "".join(f"{key}\t{text}\tNaN\n" for key, text in PASSAGES.items())},
    "CSV": {"corpus.csv": "docno,title,text\n" + "".join(f'{key},,"{text}"\n' for key, text in PASSAGES.items())},
    "Pyserini": {"corpus.jsonl": "".join(json.dumps({"id": k, "contents": t}) + "\n" for k, t in PASSAGES.items())},
}  # fmt: skip


@pytest.mark.parametrize("case", PASSAGE_FILES)
def test_passages_are_read_in_any_dialect(kettle, case):
    gone = {} if "corpus.jsonl" in PASSAGE_FILES[case] else {"corpus.jsonl": None}
    corpus = kettle({**gone, **PASSAGE_FILES[case]})
    assert {p.passage_id: p.full_text for p in corpus.passages} == PASSAGES and corpus.notes == ()


# Null, NaN, numbers, nothing to see


@pytest.mark.parametrize(
    ("row", "title", "text", "metadata"),
    [
        ('{"_id": "x", "title": null, "text": "t"}', "", "t", {}),
        ('{"_id": "x", "title": NaN, "text": "t"}', "", "t", {}),
        ('{"_id": "x", "title": "T", "text": null}', "T", "", {}),
        ('{"_id": "x", "title": "\\u200b", "text": "t"}', "", "t", {}),
        ('{"_id": "x", "title": 1984, "text": 1e3}', "1984", "1000", {}),
        ('{"_id": "x", "title": 1.5, "text": 2.0}', "1.5", "2", {}),
        ('{"_id": "x", "text": "t", "metadata": null, "url": "x", "lang": 3}', "", "t", {}),
        ('{"_id": "x", "text": "t", "metadata": NaN}', "", "t", {}),
        ('{"_id": "x", "text": "t", "metadata": "{\\"a\\": 1}"}', "", "t", {"a": 1}),
        (
            '{"_id": "x", "text": "t", "metadata": {"a": NaN, "b": [Infinity, -Infinity, 1e999], "c": null}}',
            "", "t", {"a": None, "b": [None, None, None], "c": None},
        ),
    ],
)  # fmt: skip
def test_null_and_nan_are_empty_and_a_number_is_its_text(kettle, row, title, text, metadata):
    passage = kettle({"corpus.jsonl": row + "\n"}).passages[0]
    assert (passage.title, passage.text, passage.metadata) == (title, text, metadata)


@pytest.mark.parametrize("written", ["7", "7.0", '"7"', "7e0"])
def test_a_whole_number_is_the_same_id_however_it_is_written(kettle, written):
    files = {
        "corpus.jsonl": f'{{"_id": {written}, "text": "one"}}\n',
        "queries.jsonl": f'{{"_id": {written}, "text": "?"}}\n',
        "qrels/test.jsonl": f'{{"query-id": {written}, "corpus-id": {written}, "score": 1.0}}\n',
        **GONE,
    }
    assert kettle(files).qrels == {"7": {"7": 1}} and kettle(files).passages[0].passage_id == "7"


def test_nan_in_a_table_is_empty_but_for_ids(kettle):
    table = "_id,title,text\nnan,NaN,one\nb,nan,NaN\n"
    corpus = kettle({"corpus.csv": table, "corpus.jsonl": None})
    assert [(p.passage_id, p.title, p.text) for p in corpus.passages] == [("nan", "", "one")]


def test_a_passage_with_nothing_to_see_is_skipped_and_counted(kettle):
    blank = [
        {"_id": "e1", "title": "", "text": ""},
        {"_id": "e2", "title": "\u200b", "text": "\u200b\ufeff\u00ad"},
        {"_id": "e3", "title": None, "text": "\u3164 \u2800\n"},
    ]
    corpus = kettle(
        {"corpus.jsonl": "".join(json.dumps(row) + "\n" for row in blank) + '{"_id": "d", "text": "."}\n'}
    )
    assert [passage.passage_id for passage in corpus.passages] == ["d"]
    assert corpus.notes == ('3 passages have no visible text and were skipped; the first is "e1".',)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('[{"query-id": "q1"}]', "test.json is a JSON list; expected {query_id: {passage_id: grade}}"),
        ('{"q1": {"d1": 1}}\n{"q2": {"d1": 1}}', "test.json is not one JSON document (Extra data: line 2"),
        ('{"q1": ["d1"]}', 'test.json query "q1" has a list; expected'),
        ('{"q1": {"d1": {"score": 1}}}', 'test.json query "q1" has no grade for "d1"'),
        ('{"q1": {"d1": 0.5}}', "test.json query \"q1\" has the grade '0.5'; expected a whole number"),
        ('{"q1": {"d1": true}}', "has the grade 'True'"),
        ('{"q1": {"": 1}}', "has an empty corpus-id"),
        ('{"q1": {"d1": 1, "d1": 2}}', 'judges passage "d1" for query "q1" again, 2 after 1'),
        ('{"q1": {"d1": 1}, "q1": {"d1": 2}}', 'judges passage "d1" for query "q1" again, 2 after 1'),
        ("[" * 100_000, "test.json is not one JSON document"),
        ('{"q1":' * 100_000, "test.json is not one JSON document"),
    ],
)
def test_a_json_document_that_is_no_qrels_is_refused_with_its_place(kettle, document, said):
    corpus = kettle({"qrels/test.json": document, **GONE})
    with pytest.raises(CorpusError) as caught:
        corpus.splits["test"]
    assert said in str(caught.value)


def test_a_json_document_too_large_to_parse_whole_is_refused(kettle, monkeypatch):
    monkeypatch.setattr("rag_inspect.corpora.rows.MAX_DOCUMENT_BYTES", 20)
    with pytest.raises(CorpusError, match="has more than"):
        kettle({"qrels/test.json": json.dumps(QRELS), **GONE}).splits["test"]


# Judgements about what is not there


def test_gold_that_the_corpus_lacks_counts_as_not_found_and_is_noted(kettle, settings):
    lost = rows("\t") + "q1\td404\t1\nq1\td405\t0\nq9\td1\t1\n"
    corpus = kettle({"qrels/test.tsv": lost})
    outcome = run_evaluation(corpus, top_k=4, top_n=4)
    document = assess(outcome, ["recall@5"])
    assert document.systems[0].metrics["recall@5"].value == pytest.approx(0.75)  # one of two, and one of one
    assert outcome.counts["unknown_gold"] == 1
    noted = note_evaluation(corpus, "test")
    assert noted == (
        'The split test judges 2 passages that the corpus does not have; the first is "d404".',
        'The split test judges 1 query that the corpus does not have; the first is "q9".',
    )
    linted = [finding.message for finding in lint_named("kettle", CorpusLibrary(settings))]
    assert set(noted) <= set(linted)


# What is seen and not read


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("qrels/dev.arrow", "qrels/dev.arrow (Arrow)"),
        ("qrels/test.jsonl", "qrels/test.jsonl (qrels/test.tsv is read instead)"),
        ("qrels.tsv", "qrels.tsv (qrels/test.tsv is read instead)"),
        ("qrels/test.json", "qrels/test.json (qrels/test.tsv is read instead)"),
        ("queries.json", "queries.json (one JSON document; only qrels are read from one)"),
        ("queries.tsv", "queries.tsv (queries.jsonl is read instead)"),
        ("queries.dev.tsv", "queries.dev.tsv (queries.jsonl is read instead)"),
        ("queries.xlsx", "queries.xlsx (expected .jsonl, .tsv"),
        ("questions.csv", "questions.csv (not a name of passages, queries or qrels)"),
        ("corpus/part-1.jsonl", "corpus/part-1.jsonl (corpus.jsonl is read instead)"),
        ("corpus.jsonl.gz", "corpus.jsonl.gz (corpus.jsonl is read instead)"),
    ],
)
def test_a_file_that_is_seen_and_not_read_is_named(kettle, settings, name, why):
    corpus = kettle({name: b"PAR1"})
    assert corpus.splits == {"test": QRELS}
    [note] = note_search(corpus)
    assert note.startswith("Seen in the corpus folder and not read: ") and why in note
    assert note in [finding.message for finding in lint_named("kettle", CorpusLibrary(settings))]


def test_many_long_names_make_one_note_that_a_replay_can_hold(kettle):
    corpus = kettle({f"{'long' * 50}-{n}.csv": b"" for n in range(9)})
    [note] = note_evaluation(corpus, "test")
    assert len(note) == 900 and note.endswith("…") and "and 4 more." in corpus.notes[0]


def test_what_may_lie_in_a_corpus_folder_is_not_named(kettle):
    others = (
        "README.md",
        "LICENSE",
        "recorded.json",
        "corpus.yaml",
        ".DS_Store",
        "qrels/.hidden",
        "notes.txt",
    )
    assert kettle(dict.fromkeys(others, b"")).notes == ()


def test_where_qrels_or_queries_are_missing_what_may_hold_them_is_named(kettle):
    corpus = kettle({"qrels/test.arrow": b"ARROW1", **GONE})
    with pytest.raises(CorpusError, match=r"kettle has no qrels.*not read: qrels/test.arrow \(Arrow"):
        select_eval_set(corpus)
    corpus = kettle({"queries.jsonl": None, "queries.dev.tsv": b"q1\tone\n"})
    with pytest.raises(
        CorpusError, match=r"no queries.*queries.dev.tsv \(rename it to queries.tsv to have it read"
    ):
        select_eval_set(corpus)


# Ids leave as they came

ODD = {
    "white space": ["IPCC supplementary report,_1992", "a/b:c#1", "Café\u00a0Crème", "-7"],
    "numbers": ["1", "2", "3", "4"],
    "addresses": [f"https://shop.example/help/d{n}%20page" for n in range(4)],
    "signs": ["100%", "<dbpedia:Kettle_(device)>", "=1+2", "x'y"],
    "names that collide": ["a b", "a%20b", "a%20b%", "a\u00a0b"],
}


@pytest.mark.parametrize("kind", ODD)
def test_trec_files_give_the_documents_numbers_whatever_the_ids(kettle, kind):
    renamed = dict(zip(PASSAGES, ODD[kind], strict=True))
    passages = {renamed[passage_id]: text for passage_id, text in PASSAGES.items()}
    judged = "query-id\tcorpus-id\tscore\n" + "".join(
        f"{query}\t{renamed[passage]}\t{grade}\n"
        for query, grades in QRELS.items()
        for passage, grade in grades.items()
    )
    corpus = kettle({"qrels/test.tsv": judged}, passages)
    outcome = run_evaluation(corpus, top_k=4, top_n=4)
    own = {query: dict(grades) for query, grades in corpus.splits["test"].items()}
    plain = not any(len(passage_id.split()) > 1 for passage_id in ODD[kind])
    assert not plain or _read_qrels(outcome) == own
    for qrels in [_read_qrels(outcome)] + ([own] if plain else []):
        for system in assess(outcome, ["ndcg@5", "mrr@5"]).systems:
            run: dict[str, dict[str, float]] = {}
            for line in trec_run(outcome, system.key):
                query, _, passage, _, score, _ = line.split()
                run.setdefault(query, {})[passage] = float(score)
            found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5"}).evaluate(run).values()
            mean = sum(row["ndcg_cut_5"] for row in found) / 2
            assert mean == pytest.approx(system.metrics["ndcg@5"].value)


def _read_qrels(outcome):
    qrels: dict[str, dict[str, int]] = {}
    for line in trec_qrels(outcome):
        query, _, passage, grade = line.split()
        qrels.setdefault(query, {})[passage] = int(grade)
    return qrels


def test_query_ids_leave_as_they_came_too(kettle):
    corpus = kettle({})
    ids = dict(zip(QUERIES, ["q%3", "@ q4"], strict=True))
    odd = dataclasses.replace(
        corpus,
        queries=tuple(dataclasses.replace(query, query_id=ids[query.query_id]) for query in corpus.queries),
        splits={"test": {ids[query]: grades for query, grades in QRELS.items()}},
    )
    assert {line.split()[0] for line in trec_run(run_evaluation(odd, top_k=4, top_n=4), "bag")} == {
        "q%3",
        "@%20q4",
    }


def test_every_exported_id_has_a_name_of_its_own():
    names = name_ids(["a b", "a%20b", "a%20b%", "", "%00", "a%"])
    assert names == {
        "a b": "a%20b%%",
        "a%20b": "a%20b",
        "a%20b%": "a%20b%",
        "": "%00%",
        "%00": "%00",
        "a%": "a%",
    }
