"""Python code that repeats a rerank in other libraries, with the pinned revision and the same settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rag_inspect.types import ModelSpec, Reranking, Source

_ELSEWHERE: Mapping[Source, str] = {
    "builtin": "is built into rag-inspect",
    "folder": "is in a local folder",
    "remote": "is behind an endpoint",
}


def write_snippet(reranking: Reranking, library: str, hub_model: ModelSpec) -> str:
    """Write Python that repeats this rerank in a library: same model, revision, depth and query.

    Other libraries cannot load a model that is on no hub, so the snippet uses `hub_model` and says so. Raises
    KeyError if the library is not in LIBRARIES.
    """
    write = LIBRARIES[library]
    if _can_load(library, reranking.reranker):
        return write(reranking)
    where = _ELSEWHERE[reranking.reranker.source]
    remark = f"# {reranking.reranker.key} {where}; this code uses {hub_model.key}, which is on the hub.\n"
    return remark + write(replace(reranking, reranker=hub_model))


def choose_library(reranking: Reranking) -> str:
    """Return the first library that can load this search's reranker."""
    return next(name for name in LIBRARIES if _can_load(name, reranking.reranker))


def describe_snippet(reranking: Reranking, library: str, hub_model: ModelSpec) -> str:
    """Say which model the snippet reranks with, and whether it is the one of the search."""
    spec = reranking.reranker
    if _can_load(library, spec):
        return f"{spec.key}, revision {spec.revision[:8]}, with these settings"
    return f"{hub_model.key} instead of {spec.key}, which {library} cannot load: expect another order"


def _can_load(library: str, spec: ModelSpec) -> bool:
    return spec.source == "hub" or LIBRARIES[library] is _rag_inspect


def _literals(reranking: Reranking) -> str:
    query, top_k = reranking.candidates.query.text, reranking.candidates.top_k
    return f"query = {query!r}\npassages = [...]  # the texts of your top {top_k} candidates\n"


def _sentence_transformers(reranking: Reranking) -> str:
    model = reranking.reranker
    return f"""from sentence_transformers import CrossEncoder
from torch.nn import Identity

{_literals(reranking)}
reranker = CrossEncoder({model.model!r}, revision={model.revision!r}, max_length={model.max_tokens})
# Identity keeps the raw logits; the default sigmoid saturates and ties.
ranked = reranker.rank(query, passages, top_k={reranking.top_n}, activation_fn=Identity())
for hit in ranked:
    print(hit["corpus_id"], hit["score"])
"""


def _transformers(reranking: Reranking) -> str:
    model = reranking.reranker
    return f"""import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

{_literals(reranking)}
where = {{"pretrained_model_name_or_path": {model.model!r}, "revision": {model.revision!r}}}
tokenizer = AutoTokenizer.from_pretrained(**where)
model = AutoModelForSequenceClassification.from_pretrained(**where).eval()
inputs = tokenizer(
    [query] * len(passages), passages, padding=True, truncation=True, max_length={model.max_tokens}, return_tensors="pt"
)
with torch.inference_mode():
    logits = model(**inputs).logits[:, 0]
for place in logits.argsort(descending=True, stable=True)[:{reranking.top_n}].tolist():
    print(place, logits[place].item())
"""


def _llama_index(reranking: Reranking) -> str:
    model = reranking.reranker
    return f"""from huggingface_hub import snapshot_download
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

{_literals(reranking)}
# The postprocessor takes no revision, so the pinned files are fetched first.
folder = snapshot_download({model.model!r}, revision={model.revision!r})
reranker = SentenceTransformerRerank(model=folder, top_n={reranking.top_n})
nodes = [NodeWithScore(node=TextNode(text=passage)) for passage in passages]
for hit in reranker.postprocess_nodes(nodes, query_str=query):
    print(hit.score, hit.node.get_content()[:80])
"""


def _rag_inspect(reranking: Reranking) -> str:
    return f"""from rag_inspect.rerankers import load_reranker
from rag_inspect.settings import Settings
from rag_inspect.types import Passage

{_literals(reranking)}
reranker = load_reranker({reranking.reranker.key!r}, Settings.from_env())
scores = reranker.score(query, [Passage(str(place), text) for place, text in enumerate(passages)])
for place in sorted(range(len(passages)), key=lambda place: -scores[place])[:{reranking.top_n}]:
    print(place, scores[place])
"""


LIBRARIES: dict[str, Callable[[Reranking], str]] = {
    "sentence-transformers": _sentence_transformers,
    "Transformers": _transformers,
    "LlamaIndex": _llama_index,
    "rag-inspect": _rag_inspect,
}
