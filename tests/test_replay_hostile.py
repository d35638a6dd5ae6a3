"""A replay is someone else's file: whatever is in it, it gives right numbers and a harmless page, or one line says no."""

import copy
import gzip
import itertools
import json
import math
import time
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.evaluation import add_provenance, evaluate, replay, runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.document import sort_worst_first
from rag_inspect.exports import export_files, read_replay, to_replay
from rag_inspect.files import format_json
from rag_inspect.views import eval_figures, evaluation
from rag_inspect.views.report import report_html
from tests.evaluating import ExactRetriever, ScriptedReranker, WordRetriever, make_corpus, score_gold_first

MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "${x}", "{{x}}", "%{x}", "=1+1")
WORDS = ("", " ", "../../etc/passwd", "C:\\x", "\ud800", "\x00", "\n\u2028\r", "\u202e", "x" * 2_000, *MARKUP)
NUMBERS = (
    0,
    1,
    -1,
    2,
    5,
    200,
    10**6,
    10**30,
    -(10**30),
    -0.0,
    0.5,
    5e-324,
    1e-300,
    1e300,
    math.nan,
    math.inf,
)
RAW = {  # what json.dumps does not write
    "@1e309@": "1e309",
    "@digits@": "9" * 5_000,
    **{f"@deep {depth}@": "[" * depth + "]" * depth for depth in (50, 900, 950, 975, 985, 990, 5_000)},
}
VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    *NUMBERS,
    *WORDS,
    *RAW,
    [],
    {},
    [0],
    [[]],
    {"": 1},
    {"fixed": None},
)


def outcome_of(corpus, *rerankers, **options):
    stages = [ExactRetriever(corpus), WordRetriever(corpus)]
    *_, end = evaluate(corpus, stages, rerankers, **options)
    return add_provenance(end, corpus)


def small():
    """A replay of four queries, six candidates deep; two first stages, two rerankers, one of them good."""
    corpus = make_corpus(4, 12)
    wise = ScriptedReranker(score_gold_first(corpus), "wise")
    return to_replay(outcome_of(corpus, ScriptedReranker(), wise, top_k=6, top_n=3))


def as_version_2(document):
    """The same as it was written while there was one first stage."""
    first, rows, latency = document["first_stages"][0], [], {}
    for row in document["queries"]:
        rest = {name: part for name, part in row.items() if name != "stages"}
        rows.append(rest | row["stages"][0])
    for key, part in document["latency"].items():
        stage, _, reranker = key.partition(">>")
        latency |= {reranker or stage: part} if stage == first["key"] else {}
    rest = {name: part for name, part in document.items() if name not in {"first_stages", "machine"}}
    ids = document["passage_ids"][: len(rows) * 6]
    return rest | {
        "version": 2,
        "first_stage": first,
        "queries": rows,
        "latency": latency,
        "passage_ids": ids,
    }


def as_version_1(document):
    """The same as it was written before first stages had names."""
    document = as_version_2(document)
    rows = [
        {"cosines" if name == "scores" else name: part for name, part in row.items()}
        for row in document["queries"]
    ]
    rest = {name: part for name, part in document.items() if name != "first_stage"}
    return rest | {"version": 1, "embedder": document["first_stage"]["embedder"], "queries": rows}


WRITTEN = small()
VERSIONS = {
    version: json.dumps(write(WRITTEN))
    for version, write in ((3, dict), (2, as_version_2), (1, as_version_1))
}
SMALL = VERSIONS[3]
each_version = pytest.mark.parametrize("version", VERSIONS)


def written(document):
    text = json.dumps(document)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode()


# What is read is right, and draws


def check(document, given):
    """Every number of the assessment is in its range, and the metrics are those of the replay's own scores."""
    format_json(document)
    n = len(given["queries"])
    for system in document["systems"]:
        for metric in system["metrics"].values():
            within([metric["value"], *metric["ci95"]], 0, 1)
        versus = (system.get(name, {}) for name in ("versus_first_stage", "versus_baseline"))
        for change in itertools.chain.from_iterable(each.values() for each in versus):
            within([change["delta"], *change["ci95"]], -1, 1)
            within([change["p_value"], change["p_holm"], change["resolvable"]], 0, 1)
            assert change["wins"] + change["ties"] + change["losses"] == n
        p50, p95 = system["latency_ms"].values()
        assert (p50 is None) == (system["latency_measured"]["source"] == "unknown")
        assert p95 is None or 0 <= p50 <= p95
        assert 0 <= system["latency_measured"]["queries"] <= n
    for ceiling in document["ceilings"].values():
        within(ceiling.values(), 0, 1)
    for bar in document["ceiling_bars"]:
        shares = [bar[name] for name in ("achieved", "recoverable", "unreachable")]
        within(shares, 0, 1)
        assert sum(shares) == pytest.approx(1)
    for point in document["frontier"]:
        within([*point["metrics"].values(), *point["ci95"]], 0, 1)
    assert sum(document["verdicts"].values()) == document["queries"] == n
    assert document["passages"] >= len(given["passage_ids"])
    for system in document["systems"]:
        for name in ("recall@5", "mrr@5", "hit@1"):
            expected = (
                sum(by_hand(name, ranked(row, system, document, given), row) for row in given["queries"]) / n
            )
            assert system["metrics"][name]["value"] == pytest.approx(expected)


