"""Read corpus.yaml: what a corpus is about. It is read without types, so `no` is a word and a date is as written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rag_inspect.corpora.fields import read_text
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.errors import CorpusError
from rag_inspect.types import CorpusCard

FILE = "corpus.yaml"
MAX_BYTES = 64 << 10
LISTS = frozenset({"language", "examples"})
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


class _PlainLoader(yaml.BaseLoader):
    """YAML without aliases: with them a short file can stand for an endless text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"found the alias *{event.anchor}; write the text out", event.start_mark
            )
        return super().compose_node(parent, index)


def read_card(folder: Path) -> CorpusCard:
    """Read the folder's corpus.yaml; without one, return a card with only the folder's name. Raises CorpusError."""
    path, bare = folder / FILE, CorpusCard(name=folder.resolve().name)
    if not path.exists() and not path.is_symlink():
        return bare
    root = _compose(CorpusFile(folder, path))
    if root is None or (isinstance(root, yaml.ScalarNode) and _is_nothing(root)):
        return bare
    if not isinstance(root, yaml.MappingNode):
        raise CorpusError(
            f"{_place(path, root)} is {_describe(root)}; expected keys such as name, description"
        )
    fields: dict[str, Any] = {}
    for key, value in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else _describe(key)
        if name not in CorpusCard.__dataclass_fields__:
            known = ", ".join(CorpusCard.__dataclass_fields__)
            raise CorpusError(f"{_place(path, key)} has the unknown key {name[:40]!r}; expected {known}")
        if isinstance(value, yaml.ScalarNode) and _is_nothing(value):
            continue
        if name in LISTS:
            entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
            fields[name] = tuple(_read_scalar(path, name, entry) for entry in entries)
        else:
            fields[name] = _read_scalar(path, name, value)
    return replace(bare, **fields)


def _compose(file: CorpusFile) -> Any:
    text = file.read_text(MAX_BYTES)
    try:
        return yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CorpusError(f"{file.path}:{line} cannot be read as YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise CorpusError(
            f"{file.path}:1 cannot be read as YAML: {' '.join(str(error).split())[:300]}"
        ) from error
    except RecursionError as error:
        raise CorpusError(f"{file.path}:1 cannot be read as YAML: it is nested too deep") from error


def _read_scalar(path: Path, key: str, node: Any) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise CorpusError(f'{_place(path, node)} has "{key}" with {_describe(node)} in it; expected text')
    return read_text(_place(path, node), key, " ".join(node.value.split()))


def _is_nothing(node: yaml.ScalarNode) -> bool:
    return node.style is None and node.value in _NOTHING


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a word"
