"""A random text model of sentence-transformers: BERT of two layers, a word piece for every letter."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
library = pytest.importorskip("sentence_transformers")

DIMENSION = 32


def save_text_model(folder: Path, *, prompts: dict[str, str] | None = None, seed: int = 7) -> Path:
    """Saves one to the folder, as the library does; `prompts` are those for "query" and "document"."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), ".", "?"]
    network = folder.with_name(f"{folder.name}.network")
    network.mkdir(parents=True)
    (network / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(network / "vocab.txt"))
    tokenizer.save_pretrained(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=len(pieces),
            hidden_size=DIMENSION,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=512,
        )
        transformers.BertModel(config).save_pretrained(network)
    modules = [Transformer(str(network)), Pooling(DIMENSION)]
    library.SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(folder))
    return folder
