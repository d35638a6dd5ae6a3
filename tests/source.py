"""Read the source of the package for tests: imports, module-level state and the length of functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "rag_inspect").rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}

# A module-level value may be the result of these calls: none makes an object that changes.
HARMLESS = {
    *(
        "compile",
        "dict",
        "fromkeys",
        "frozenset",
        "tuple",
        "Path",
        "with_name",
        "partial",
        "field",
        "TypeVar",
    ),
    *("ParamSpec", "NewType", "namedtuple", "MappingProxyType", "find_built_in_corpora", "cached_property"),
}
CACHES = {"cache", "lru_cache"}
CHANGES = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
    *("update", "setdefault", "popitem", "move_to_end", "add", "discard", "appendleft", "popleft"),
}

When = Literal["at import", "when called", "for types"]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    module: str
    imported: str
    when: When

    def __str__(self) -> str:
        return f"{self.module} imports {self.imported} ({self.when})"


def read_imports(module: str, tree: ast.AST, is_package: bool, when: When = "at import") -> Iterator[Import]:
    """Yield every import below this node, also under TYPE_CHECKING. `from package import submodule` imports the submodule."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - child.level + 1], *filter(None, [base])])
            for alias in child.names:
                whole = f"{base}.{alias.name}"
                yield Import(module, whole if whole in MODULES else base, when)
        inside: When = when
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            inside = "for types"
        elif isinstance(child, Function):
            inside = "when called"
        yield from read_imports(module, child, is_package, inside)


def find_frozen_classes(trees: Iterable[ast.AST]) -> set[str]:
    """Find the names of frozen dataclasses and named tuples, whose instances never change."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {
        each.name
        for each in classes
        if any("frozen=True" in ast.unparse(decorator) for decorator in each.decorator_list)
        or any(ast.unparse(base).endswith("NamedTuple") for base in each.bases)
    }


def find_state(trees: dict[str, ast.Module]) -> set[str]:
    """Find what outlives a call and can change, in modules and in the bodies of classes; returns `module.name`."""
    harmless = HARMLESS | find_frozen_classes(trees.values())
    tables: dict[str, set[str]] = {}  # name -> modules that have a table of this name
    found = set()
    for module, tree in trees.items():
        for name, value in _assigned(tree.body):
            if _is_table(value):
                tables.setdefault(name, set()).add(module)
            elif not _is_fixed(value, harmless):
                found.add(f"{module}.{name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found |= {
                    f"{module}.{node.name}.{name}"
                    for name, value in _assigned(node.body)
                    if not _is_fixed(value, harmless)
                }
            elif isinstance(node, Function) and CACHES & {_called(one) for one in node.decorator_list}:
                found.add(f"{module}.{node.name}")
            elif isinstance(node, ast.Global):
                found |= {f"{module}.{name}" for name in node.names}
    for module, tree in trees.items():
        found |= {f"{module}.{name}" for name in _changed(tree) if name.split(".")[-1] in tables}
        found |= {f"{module}.{name}" for name in _set_on_modules(tree)}
    return found


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For):
            yield from _assigned(statement.body)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield ast.unparse(statement.target), statement.value
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield ast.unparse(target), statement.value


def _is_table(value: ast.expr) -> bool:
    """Return True for a dict, which may stay if nothing changes it. Lists and sets may not: use tuples and frozensets."""
    if isinstance(value, ast.BinOp):
        return _is_table(value.left) or _is_table(value.right)
    return isinstance(value, ast.Dict | ast.DictComp) and (
        isinstance(value, ast.DictComp) or bool(value.values)  # an empty dict is there to be filled
    )


def _is_fixed(value: ast.expr, harmless: set[str]) -> bool:
    if isinstance(value, ast.Tuple):
        return all(_is_fixed(each, harmless) for each in value.elts)
    if isinstance(value, ast.List) and all(isinstance(each, ast.Constant) for each in value.elts):
        return bool(value.elts) and str(getattr(value.elts[0], "value", "")).isidentifier()  # __all__
    if isinstance(value, ast.Call):
        return _called(value) in harmless
    return not isinstance(
        value, ast.List | ast.Set | ast.Dict | ast.ListComp | ast.SetComp | ast.GeneratorExp
    )


def _called(node: ast.expr) -> str:
    """Return `lru_cache` for `functools.lru_cache(maxsize=4)`."""
    if isinstance(node, ast.Call):
        return _called(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _root(node: ast.expr) -> str:
    """Return `TABLE` for `TABLE["a"]["b"]`, `module.TABLE` for `module.TABLE["a"]`, "" for anything else."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _changed(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield _root(node)
        elif isinstance(node, ast.AugAssign):
            yield _root(node.target)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES
        ):
            yield _root(node.func.value)


def _set_on_modules(tree: ast.AST) -> Iterator[str]:
    """Yield each `module.NAME = …`, which keeps state in another module."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        if ast.unparse(node.value) in modules:
            yield ast.unparse(node)


def measure_functions() -> dict[str, int]:
    """Return `module:function` -> number of lines, with signature and docstring; the longest if a name repeats."""
    lengths: dict[str, int] = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function) and node.end_lineno:
                name = f"{module}:{node.name}"
                lengths[name] = max(lengths.get(name, 0), node.end_lineno - node.lineno + 1)
    return lengths
