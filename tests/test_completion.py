"""The completion scripts, in the shells that are here."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from rag_inspect.cli import main, parser
from rag_inspect.completion import SHELLS, write_script
from rag_inspect.rerankers import RERANKERS

HOSTILE = "a$(touch hacked)`touch hacked`'; touch hacked; '"


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """An empty folder with one folder and one file in it."""
    (tmp_path / "my-corpus").mkdir()
    (tmp_path / "replay.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_bash(*words: str) -> set[str]:
    """What bash offers for the last word."""
    script = write_script(parser(), "bash", ["tiny", HOSTILE])
    code = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_rag_inspect; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code, "bash", *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes_commands_options_and_values(there):
    assert in_bash("rag-inspect", "se") == {"serve", "search"}
    assert {"--corpus", "--replay", "--port"} < in_bash("rag-inspect", "serve", "--")
    assert in_bash("rag-inspect", "--print-completion", "") == set(SHELLS)
    assert in_bash("rag-inspect", "serve", "--corpus", "") == {"tiny", "my-corpus"}
    assert in_bash("rag-inspect", "serve", "--replay", "r") == {"replay.json"}
    assert in_bash("rag-inspect", "eval", "--reranker", "") == set(RERANKERS)
    assert in_bash("rag-inspect", "eval", "--out", "m") == {"my-corpus"}
    assert not (there / "hacked").exists()


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_reads_the_script(there):
    script = write_script(parser(), "zsh", ["tiny", HOSTILE])
    read = 'compdef() { print -r -- "$@" }; eval "$1"'
    done = subprocess.run(
        ["zsh", "-f", "-c", read, "zsh", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "_shtab_rag_inspect -N rag-inspect\n" and not done.stderr
    assert not (there / "hacked").exists()


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_fish_completes_commands_and_values(there):
    script = write_script(parser(), "fish", ["tiny", HOSTILE])
    for line, offered in (("rag-inspect se", "serve"), ("rag-inspect serve --corpus t", "tiny")):
        done = subprocess.run(
            ["fish", "-c", f"{script}\ncomplete -C'{line}'"], capture_output=True, text=True, check=True
        )
        assert offered in {row.split("\t")[0] for row in done.stdout.splitlines()}
    assert not (there / "hacked").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_every_command_and_option(shell):
    script = write_script(parser(), shell, ["tiny", HOSTILE])
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    options = {a.option_strings[-1] for p in commands.values() for a in p._actions if a.option_strings}
    assert all(name in script for name in commands)
    assert all(option.removeprefix("--") in script for option in options)
    assert "tiny" in script and "touch hacked" not in script


def test_the_command_prints_the_script_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (
        0,
        "",
    ) and "complete -o bashdefault -F _shtab_rag_inspect rag-inspect" in out
    assert "product-help" in out


def test_another_shell_is_a_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "tcsh"])
    assert ended.value.code == 2 and "choose from" in capsys.readouterr().err
