"""The named API through gradio_client: the CLI's arguments, the CLI's JSON, the CLI's errors."""

import json
import subprocess
import sys

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from rag_inspect.evaluation.turn import Turn
from rag_inspect.settings import Settings
from rag_inspect.ui.guard import Listeners
from rag_inspect.workbench import Workbench
from tests.browsing import FRUIT, wait_until


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("api") / "home"


@pytest.fixture(scope="module")
def bench(home):
    root = home.parent
    folder = root / "corpora" / "fruit"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"p{at}", "text": text} for at, text in enumerate(FRUIT)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "where do apples keep"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tp0\t1\n")
    settings = Settings(
        home, corpora_dir=root / "corpora", hub_endpoint="http://127.0.0.1:9", hub_offline=True
    )
    return Workbench(settings)


@pytest.fixture(scope="module")
def client(bench):
    from rag_inspect.ui import serve

    listeners = Listeners(patience=4.0)
    app = serve(bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True, listeners=listeners)
    yield Client(app.local_url, verbose=False)
    app.close()


def test_search_returns_the_contract(client):
    found = client.predict("where do apples keep", "fruit", top_k=3, top_n=2, api_name="/search")
    assert found["corpus"] == "fruit" and found["top_k"] == 3 and found["top_n"] == 2
    assert [hit["rank"] for hit in found["candidates"]] == [1, 2, 3]
    assert {hit["passage_id"] for hit in found["reranked"]} == {"p0", "p1", "p2"}
    assert all(hit["delta"] == hit["from_rank"] - hit["rank"] for hit in found["reranked"])
    assert found["gold"] == ["p0"] and found["verdict"] in {"promoted", "held", "demoted"}
    assert found["scored_pairs"] + found["cached_pairs"] == 3
    assert {"embed", "retrieve", "rerank", "total"} <= found["timings_ms"].keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"query": " ", "corpus": "fruit"}, "blank"),
        ({"query": "x", "corpus": "nowhere"}, 'unknown corpus "nowhere"; choose one of fruit'),
        (
            {"query": "x", "corpus": "fruit", "reranker": "gpt"},
            'unknown reranker "gpt"; choose one of mini, base',
        ),
        ({"query": "x", "corpus": "fruit", "reranker": []}, r'unknown reranker "\[\]"'),
        ({"query": "x", "corpus": "fruit", "top_k": 0}, "top_k is 0"),
        ({"query": "x", "corpus": "fruit", "top_k": 3, "top_n": 4}, r"top_n cannot exceed top_k \(4 > 3\)"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(client, arguments, words):
    with pytest.raises(AppError, match=words):
        client.predict(**arguments, api_name="/search")


def test_only_the_named_operations_are_offered_and_every_parameter_says_what_it_is(client):
    offered = client.view_api(return_format="dict")["named_endpoints"]
    assert set(offered) == {"/search", "/explain", "/eval"}
    for name, operation in offered.items():
        assert operation["description"].startswith(("Run ", "Say "))
        for parameter in operation["parameters"]:
            said = parameter["python_type"]["description"]
            assert said.endswith(".") and len(said) > 20, (name, parameter["parameter_name"])
            assert parameter["label"] == parameter["parameter_name"]
            assert len({other["python_type"]["description"] for other in operation["parameters"]}) == len(
                operation["parameters"]
            )


def test_explain_returns_the_contract(client):
    found = client.predict("where do apples keep", "fruit", "p2", top_k=1, api_name="/explain")
    where = found.pop("where")
    asked = {"query": "where do apples keep", "corpus": "fruit", "passage_id": "p2", "reranker": "mini"}
    assert found == found | asked and found["rank"] == 2, "where it would stand if it were a candidate"
    for effect in (*found["parts"], *found["query_words"]):
        assert effect["delta"] == found["score"] - effect["score_without"]
    assert (
        where["cause"] == "first_stage_missed" and where["first_stage_rank"] is where["reranked_rank"] is None
    )
    assert where["exact_ranks"].keys() == {"minilm", "bm25", "hybrid"} and where["exact_rank"] in (2, 3)
    gone = client.predict("apples", "fruit", "nobody", api_name="/explain")
    assert gone["where"]["cause"] == "not_in_corpus" and gone["score"] is None and gone["parts"] == []
    against = client.predict("where do apples keep", "fruit", "p2", against="p0", api_name="/explain")[
        "against"
    ]
    assert against["passage_id"] == "p0" and against["rank"] == 1


def test_a_hybrid_tells_where_its_parts_have_each_candidate(client):
    found = client.predict("where do apples keep", "fruit", "hybrid", api_name="/search")
    assert found["first_stage"]["parts"] == ["minilm", "bm25"] and found["first_stage"]["score_name"] == "rrf"
    best = found["candidates"][0]
    assert best["passage_id"] == "p0" and best["parts"] == {"minilm": 1, "bm25": 1}


def test_eval_returns_the_contract(client):
    found = client.predict("fruit", top_k=3, cutoffs="1,3", api_name="/eval")
    first, mini = found["systems"]
    assert (first["key"], mini["key"]) == ("minilm", "minilm>>mini") and found["queries"] == 1
    assert {"hit@1", "recall@3", "mrr@3"} <= mini["metrics"].keys()
    assert {"delta", "ci95", "p_value", "wins", "ties", "losses"} <= mini["versus_first_stage"][
        "mrr@3"
    ].keys()
    assert "recall@3" in found["ceilings"]["minilm"] and sum(found["verdicts"].values()) == 1


def test_eval_says_what_it_cannot_do(client):
    with pytest.raises(AppError, match="dev"):
        client.predict("fruit", split="dev", api_name="/eval")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reranker": ["mini"]}, "expected a string, with commas"),
        ({"first_stages": ["minilm"]}, "first stage is .*; expected a string, with commas"),
        ({"first_stages": "minilm,elastic"}, 'unknown first stage "elastic"; choose one of minilm, '),
        ({"top_k": "5"}, "top_k is '5'; expected a whole number"),
        ({"cutoffs": "one"}, "cutoffs are 'one'"),
        ({"split": ["test"]}, "expected a string"),
    ],
)
def test_eval_says_what_arguments_it_takes(client, arguments, words):
    with pytest.raises(AppError, match=words):
        client.predict("fruit", **arguments, api_name="/eval")


