"""Rules of the house that a reader can hold to: no state in modules, short files and functions, one way to do a thing."""

import ast
import warnings

import pytest

from tests.source import MODULES, TREES, find_state, measure_functions

STATE = {  # module.name -> why it may be there
    "rag_inspect.transformer._read_core_count": "torch's number of threads is the process's, and must be asked before "
    "any worker sets its own",
    "rag_inspect.transformer._CORES_LOCK": "two who ask first, at once, would get different numbers",
    "rag_inspect.views.templates._environment": "the package's own templates, read at first use; nothing goes in",
}
MOST_LINES, MANY_LINES = 350, 300
FUNCTION_LINES = 40
LONGER = {  # functions that are longer, and how long: these numbers may only shrink
    "rag_inspect.training.examples:mine": 42,
    "rag_inspect.ui.explore:_wire": 42,
}


def test_no_module_or_class_holds_state():
    assert not find_state(TREES) - STATE.keys()


@pytest.mark.parametrize(
    "code",
    [
        "SEEN = {}",
        "SEEN: list[str] = []",
        "SEEN = {1, 2}",
        "SEEN = OrderedDict()",
        "LOCK = threading.Lock()",
        "MODEL = load('mini')",
        "PAIR = 1, Lock()",
        "if True:\n    LOCK = Lock()",
        "class Cache:\n    held = {}",
        "class Cache:\n    lock = Lock()",
        "TABLE = {1: 2}\ndef put(): TABLE[3] = 4",
        "TABLE = {1: 2}\ndef drop(): del TABLE[1]",
        "TABLE = {1: []}\ndef put(): TABLE[1].append(2)",
        "TABLE = {1: 2}\ndef put(): TABLE.update({3: 4})",
        "TABLE = {1: 2}\ndef put():\n    global TABLE\n    TABLE = {}",
        "import json\ndef patch(): json.loads = None",
        "@functools.lru_cache(maxsize=4)\ndef probe(hub): ...",
        "@cache\ndef ask(): ...",
        "class Model:\n    @lru_cache\n    def ask(self): ...",
    ],
)
def test_state_is_seen_wherever_it_is_kept(code):
    assert find_state({"some": ast.parse(code)})


def test_a_table_that_another_module_changes_is_state():
    table, other = ast.parse("TABLE = {1: 2}"), ast.parse("from some import module\nmodule.TABLE[3] = 4")
    assert find_state({"some": table, "other": other}) == {"other.module.TABLE"}


@pytest.mark.parametrize(
    "code",
    [
        "NAMES = ('a', 'b')\nWORDS = frozenset({'a'})\nLEAST = 3\n__all__ = ['read']",
        "ROWS = {row.key: row for row in (Row('a'),)}",
        "WORD = re.compile('a')",
        "@dataclass(frozen=True)\nclass Row:\n    notes: tuple = ()\n    more: dict = field(default_factory=dict)\nROW = Row()",
        "def work():\n    seen = {}\n    seen[1] = 2\n    return seen",
        "class Cache:\n    def __init__(self):\n        self.held = {}",
    ],
)
def test_what_cannot_change_is_no_state(code):
    assert not find_state({"some": ast.parse(code)})


def test_files_stay_short():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {module: lines for module, lines in lengths.items() if lines > MOST_LINES}
    for module, lines in lengths.items():
        if lines > MANY_LINES:
            with warnings.catch_warnings():  # shown, and no failure yet
                warnings.simplefilter("default")
                warnings.warn(f"{module} has {lines} lines; {MANY_LINES} is a lot", stacklevel=1)


def test_functions_stay_short_and_long_ones_only_shrink():
    long = {name: lines for name, lines in measure_functions().items() if lines > FUNCTION_LINES}
    assert not {name: lines for name, lines in long.items() if lines > LONGER.get(name, FUNCTION_LINES)}
    assert long == LONGER, "some got shorter: write the new numbers into LONGER"


def test_only_files_renames_a_draft():
    """`.replace(x)` with one argument renames a file; a text's takes two. The cache and the hub's move what is whole."""
    renaming = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr == "rename"
            or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)
        )
    }
    assert renaming == {"rag_inspect.files", "rag_inspect.download"}


def test_only_settings_reads_the_environment():
    readers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb", "putenv"}
    }
    assert readers == {"rag_inspect.settings"}
