"""What is built and installed: the wheel and the sdist hold what the app needs, and the wheel works on its own."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from rag_inspect import __version__
from rag_inspect.settings import find_built_in_corpora

ROOT = Path(__file__).resolve().parent.parent
MINI = "rag_inspect/rerankers/mini"
CORPORA = sorted(path.parent.name for path in ROOT.glob("corpora/*/corpus.jsonl"))


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(target: str, source: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the installed wheel, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--disable-pip-version-check", "--target", folder, wheel, cwd=folder)
    return folder


def files(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# What is in them


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("rag_inspect/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    corpora = {
        f"rag_inspect/built_in_{path.relative_to(ROOT).as_posix()}"
        for path in ROOT.glob("corpora/**/*")
        if path.is_file()
    }
    held = {name for name in files(wheel) if ".dist-info/" not in name}
    assert held == package | corpora
    assert {
        f"{MINI}/{name}" for name in ("MODEL_CARD.md", "mini.safetensors", "mini.safetensors.sha256")
    } < held
    assert {"rag_inspect/ui/static/page.css", "rag_inspect/ui/static/rankings.js"} < held
    assert len(CORPORA) == 6


def test_the_weights_in_the_wheel_are_the_ones_that_were_checked(wheel):
    held = files(wheel)
    expected = held[f"{MINI}/mini.safetensors.sha256"].decode().split()[0]
    assert hashlib.sha256(held[f"{MINI}/mini.safetensors"]).hexdigest() == expected


def test_the_sdist_builds_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = files(build("wheel", source, tmp_path / "wheel"))
    assert again == files(wheel)


def test_the_sdist_holds_the_tests_and_what_make_needs(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "Makefile",
        "README.md",
        "LICENSE",
        "app.py",
        "pyproject.toml",
        "requirements.txt",
        "requirements-dev.txt",
    }
    assert needed < held
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*.py")} < held
    assert not [name for name in held if name.startswith((".venv", ".git/", ".ci")) or "__pycache__" in name]


def test_the_metadata_say_what_is_true(wheel):
    held = files(wheel)
    about = f"rag_inspect-{__version__}.dist-info"
    metadata = HeaderParser().parsestr(held[f"{about}/METADATA"].decode())
    assert (metadata["Name"], metadata["Version"]) == ("rag-inspect", __version__)
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    for licence in ("LICENSE", "corpora/LICENSE"):
        assert held[f"{about}/licenses/{licence}"] == (ROOT / licence).read_bytes()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    cards = [(ROOT / "corpora" / name / "corpus.yaml").read_text(encoding="utf-8") for name in CORPORA]
    assert all("\nlicence: CC-BY-4.0\n" in card for card in cards)


def test_pyproject_and_requirements_ask_for_the_same():
    """Both pin the versions that the tests run with; the Space and the Makefile read requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == required
    assert all("==" in line for line in required)


# That it works on its own


def test_the_installed_command_lists_the_built_in_corpora(installed, tmp_path):
    command = (sys.executable, "-m", "rag_inspect", "corpora", "--json")
    rows = json.loads(run(*command, cwd=tmp_path, PYTHONPATH=str(installed)))
    assert [row["name"] for row in rows] == CORPORA
    assert all(Path(row["path"]).is_relative_to(installed) for row in rows)


def test_the_console_script_is_the_same_command(installed, tmp_path):
    script = next((installed / "bin").glob("rag-inspect*"))
    assert run(script, "--version", cwd=tmp_path, PYTHONPATH=str(installed)).strip() == __version__
    assert "usage: rag-inspect " in run(script, "search", "--help", cwd=tmp_path, PYTHONPATH=str(installed))


def test_the_wheels_corpora_come_before_a_strangers_beside_the_package(tmp_path):
    package = tmp_path / "rag_inspect"
    (tmp_path / "corpora").mkdir()
    assert find_built_in_corpora(package) == tmp_path / "corpora"
    (package / "built_in_corpora").mkdir(parents=True)
    assert find_built_in_corpora(package) == package / "built_in_corpora"
