"""The score cache: what is known stays known, for every process, and a cache in trouble only costs time."""

import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rag_inspect.score_cache import ScoreCache, _make_key
from rag_inspect.types import Passage

PASSAGES = [Passage(f"p{n}", f"text {n}") for n in range(5)]
PAIRS = [("query", passage) for passage in PASSAGES]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "scores.sqlite"


def scores(cache, pairs):
    return {place: known.score for place, known in cache.get("model", pairs).items()}


def test_what_was_put_is_there_by_its_place(path):
    cache = ScoreCache(path)
    assert scores(cache, PAIRS) == {}
    cache.put("model", [(PAIRS[1], 1.5), (PAIRS[3], -math.pi)])
    assert scores(cache, PAIRS) == {1: 1.5, 3: -math.pi}
    assert scores(cache, [PAIRS[3], PAIRS[1], PAIRS[3]]) == {0: -math.pi, 1: 1.5, 2: -math.pi}
    assert cache.trouble is None
    assert scores(ScoreCache(path), PAIRS) == {1: 1.5, 3: -math.pi}


def test_nothing_asked_and_nothing_put_is_fine(path):
    cache = ScoreCache(path)
    cache.put("model", [])
    assert scores(cache, []) == {} and cache.trouble is None


def test_a_later_score_replaces_an_earlier_one(path):
    cache = ScoreCache(path)
    for logit in (1.0, 2.0):
        cache.put("model", [(PAIRS[0], logit)])
    assert scores(cache, PAIRS) == {0: 2.0}


def test_each_pair_costs_its_share_of_the_batch(path):
    cache = ScoreCache(path)
    cache.put("model", [(PAIRS[0], 1.0), (PAIRS[1], 2.0), (PAIRS[2], 3.0)], 60.0)
    cache.put("model", [(PAIRS[3], 4.0)], 0.0)
    cache.put("model", [(PAIRS[4], 5.0)])
    cache.put("model", [], 7.0)
    wanted = {0: (1.0, 20.0), 1: (2.0, 20.0), 2: (3.0, 20.0), 3: (4.0, 0.0), 4: (5.0, None)}
    assert cache.get("model", PAIRS) == ScoreCache(path).get("model", PAIRS) == wanted
    cache.put(
        "model", [(PAIRS[4], 6.0), (PAIRS[0], 7.0)], 9.0
    )  # scored again: score and time are the later ones
    assert cache.get("model", PAIRS) == wanted | {4: (6.0, 4.5), 0: (7.0, 4.5)}


@pytest.mark.parametrize("damaged", [math.inf, -math.inf, -1.0, "abc", b"1.5", None])
def test_a_damaged_time_is_unknown_and_the_score_is_not(path, damaged):
    cache = ScoreCache(path)
    cache.put("model", [(PAIRS[0], 1.5), (PAIRS[1], 2.5)], 8.0)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE scores SET ms = ? WHERE key = ?", (damaged, _make_key("model", PAIRS[0])))
    assert cache.get("model", PAIRS) == {0: (1.5, None), 1: (2.5, 4.0)}


@pytest.mark.parametrize("damaged", [math.inf, -math.inf, "abc", b"1.5", None])
def test_a_damaged_score_is_unknown_until_it_is_scored_again(path, damaged):
    cache = ScoreCache(path)
    cache.put("model", [(PAIRS[0], 1.5), (PAIRS[1], 2.5)])
    with sqlite3.connect(path) as database:
        database.execute(
            "UPDATE OR IGNORE scores SET logit = ? WHERE key = ?", (damaged, _make_key("model", PAIRS[0]))
        )
        [[stored]] = database.execute(
            "SELECT logit FROM scores WHERE key = ?", (_make_key("model", PAIRS[0]),)
        )
    assert scores(cache, PAIRS) == ({1: 2.5} if stored != 1.5 else {0: 1.5, 1: 2.5})
    cache.put("model", [(PAIRS[0], 1.5)])
    assert scores(cache, PAIRS) == {0: 1.5, 1: 2.5}


def test_only_what_the_model_reads_matters(path):
    cache = ScoreCache(path)
    cache.put("model", [(("query", Passage("p", "text", "title")), 1.0)])
    same = Passage("another id", "text", "title", {"kind": "page"})
    others = [
        ("model", "query", Passage("p", "title\ntext ")),
        ("model", "query", Passage("p", "text")),
        ("model", "querytitle", Passage("p", "text")),
        ("model", "Query", same),
        ("model, fp16", "query", same),
    ]
    assert scores(cache, [("query", same)]) == {0: 1.0}
    for fingerprint, query, passage in others:
        assert cache.get(fingerprint, [(query, passage)]) == {}


