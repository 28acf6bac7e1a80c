"""Adapters of the ColPali family: base and adapter fetched, every weight accounted for, merged once."""

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
from PIL import Image
from safetensors.torch import load_file, save_file

from visrag_integrations import Page, load_embedder
from visrag_integrations.embedders import embedder_names
from visrag_integrations.errors import CheckpointError

library = pytest.importorskip("sentence_transformers")
pytest.importorskip("torchvision")
pytest.importorskip("peft")
from tiny_adapters import colqwen25, edit_json, qwen25_network, save_adapter  # noqa: E402
from tiny_hub import serve  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
TEXTS = ["how many?", "Grüße, 世界", "a much longer question about the table on the second page"]
PICTURES = [Image.new("RGB", (80, 60), "red"), Image.new("RGB", (60, 170), "blue"), Image.new("RGB", (33, 40), "gold")]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colqwen25(tmp_path_factory.mktemp("colqwen25"))


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """(adapter, base) to change; the adapter names that base."""
    adapter, base = shutil.copytree(made[0], tmp_path / "adapter"), shutil.copytree(made[1], tmp_path / "base")
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    return Path(adapter), Path(base)


def pages() -> list[Page]:
    return [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(PICTURES, 1)]


def vectors(folder: Path) -> list[Any]:
    with load_embedder(folder, device="cpu") as embedder:
        return embedder.embed_pages(pages()) + embedder.embed_queries(TEXTS)