def within(numbers, low, high):
    assert all(low - 1e-9 <= number <= high + 1e-9 for number in numbers)


def ranked(row, system, document, given):
    stages = [stage["key"] for stage in document["first_stages"]]
    found = row["stages"][stages.index(system["first_stage"])] if "stages" in row else row
    logits = found["logits"][system["reranker"]] if system["reranker"] else [0] * len(found["candidates"])
    order = sorted(range(len(logits)), key=lambda at: -logits[at])
    return [given["passage_ids"][found["candidates"][at]] for at in order]


def by_hand(name, ids, row):
    gold = {passage_id for passage_id, grade in row["qrels"].items() if grade > 0}
    found = [rank for rank, passage_id in enumerate(ids, 1) if passage_id in gold]
    if name == "hit@1":
        return 1 in found
    if name == "mrr@5":
        return 1 / found[0] if found and found[0] <= 5 else 0
    return sum(rank <= 5 for rank in found) / len(gold)


class Tags(HTMLParser):
    """Fails on a tag or an attribute that could run or load something."""

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "img", "iframe", "object", "embed", "link", "base", "form", "input"}
        for name, value in attrs:
            assert not name.startswith("on") and name not in {"src", "srcdoc", "action"}
            assert name != "href" or value.startswith("?")


def check_html(html):
    html.encode()
    tags = Tags()
    tags.feed(html)
    tags.close()


def draw(outcome, document):
    """All that the page shows of an evaluation, and all that it offers for download."""
    for html in ("advice_html", "ceiling_html", "table_html", "notes_html"):
        check_html(getattr(evaluation, html)(document))
    figures = [eval_figures.frontier(document)]
    for key in (system.key for system in document.reranked):
        for verdict in ("", *document.verdicts):
            check_html(
                evaluation.queue_html(document, key, verdict, sort_worst_first(document.per_query, key))
            )
        figures += [
            eval_figures.gold_flow(document, key),
            eval_figures.thresholds(document, key, "logit", document.thresholds[key].steps[-1].cutoff),
        ]
        check_html(eval_figures.describe_cutoff(document, key, "logit", 20))
    check_html(evaluation.comparison_html(runs.compare_runs(document, document)))
    for figure in figures:
        for words in strings(json.loads(figure.to_json())):
            assert "<script" not in words and "<img" not in words
    files = dict(export_files(Evaluation(outcome, document), report_html))
    check_html(files["report.html"])
    assert "default-src 'none'" in files["report.html"]
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~%")
        for name in files
    )
    for line in files["qrels.trec"].splitlines():
        assert len(line.split()) == 4
    assert not [cell for cell in files["per_query.csv"].split(",") if cell.startswith("=")]
    again = read_replay(files["replay.json"].encode())
    assert to_replay(again) == to_replay(outcome)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def read_or_refuse(content):
    """True where the replay was read: then its numbers are right and its page is harmless."""
    refusal = ""
    try:
        outcome = read_replay(content)
    except RagInspectError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.splitlines()) == 1 and len(refusal) < 500 and refusal.startswith("the replay")
        return False
    document = assess(outcome)
    check(document.to_json(), json.loads(content))
    draw(outcome, document)
    return True


def changed(way, value, version=3):
    """The replay with another value at `queries.0.text` or the like; of scores and latencies, the first stage's."""
    document = json.loads(VERSIONS[version])
    if version == 3:
        way = way.replace("0.scores", "0.stages.0.scores").replace("latency.", "latency.bag>>")
    *parents, last = way.replace("scores", "cosines" if version == 1 else "scores").split(".")
    node = document
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    node[int(last) if isinstance(node, list) else last] = value
    return document


@each_version
def test_the_replay_that_the_others_are_made_of_is_read(version):
    assert read_or_refuse(VERSIONS[version].encode())


# Anything, anywhere


@st.composite
def mutated(draw):
    """The replay after one to three changes, each anywhere in the tree."""
    document = json.loads(draw(st.sampled_from(list(VERSIONS.values()))))
    for _ in range(draw(st.integers(1, 3))):
        parent, key = draw(places(document))
        change = draw(st.sampled_from(CHANGES))
        change(draw, parent, key)
    return document


