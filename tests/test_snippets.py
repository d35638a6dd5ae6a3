"""The same rerank in other libraries: Python that runs, whatever the query and wherever the model is."""

from dataclasses import replace

import pytest

from rag_inspect.views.snippets import LIBRARIES, choose_library, describe_snippet, write_snippet
from tests.searches import HOSTILE, HUB, MINI, make_reranking

OTHER = replace(HUB, key="other", model="tests/other", revision="2" * 40)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_snippet_is_python_whatever_the_query(library, case):
    search = make_reranking(HOSTILE[case])
    for reranker in (HUB, MINI):
        code = write_snippet(replace(search, reranker=reranker), library, OTHER)
        compile(code, "snippet", "exec")
        names: dict[str, object] = {}
        [line] = [line for line in code.splitlines() if line.startswith("query = ")]
        exec(line, names)
        assert names["query"] == search.candidates.query.text
        if library == "rag-inspect":
            assert repr(reranker.key) in code
        else:
            shown = HUB if reranker is HUB else OTHER
            assert shown.revision in code and shown.model in code


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("builtin", "# mini is built into rag-inspect; this code uses other, which is on the hub."),
        ("folder", "# mini is in a local folder; this code uses other, which is on the hub."),
        ("remote", "# mini is behind an endpoint; this code uses other, which is on the hub."),
    ],
)
def test_a_model_that_is_on_no_hub_gives_way_to_one_that_is(source, words):
    """Whether it has files to download says nothing about where it is from."""
    elsewhere = replace(MINI, source=source, files=("*.json",))
    code = write_snippet(make_reranking(reranker=elsewhere), "Transformers", OTHER)
    assert code.startswith(words) and OTHER.model in code
    assert "on the hub" not in write_snippet(make_reranking(reranker=elsewhere), "rag-inspect", OTHER)


def test_a_hub_model_is_named_even_if_no_files_are_listed():
    assert HUB.files == ()
    code = write_snippet(make_reranking(reranker=HUB), "Transformers", OTHER)
    assert HUB.model in code and "to begin with" not in code


def test_the_snippet_of_this_package_runs(models, capsys):
    search = replace(make_reranking("How long does a goldfish live?"), reranker=MINI)
    code = write_snippet(search, "rag-inspect", OTHER)
    code = code.replace("[...]", "['Fish live ten years.', 'The ferry leaves at noon.', 'The tea is hot.']")
    exec(compile(code, "snippet", "exec"), {})
    printed = capsys.readouterr().out.split()
    assert printed[0] == "0" and len(printed) == 2 * search.top_n


def test_the_first_library_shown_can_load_the_reranker_and_another_says_what_it_uses_instead():
    mini, hub = make_reranking(reranker=MINI), make_reranking(reranker=HUB)
    assert choose_library(mini) == "rag-inspect" and choose_library(hub) == "sentence-transformers"
    assert describe_snippet(mini, "rag-inspect", OTHER).startswith("mini, revision ")
    words = describe_snippet(mini, "LlamaIndex", OTHER)
    assert words == "other instead of mini, which LlamaIndex cannot load: expect another order"
    assert describe_snippet(hub, "LlamaIndex", OTHER).startswith(HUB.key)