def test_any_text_is_a_key(path):
    cache = ScoreCache(path)
    pairs = [(text, Passage("p", text)) for text in ("\ud83d", "a\0b", "'; --", "日" * 20_000, "")]
    cache.put("model", [(pair, float(n)) for n, pair in enumerate(pairs)])
    assert scores(cache, pairs) == {n: float(n) for n in range(len(pairs))}


def test_more_pairs_than_one_statement_takes(path):
    cache = ScoreCache(path)
    pairs = [("query", Passage(str(n), f"text {n}")) for n in range(3000)]
    cache.put("model", [(pair, float(n)) for n, pair in enumerate(pairs)])
    assert scores(cache, pairs) == {n: float(n) for n in range(3000)}


WRITING = """
import sys
from pathlib import Path
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Passage

cache, writer = ScoreCache(Path(sys.argv[1])), int(sys.argv[2])
for n in range(200):
    pairs = [("shared", Passage("", str(n))), (f"of {writer}", Passage("", str(n)))]
    cache.put("model", [(pair, float(n)) for pair in pairs], 2 * n)
    assert cache.get("model", pairs) == {0: (float(n), n), 1: (float(n), n)}
sys.exit(cache.trouble)
"""


def test_several_processes_write_at_once(path):
    commands = [[sys.executable, "-c", WRITING, str(path), str(writer)] for writer in range(4)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    cache = ScoreCache(path)
    for query in ("shared", "of 0", "of 1", "of 2", "of 3"):
        assert len(cache.get("model", [(query, Passage("", str(n))) for n in range(200)])) == 200


def _works(cache: ScoreCache) -> bool:
    cache.put("model", [(PAIRS[0], 1.0)])
    return scores(cache, PAIRS) == {0: 1.0}


def test_a_file_that_is_no_database_is_set_aside(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database, but somebody's notes" * 100)
    cache = ScoreCache(path)
    assert (
        _works(cache) and cache.trouble and str(path) in cache.trouble and "not a database" in cache.trouble
    )
    [kept] = path.parent.glob("scores.sqlite.damaged-*")
    assert kept.read_bytes().startswith(b"not a database") and f"set aside as {kept.name}" in cache.trouble
    assert ScoreCache(path).trouble is None and _works(ScoreCache(path))


@pytest.mark.parametrize("columns", ["player", "key, logit, ms, more", "key, ms, logit", "logit, key"])
@pytest.mark.parametrize("table", ["scores", "scores_before"])
def test_a_database_of_something_else_is_set_aside(path, table, columns):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"CREATE TABLE {table} ({columns})")
    cache = ScoreCache(path)
    assert _works(cache) and f"was damaged (its table {table} has the columns {columns})" in cache.trouble
    [kept] = path.parent.glob("scores.sqlite.damaged-*")
    with closing(sqlite3.connect(kept)) as other:  # as it was
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [(table,)]
        assert other.execute(f"SELECT {columns} FROM {table}").fetchall() == []
    assert ScoreCache(path).trouble is None and _works(ScoreCache(path))


@pytest.mark.parametrize("first", ["get", "put"])
def test_pages_that_went_bad_are_set_aside_and_another_process_does_not_do_it_again(path, first):
    cache = ScoreCache(path)
    many = [(("q", Passage("", str(n))), 0.0) for n in range(5000)]
    cache.put("model", many)
    cache.close()
    raw = bytearray(path.read_bytes())
    raw[4 * 4096 :] = b"\xa5" * (len(raw) - 4 * 4096)
    path.write_bytes(raw)
    damaged, other = ScoreCache(path), ScoreCache(path)
    assert damaged.trouble is None
    for broken in (damaged, other):
        if first == "get":
            broken.get("model", [pair for pair, _ in many])
        broken.put("model", many)
        assert scores(broken, [pair for pair, _ in many]) == dict.fromkeys(range(5000), 0.0)
    assert str(path) in damaged.trouble and "malformed" in damaged.trouble
    assert len(list(path.parent.glob("scores.sqlite.damaged-*[0-9]"))) == 1
    assert _works(ScoreCache(path)) and ScoreCache(path).trouble is None


@pytest.mark.parametrize("place", ["a file for a folder", "a folder for the file"])
def test_a_place_that_cannot_hold_it(tmp_path, place):
    path = tmp_path / "here" / "scores.sqlite"
    if place == "a file for a folder":
        (tmp_path / "here").write_text("")
    else:
        path.mkdir(parents=True)
    cache = ScoreCache(path)
    assert cache.trouble and str(path) in cache.trouble
    assert _works(cache)  # in memory, for as long as the process lives


@pytest.mark.parametrize(
    "content", [None, b"not a database" * 100], ids=["empty folder", "with a broken file"]
)
def test_a_folder_that_is_read_only(content):
    code = (
        "import sys, os; from pathlib import Path; from rag_inspect.score_cache import ScoreCache\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"  # root may write everywhere, so be nobody
        "cache = ScoreCache(Path(sys.argv[1])); sys.exit(0 if cache.trouble else 'no trouble told')"
    )
    with TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        path = Path(name, "scores.sqlite")
        if content:
            path.write_bytes(content)
        path.parent.chmod(0o555)
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True)
        path.parent.chmod(0o755)
        assert done.returncode == 0, done.stderr.decode()