@st.composite
def places(draw, document):
    """(container, key) of a value in the tree; each level is as likely as the next to be the last."""
    parent, key = document, draw(st.sampled_from(sorted(document)))
    while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 3)):
        parent = parent[key]
        key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    return parent, key


def put(draw, parent, key):
    parent[key] = draw(
        st.sampled_from(VALUES).map(copy.deepcopy) | st.text(max_size=20) | st.floats() | st.integers()
    )


def delete(draw, parent, key):
    del parent[key]


def double(draw, parent, key):
    if isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent))), parent[key])
    else:
        parent[draw(st.sampled_from(WORDS))] = parent[key]


def resize(draw, parent, key):
    if isinstance(parent[key], list):
        parent[key] = (parent[key] * 3)[: draw(st.integers(0, 3 * len(parent[key])))]


def exchange(draw, parent, key):
    other = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    parent[key], parent[other] = parent[other], parent[key]


def nudge(draw, parent, key):
    if isinstance(parent[key], int | float):
        parent[key] = draw(
            st.sampled_from([-parent[key], parent[key] + 1, parent[key] / 2, parent[key] * 10])
        )


def mark(draw, parent, key):
    if isinstance(parent[key], str):
        parent[key] += draw(st.sampled_from(MARKUP))


CHANGES = (put, delete, double, resize, exchange, nudge, mark)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_whatever_is_changed_in_it_is_right_or_refused(document):
    read_or_refuse(written(document))


# What chance seldom finds