def test_an_evaluation_ends_when_its_client_leaves(client, bench, home):
    turn = Turn(home, "the test")
    assert turn.take()
    runs = set(home.glob("runs/*.json"))
    leaver = subprocess.Popen(
        [sys.executable, "-c", "import sys; from gradio_client import Client\n"
         "Client(sys.argv[1], verbose=False).predict('fruit', api_name='/eval')", client.src]
    )  # fmt: skip
    try:
        wait_until(lambda: len(bench.evaluations) == 1)  # it is queued behind us
        leaver.kill()
        leaver.wait()
        wait_until(lambda: len(bench.evaluations) == 0)
    finally:
        leaver.kill()
        turn.free()
    assert set(home.glob("runs/*.json")) == runs


def test_a_port_that_is_taken_is_said_in_words(client, tmp_path):
    from rag_inspect.errors import InputError
    from rag_inspect.ui import serve

    port = int(client.src.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(
        InputError, match=rf"cannot listen on 127.0.0.1, port {port} \([^()]+\); choose another"
    ) as caught:
        serve(
            Workbench(Settings(tmp_path)), host="127.0.0.1", port=port, prevent_thread_lock=True, quiet=True
        )
    assert "GRADIO" not in str(caught.value) and "share" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 99_999), ("192.0.2.1", 0)]
)
def test_a_place_where_nobody_can_listen_is_said_in_words(tmp_path, host, port):
    from rag_inspect.errors import InputError
    from rag_inspect.ui import serve

    with pytest.raises(InputError, match=f"cannot listen on {host}, port {port} ") as caught:
        serve(Workbench(Settings(tmp_path)), host=host, port=port, prevent_thread_lock=True, quiet=True)
    assert "GRADIO" not in str(caught.value)
