"""The command line: its documents, its exits, and that stdout holds nothing else."""

import io
import json
import locale
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rag_inspect import loading
from rag_inspect.cli import main
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.evaluation.turn import Turn
from rag_inspect.rerankers import RERANKERS
from rag_inspect.terminal import is_plain, print_lines, print_table
from rag_inspect.workbench import Workbench
from tests.browsing import write_corpus
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker

ROOT = Path(__file__).parent.parent
PASSAGES = [
    {"_id": f"p{n}", "title": f"Number {n}", "text": f"This is passage number {n} → 日本"} for n in range(30)
]


@pytest.fixture
def home(settings, corpus_folder, monkeypatch):
    """The command line's environment: one corpus, no hub."""
    corpus_folder(
        "tiny",
        PASSAGES,
        {"q": "passage number 3"},
        {"test": {"q": {"p3": 1}}},
        "description: Thirty\nlicence: CC0-1.0\nlanguage: en",
    )
    monkeypatch.setenv("RAG_INSPECT_HOME", str(settings.home))
    monkeypatch.setenv("RAG_INSPECT_CORPORA_DIR", str(settings.corpora_dir))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return settings.home


@pytest.fixture
def doubles(monkeypatch):
    """The models, replaced; what is tested here is what is printed."""
    reranker = FixedReranker({f"p{n}": n / 10 for n in range(30)} | {"p3": 5.25})
    embedder = FixedEmbedder()
    monkeypatch.setattr(loading, "load_embedder", lambda *_: embedder)
    monkeypatch.setattr(loading, "load_reranker", lambda *_: reranker)
    return reranker


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def document(capsys, *arguments: str):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# The documents


def test_the_corpora(home, settings, capsys):
    assert document(capsys, "corpora") == [
        {
            "name": "tiny",
            "path": str(settings.corpora_dir / "tiny"),
            "description": "Thirty",
            "language": ["en"],
            "licence": "CC0-1.0",
            "passages": 30,
            "queries": 1,
            "judged_queries": 1,
            "splits": {"test": 1},
        }
    ]


def test_the_models(home, capsys):
    rows = document(capsys, "models")
    kinds = {
        "key": str, "kind": str, "model": str, "revision": str, "parameters": int, "max_tokens": int,
        "languages": list, "licence": str, "available": bool, "on_disk": bool, "source": str, "score_name": str, "price_per_1000": float, "reason": str,
    }  # fmt: skip
    for row in rows:
        assert {name: type(value) for name, value in row.items()} == kinds
        assert row["kind"] in {"embedder", "reranker"}
        assert row["source"] in {"builtin", "hub"} and row["price_per_1000"] == 0
        assert row["available"] or row["reason"]
    assert [row["key"] for row in rows] == [*EMBEDDERS, *RERANKERS]
    assert {row["key"] for row in rows if row["available"]} == {"minilm", "mini"}


def test_a_search(home, doubles, capsys):
    found = document(
        capsys, "search", "passage number 3", "--corpus", "tiny", "--top-k", "10", "--top-n", "3"
    )
    assert list(found) == [
        "query", "query_id", "corpus", "first_stage", "reranker", "top_k", "top_n", "candidates", "reranked", "gold", "query_readings", "verdict",
        "summary", "timings_ms", "scored_pairs", "cached_pairs", "cached_ms", "notes",
    ]  # fmt: skip
    assert (found["query"], found["query_id"], found["corpus"], found["top_k"], found["top_n"]) == (
        "passage number 3",
        "q",
        "tiny",
        10,
        3,
    )
    embedder = {"key": "fixed", "revision": "1"}
    stage = {"key": "fixed", "kind": "dense", "score_name": "cosine", "embedder": embedder}
    assert found["first_stage"] == stage
    assert found["reranker"] == {"key": "fixed", "revision": "0" * 40, "score_name": "logit"}
    assert [hit["rank"] for hit in found["candidates"]] == list(range(1, 11))
    assert all(
        list(hit) == ["passage_id", "title", "rank", "score", "grade", "read_tokens", "truncated_tokens"]
        for hit in found["candidates"]
    )
    before = {hit["passage_id"]: hit["rank"] for hit in found["candidates"]}
    for rank, hit in enumerate(found["reranked"], 1):
        assert list(hit) == [
            "passage_id",
            "score",
            "rank",
            "from_rank",
            "delta",
            "read_tokens",
            "truncated_tokens",
        ]
        assert (hit["rank"], hit["from_rank"]) == (rank, before[hit["passage_id"]])
        assert hit["delta"] == hit["from_rank"] - rank
        assert type(hit["score"]) is float and type(hit["truncated_tokens"]) is int
    assert found["reranked"][0]["passage_id"] == "p3" and found["reranked"][0]["score"] == 5.25
    assert found["gold"] == ["p3"] and "gold" in found["summary"]
    assert {"embed", "retrieve", "rerank", "total"} <= set(found["timings_ms"])
    assert (found["scored_pairs"], found["cached_pairs"], found["cached_ms"]) == (10, 0, 0)
    assert [note[:24] for note in found["notes"]] == [
        "5 more passages tie with"
    ]  # as few dimensions as they have
    by_id = document(capsys, "search", "--query-id", "q", "--corpus", "tiny", "--top-k", "10", "--top-n", "3")
    assert by_id["reranked"] == found["reranked"] and by_id["query"] == "passage number 3"
    again = document(
        capsys, "search", "passage number 3", "--corpus", "tiny", "--top-k", "10", "--top-n", "3"
    )
    assert (again["scored_pairs"], again["cached_pairs"]) == (0, 10) and again["cached_ms"] > 0


