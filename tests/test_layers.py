"""Imports point one way, heavy libraries stay in their rooms, and nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rag_inspect"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

GROUND = {
    "rag_inspect",
    "rag_inspect.types",
    "rag_inspect.errors",
    "rag_inspect.settings",
    "rag_inspect.files",
}
TOP = (
    "rag_inspect.ui",
    "rag_inspect.__main__",
    "rag_inspect.cli_eval",
    "rag_inspect.cli_examples",
    "rag_inspect.completion",
    "rag_inspect.terminal",
    "rag_inspect.recording",
)
ROOMS = {  # library -> the only modules that may import it
    "gradio": ("rag_inspect.ui",),
    "plotly": ("rag_inspect.views",),
    "chromadb": ("rag_inspect.retrieval",),
    "torch": (
        "rag_inspect.rerankers",
        "rag_inspect.embedders",
        "rag_inspect.transformer",
        "rag_inspect.training",
        "rag_inspect.evaluation.cost",
    ),  # cost: its thread count
    "sentence_transformers": ("rag_inspect.rerankers", "rag_inspect.embedders"),
    "transformers": (
        "rag_inspect.rerankers",
        "rag_inspect.embedders",
        "rag_inspect.transformer",
        "rag_inspect.training",
    ),
    "huggingface_hub": ("rag_inspect.hub", "rag_inspect.download"),
    "rich": TOP,
}


def imports(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """(imported module, whether at import time); what only a type checker sees is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    base = ".".join(
                        [*package.split(".")[: -child.level + 1 or None], *([base] if base else [])]
                    )
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    yield (whole if whole in MODULES else base), at_import
            yield from walk(
                child, at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            )

    yield from walk(tree, True)


EVERY = [
    (module, imported, at_import)
    for module, path in MODULES.items()
    for imported, at_import in imports(module, path)
]


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def layer(module: str) -> int:
    """0 ground, 1 the parts, 2 the workbench, 3 page and commands."""
    if module in GROUND:
        return 0
    return 3 if within(module, TOP) else 2 if module == "rag_inspect.workbench" else 1


def test_imports_point_one_way():
    upward = [
        f"{module} imports {imported}"
        for module, imported, at_import in EVERY
        if imported in MODULES and layer(imported) > layer(module)
    ]
    assert not upward


def test_writing_files_needs_errors_alone():
    needed = {
        imported for module, imported, _ in EVERY if module == "rag_inspect.files" and imported in MODULES
    }
    assert needed == {"rag_inspect.errors"}


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
    assert renaming == {"rag_inspect.files", "rag_inspect.download", "rag_inspect.score_cache"}


def test_nothing_but_training_imports_training():
    room = ("rag_inspect.training",)
    outside = {
        f"{module} imports {imported}"
        for module, imported, _ in EVERY
        if within(imported, room) and not within(module, room)
    }
    assert not outside


def test_views_need_types_and_no_models():
    parts = (
        "rag_inspect.types",
        "rag_inspect.errors",
        "rag_inspect.views",
        "rag_inspect.metrics",
        "rag_inspect.words",
        "rag_inspect.evaluation.outcome",
        "rag_inspect.evaluation.document",
        "rag_inspect.evaluation.rows",
        "rag_inspect.evaluation.comparison",
    )
    strangers = {
        f"{module} imports {imported}"
        for module, imported, _ in EVERY
        if within(module, ("rag_inspect.views",)) and imported in MODULES and not within(imported, parts)
    }
    assert not strangers


@pytest.mark.parametrize("library", ROOMS)
def test_a_heavy_library_stays_in_its_room(library):
    outside = {
        module
        for module, imported, _ in EVERY
        if within(imported, (library,)) and not within(module, ROOMS[library])
    }
    assert not outside


def test_only_settings_reads_the_environment():
    readers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb", "putenv"}
    }
    assert readers == {"rag_inspect.settings"}


def test_no_module_holds_mutable_state():
    """A module-level name in lower case would be a variable; `global` would change one."""
    changed = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Global)
    ]
    assert not changed


@pytest.mark.parametrize("statement", ["import app", "import rag_inspect.__main__", "import rag_inspect.ui"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import sys; {statement}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "chromadb", "transformers", "sentence_transformers", "plotly"}


def test_the_command_line_and_its_help_load_no_page():
    code = "import sys; from rag_inspect.__main__ import main\ntry: main(['--help'])\nfinally: sys.exit('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_stay_short():
    for path in MODULES.values():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > 300:
            with warnings.catch_warnings():  # shown, and no failure: the limit is a habit, not a law
                warnings.simplefilter("default")
                warnings.warn(f"{path.relative_to(ROOT)} has {lines} lines; 300 is a lot", stacklevel=1)
