"""The same rerank in other libraries: code to copy, with the pinned revision and these settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rag_inspect.types import ModelSpec, Search


def snippet(search: Search, library: str, hub_model: ModelSpec) -> str:
    """Python that reranks with this search's model, revision, depth and query in the given library.

    A built-in model lives in rag-inspect alone; the other libraries are shown with `hub_model` instead, and
    the snippet says so. Raises KeyError for a library that is not in LIBRARIES.
    """
    write = LIBRARIES[library]
    if search.reranker.files or write is _rag_inspect:
        return write(search)
    remark = f"# {search.reranker.key} is built into rag-inspect; on the hub, {hub_model.key} is the model to begin with.\n"
    return remark + write(replace(search, reranker=hub_model))


def _literals(search: Search) -> str:
    return f"query = {search.query.text!r}\npassages = [...]  # the texts of your top {search.top_k} candidates\n"


def _sentence_transformers(search: Search) -> str:
    model = search.reranker
    return f"""from sentence_transformers import CrossEncoder
from torch.nn import Identity

{_literals(search)}
reranker = CrossEncoder({model.model!r}, revision={model.revision!r}, max_length={model.max_tokens})
# Identity keeps the raw logits; the default sigmoid saturates and ties.
ranked = reranker.rank(query, passages, top_k={search.top_n}, activation_fn=Identity())
for hit in ranked:
    print(hit["corpus_id"], hit["score"])
"""


def _transformers(search: Search) -> str:
    model = search.reranker
    return f"""import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

{_literals(search)}
where = {{"pretrained_model_name_or_path": {model.model!r}, "revision": {model.revision!r}}}
tokenizer = AutoTokenizer.from_pretrained(**where)
model = AutoModelForSequenceClassification.from_pretrained(**where).eval()
inputs = tokenizer(
    [query] * len(passages), passages, padding=True, truncation=True, max_length={model.max_tokens}, return_tensors="pt"
)
with torch.inference_mode():
    logits = model(**inputs).logits[:, 0]
for place in logits.argsort(descending=True, stable=True)[:{search.top_n}].tolist():
    print(place, logits[place].item())
"""


def _llama_index(search: Search) -> str:
    model = search.reranker
    return f"""from huggingface_hub import snapshot_download
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

{_literals(search)}
# The postprocessor takes no revision, so the pinned files are fetched first.
folder = snapshot_download({model.model!r}, revision={model.revision!r})
reranker = SentenceTransformerRerank(model=folder, top_n={search.top_n})
nodes = [NodeWithScore(node=TextNode(text=passage)) for passage in passages]
for hit in reranker.postprocess_nodes(nodes, query_str=query):
    print(hit.score, hit.node.get_content()[:80])
"""


def _rag_inspect(search: Search) -> str:
    return f"""from rag_inspect.rerankers import load_reranker
from rag_inspect.settings import Settings
from rag_inspect.types import Passage

{_literals(search)}
reranker = load_reranker({search.reranker.key!r}, Settings.from_env())
logits = reranker.score(query, [Passage(str(place), text) for place, text in enumerate(passages)])
for place in sorted(range(len(passages)), key=lambda place: -logits[place])[:{search.top_n}]:
    print(place, logits[place])
"""


LIBRARIES: dict[str, Callable[[Search], str]] = {
    "sentence-transformers": _sentence_transformers,
    "Transformers": _transformers,
    "LlamaIndex": _llama_index,
    "rag-inspect": _rag_inspect,
}