def test_explain_says_where_a_passage_is(home, doubles, capsys, monkeypatch):
    monkeypatch.setattr(
        FixedEmbedder, "spec", EMBEDDERS["minilm"]
    )  # only first stages of the table are located
    asked = ("explain", "passage number 3", "--corpus", "tiny", "--top-k", "10", "--top-n", "3", "--passage")
    kept = document(capsys, *asked, "p3")
    assert list(kept) == [
        "query", "corpus", "passage_id", "reranker", "text", "score", "rank", "reading", "parts", "query_words",
        "check", "notes", "against", "where",
    ]  # fmt: skip
    assert kept["reading"].keys() == {"read_tokens", "total_tokens", "read_characters", "total_characters"}
    assert {"start", "end", "text", "score_without", "delta"} <= kept["parts"][0].keys()
    assert [word["text"] for word in kept["query_words"]] == ["passage", "number", "3"]
    assert (
        kept["against"] is None
        and kept["score"] == 5.25
        and kept["where"]["cause"] == "kept"
        and kept["where"]["reranked_rank"] == 1
    )
    assert list(kept["where"]) == [
        "exact_rank",
        "first_stage_rank",
        "reranked_rank",
        "top_n",
        "cause",
        "exact_ranks",
    ]
    code, out, _ = run(capsys, *asked, "p3")
    assert code == 0 and out.startswith("It is in the top 3.") and "bm25, all 30 passages" in out
    assert "without it  word of the query" in out and "too few parts to check" in out
    both = document(capsys, *asked, "p3", "--against", "p4")
    assert both["against"]["passage_id"] == "p4" and both["against"]["score"] < both["score"]
    code, out, _ = run(capsys, *asked, "p3", "--against", "p4")
    assert code == 0 and "above p4" in out
    code, _, err = run(capsys, *asked, "p3", "--against", "p44")
    assert code == 1 and 'tiny has no passage "p44"' in err
    code, _, err = run(capsys, *asked, "p33")
    assert code == 1 and 'tiny has no passage "p33"; the nearest ids are p3' in err


