"""`serve --corpus`: the app opens on that corpus, and a folder can be chosen wherever it is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rag_inspect import ui
from rag_inspect.cli import main
from rag_inspect.errors import CorpusError
from rag_inspect.ui.controls import from_link
from rag_inspect.workbench import Workbench


@pytest.fixture
def bench(settings, corpus_folder):
    corpus_folder("tiny", {"a": "one", "b": "two"})
    return Workbench(settings)


@pytest.fixture
def elsewhere(settings, corpus_folder, tmp_path) -> Path:
    """A corpus called mine, outside the folder of the listed ones."""
    corpus_folder("mine", {"a": "one"}, {"q": "which one"})
    shutil.move(settings.corpora_dir / "mine", tmp_path / "mine")
    return tmp_path / "mine"


def test_a_folder_is_listed_and_the_page_opens_on_it(bench, elsewhere, monkeypatch):
    monkeypatch.chdir(elsewhere.parent)
    bench.open_on("mine")
    monkeypatch.chdir("/")
    assert bench.corpora() == {"tiny": bench.settings.corpora_dir / "tiny", "mine": elsewhere}
    choice, trouble = from_link({}, bench)
    assert (choice.corpus, choice.query, trouble) == ("mine", "which one", "")
    assert bench.corpus("mine").name == "mine"


def test_a_folder_is_listed_beside_a_corpus_of_its_name(bench, elsewhere):
    namesake = elsewhere.rename(elsewhere.with_name("tiny"))
    bench.open_on(str(namesake))
    assert bench.default_corpus == "tiny-2" and bench.corpora()["tiny-2"] == namesake
    assert len(bench.corpus("tiny-2").passages) == 1 and len(bench.corpus("tiny").passages) == 2


@pytest.mark.parametrize("name", ["zoo", "corpora/zoo", "corpora/../corpora/zoo"])
def test_a_listed_corpus_keeps_its_name(bench, corpus_folder, tmp_path, monkeypatch, name):
    corpus_folder("zoo", {"a": "one"})
    monkeypatch.chdir(tmp_path)
    bench.open_on(name)
    assert bench.default_corpus == "zoo" and list(bench.corpora()) == ["tiny", "zoo"]


def test_what_is_no_corpus_is_refused(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("nope", 'unknown corpus "nope"; choose one of tiny'),
        (f"{tmp_path}/empty", "needs a corpus.jsonl"),
    ):
        with pytest.raises(CorpusError, match=said):
            bench.open_on(name)
    assert bench.default_corpus == "tiny" and list(bench.corpora()) == ["tiny"]


def test_in_public_mode_it_is_known_by_its_name_alone(bench, elsewhere):
    bench.open_on(str(elsewhere))
    bench.settings = replace(bench.settings, public=True)  # as listening to other machines does
    assert bench.default_corpus == "mine" and bench.corpus("mine").passages
    with pytest.raises(CorpusError, match="unknown corpus"):
        bench.corpus(str(elsewhere))


def test_serve_opens_it_before_the_page_is_built(bench, elsewhere, settings, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(ui, "serve", lambda bench, **_: opened.append(bench.default_corpus))
    monkeypatch.setenv("RAG_INSPECT_HOME", str(settings.home))
    monkeypatch.setenv("RAG_INSPECT_CORPORA_DIR", str(settings.corpora_dir))
    assert main(["serve", "--corpus", str(elsewhere)]) == 0 and main(["serve"]) == 0
    assert opened == ["mine", "tiny"]
    assert main(["serve", "--corpus", "nope"]) == 1 and len(opened) == 2
    assert capsys.readouterr().err == 'rag-inspect: unknown corpus "nope"; choose one of tiny\n'