REFUSED = {
    "gold without an id, where a ranking ends early": ("queries.0", {
        "query_id": "q", "text": "q", "qrels": {"": 1, "p001": 1}, "candidates": [0], "scores": [1], "cosines": [1], "logits": {"fixed": [1], "wise": [1]},
        "stages": [{"candidates": [0], "scores": [1], "logits": {"fixed": [1], "wise": [1]}}] * 2,
    }),
    "fewer passages than it names": ("corpus.passages", 2),
    "scores in another order": ("queries.0.scores", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    "no cosines": ("queries.0.scores", [6, 5, 4, 3, 2, 1]),
    "p50 above p95": ("latency.fixed.p95", 1e-8),
    "no median": ("latency.fixed.p50", None),
    "cheaper at depth": ("latency.fixed.depth_ms", [6, 5, 4, 3, 2, 1]),
    "timed on more queries than there are": ("latency.fixed.queries", 5),
    "timed on none": ("latency.fixed.queries", 0),
    "numbers of an unknown source": ("latency.fixed.source", "unknown"),
    "a time that is none": ("created", "<img src=//a.bc>"),
    "a score below the scale": ("queries.0.scores.5", -2),
    "more ids than candidates": ("passage_ids", [str(number) for number in range(49)]),
}  # fmt: skip


@each_version
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_show_a_wrong_number_is_refused(case, version):
    assert not read_or_refuse(written(changed(*REFUSED[case], version)))


@pytest.mark.parametrize(
    "way", ["kind", "version", "corpus.language_source", "latency.fixed.source", "notes.0", "queries.0.text"]
)
@pytest.mark.parametrize("deep", [name for name in RAW if "deep" in name])
def test_a_value_of_any_depth_is_refused(way, deep):
    document = changed("notes", [""])
    document = document | changed(way, deep) if way != "notes.0" else document | {"notes": [deep]}
    assert not read_or_refuse(written(document))


@pytest.mark.parametrize("words", MARKUP)
def test_words_of_someone_else_stay_words(words):
    document = json.loads(SMALL)
    document["corpus"] |= {"name": words.replace("/", "|"), "languages": [words]}
    document |= {
        "split": words.replace("/", "|"),
        "notes": [words],
        "versions": {words: words},
    }
    document["counts"] |= {words: 3, f"cut_gold:{words}": 3}
    for system in (document["first_stages"][0]["embedder"], *document["rerankers"]):
        system |= {"model": words, "revision": words, "languages": [words]}
    document["passage_ids"][0] = words
    document["passages"] = {words: {"title": words, "text": words}}
    for number, row in enumerate(document["queries"]):
        row |= {"query_id": f"{words}{number}", "text": words}
        row["qrels"][words] = 1
    assert read_or_refuse(written(document))


def test_numbers_that_a_replay_says_of_itself_are_not_believed():
    honest, lies = json.loads(SMALL), json.loads(SMALL)
    lies |= {
        name: {"mrr@3": 1.0}
        for name in ("metrics", "ceilings", "verdicts", "systems", "per_query", "frontier", "advice")
    }
    for system in (lies["first_stages"][0]["embedder"], *lies["rerankers"]):
        system |= {"metrics": {"mrr@3": {"value": 1.0, "ci95": [1.0, 1.0]}}, "versus_first_stage": {}}
    for row in lies["queries"]:
        row |= {"rank_before": 1, "ranks": {"fixed": 1}, "verdict": "rescued", "metrics": {"mrr@3": 1.0}}
    assert assess(read_replay(written(lies))) == assess(read_replay(written(honest)))


# Few bytes that ask for much


def many(rows, rerankers=1, gold=1):
    """A replay with one ranking of 200, whose query has so many gold, and many empty ones."""
    document = json.loads(SMALL)
    keys = [f"r{number}" for number in range(rerankers)]
    document["rerankers"] = [document["rerankers"][0] | {"key": key} for key in keys]
    document["settings"] = {"top_k": 200, "top_n": 5, "cutoffs": [1]}
    document["corpus"]["passages"] = 10_000
    document["first_stages"] = document["first_stages"][:1]
    empty = {"candidates": [], "scores": [], "logits": {key: [] for key in keys}}
    full = {"candidates": list(range(200)), "scores": [0] * 200, "logits": {key: [0] * 200 for key in keys}}
    row = {"text": "x", "qrels": {"0": 1}, "stages": [empty], "fused": [], "tags": []}
    document["queries"] = [row | {"query_id": str(number)} for number in range(rows)]
    document["queries"][0] = row | {
        "query_id": "0", "stages": [full], "qrels": {str(number): 1 for number in range(gold)},
    }  # fmt: skip
    return document | {"passage_ids": [str(number) for number in range(200)], "latency": {}}


@pytest.mark.parametrize("write", [dict, as_version_2, as_version_1])
@pytest.mark.parametrize("sizes", [{"rows": 3_000, "rerankers": 16}, {"rows": 9_000, "gold": 1_000}])
def test_a_short_replay_does_not_ask_for_gigabytes(sizes, write):
    with pytest.raises(InputError, match="numbers; expected at most"):
        read_replay(written(write(many(**sizes))))


WRONG = {
    "a million passages of no kind": ("passages", {str(number): 0 for number in range(1_000_001)}),
    "a million counts of no kind": ("counts", {str(number): "" for number in range(1_000_000)}),
    "a million grades of no kind": ("queries.0.qrels", {str(number): "" for number in range(1_000_000)}),
    "a million scores of no kind": ("queries.0.scores", [""] * 1_000_000),
    "many queries of no kind": ("queries", [{}] * 200_000),
    "many ids of no kind": ("passage_ids", [0] * 800_000),
}


@each_version
@pytest.mark.parametrize("case", WRONG)
def test_a_million_mistakes_are_not_collected(case, version):
    content = written(changed(*WRONG[case], version))
    began = time.process_time()
    with pytest.raises(InputError):
        read_replay(content)
    assert time.process_time() - began < 5


def test_a_file_of_nothing_but_brackets_is_not_parsed():
    with pytest.raises(InputError, match="lists and objects"):
        read_replay(b"[" + b"[]," * replay.MAX_PARTS + b"[]]")


# Files that are no JSON


FILES = {
    "empty": b"",
    "cut short": SMALL.encode()[:-200],
    "cut in a letter": '{"kind": "é'.encode()[:-1],
    "UTF-16": SMALL.encode("utf-16"),
    "with a byte order mark": SMALL.encode("utf-8-sig"),
    "a gzip bomb": gzip.compress(b"0" * (16 << 20)),
    "nested lists": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 1_000_000,
    "a list": b"[" + SMALL.encode() + b"]",
    "twice": 2 * SMALL.encode(),
    "a number": b"9" * 1_000_000,
    "half a pair": b'"\\ud800"',
    "zeros": bytes(1_000),
}


@pytest.mark.parametrize("name", ["replay.json", "<script>.json", "\n.json", "x" * 250])
@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_none_is_refused_by_its_name_alone(tmp_path, case, name):
    path = tmp_path / name
    path.write_bytes(FILES[case])
    with pytest.raises(InputError) as caught:
        read_replay(path)
    assert " ".join(name.splitlines()) in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) < 600 and len(str(caught.value).splitlines()) == 1


def test_a_path_that_is_no_file_is_refused_by_its_name_alone(tmp_path):
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(replay.MAX_BYTES + 1)
    (tmp_path / "closed").symlink_to(tmp_path / "closed")
    for path in (tmp_path, tmp_path / "none.json", tmp_path / "large.json", tmp_path / "closed"):
        with pytest.raises(InputError, match=f"^{path.name} ") as caught:
            read_replay(path)
        assert str(tmp_path) not in str(caught.value)
