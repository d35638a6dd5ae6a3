"""Fixtures for every test. No test reads or writes the caches of the user who runs it."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_HOME = tempfile.mkdtemp(prefix="rag-inspect-tests-")
for _name in [name for name in os.environ if name.startswith(("RAG_INSPECT_", "HF_", "XDG_", "CHROMA_"))]:
    del os.environ[_name]
# Set before anything imports huggingface_hub or gradio, which read them once. Nothing listens on the port of the endpoint.
# Each process of the suite has ports of its own: gradio looks for a free one, and takes it only later.
os.environ |= {
    "HOME": _HOME,
    "RAG_INSPECT_HOME": f"{_HOME}/rag-inspect",
    "HF_HOME": f"{_HOME}/huggingface",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "GRADIO_SERVER_PORT": str(7900 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])),
}

from rag_inspect.embedders import load_embedder  # noqa: E402
from rag_inspect.rerankers import load_reranker  # noqa: E402
from rag_inspect.settings import Settings  # noqa: E402
from rag_inspect.types import Embedder, Reranker  # noqa: E402
from tests.browsing import address, app_root, chromium, visit  # noqa: E402, F401

CorpusFolder = Callable[..., Path]

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")


def pytest_unconfigure() -> None:
    import shutil

    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a folder for this test alone, no hub, and no corpora except those the test writes."""
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    return Settings(
        home=tmp_path / "home",
        corpora_dir=corpora,
        hub_endpoint="http://127.0.0.1:9",
        hub_offline=True,
        device="cpu",
    )


@pytest.fixture
def corpus_folder(settings: Settings) -> CorpusFolder:
    """Write a BEIR folder: passage id -> text, query id -> text, {split: {query id: {passage id: grade}}}."""

    def write(
        name: str = "tiny",
        passages: Mapping[str, str] | Sequence[Mapping[str, Any]] = (),
        queries: Mapping[str, str] | Sequence[Mapping[str, Any]] = (),
        qrels: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
        card: str = "",
    ) -> Path:
        folder = settings.corpora_dir / name
        folder.mkdir(exist_ok=True)
        (folder / "corpus.jsonl").write_text(_rows(passages), encoding="utf-8")
        if queries:
            (folder / "queries.jsonl").write_text(_rows(queries), encoding="utf-8")
        for split, judged in (qrels or {}).items():
            (folder / "qrels").mkdir(exist_ok=True)
            cells = [
                (query, passage, grade)
                for query, grades in judged.items()
                for passage, grade in grades.items()
            ]
            lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in cells)]
            (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if card:
            (folder / "corpus.yaml").write_text(card, encoding="utf-8")
        return folder

    return write


def _rows(rows: Mapping[str, str] | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(rows, Mapping):
        rows = [{"_id": row_id, "text": text} for row_id, text in rows.items()]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@dataclass(frozen=True)
class Models:
    """The two built-in models."""

    minilm: Embedder
    mini: Reranker


@pytest.fixture(scope="session")
def models() -> Models:
    """The real minilm and mini, loaded once per run."""
    settings = Settings(home=Path(_HOME), hub_offline=True, device="cpu")
    minilm = load_embedder("minilm", settings)
    return Models(minilm, load_reranker("mini", settings, minilm))
