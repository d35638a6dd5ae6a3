"""Imports point one way, heavy libraries stay in their rooms, and nothing heavy is loaded before it is needed.

`FLOORS` is the house from the ground up. A module belongs to the room with the longest name that fits, and knows
its own room and the floors below: neither what is above nor who lives next door. So no two rooms need each other.
"""

import ast
import subprocess
import sys
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.source import MODULES, ROOT, TREES, Import, read_imports

FLOORS = (
    ("", "errors", "words"),
    ("types",),
    ("settings", "files", "tasks", "admission", "deadline"),
    ("store", "sessions", "hub", "transformer", "score_cache", "metrics", "significance"),
    ("corpora", "download", "scoring", "parts"),
    ("embedders",),
    ("rerankers", "retrieval"),
    ("options",),
    ("pipeline",),
    ("recorded", "evaluation", "loading", "locate", "explain", "what_if"),
    ("exports", "training"),
    ("workbench",),
    ("views", "terminal", "usage"),
    ("ui", "cli_examples", "cli_eval", "cli_bench", "cli_search", "cli_corpora", "completion", "recording"),
    ("cli",),
    ("__main__",),
)
FLOOR = {f"rag_inspect.{room}".rstrip("."): floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ONLY_IN = {  # library -> the only rooms that may import it, for types too
    "gradio": ("ui",),
    "plotly": ("views",),
    "jinja2": ("views",),
    "chromadb": ("retrieval",),
    "sqlite3": ("score_cache", "retrieval"),
    "torch": ("rerankers", "embedders", "transformer", "training"),
    "transformers": ("rerankers", "embedders", "transformer", "training"),
    "sentence_transformers": ("rerankers", "embedders"),
    "huggingface_hub": ("hub", "download"),
    "pyarrow": ("corpora",),
    "bm25s": ("retrieval",),
    "Stemmer": ("retrieval",),
    "sentencex": ("parts",),
    "rich": ("terminal",),
    "shtab": ("completion",),
}
EVERY = [
    each
    for module, tree in TREES.items()
    for each in read_imports(module, tree, MODULES[module].name == "__init__.py")
]
INSIDE = [each for each in EVERY if each.imported in MODULES]


def within(module: str, rooms: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"rag_inspect.{room}.") for room in rooms)


def room(module: str) -> str:
    """The room of a module; KeyError for one that has none yet: give it a place in FLOORS."""
    name = module
    while name not in FLOOR or (name == "rag_inspect" != module):
        if "." not in name:
            raise KeyError(f"{module} has no place in FLOORS")
        name = name.rpartition(".")[0]
    return name


def points_up(each: Import) -> bool:
    ours, theirs = room(each.module), room(each.imported)
    return ours != theirs and FLOOR[theirs] >= FLOOR[ours]


def test_every_module_has_a_place():
    assert {room(module) for module in MODULES} <= FLOOR.keys()
    with pytest.raises(KeyError, match="a_new_one has no place"):
        room("rag_inspect.a_new_one")


def test_imports_point_down_those_for_types_too():
    assert not [str(each) for each in INSIDE if points_up(each)]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("rag_inspect.evaluation.cost", "rag_inspect.workbench"),
        ("rag_inspect.embedders", "rag_inspect.rerankers"),
        ("rag_inspect.hub", "rag_inspect.metrics"),  # next door
        ("rag_inspect.evaluation.runs", "rag_inspect.exports"),
        ("rag_inspect.views.report", "rag_inspect.ui.theme"),
    ],
)
def test_what_points_up_or_next_door_is_seen(module, imported):
    [each] = read_imports(module, ast.parse(f"if TYPE_CHECKING:\n import {imported}"), False)
    assert each.when == "for types" and points_up(each)
    assert not points_up(Import(imported, "rag_inspect.errors", "at import"))


def test_no_module_needs_itself_inside_a_room():
    """Not for types either."""
    needs: dict[str, set[str]] = {}
    for module, imported, _ in INSIDE:
        needs.setdefault(module, set()).add(imported)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" needs ".join(reversed(error.args[1])))


def test_writing_files_needs_errors_alone():
    assert {each.imported for each in INSIDE if each.module == "rag_inspect.files"} == {"rag_inspect.errors"}


def test_nothing_but_training_imports_training():
    room = ("training",)
    outside = [str(each) for each in EVERY if within(each.imported, room) and not within(each.module, room)]
    assert not outside


def test_views_need_values_and_no_models():
    values = ("types", "errors", "words", "views", "metrics", "evaluation.systems", "evaluation.document")
    strangers = [
        str(each) for each in INSIDE if within(each.module, ("views",)) and not within(each.imported, values)
    ]
    assert not strangers


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_room(library):
    outside = [
        str(each)
        for each in EVERY
        if each.imported.partition(".")[0] == library and not within(each.module, ONLY_IN[library])
    ]
    assert not outside


@pytest.mark.parametrize("statement", ["import app", "import rag_inspect.cli", "import rag_inspect.ui"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import sys; {statement}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "chromadb", "transformers", "sentence_transformers", "plotly"}


def test_the_readers_load_pyarrow_only_to_read():
    code = "import sys, rag_inspect.corpora.lint; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_line_and_its_help_load_no_page():
    code = "import sys; from rag_inspect.cli import main\ntry: main(['--help'])\nfinally: sys.exit('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