def test_a_disk_that_is_full_is_told_once_and_nothing_is_lost(path):
    cache = ScoreCache(path)
    cache.put("model", [(PAIRS[0], 1.0)])
    cache._connection.execute("PRAGMA max_page_count = 4")
    big = [(("q", Passage("", str(n))), 0.0) for n in range(2000)]
    cache.put("model", big)
    assert cache.trouble and "full" in cache.trouble
    assert scores(cache, PAIRS) == {0: 1.0}
    assert scores(cache, [pair for pair, _ in big]) == {}  # all or none


def test_a_closed_cache_is_only_empty(path):
    cache = ScoreCache(path)
    cache.close()
    cache.put("model", [(PAIRS[0], 1.0)])
    assert scores(cache, PAIRS) == {} and cache.trouble


# Its size


def pairs_of(first, count):
    return [("query", Passage("", f"text {n}")) for n in range(first, first + count)]


def known(cache, first, count):
    return len(cache.get("model", pairs_of(first, count)))


def test_past_the_limit_the_oldest_go_and_the_newest_stay(path):
    limit = 400_000
    cache = ScoreCache(path, limit)
    for start in range(0, 40_000, 500):
        cache.put("model", [(pair, 0.5) for pair in pairs_of(start, 500)])
        assert known(cache, start, 500) == 500
    assert path.stat().st_size < 1.5 * limit and cache.trouble is None
    assert known(cache, 0, 25_000) == 0
    assert known(cache, 37_500, 2_500) == 2_500  # half the limit's worth: none of these is missing
    cache.close()
    assert known(ScoreCache(path, limit), 37_500, 2_500) == 2_500


def test_a_score_written_again_is_the_later_one_in_either_half(path):
    cache = ScoreCache(path, 200_000)
    cache.put("model", [(PAIRS[0], 1.0)])
    for start in range(1000, 4000, 500):
        cache.put("model", [(pair, 0.5) for pair in pairs_of(start, 500)])
    cache.put("model", [(PAIRS[0], 2.0)])
    assert scores(cache, PAIRS) == {0: 2.0}


OLD_SCHEMA = "CREATE TABLE scores (key BLOB PRIMARY KEY, logit REAL NOT NULL) WITHOUT ROWID"


def as_it_was(path, rows):
    """A file as the first version wrote it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(OLD_SCHEMA)
    with connection:
        connection.executemany("INSERT INTO scores VALUES (?, ?)", rows)
    connection.close()


def test_the_scores_of_an_older_version_are_kept(path):
    as_it_was(path, [(_make_key("model", pair), 0.25) for pair in PAIRS])
    cache = ScoreCache(path, 2_000_000)
    assert scores(cache, PAIRS) == dict.fromkeys(range(5), 0.25) and cache.trouble is None
    for start in range(1000, 20_000, 500):
        cache.put("model", [(pair, 0.5) for pair in pairs_of(start, 500)])
    assert scores(cache, PAIRS) == dict.fromkeys(range(5), 0.25)


def test_a_file_of_an_older_version_past_the_limit_is_cut_down(path):
    as_it_was(path, [(_make_key("model", pair), 0.25) for pair in pairs_of(0, 50_000)])
    cache = ScoreCache(path, 1_000_000)
    for start in range(100_000, 105_000, 100):
        cache.put("model", [(pair, 0.5) for pair in pairs_of(start, 100)])
    assert cache.trouble is None and known(cache, 100_000, 5_000) == 5_000
    assert known(cache, 0, 50_000) == 0


def test_an_older_version_beside_us_reads(path):
    as_it_was(path, [(_make_key("model", PAIRS[0]), 3.0)])
    with closing(sqlite3.connect(path)) as older:
        cache = ScoreCache(path)
        cache.put("model", [(PAIRS[1], 0.5)], 6.0)
        for pair, logit in ((PAIRS[0], 3.0), (PAIRS[1], 0.5)):
            found = older.execute(
                "SELECT key, logit FROM scores WHERE key IN (?)", [_make_key("model", pair)]
            )
            assert found.fetchall() == [(_make_key("model", pair), logit)]
    assert cache.get("model", PAIRS) == {0: (3.0, None), 1: (0.5, 6.0)} and cache.trouble is None


@pytest.mark.parametrize("tables", [("scores",), ("scores", "scores_before")])
def test_scores_without_a_time_get_the_column_and_no_time(path, tables):
    as_it_was(path, [(_make_key("model", PAIRS[0]), 0.25)])
    with closing(sqlite3.connect(path)) as older, older:
        for table in tables[1:]:
            older.execute(OLD_SCHEMA.replace("scores", table))
            older.execute(f"INSERT INTO {table} VALUES (?, ?)", (_make_key("model", PAIRS[1]), 0.5))
    known = {0: (0.25, None)} | ({1: (0.5, None)} if len(tables) == 2 else {})
    cache = ScoreCache(path)
    assert cache.get("model", PAIRS) == ScoreCache(path).get("model", PAIRS) == known
    cache.put("model", [(PAIRS[2], 1.0)], 3.0)
    assert cache.get("model", PAIRS) == known | {2: (1.0, 3.0)} and cache.trouble is None
    assert [each.name for each in path.parent.glob("*damaged*")] == []


def test_who_opens_it_while_another_adds_the_column_waits_and_adds_none(path):
    as_it_was(path, [(_make_key("model", PAIRS[0]), 0.25)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute(OLD_SCHEMA.replace("scores", "scores_before"))
        other.execute("BEGIN IMMEDIATE")
        for table in ("scores_before", "scores"):
            other.execute(f"ALTER TABLE {table} ADD COLUMN ms REAL")
        opening = pool.submit(ScoreCache, path)
        assert not wait([opening], 0.2).done
        other.execute("COMMIT")
        cache = opening.result()
    assert cache.get("model", PAIRS) == {0: (0.25, None)} and cache.trouble is None


OPENING = """
import sys
from pathlib import Path
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Passage

