"""ColModernVBERT's vision tower in ONNX Runtime and in OpenVINO, for `cpu_visual.py`; the package uses neither.

pip install onnx onnxruntime openvino nncf
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

NEEDS = {
    "onnxruntime-float32": ("onnx", "onnxruntime"),
    "onnxruntime-int8": ("onnx", "onnxruntime"),
    "openvino-float32": ("openvino",),
    "openvino-bfloat16": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
}


def installed() -> list[str]:
    """The ways whose packages are there."""
    return [way for way, packages in NEEDS.items() if all(find_spec(package) for package in packages)]


def replace_encoder(network: Any, way: str) -> None:
    """Puts another runtime in the place of the tower's layers; the rest of the network stays."""
    tower = network.vlm.vision_model
    tower.use_head = False
    patches, size = tower.embeddings.num_patches, tower.config.hidden_size
    threads = torch.get_num_threads()
    if way.startswith("onnxruntime"):
        run = onnxruntime_of(_Layers(tower.encoder), torch.zeros(1, patches, size), way.endswith("int8"), threads)
    else:
        run = openvino_of(_Layers(tower.encoder), torch.zeros(1, patches, size), way.split("-")[1], threads)
    tower.encoder = _Elsewhere(run)


def onnxruntime_of(layers: nn.Module, example: Tensor, int8: bool, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        with torch.no_grad():
            torch.onnx.export(layers, (example,), str(path), dynamo=False, input_names=["x"], output_names=["y"])
        if int8:
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(
                path, Path(folder) / "int8.onnx", per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
            )
            path = Path(folder) / "int8.onnx"
        print(f"on the disk: {path.stat().st_size >> 20} MB", flush=True)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"x": tile})[0]


def openvino_of(layers: nn.Module, example: Tensor, precision: str, threads: int) -> Any:
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(layers, example_input=example, input=[example.shape])
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    if precision != "float32":
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    if precision == "int8":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = example.shape[-1]  # a scale for each so many numbers that come in
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda tile: compiled(tile)[0]


class _Layers(nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.layers = encoder.layers

    def forward(self, patches: Tensor) -> Tensor:
        for layer in self.layers:
            patches = layer(patches, None)
        return patches


class _Elsewhere(nn.Module):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    def forward(self, inputs_embeds: Tensor, **_: Any) -> BaseModelOutput:
        tiles = [torch.from_numpy(self._run(tile[None].contiguous().float().numpy())) for tile in inputs_embeds]
        return BaseModelOutput(last_hidden_state=torch.cat(tiles).to(inputs_embeds.dtype))
