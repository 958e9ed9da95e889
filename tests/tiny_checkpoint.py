"""Checkpoints in the form of BAAI/bge-m3 and BAAI/bge-reranker-v2-m3, small, seeded, made without a network.

Nothing in them is trained. The weights are set so that the model averages its token vectors: texts that share words
get near vectors, which is enough to test everything around a model. The pieces of the tokenizer are listed by hand,
since the trainer of `tokenizers` gives others in another process.
"""

import json
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaModel

CORPUS = (
    "The quick brown fox jumps over the lazy dog.",
    "PostgreSQL stores vectors with the pgvector extension.",
    "Hybrid search mixes dense embeddings and sparse lexical weights.",
    "A cat sat on the mat while it rained.",
    "Reciprocal rank fusion joins ranked lists of results.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Le chat est assis sur le tapis.",
    "向量数据库与全文检索",
    "ベクトル検索と全文検索",
    "How do I reset a forgotten password? Open the account page, 24 hours a day.",
)
SPECIAL = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def embedder(
    folder: Path, *, hidden: int = 64, layers: int = 2, positions: int = 8194, seed: int = 0, average: bool = True
) -> Path:
    """Write the files of BAAI/bge-m3: the backbone, its tokenizer, and the sparse and ColBERT heads.

    Without `average` the weights are as random as transformers makes them.
    """
    vocabulary = _write_tokenizer(folder, positions)
    torch.manual_seed(seed)
    model = XLMRobertaModel(_config(vocabulary, hidden, layers, positions)).eval()
    if average:
        _average_tokens(model)
    model.save_pretrained(folder)
    sparse, colbert = torch.nn.Linear(hidden, 1), torch.nn.Linear(hidden, hidden)
    torch.nn.init.normal_(sparse.weight, std=0.05 / hidden**0.5)
    torch.nn.init.constant_(sparse.bias, 0.2)  # the weights go through a ReLU: without a bias half of them are 0
    torch.save(sparse.state_dict(), folder / "sparse_linear.pt")
    torch.save(colbert.state_dict(), folder / "colbert_linear.pt")
    return folder


def reranker(folder: Path, *, hidden: int = 64, layers: int = 2, positions: int = 1026, seed: int = 0) -> Path:
    """Write the files of BAAI/bge-reranker-v2-m3: a backbone with one score."""
    vocabulary = _write_tokenizer(folder, positions)
    torch.manual_seed(seed)
    config = _config(vocabulary, hidden, layers, positions)
    config.num_labels = 1
    model = XLMRobertaForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def _config(vocabulary: int, hidden: int, layers: int, positions: int) -> XLMRobertaConfig:
    return XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=2 * hidden if hidden < 512 else 4 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        layer_norm_eps=1e-5,
    )


@torch.no_grad()
def _average_tokens(model: XLMRobertaModel) -> None:
    embeddings = model.embeddings
    embeddings.word_embeddings.weight.normal_(0, 1.0)
    embeddings.word_embeddings.weight[:3] = 0.0  # <s>, <pad> and </s> bring nothing of their own
    embeddings.position_embeddings.weight.mul_(0.1)
    embeddings.token_type_embeddings.weight.zero_()
    unit = torch.eye(model.config.hidden_size)
    for layer in model.encoder.layer:
        layer.attention.self.query.weight.zero_()
        layer.attention.self.key.weight.zero_()
        layer.attention.self.value.weight.copy_(unit)
        layer.attention.output.dense.weight.copy_(4 * unit)


def _pieces() -> list[tuple[str, float]]:
    words = {word for text in CORPUS for word in re.findall(r"\w+", text)}
    words |= {word.lower() for word in words}
    characters = ({chr(code) for code in range(33, 127)} | set("".join(CORPUS))) - {" "}
    listed = [("▁" + word, -5.0) for word in sorted(words)] + [(c, -8.0) for c in sorted(characters)]
    specials = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*specials, ("▁", -6.0), *listed, ("<mask>", 0.0)]


def _write_tokenizer(folder: Path, positions: int) -> int:
    """Write a tokenizer of XLM-R's form; return the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = _pieces()
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL))
    settings = SPECIAL | {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": positions - 2}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(pieces)