print("ready", flush=True)
sys.stdin.readline()  # so that all of them open it at once
cache, writer = ScoreCache(Path(sys.argv[1])), sys.argv[2]
found = cache.get("model", [("query", Passage("", f"text {n}")) for n in range(2000)])
assert found == dict.fromkeys(range(2000), (0.25, None)), (len(found), cache.trouble)
cache.put("model", [((writer, Passage("", "new")), 1.0)], 5.0)
sys.exit(cache.trouble)
"""


def test_several_processes_open_a_file_of_an_older_version_at_once(path):
    as_it_was(path, [(_make_key("model", pair), 0.25) for pair in pairs_of(0, 2000)])
    commands = [[sys.executable, "-c", OPENING, str(path), str(writer)] for writer in range(4)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for command in commands]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    cache = ScoreCache(path)
    assert cache.get("model", [(str(n), Passage("", "new")) for n in range(4)]) == dict.fromkeys(
        range(4), (1.0, 5.0)
    )
    assert known(cache, 0, 2000) == 2000 and len(list(path.parent.glob("*damaged*"))) == 0


READING = """
import os, sys
from pathlib import Path
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Passage

if os.geteuid() == 0: os.seteuid(65534)  # root may write everywhere, so be nobody
cache, pair = ScoreCache(Path(sys.argv[1])), ("query", Passage("", "text 0"))
assert cache.get("model", [pair]) == {0: (0.25, None)} and cache.trouble is None, cache.trouble
cache.put("model", [(pair, 1.0)], 5.0)
assert cache.get("model", [pair]) == {0: (0.25, None)} and "readonly" in cache.trouble, cache.trouble
"""


@pytest.mark.parametrize("tables", [("scores",), ("scores", "scores_before")])
def test_a_file_of_an_older_version_that_is_read_only_is_read(tables):
    with TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        path = Path(name, "scores.sqlite")
        as_it_was(path, [(_make_key("model", pair), 0.25) for pair in pairs_of(0, 1)])
        with closing(sqlite3.connect(path)) as older:
            for table in tables[1:]:
                older.execute(OLD_SCHEMA.replace("scores", table))
        path.chmod(0o444)
        path.parent.chmod(0o777)
        done = subprocess.run([sys.executable, "-c", READING, path], capture_output=True)
        assert done.returncode == 0, done.stderr.decode()


FILLING = """
import sys
from pathlib import Path
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Passage

cache, writer = ScoreCache(Path(sys.argv[1]), 300_000), sys.argv[2]
for n in range(60):
    pairs = [(writer, Passage("", f"{n} {m}")) for m in range(100)]
    cache.put("model", [(pair, float(n)) for pair in pairs])
    found = cache.get("model", pairs)
    assert {known.score for known in found.values()} <= {float(n)}, found
sys.exit(cache.trouble)
"""


def test_several_processes_fill_it_past_the_limit_at_once(path):
    commands = [[sys.executable, "-c", FILLING, str(path), str(writer)] for writer in range(3)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert path.stat().st_size < 900_000
