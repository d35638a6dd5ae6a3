"""Docs are code: the README's tree, options, settings and commands are the ones there are."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from rag_inspect.cli import main, parser
from rag_inspect.cli_examples import EXAMPLES
from rag_inspect.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def part(name: str) -> str:
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]


def commands() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_the_tree_names_what_there_is_and_nothing_else():
    named, folder = set(), ""
    for line in part("tree").strip().strip("`").strip().splitlines():
        name = line.split()[0]
        folder = "" if not line.startswith(" ") else folder
        named.add(folder + name)
        folder = name if not line.startswith(" ") and name.endswith("/") else folder
    top = {f"rag_inspect/{p.name}" for p in (ROOT / "rag_inspect").glob("*.py") if p.name != "__init__.py"}
    top |= {f"rag_inspect/{p.parent.name}/" for p in (ROOT / "rag_inspect").glob("*/__init__.py")}
    assert {name for name in named if name.startswith("rag_inspect/") and name != "rag_inspect/"} == top
    assert all((ROOT / name).exists() for name in named)


def test_the_options_are_the_parsers():
    documented = {}
    for row in re.findall(r"^\| `(\w+)` \| (.*) \|$", part("options"), re.MULTILINE):
        documented[row[0]] = {name.replace("\\|", "|") for name in re.findall(r"`([^`]+)`", row[1])}
    actual = {
        name: {a.option_strings[-1] if a.option_strings else (a.metavar or a.dest) for a in p._actions}
        - {"--help"}
        for name, p in commands().items()
    }
    assert documented == actual


def test_every_option_says_what_it_does():
    for name, command in commands().items():
        assert all(action.help for action in command._actions if action.option_strings), name


def test_every_setting_is_documented():
    variables = set(re.findall(r"[A-Z]+_[A-Z_]+", Settings.__doc__ or "")) - {"MODELS_DIR", "SPACE_ID"}
    assert variables <= set(re.findall(r"`([A-Z_]+)`", README))


def test_the_front_matter_pins_what_the_code_pins():
    from rag_inspect.rerankers import RERANKERS

    requirements = (ROOT / "requirements.txt").read_text()
    assert re.search(r"sdk_version: (\S+)", README)[1] == re.search(r"gradio==(\S+)", requirements)[1]
    preload = re.search(r"- (BAAI/\S+) (\S+) (\w{40})", README)
    base = RERANKERS["base"]
    assert (preload[1], preload[3]) == (base.model, base.revision) and set(preload[2].split(",")) == set(
        base.files
    )


@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/python -m rag_inspect (.*)$", README, re.MULTILINE))
def test_the_commands_of_the_readme_run(line, capsys, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RAG_INSPECT_HOME", str(tmp_path_factory.getbasetemp() / "readme"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(shlex.split(line)) == 0
    assert capsys.readouterr().out.strip()


def test_a_corpus_of_your_own_takes_a_minute_to_make_search_and_evaluate(tmp_path, monkeypatch, capsys):
    section = README.split("## Your own data in sixty seconds")[1].split("\n## ")[0]
    script = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]
    commands_of_it = re.findall(r"^rag-inspect (.*)$", script, re.MULTILINE)
    files = "\n".join(line for line in script.splitlines() if not line.startswith("rag-inspect "))
    subprocess.run(["sh", "-e", "-c", files], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_INSPECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    search, evaluate, serve = commands_of_it
    assert main(shlex.split(search)) == 0 and "gold passage" in capsys.readouterr().out
    assert main(shlex.split(evaluate)) == 0 and "2 queries" in capsys.readouterr().out
    assert {"report.html", "replay.json"} <= {path.name for path in (tmp_path / "results").iterdir()}
    assert serve == "serve --corpus ./my-corpus"


def examples() -> list[str]:
    shown = [arguments for rows in EXAMPLES.values() for arguments, _ in rows]
    return shown + re.findall(r"^rag-inspect ([^#|\n]+)", README, re.MULTILINE)


@pytest.mark.parametrize("line", examples())
def test_every_example_is_a_right_usage(line):
    if "--help" in line or "--print-completion" in line:
        with pytest.raises(SystemExit) as ended:
            parser().parse_args(shlex.split(line))
        assert ended.value.code == 0
    else:
        assert parser().parse_args(shlex.split(line)).run


@pytest.mark.parametrize("name", ["", *commands()])
def test_every_help_ends_with_examples(name, capsys):
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    shown = capsys.readouterr().out.partition("\nexamples:\n")[2]
    assert shown.count(f"  rag-inspect {name}") == len(EXAMPLES[name]) > 0


def test_every_link_inside_the_repository_leads_somewhere():
    for page in ROOT.glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert all((ROOT / link).exists() for link in links), page.name


def test_nothing_says_where_it_was_made():
    unwanted = re.compile(r"(?<![\w.-])/(work|root|home)/")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("rag_inspect/**/*.py"), *ROOT.glob("rag_inspect/**/*.md")):
        assert not unwanted.search(path.read_text(encoding="utf-8")), path
