"""An index that is damaged, or another program's, is set aside and built again; a read-only one is still searched."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rag_inspect.retrieval.chroma import find_torn_file, forget_open_systems
from rag_inspect.retrieval.engine import Engine
from rag_inspect.types import Query
from tests.fixed_embedder import FixedEmbedder
from tests.test_retrieval import random_corpus

CORPUS = random_corpus(1100)  # Chroma writes vector files from 1,000 on


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an index, closed."""
    from rag_inspect.settings import Settings

    home = tmp_path_factory.mktemp("whole")
    engine = Engine(lambda: Settings(home=home))
    engine.open_index(CORPUS, FixedEmbedder(dimensions=32))
    engine.close()
    forget_open_systems()
    return home / "chroma"


@pytest.fixture
def engine(settings, whole):
    shutil.copytree(whole, settings.home / "chroma")
    made = Engine(lambda: settings)
    yield made
    made.close()
    forget_open_systems()


def fill_with_noise(path: Path, start: int = 0) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xa5noise" * 700 + content[start + 4200 :])


def make_foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    with sqlite3.connect(folder / "chroma.sqlite3") as database:
        database.execute("CREATE TABLE collections (mine)")
    database.close()


DAMAGE = {
    "no database": lambda folder: (folder / "chroma.sqlite3").write_bytes(b"no database " * 1000),
    "half a database": lambda folder: os.truncate(folder / "chroma.sqlite3", 300_000),
    "a panic": lambda folder: fill_with_noise(folder / "chroma.sqlite3", 38_000),
    "half the vectors": lambda folder: os.truncate(next(folder.glob("*/data_level0.bin")), 9000),
    "no vectors": lambda folder: fill_with_noise(next(folder.glob("*/header.bin"))),
    "no ids": lambda folder: next(folder.glob("*/*.pickle")).write_bytes(b"x"),
    "another program's": make_foreign,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_set_aside_and_built_again(engine, settings, damage):
    DAMAGE[damage](settings.home / "chroma")
    embedder = FixedEmbedder(dimensions=32)
    index = engine.open_index(CORPUS, embedder)
    assert len(index.search([Query("", "amber fjord")], 5)[0]) == 5
    [kept] = settings.home.glob("chroma.damaged-*")
    assert len(embedder.embedded) == len(CORPUS.passages) and any(kept.iterdir())
    [note] = engine.notes
    assert (
        note.startswith("The Chroma index was damaged, or another program's (")
        and f"set aside as {kept}" in note
    )


def test_a_whole_index_stays(engine, settings):
    embedder = FixedEmbedder(dimensions=32)
    engine.open_index(CORPUS, embedder)
    assert embedder.embedded == [] and engine.notes == () and find_torn_file(settings.home / "chroma") is None


def test_a_folder_is_set_aside_once_however_many_noticed(engine, settings):
    from rag_inspect.retrieval import DamagedIndexError

    before, error = engine.generation, DamagedIndexError("a panic")
    engine.open_index(CORPUS, FixedEmbedder(dimensions=32))
    engine.set_aside(error, before)
    engine.set_aside(error, before)
    assert len(list(settings.home.glob("chroma.damaged-*"))) == len(engine.notes) == 1


def test_the_engine_is_closed_after_its_last_index(engine, settings):
    index = engine.open_index(CORPUS, FixedEmbedder(dimensions=32))
    engine.close()
    assert len(index.search([Query("", "amber fjord")], 5)[0]) == 5
    index.close()
    index.close()
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever Chroma raises once it is closed
        index.search([Query("", "amber fjord")], 5)


READ_ONLY = """
import sys
from pathlib import Path
from rag_inspect.retrieval.engine import Engine
from rag_inspect.settings import Settings
from rag_inspect.types import Query
from tests.fixed_embedder import FixedEmbedder
from tests.test_damaged_index import CORPUS

embedder, engine = FixedEmbedder(dimensions=32), Engine(lambda: Settings(home=Path(sys.argv[1])))
index = engine.open_index(CORPUS, embedder)
print(len(index.search([Query("", "amber fjord")], 5)[0]), len(embedder.embedded), *engine.notes)
engine.close()
"""


@pytest.mark.parametrize("indexed", [True, False])
def test_a_read_only_home_is_searched_in_a_copy(tmp_path, whole, indexed):
    home = tmp_path / "home"
    home.mkdir()
    if indexed:
        shutil.copytree(whole, home / "chroma")
    command = [sys.executable, "-c", READ_ONLY, str(home)]
    if os.geteuid() == 0:  # root writes anywhere but on what is mounted read-only
        mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; shift; exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, "sh", str(home), *command]
    else:
        for path in (*home.rglob("*"), home):
            path.chmod(0o555 if path.is_dir() else 0o444)
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nothing can be mounted read-only here")
    assert done.returncode == 0, done.stderr
    embedded = 0 if indexed else len(CORPUS.passages)
    assert done.stdout.startswith(f"5 {embedded} {home} is read-only: searches use a copy of its index")
