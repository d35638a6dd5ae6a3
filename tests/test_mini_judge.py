"""What says how good mini is: its corpora, its rows, and what it refuses."""

import gzip
import json

import pytest

from rag_inspect.training import judge
from rag_inspect.training.judge import main

TOWNS = {
    "oslo": "Oslo is the capital of Norway.",
    "lima": "Lima is the capital of Peru.",
    "bern": "Bern has bears.",
}
ASKED = {"q1": "capital of Peru", "q2": "Which town keeps bears?"}


def rows_of(text):
    """{(corpus, system): cells} of the printed table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {(row[0], row[1]): row[2:] for row in rows if "(" in row[0]}


def test_a_table_of_every_part_with_the_paired_difference(corpus_folder, capsys):
    folder = corpus_folder("towns", TOWNS, ASKED, {"test": {"q1": {"lima": 1}, "q2": {"bern": 1}}})
    assert main([str(folder), "--logits", "0,2"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [system for _, system in rows] == [
        "embedding order",
        "prior alone",
        "cross-encoder alone",
        "mini",
        "mini, logit x 0",
        "mini, logit x 2",
    ]
    assert rows["towns (2)", "mini"][0].startswith("1.000")
    assert rows["towns (2)", "embedding order"][3] == "–"
    assert rows["towns (2)", "mini, logit x 0"] == rows["towns (2)", "prior alone"]
    assert all("to" in cells[3] for (_, system), cells in rows.items() if system != "embedding order")


def test_a_weight_that_is_no_number_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["nowhere", "--logits", "0.5,much"])
    assert "--logits: invalid numbers value: '0.5,much'" in capsys.readouterr().err


def test_a_source_that_training_holds_out_is_a_corpus(tmp_path):
    passages = [{"_id": f"towns/{key}", "title": "", "text": text} for key, text in TOWNS.items()]
    pairs = [
        {"source": "towns", "query_id": "q1", "query": ASKED["q1"], "passage_id": "towns/lima"},
        {"source": "towns", "query_id": "q1", "query": ASKED["q1"], "passage_id": "towns/oslo"},
    ]
    for name, rows in (("passages", passages), ("pairs", pairs)):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)
    corpus = judge.read(f"{tmp_path}:towns")
    assert corpus.name == "towns" and [query.text for query in corpus.queries] == [ASKED["q1"]]
    assert corpus.gold("0") == {"towns/lima", "towns/oslo"}


def test_the_code_of_installed_packages_is_a_corpus_without_repetition():
    corpus = judge.read("code")
    texts = [passage.text for passage in corpus.passages]
    assert len(texts) > 300 and len(set(texts)) == len(texts)
    assert all(corpus.gold(query.query_id) <= corpus.passage_by_id.keys() for query in corpus.queries)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-such-folder", "no-such-folder"),
        ("{here}:no_such_source", "passages.jsonl.gz cannot"),
        ("{towns}", "nothing to measure"),
    ],
)
def test_what_cannot_be_judged_is_one_line(tmp_path, corpus_folder, capsys, name, says):
    towns = corpus_folder("towns", TOWNS)
    assert main([name.format(here=tmp_path, towns=towns)]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
