"""Manuals as training examples: which queries a section gets, what its passage keeps, what is passed over."""

import pytest

from rag_inspect.rerankers.mini.examples import read_sources
from rag_inspect.rerankers.mini.manuals import asks, main, sentences

BODY = "It can be done in two ways. The first is slow. The second wants more memory. " * 4
FILES = {
    "backup.html": f"""
        <html><head><title>Backup</title><style>p {{ color: red }}</style></head><body>
        <div class="sphinxsidebar"><div><a href="vacuum.html">a long sentence of the sidebar that links.</a></div></div>
        <h1>Keeping your data</h1>
        <section id="online"><h2>2.1. Copying a live database<a class="headerlink" href="#online">¶</a></h2>
        <p>{BODY}</p><pre>one\n  two</pre></section>
        <h2 id="notes">Notes</h2><p>{BODY}Notes of the first page.</p>
        <h2>Notes</h2><p>Every copy is checked against its checksum. {BODY}Other notes.</p>
        <dl><dt id="sync">sync(path)</dt><dd><p>Write what is in memory
        to the disk. {BODY}</p></dd></dl>
        </body></html>""",
    "deep/vacuum.html": f"""
        <h1>Giving back unused space</h1>
        <p>A database that is in use can be saved with <a href="../backup.html#online">the online copy</a> (see also there).
        <a href="../backup.html#online">Copy</a>. {BODY}It grows.
        <h2 id="deep">How space is found</h2><p>Too short.</p>""",
    "genindex.html": f"<h1>An index of everything here</h1><p>{BODY}</p>",
    "broken.html": "<h1>Unfinished page of words<p>" + "<div>" * 2000 + "\x00" + BODY + "End.",
}


@pytest.fixture
def manual(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "manual" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "manual" / "latin.html").write_bytes(b"<h1>Caf\xe9</h1><p>One word only.</p>")
    return tmp_path / "manual"


@pytest.fixture
def made(manual, tmp_path):
    """(query -> (title, text) of its passage) of the manual above."""
    assert main([str(manual), "--out", str(tmp_path / "out")]) == 0
    passages, asked = read_sources(tmp_path / "out")["manuals"]
    by_id = {passage.passage_id: (passage.title, passage.text) for passage in passages}
    return {query.text: by_id[query.positives[0]] for query in asked}


def test_a_heading_asks_for_its_section_which_does_not_repeat_it(made):
    title, text = made["Copying a live database"]
    assert title == "Keeping your data"
    assert text.startswith("It can be done in two ways.") and text.endswith("one\ntwo")
    assert "Copying a live" not in text and "¶" not in text


def test_a_sentence_elsewhere_that_links_to_a_section_asks_for_it(made):
    assert (
        made["A database that is in use can be saved with the online copy."]
        == made["Copying a live database"]
    )
    assert not any("sidebar" in query for query in made)


def test_a_definition_gives_its_first_sentence_and_keeps_its_term(made):
    _, text = made["Write what is in memory to the disk."]
    assert text.startswith("sync(path)\nIt can be done")


def test_a_heading_that_stands_twice_gives_way_to_the_first_sentence(made):
    assert "Notes" not in made
    _, text = made["Every copy is checked against its checksum."]
    assert text.startswith("It can be done") and text.endswith("Other notes.")


def test_what_is_short_an_index_or_broken_html_does_no_harm(made):
    assert "How space is found" not in made and "An index of everything here" not in made
    assert not any("Caf" in query for query in made)


def test_a_folder_without_a_manual_is_refused_and_nothing_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 1
    assert "holds no HTML" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_queries_say_enough():
    assert asks("Copying a live database") and not asks("See also")
    assert not asks("sync(2)") and not asks("word " * 60)


def test_sentences_end_within_their_line():
    assert sentences("One. Two e.g. three! Four\nfive.") == ["One.", "Two e.g. three!", "Four", "five."]
