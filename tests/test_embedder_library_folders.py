"""Folders of sentence-transformers that are not whole, or not what the caller says: refused, and never made up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from visrag_integrations import load_embedder
from visrag_integrations.errors import CheckpointError, SettingError

pytest.importorskip("sentence_transformers")
pytest.importorskip("torchvision")
pytest.importorskip("peft")
from tiny_adapters import colqwen25, edit_json, query_model, qwen3_vl_embedding
from tiny_hub import COMMIT, serve

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_vl_embedding(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colqwen25(tmp_path_factory.mktemp("colqwen25"))


@pytest.fixture
def copy(single: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(single, tmp_path / "copy"))


def without(path: Path, ending: str) -> str:
    """Take one weight out of a file; gives its name."""
    weights = load_file(path)
    (name,) = [name for name in weights if name.endswith(ending)]
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize(
    "ending",
    [
        "layers.1.mlp.up_proj.weight",
        "visual.patch_embed.proj.weight",
        "visual.patch_embed.proj.bias",
        "embed_tokens.weight",
        "visual.pos_embed.weight",
    ],
)
def test_a_weight_that_is_missing_is_named_and_not_random(copy: Path, ending: str) -> None:
    weights = load_file(copy / WEIGHTS)
    for name, weight in weights.items():  # as trained ones are: no two weights begin alike
        if weight.ndim == 1:
            weights[name] = torch.randn_like(weight)
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    load_embedder(copy, device="cpu").close()  # type: ignore[attr-defined]
    name = without(copy / WEIGHTS, ending)
    with pytest.raises(CheckpointError, match=rf"missing: \S*{name.removeprefix('model.')}"):
        load_embedder(copy, device="cpu")


def test_a_query_model_is_looked_at_as_well(tmp_path: Path) -> None:
    folder = query_model(tmp_path, 16)
    without(folder / WEIGHTS, "layer.1.ffn.lin1.weight")
    with pytest.raises(CheckpointError, match=r"missing: transformer\.layer\.1\.ffn\.lin1\.weight"):
        load_embedder(folder, texts_only=True, device="cpu")


def test_a_pooling_that_nothing_reads_may_be_missing(tmp_path: Path) -> None:
    """BERT has one of its own, which its checkpoints for embeddings often leave out."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tiny_retrievers import byte_tokenizer

    network = tmp_path / "network"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    transformers.BertModel(transformers.BertConfig(vocab_size=270, **sizes)).save_pretrained(network)
    byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], pad_token="[PAD]").save_pretrained(network)
    modules = [Transformer(str(network)), Pooling(32, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "whole"))
    without(tmp_path / "whole" / WEIGHTS, "pooler.dense.weight")
    with load_embedder(tmp_path / "whole", texts_only=True, device="cpu") as embedder:
        assert embedder.embed_queries(["x"])[0].shape == (32,)


@pytest.mark.parametrize("size", [0, 5, 60, 5000, -1])
def test_a_download_that_broke_off_is_named(copy: Path, size: int) -> None:
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or cut off: it has .*Download it again"):
        load_embedder(copy, device="cpu")


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": []}}', b"\xff\xff"]
)
def test_a_header_that_is_none(copy: Path, header: bytes) -> None:
    (copy / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or cut off: its header cannot be read"):
        load_embedder(copy, device="cpu")


def test_a_pointer_in_place_of_weights(copy: Path) -> None:
    """What git leaves where git-lfs is not installed."""
    (copy / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or cut off"):
        load_embedder(copy, device="cpu")


@pytest.mark.parametrize("which", ["adapter", "base"])
def test_a_cut_off_file_of_adapter_or_base_is_named(adapted: tuple[Path, Path], tmp_path: Path, which: str) -> None:
    adapter, base = (Path(shutil.copytree(each, tmp_path / each.name)) for each in adapted)
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    file = {"adapter": adapter / "adapter_model.safetensors", "base": base / WEIGHTS}[which]
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=rf"{which}/\w+\.safetensors is damaged or cut off"):
        load_embedder(adapter, device="cpu")


def test_a_base_of_another_size_says_so(adapted: tuple[Path, Path], tmp_path: Path) -> None:
    from tiny_adapters import qwen25_network, qwen_processor

    adapter = Path(shutil.copytree(adapted[0], tmp_path / "adapter"))
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    qwen25_network(hidden_size=64, rope_scaling=rope).save_pretrained(tmp_path / "wide")
    qwen_processor().save_pretrained(tmp_path / "wide")
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "wide"))
    with pytest.raises(CheckpointError, match="other shapes than their configuration says"):
        load_embedder(adapter, device="cpu")


def test_without_a_tokenizer(copy: Path) -> None:
    """The library would make one up, which turns every text into nothing."""
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer \(tokenizer\.json"):
        load_embedder(copy, device="cpu")


def test_a_kind_that_the_folder_is_not(single: Path, adapted: tuple[Path, Path]) -> None:
    """The library would put a random projection there, or give vectors of every token as one."""
    with pytest.raises(SettingError, match=r"kind is 'multi'.*of kind 'single'\. Leave kind out"):
        load_embedder(single, kind="multi", device="cpu")
    with pytest.raises(SettingError, match=r"kind is 'single'.*of kind 'multi'\. Leave kind out"):
        load_embedder(adapted[0], kind="single", device="cpu")
    with load_embedder(single, kind="single", device="cpu") as embedder:
        assert embedder.kind == "single"


PROGRAM = """
import json, sys
from visrag_integrations import load_embedder
embedder = load_embedder("a/adapter", system="sentence-transformers", device="cpu", **json.loads(sys.argv[1]))
print(json.dumps({"vector": embedder.embed_queries(["x"])[0].tolist(), "fingerprint": embedder.fingerprint}))
"""


@pytest.mark.slow
def test_revisions_of_an_adapter_and_of_its_base(adapted: tuple[Path, Path], tmp_path: Path) -> None:
    """An adapter that names a revision of its base gets that one, although the base went on."""
    adapter = Path(shutil.copytree(adapted[0], tmp_path / "adapter"))
    pinned = "f" * 40
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="a/base", revision=pinned)
    newer = Path(shutil.copytree(adapted[1], tmp_path / "newer"))
    weights = load_file(newer / WEIGHTS)
    save_file({name: weight + 0.5 for name, weight in weights.items()}, newer / WEIGHTS, metadata={"format": "pt"})
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    revisions = {("a/base", pinned): adapted[1]}
    with serve({"a/adapter": adapter, "a/base": newer}, revisions) as (address, _):
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        found = run(environment, {})
        assert run(environment, {"revision": COMMIT}) == found
    with load_embedder(adapted[0], device="cpu") as embedder:
        np.testing.assert_allclose(found["vector"], embedder.embed_queries(["x"])[0], rtol=0, atol=1e-5)
    assert run({**environment, "HF_HUB_OFFLINE": "1"}, {}) == found


def run(environment: dict[str, str], settings: dict[str, Any]) -> dict[str, Any]:
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(settings)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