def assert_close(ours: list[Any], theirs: list[Any]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_values_are_those_of_peft_and_the_library_called_by_hand(made: tuple[Path, Path]) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapter, _ = made
    model = library.MultiVectorEncoder(str(adapter), device="cpu", local_files_only=True)
    settings = {"convert_to_numpy": True, "normalize_embeddings": True, "batch_size": 1}
    expected = [model.encode_document([{"image": picture}], **settings)[0] for picture in PICTURES]
    expected += [model.encode_query([text], **settings)[0] for text in TEXTS]
    found = vectors(adapter)
    assert_close(found, expected)
    # The adapter is in them: without it the same model gives others.
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(False)
    assert np.abs(model.encode_query(TEXTS[:1], **settings)[0] - found[len(PICTURES)]).max() > 1e-3


def test_nothing_of_peft_is_left_in_the_network(made: tuple[Path, Path]) -> None:
    with load_embedder(made[0], device="cpu") as embedder:
        assert (embedder.name, embedder.kind, embedder.dimension) == (str(made[0]), "multi", 16)
        names = [name for name, _ in embedder._model.named_modules()]  # type: ignore[attr-defined]
    assert names
    assert not [name for name in names if "lora" in name or "base_layer" in name]


def test_names_as_colpali_engine_writes_them(made: tuple[Path, Path], copy: tuple[Path, Path]) -> None:
    """Layers without "language_model", and the projection in base and adapter, though 1_Dense has the trained one."""
    adapter, base = copy
    old = {}
    for name, weight in load_file(adapter / WEIGHTS).items():
        old[name.replace("model.language_model.", "model.model.")] = weight
    for half, shape in (("lora_A", (4, 32)), ("lora_B", (16, 4))):
        old[f"base_model.model.custom_text_proj.{half}.weight"] = torch.ones(shape)
    save_file(old, adapter / WEIGHTS, metadata={"format": "pt"})
    base_weights = {}
    for name, weight in load_file(base / "model.safetensors").items():
        base_weights[name.replace("language_model.", "model.")] = weight
    base_weights["custom_text_proj.weight"] = torch.ones(16, 32)
    save_file(base_weights, base / "model.safetensors", metadata={"format": "pt"})
    edit_json(base / "config.json", architectures=["ColQwen2_5"])
    assert_close(vectors(adapter), vectors(made[0]))


def change(path: Path, **changed: torch.Tensor | None) -> None:
    """One weight of a file, whose name ends so, taken away (None) or replaced."""
    weights = load_file(path)
    for ending, weight in changed.items():
        (name,) = [name for name in weights if name.endswith(ending.replace("__", "."))]
        del weights[name]
        if weight is not None:
            weights[name] = weight
    save_file(weights, path, metadata={"format": "pt"})


def test_a_matrix_that_is_missing(copy: tuple[Path, Path]) -> None:
    change(copy[0] / WEIGHTS, layers__1__mlp__up_proj__lora_B__weight=None)
    with pytest.raises(CheckpointError, match=r"not in the adapter: language_model\.layers\.1\.mlp\.up_proj\.lora_B"):
        load_embedder(copy[0], device="cpu")


@pytest.mark.parametrize("name", ["layers.7.mlp.up_proj.lora_A", "elsewhere.lora_B", "embed_tokens.modules_to_save"])
def test_a_matrix_without_a_place(copy: tuple[Path, Path], name: str) -> None:
    weights = load_file(copy[0] / WEIGHTS)
    weights[f"base_model.model.language_model.{name}.weight"] = torch.full((4, 32), 0.25)
    save_file(weights, copy[0] / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"Without a place: \S*{name}"):
        load_embedder(copy[0], device="cpu")


def test_a_projection_is_not_left_out_where_no_other_is_there(copy: tuple[Path, Path]) -> None:
    """Without 1_Dense the adapter's own would be needed."""
    adapter, _ = copy
    weights = load_file(adapter / WEIGHTS)
    weights["base_model.model.custom_text_proj.lora_A.weight"] = torch.full((4, 32), 0.25)
    save_file(weights, adapter / WEIGHTS, metadata={"format": "pt"})
    modules = json.loads((adapter / "modules.json").read_text())
    (adapter / "modules.json").write_text(json.dumps([each for each in modules if each["path"] != "1_Dense"]))
    shutil.rmtree(adapter / "1_Dense")
    with pytest.raises(CheckpointError, match=r"Without a place: \S*custom_text_proj"):
        load_embedder(adapter, device="cpu")


def test_an_adapter_of_another_base(copy: tuple[Path, Path], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        save_adapter(qwen25_network(hidden_size=64), str(copy[1]), tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, copy[0] / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"adapter"):
        load_embedder(copy[0], device="cpu")


@pytest.mark.parametrize(
    "name", ["layers.1.mlp.up_proj.weight", "visual.patch_embed.proj.weight", "embed_tokens.weight"]
)
def test_a_weight_that_the_base_lacks(copy: tuple[Path, Path], name: str) -> None:
    weights = load_file(copy[1] / "model.safetensors")
    (whole,) = [each for each in weights if each.endswith(name)]
    del weights[whole]
    save_file(weights, copy[1] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"missing: \S*{name.rpartition('.')[0]}"):
        load_embedder(copy[0], device="cpu")


@pytest.mark.parametrize("base", [None, "", 7])
def test_an_adapter_that_does_not_name_its_base(copy: tuple[Path, Path], base: Any) -> None:
    edit_json(copy[0] / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(CheckpointError, match="not its base's name"):
        load_embedder(copy[0], device="cpu")


def test_a_base_that_is_nowhere(copy: tuple[Path, Path]) -> None:
    edit_json(copy[0] / "adapter_config.json", base_model_name_or_path="/nowhere/base")
    with pytest.raises(CheckpointError, match=r"adapter of '/nowhere/base', which is needed too"):
        load_embedder(copy[0], device="cpu")


def test_pickles_are_refused_in_adapter_and_base(copy: tuple[Path, Path]) -> None:
    adapter, base = copy
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    torch.save(weights, base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin; only safetensors"):
        load_embedder(adapter, device="cpu")
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin; only safetensors"):
        load_embedder(adapter, device="cpu")


def test_a_fingerprint_is_that_of_both(made: tuple[Path, Path], copy: tuple[Path, Path]) -> None:
    adapter, base = copy
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    with load_embedder(adapter, device="cpu") as embedder:
        first = embedder.fingerprint
    change(base / "model.safetensors", layers__1__mlp__up_proj__weight=torch.zeros(48, 32))
    with load_embedder(adapter, device="cpu") as embedder:
        second = embedder.fingerprint
    change(adapter / WEIGHTS, layers__1__mlp__up_proj__lora_B__weight=torch.full((48, 4), 0.5))
    with load_embedder(adapter, device="cpu") as embedder:
        assert len({first, second, embedder.fingerprint}) == 3


def test_without_modules_nothing_is_made_up(copy: tuple[Path, Path]) -> None:
    """The library would put a projection with random weights there."""
    (copy[0] / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter of .*base', which no embedder here reads by itself"):
        load_embedder(copy[0], device="cpu")
    for folder in copy:
        with pytest.raises(CheckpointError, match=r"has no modules\.json"):
            load_embedder(folder, system="sentence-transformers", kind="multi", device="cpu")
    # Nor one vector a page, the mean of all tokens, which an adapter of many vectors was not trained for.
    with pytest.raises(CheckpointError, match=r"has no modules\.json"):
        load_embedder(copy[0], system="sentence-transformers", device="cpu")


def test_the_published_names_are_known() -> None:
    assert {
        "vidore/colpali-v1.2",
        "vidore/colpali-v1.3",
        "vidore/colqwen2.5-v0.2",
        "vidore/colSmol-256M",
        "vidore/colSmol-500M",
        "nomic-ai/colnomic-embed-multimodal-3b",
        "nomic-ai/colnomic-embed-multimodal-7b",
    } <= set(embedder_names())


PROGRAM = """
import json, sys
from PIL import Image
from visrag_integrations import Page, load_embedder
embedder = load_embedder("vidore/colqwen2.5-v0.2", device="cpu")
vector = embedder.embed_pages([Page.from_image(Image.new("RGB", (80, 60), "red"), doc_id="d")])[0]
print(json.dumps({"name": embedder.name, "vector": vector.tolist(), "fingerprint": embedder.fingerprint}))
"""


@pytest.mark.slow
def test_adapter_and_base_are_fetched_by_name(made: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(made[0], tmp_path / "published"))
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="vidore/colqwen2.5-base")
    (adapter / "code.py").write_text("raise SystemExit('code of a checkpoint was run')")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    with serve({"vidore/colqwen2.5-v0.2": adapter, "vidore/colqwen2.5-base": made[1]}) as (address, asked):
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        first = run(environment)
        assert "vidore/colqwen2.5-v0.2/adapter_model.safetensors" in asked
        assert "vidore/colqwen2.5-base/model.safetensors" in asked
        assert not [each for each in asked if each.endswith(".py")]
    assert first["name"] == "vidore/colqwen2.5-v0.2"
    np.testing.assert_allclose(first["vector"], vectors(made[0])[0], rtol=0, atol=1e-5)
    # What was fetched stays: the hub is gone, and nothing is asked of it.
    assert run({**environment, "HF_HUB_OFFLINE": "1"}) == first


def run(environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