def test_explain_reads_the_folder_that_was_searched_whatever_its_name(
    home, doubles, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(FixedEmbedder, "spec", EMBEDDERS["minilm"])
    folder = tmp_path / "else" / "tiny"
    write_corpus(folder, ["the otter sleeps", "the heron waits"], {"otter": "p0"})
    found = document(capsys, "explain", "otter", "--corpus", str(folder), "--passage", "p1", "--top-k", "2")
    assert found["where"]["cause"] == "kept" and found["text"].endswith("the heron waits")
    assert found["where"]["exact_rank"] in (1, 2), "of two passages, not of the thirty of the listed corpus"


def test_search_counts_gold_from_the_grade_that_is_asked_for(home, doubles, capsys, tmp_path):
    folder = tmp_path / "graded"
    write_corpus(folder, ["the otter sleeps", "the heron waits"], {"otter": "p0"})
    asked = "search", "--query-id", "q0", "--corpus", str(folder), "--top-k", "2"
    assert document(capsys, *asked)["gold"] == ["p0"]
    assert document(capsys, *asked, "--gold-grade", "2")["gold"] == []


@pytest.mark.parametrize("stage", ["bm25", "hybrid"])
def test_a_search_with_another_first_stage(home, doubles, capsys, stage):
    found = document(capsys, "search", "passage number 3", "--corpus", "tiny", "--first-stage", stage)
    assert found["first_stage"]["key"] == found["first_stage"]["kind"] == stage
    assert (found["candidates"] and "parts" in found["candidates"][0]) or stage == "bm25"
    nothing = document(capsys, "search", "zzz", "--corpus", "tiny", "--first-stage", "bm25")
    assert nothing["candidates"] == nothing["reranked"] == []
    assert nothing["summary"] == "bm25 found no candidates, so there is nothing to rerank."
    assert nothing["notes"] == ["bm25 found nothing: no word of the query is in the corpus."]


def test_a_search_over_a_folder_out_of_no_eval_set(home, settings, doubles, capsys):
    found = document(capsys, "search", "$(x) <b>&", "--corpus", str(settings.corpora_dir / "tiny"))
    assert (found["query"], found["gold"], found["verdict"]) == ("$(x) <b>&", [], None)
    assert len(found["candidates"]) == len(found["reranked"]) == 20


# The tables


def test_the_tables_say_the_same(home, doubles, capsys):
    code, out, err = run(capsys, "search", "passage number 3", "--corpus", "tiny")
    assert (code, err) == (0, "")
    assert "The gold passage moved" in out or "The gold passage stayed" in out
    for words in ("  +", "5.250", "gold", "Number 3", "20 pairs scored, 0 from the cache"):
        assert words in out
    again = run(capsys, "search", "passage number 3", "--corpus", "tiny")[1]
    assert re.search(r"read the cache \S.*; 20 scores from the cache; they took .* ms when scored", again)
    assert "rerank" not in again.replace("reranker", "")
    more = run(capsys, "search", "passage number 3", "--corpus", "tiny", "--top-k", "24")[1]
    assert re.search(r"rerank .*; 20 from the cache \(took .* when scored\), 4 scored in .* ms", more)
    listed = run(capsys, "corpora")[1]
    assert "Thirty" in listed and "1 (test 1)" in listed
    models = run(capsys, "models")[1]
    assert "bge-reranker-base" in models
    assert models.count("HF_HUB_OFFLINE") == 1
    assert "nomic, bge-m3, base, large, v2-m3: not on disk, and HF_HUB_OFFLINE is set" in models


def test_what_others_wrote_is_no_markup_and_no_control_code(home, corpus_folder, doubles, capsys):
    hostile = "[red]a[/red] \x1b[31mred \x1b]0;title\x07 [/nothing] [link=x]\x9b2J"
    corpus_folder(
        "hostile", [{"_id": hostile, "title": hostile, "text": hostile}], card=f"description: {'[bold]x'!r}"
    )
    code, out, _ = run(capsys, "search", hostile, "--corpus", "hostile")
    assert code == 0 and "[red]a[/red]" in out and "[/nothing]" in out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)
    assert "[bold]x" in run(capsys, "corpora")[1]


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "x", "--corpus", "nope"], 'unknown corpus "nope"; choose one of tiny'),
        (["search", " ", "--corpus", "tiny"], "the query is blank"),
        (["search", "x", "--corpus", "two\nlines\x1b[31m"], 'unknown corpus "two lines [31m"'),
        (
            ["search", "x", "--corpus", "tiny", "--reranker", "base"],
            "base (BAAI/bge-reranker-base at 2cfc18c9)",
        ),
    ],
)
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["table", "json"])
def test_an_error_is_one_line_on_stderr_and_exit_1(home, capsys, monkeypatch, arguments, said, as_json):
    monkeypatch.setattr(loading, "load_embedder", lambda *_: FixedEmbedder())
    code, out, err = run(capsys, *arguments, *as_json)
    assert (code, out) == (1, "")
    assert err.startswith("rag-inspect: ") and err.count("\n") == 1 and said in err


def test_a_broken_corpus_is_named_with_file_and_line(home, settings, capsys):
    path = settings.corpora_dir / "tiny" / "corpus.jsonl"
    path.write_text('{"_id": "a", "text": "one"}\n{"_id": "b"}\n')
    code, out, err = run(capsys, "search", "x", "--corpus", "tiny")
    assert (code, out) == (1, "") and f'{path}:2 has no "text" (found _id)' in err


