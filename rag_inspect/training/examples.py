"""Training examples: queries with their positives and, as negatives, the passages the first stage ranks near them.

The data folder holds passages.jsonl.gz (`_id, title, text`; an id starts with its source and a slash) and
pairs.jsonl.gz (`source, query_id, query, passage_id`, sometimes `negative_ids`). One more source is made at
run time from Python's standard library: the first docstring paragraph of a function → its code.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import random
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rag_inspect.errors import CorpusError
from rag_inspect.files import write_whole
from rag_inspect.rerankers.mini.prior import Words
from rag_inspect.transformer import clean_text
from rag_inspect.types import Embedder, Passage

CODE = "stdlib_code"
SHARES = {  # how often a source is drawn: questions more often than titles
    "squad_split": 0.20,
    "fairytaleqa": 0.10,
    "medquad": 0.08,
    "bioasq": 0.08,
    "conditionalqa": 0.08,
    "climate_fever": 0.08,
    "selqa": 0.06,
    "tldr": 0.06,
    CODE: 0.06,
    "qamr": 0.05,
    "evidence_inference": 0.05,
    "medmcqa_exp": 0.04,
    "arxiv_titles": 0.03,
    "dbpedia_titles": 0.02,
    "pmc_titles": 0.01,
    "tatqa": 0.01,
    "va_faq": 0.02,
}
PASSAGES = {  # limits on the passages embedded from a source with long or similar passages
    "arxiv_titles": 300,
    "dbpedia_titles": 400,
    "pmc_titles": 60,
    "medquad": 800,
    "evidence_inference": 1200,
    "fairytaleqa": 1200,
    "tldr": 2000,
    "bioasq": 2500,
}
QUERIES = 2500
FUNCTIONS = 1500
SKIPPED = {"bioasq": 5, "medquad": 2, "evidence_inference": 2, "conditionalqa": 2, "fairytaleqa": 1}
"""How many of the nearest passages are not used as negatives: many of them are unjudged positives."""
MINED = 30
NEVER_CUT = ("squad_split", "fairytaleqa", "medquad", "medmcqa_exp", CODE, "conditionalqa", "bioasq")
"""Sources whose answer may be anywhere in the passage: their groups use only passages that fit the window whole."""


@dataclass
class Asked:
    """A query of a source, with passage ids."""

    text: str
    positives: list[str] = field(default_factory=list)
    negatives: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """A query, its positives, and its mined and judged negatives: places in the source → prior."""

    query: str
    positives: Mapping[int, float]
    mined: Mapping[int, float]
    judged: Mapping[int, float]

    @property
    def hardness(self) -> float:
        """The loss of the prior alone, at most 3: how much there is to learn from this group."""
        gap = np.array(list(self.mined.values())) - max(self.positives.values())
        return min(float(np.log1p(np.exp(gap).sum())), 3.0)


class Source:
    """The groups of one source. The worse the prior is on a group, the more often it is drawn."""

    def __init__(self, name: str, texts: Sequence[str], groups: Sequence[Group]) -> None:
        self.name, self.texts, self.groups = name, texts, groups
        weights = np.array([group.hardness + 0.25 for group in groups])
        self._odds = weights / weights.sum()

    def draw(self, rng: np.random.Generator, negatives: int) -> tuple[str, list[tuple[str, float]]]:
        """Draw (query, [(text, prior), …]): the positive first, then negatives, hard ones more often than easy ones."""
        group = self.groups[rng.choice(len(self.groups), p=self._odds)]
        places = np.array(list(group.mined))
        luck = np.array(list(group.mined.values())) + rng.gumbel(size=len(places))
        chosen = {int(place): group.mined[int(place)] for place in places[np.argsort(-luck)[:negatives]]}
        judged = [place for place in group.judged if place not in chosen]
        if judged and rng.random() < 0.7:
            chosen.popitem()
            place = judged[rng.integers(len(judged))]
            chosen[place] = group.judged[place]
        positive = list(group.positives.items())[rng.integers(len(group.positives))]
        return group.query, [(self.texts[place], prior) for place, prior in (positive, *chosen.items())]


class StoredEmbedder:
    """An embedder that stores its vectors in a folder, so that a resumed run does not embed again."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self.embedder, self.folder = embedder, folder

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._load_vectors("queries", texts, lambda: self.embedder.embed_queries(texts))

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        texts = [passage.full_text for passage in passages]
        return self._load_vectors("passages", texts, lambda: self.embedder.embed_passages(passages))

    def _load_vectors(self, kind: str, texts: Sequence[str], make: Callable[[], np.ndarray]) -> np.ndarray:
        name = hashlib.sha256("\0".join([kind, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
        path = self.folder / f"{name[:24]}.npy"
        if not path.exists():
            vectors = make()
            with write_whole(path) as draft, draft.open("wb") as file:
                np.save(file, vectors)
        return np.load(path)


Found = dict[str, tuple[list[Passage], list[Asked]]]
"""source -> (passages, queries)"""


def read_sources(folder: Path) -> Found:
    """Read the data folder. Raises CorpusError, with file and line."""
    passages: dict[str, list[Passage]] = {}
    for row in _rows(folder / "passages.jsonl.gz", ("_id", "text")):
        source = row["_id"].split("/")[0]
        passages.setdefault(source, []).append(Passage(row["_id"], row["text"], row.get("title") or ""))
    asked: dict[str, dict[str, Asked]] = {}
    for row in _rows(folder / "pairs.jsonl.gz", ("source", "query_id", "query", "passage_id")):
        query = asked.setdefault(row["source"], {}).setdefault(row["query_id"], Asked(row["query"]))
        query.positives.append(row["passage_id"])
        query.negatives += row.get("negative_ids", [])
    return {name: (passages.get(name, []), list(queries.values())) for name, queries in asked.items()}


def read_standard_library(sample: float = 1.0) -> Found:
    """Make the code source: a function's summary → its code. `sample` scales the number of functions."""
    return {CODE: make_code_source(Path(sysconfig.get_paths()["stdlib"]), round(sample * FUNCTIONS))}


def make_code_source(root: Path, limit: int) -> tuple[list[Passage], list[Asked]]:
    """Return up to `limit` functions in a folder as passages, without duplicates, and their summaries as queries."""
    passages: dict[str, Passage] = {}
    asked: dict[str, Asked] = {}
    for key, summary, code in islice(find_functions(root), limit):
        if code not in passages:
            passages[code] = Passage(key, code)
            asked.setdefault(summary, Asked(summary)).positives.append(key)
    return list(passages.values()), list(asked.values())


def find_functions(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (id, first docstring paragraph, code without docstring) of documented functions, at most 8 per file."""
    files = sorted(root.rglob("*.py"))
    random.Random(0).shuffle(files)
    for file in files:
        below = file.relative_to(root)
        if "test" in str(below) or "site-packages" in below.parts:
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        found = [
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
        ]
        for node in [node for node in found if len(node.body) > 1 and not node.name.startswith("__")][:8]:
            summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            node.body = node.body[1:]
            code = ast.unparse(node)
            if 25 <= len(summary) <= 200 and 80 < len(code) < 1500:
                yield f"{below}:{node.lineno}", summary, code


def mine(
    name: str,
    passages: Sequence[Passage],
    queries: Sequence[Asked],
    *,
    embedder: Embedder | StoredEmbedder,
    words: Words,
    prior_weights: tuple[float, float],
    window: int,
    rng: np.random.Generator,
    sample: float = 1.0,
) -> Source | None:
    """Make the groups of a source from a sample of its passages; None if there are too few. `sample` scales the limits."""
    passages = _sample(passages, round(sample * PASSAGES[name]) if name in PASSAGES else len(passages), rng)
    place = {passage.passage_id: at for at, passage in enumerate(passages)}
    asked = [query for query in queries if any(p in place for p in query.positives)]
    asked = _sample(asked, round(sample * QUERIES), rng)
    if not asked or len(passages) < MINED:
        return None
    texts = [passage.full_text for passage in passages]
    room = window - 3 - _count_tokens(texts, words) if name in NEVER_CUT else np.full(len(texts), window)
    questions = [query.text for query in asked]
    cosines = embedder.embed_queries(questions) @ embedder.embed_passages(passages).T
    tokens, groups = words.tokens(texts), []
    for query, row, needs, said in zip(
        asked, cosines, _count_tokens(questions, words), words.tokens(questions), strict=True
    ):
        fits = room >= needs
        gold = {place[p] for p in query.positives if p in place}
        nearest = [int(at) for at in np.argsort(-row)[: MINED + 20] if at not in gold]
        mined = [at for at in nearest[SKIPPED.get(name, 0) :][:MINED] if fits[at]]
        positives = [at for at in gold if fits[at]]
        judged = [place[p] for p in query.negatives if p in place and place[p] not in gold]
        if positives and len(mined) >= 4:
            places = (positives, mined, judged)
            priors = {
                at: prior_weights[0] * float(row[at]) + prior_weights[1] * words.coverage(said, tokens[at])
                for part in places
                for at in part
            }
            groups.append(Group(query.text, *({at: priors[at] for at in part} for part in places)))
    return Source(name, texts, groups) if groups else None


def _count_tokens(texts: Sequence[str], words: Words) -> np.ndarray:
    """Count the tokens of each text, without special tokens."""
    encoded = words.tokenizer.encode_batch([clean_text(text) for text in texts], add_special_tokens=False)
    return np.array([len(row.ids) for row in encoded], dtype=int)


def _sample(rows: Sequence[Any], limit: int, rng: np.random.Generator) -> list[Any]:
    return [rows[at] for at in rng.permutation(len(rows))[:limit]]


def _rows(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _row(f"{path}:{number}", line, keys)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise CorpusError(
            f"{path} cannot be read after line {number} ({error}); expected gzipped JSON lines; download it again"
        ) from error


def _row(place: str, line: str, keys: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{place} is not JSON ({error}); download the file again") from error
    missing = [key for key in keys if not isinstance(row, dict) or not isinstance(row.get(key), str)]
    if missing:
        raise CorpusError(
            f"{place} has no {missing[0]!r} (found {line.strip()[:60]}); rows need {', '.join(keys)}"
        )
    return row
