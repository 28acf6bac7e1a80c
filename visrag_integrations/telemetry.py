"""No telemetry: what the packages this library uses would tell their makers is switched off, in every process.

The variables stand before any of these packages is imported, and child processes inherit them. One that is set already
stays as it is: then the user has chosen. What was imported before this library is switched off by its own functions.
Tracing that the user has set up (LangSmith and the like) is the user's, and is not touched.
"""

from __future__ import annotations

import contextlib
import os
import sys

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime: a device id in the home folder, names looked up every few seconds
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Name of an environment variable -> what switches the package's telemetry off."""


def switch_off() -> None:
    """Switch off what is not switched on by the user; called when this package is imported, and again by who loads."""
    chosen = set()
    for name, value in VARIABLES.items():
        if os.environ.setdefault(name, value) != value:
            chosen.add(name)
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None and "ORT_DISABLE_TELEMETRY" not in chosen:
        with contextlib.suppress(AttributeError):  # older versions send nothing
            runtime.disable_telemetry_events()
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and "HF_HUB_DISABLE_TELEMETRY" not in chosen:
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]  # read from the variable when it was imported