def test_corpora_lists_those_that_are_asked_for_by_name_or_folder(home, settings, capsys):
    folder = settings.corpora_dir / "tiny"
    [row] = document(capsys, "corpora", str(folder))
    assert row["path"] == str(folder)
    assert document(capsys, "corpora", "tiny", str(folder))[0]["name"] == "tiny"
    code, _, err = run(capsys, "corpora", "./nowhere")
    assert code == 1 and 'no folder "./nowhere"; choose one of tiny' in err


def test_the_linter_goes_by_name_or_folder_and_says_which_it_does_not_know(home, settings, capsys):
    folder = str(settings.corpora_dir / "tiny")
    for asked in ("tiny", folder):
        rows = document(capsys, "corpora", "lint", asked)
        assert rows and {row["corpus"] for row in rows} == {asked}
    assert run(capsys, "corpora", "lint", "nope")[::2] == (
        1,
        'rag-inspect: unknown corpus "nope"; choose one of tiny\n',
    )


def test_a_broken_corpus_hides_no_other(home, settings, corpus_folder, capsys):
    corpus_folder("whole", PASSAGES)
    path = settings.corpora_dir / "tiny" / "corpus.jsonl"
    path.write_text('{"_id": "b"}\n')
    code, out, err = run(capsys, "corpora", "--json")
    assert code == 1 and [row["name"] for row in json.loads(out)] == ["whole"]
    assert f'cannot read 1 corpus: {path}:1 has no "text"' in err


