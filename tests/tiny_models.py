"""Write small models with the real architectures, random weights and a small tokenizer, in folders like the hub's."""

import json
import random
from pathlib import Path
from typing import Any

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.rerankers import RERANKERS

WORDS = [
    *(
        "the",
        "a",
        "of",
        "an",
        "index",
        "query",
        "passage",
        "vector",
        "reranker",
        "embedding",
        "model",
        "search",
    ),
    *("score", "rank", "token", "batch", "hub", "cache", "file", "disk", "memory", "server", "page", "word"),
    *("night", "star", "moon", "planet", "comet", "river", "mountain", "forest", "bread", "cheese", "apple"),
    *("reads", "writes", "keeps", "finds", "moves", "sorts", "loads", "saves", "compares"),
]


def make_sentence(seed: int, words: int) -> str:
    """Make a sentence; the same seed gives the same words."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def write_reranker(folder: Path, positions: int = 514) -> Path:
    """Write an XLMRobertaForSequenceClassification, like the bge rerankers."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    tokenizer = _xlm_roberta_tokenizer(max_length=positions - 2)
    torch.manual_seed(positions)
    config = XLMRobertaConfig(**_shape(len(tokenizer)), max_position_embeddings=positions, type_vocab_size=1)
    config.num_labels = 1
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_bge_m3(folder: Path) -> Path:
    """Write an XLMRobertaModel in pytorch_model.bin with first-token pooling, like bge-m3."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = _xlm_roberta_tokenizer(max_length=8192)
    torch.manual_seed(1)
    config = XLMRobertaConfig(**_shape(len(tokenizer)), max_position_embeddings=8194, type_vocab_size=1)
    model = XLMRobertaModel(config)
    model.config.architectures = ["XLMRobertaModel"]
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)
    _write_modules(folder, "cls")
    return folder


def write_nomic(folder: Path) -> Path:
    """Write a NomicBertModel with the weight names of nomic-embed-text-v1.5 and its reference to remote code."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer, NomicBertConfig, NomicBertModel

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(
        (make_sentence(seed, 30) for seed in range(50)), vocab_size=400, show_progress=False
    )
    tokenizer = BertTokenizer(vocab=trained.get_vocab(), model_max_length=2048)
    torch.manual_seed(2)
    NomicBertModel(NomicBertConfig(**_shape(len(tokenizer)))).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    _write_modules(folder, "mean")
    return folder


def write_all(models_dir: Path) -> Path:
    """Write every model that is not built in, in the layout of RAG_INSPECT_MODELS_DIR."""
    for key in ("base", "large", "v2-m3"):
        write_reranker(models_dir / RERANKERS[key].model, positions=1026 if key == "v2-m3" else 514)
    write_nomic(models_dir / EMBEDDERS["nomic"].model)
    write_bge_m3(models_dir / EMBEDDERS["bge-m3"].model)
    return models_dir


def _shape(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.3,  # so that scores differ
    }


def _xlm_roberta_tokenizer(max_length: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import XLMRobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator((make_sentence(seed, 30) for seed in range(50)), trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    return XLMRobertaTokenizer(vocab=[*map(tuple, pieces), ("<mask>", 0.0)], model_max_length=max_length)


def _write_modules(folder: Path, pooling: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {"word_embedding_dimension": 32, "pooling_mode_cls_token": pooling == "cls"}
    modes["pooling_mode_mean_tokens"] = pooling == "mean"
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "2_Normalize").mkdir(exist_ok=True)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 2048, "do_lower_case": False})
    )