SEARCH = ["search", "x", "--corpus", "tiny"]
EVAL = ["eval", "--corpus", "tiny"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "arguments are required: COMMAND"),
        (["nope"], "invalid choice: 'nope'"),
        (["search"], "arguments are required: --corpus"),
        (["search", "--corpus", "tiny"], "there is no query; give QUERY or --query-id"),
        (["search", "x", "--corpus"], "expected one argument"),
        ([*SEARCH, "--top-k", "many"], "invalid int value: 'many'"),
        ([*SEARCH, "--top-k", "0"], "top_k is 0; expected a whole number from 1 to 200"),
        ([*SEARCH, "--top-k", "201"], "top_k is 201"),
        ([*SEARCH, "--top-n", "-1"], "top_n is -1"),
        ([*SEARCH, "--top-n", "21"], "top_n cannot exceed top_k (21 > 20)"),
        ([*SEARCH, "--reranker", "nope"], "invalid choice: 'nope' (choose from 'mini', 'base'"),
        ([*SEARCH, "--first-stage", "mini"], 'unknown first stage "mini"'),
        ([*EVAL, "--reranker", "nope"], 'unknown reranker "nope"; choose one of mini'),
        ([*EVAL, "--reranker", ","], "has no names"),
        ([*EVAL, "--top-k", "0"], "top_k is 0"),
        ([*EVAL, "--top-k", "3", "--top-n", "5"], "top_n cannot exceed top_k (5 > 3)"),
        ([*EVAL, "--cutoffs", "0"], "whole numbers from 1"),
        ([*EVAL, "--cutoffs", "1,1001"], "whole numbers from 1 to 1000"),
        ([*EVAL, "--fail-under", "mrr@5"], "is not a limit"),
        ([*EVAL, "--fail-under", "mrr@5=nan"], "is not a limit"),
        ([*EVAL, "--fail-under", "mrr@5=1.1"], "is not a limit"),
        ([*EVAL, "--fail-under", "map@5=1"], "unknown metric"),
        ([*EVAL, "--out", ""], "the folder's name is empty"),
        (["bench", "--reranker", "mini,nope"], 'unknown reranker "nope"; choose one of mini'),
        (["serve", "--port", "65536"], "'65536' is not a port; expected a whole number from 1 to 65535"),
        (["serve", "--port", "web"], "'web' is not a port"),
        (["models", "--two\nlines"], "unrecognized arguments: --two lines"),
        (["--print-completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_a_wrong_usage_is_one_line_and_exit_2(home, capsys, arguments, said):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "" and said in err
    assert err.startswith("rag-inspect") and err.count("\n") == 1 and err.endswith(" --help\n")


def test_an_interruption_is_exit_130(home, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workbench, "search", interrupted)
    assert run(capsys, "search", "x", "--corpus", "tiny") == (130, "", "rag-inspect: stopped\n")


def heed_ctrl_c():
    """A shell starts what it puts in the background deaf to Ctrl+C; these tests must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process there")
def test_ctrl_c_ends_a_running_command_with_one_line(home):
    """Stopped while it waits its turn: models load only after that."""
    turn = Turn(home, "something long")
    assert turn.take()
    try:
        running = subprocess.Popen(
            command("eval", "--corpus", "tiny", "--reranker", "mini"),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c,
        )  # fmt: skip
        first = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    finally:
        turn.free()
    assert "queued" in first and (running.returncode, out) == (130, "")
    assert err == "rag-inspect: stopped; scores so far are kept; run the same command to continue\n"


STARTS = {
    "module": ["-m", "rag_inspect"],
    "console script": ["-c", "from rag_inspect.__main__ import run; run()"],
}


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process there")
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_ctrl_c_while_modules_load_is_one_line(tmp_path, start):
    (tmp_path / "argparse.py").write_text(
        "import time; print('loading', flush=True)\nwhile True: time.sleep(1)"
    )
    running = subprocess.Popen(
        [sys.executable, *start, "corpora"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c,
    )  # fmt: skip
    assert running.stdout.readline() == "loading\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate()
    assert (running.returncode, err) == (130, "rag-inspect: stopped\n")


# As a process


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rag_inspect", *arguments]


def test_a_whole_search_with_the_real_models_prints_json_alone(home):
    done = subprocess.run(
        command("search", "passage number 3", "--corpus", "tiny", "--reranker", "mini", "--json"),
        cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 0 and all(line.startswith("rag-inspect: ") for line in lines), lines
    found = json.loads(done.stdout)
    times = found["timings_ms"]
    assert found["reranker"]["key"] == "mini" and len(found["reranked"]) == 20
    assert list(times) == ["load", "embed", "retrieve", "rerank", "total"]
    assert times["total"] == pytest.approx(sum(times.values()) - times["total"], abs=0.01)


@pytest.mark.parametrize("arguments", [["corpora"], ["corpora", "--json"]])
def test_a_reader_that_leaves_early_hears_no_complaint(home, settings, corpus_folder, arguments):
    for name in ("wide", "wider", "widest"):  # together more than a pipe holds
        corpus_folder(name, {"a": "one"}, card=f"description: {'long ' * 12_000}")
    shell = f"set -o pipefail; {' '.join(command(*arguments))} | head -c 10"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "") and len(done.stdout) == 10


def test_a_reader_that_never_came_hears_no_complaint(home):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command("corpora", "--json"), cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_an_output_without_unicode_still_gets_everything(home, settings, corpus_folder):
    corpus_folder("a-tiny", {"a": "one"}, card="description: 日本 → 😀")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    as_json, table = (
        subprocess.run(command("corpora", *option), cwd=ROOT, capture_output=True, env=environment)
        for option in (["--json"], [])
    )
    assert (as_json.returncode, table.returncode) == (0, 0), table.stderr.decode()
    assert json.loads(as_json.stdout)[0]["description"] == "日本 → 😀"
    assert b"tiny" in table.stdout


# What is plain


def stream(terminal, encoding="utf-8"):
    """A text stream that says it is a terminal, or not."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    out.isatty = lambda: terminal
    return out


def test_a_terminal_in_utf_8_gets_boxes_and_everything_else_plain_text(monkeypatch):
    monkeypatch.setattr(locale, "getencoding", lambda: "UTF-8")
    assert not is_plain(stream(True))
    assert is_plain(stream(False)) and is_plain(stream(True, "latin-1"))
    monkeypatch.setattr(locale, "getencoding", lambda: "ANSI_X3.4-1968")  # as LC_ALL=C has it
    assert is_plain(stream(True)) or os.name == "nt"


def test_plain_text_is_a_line_per_row_with_our_own_words_in_ascii(capsys):
    rows = [
        {"number": 1000, "text": "long " * 40, "last": "日本 →"},
        {"number": 7, "text": "a\nb", "last": ""},
    ]
    print_table("first → second", ["number", "text", "last"], rows)
    print_lines("Δ MRR@5 …")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "first -> second" and lines[4] == "change MRR@5 ..."
    assert lines[2].startswith(" 1,000  long long") and lines[2].endswith("日本 →")
    assert lines[3] == "     7  a b"


@pytest.mark.parametrize("arguments", [["corpora"], ["models"], ["corpora", "lint"], SEARCH])
def test_every_command_is_plain_in_a_pipe(home, doubles, corpus_folder, capsys, arguments):
    corpus_folder("tiny", {"a": "one", "b": "two"}, {"q": "one"}, {"test": {"q": {"b": 1}}})
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and out.isascii() and "\x1b" not in out
