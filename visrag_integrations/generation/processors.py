"""The processor of a checkpoint, also where torchvision, which its video part wants, is not installed."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

from visrag_integrations.errors import CheckpointError, MissingExtraError


def load_processor(name_or_path: str) -> Any:
    """The processor that transformers has, with tokenizer, picture preparation and chat template.

    Raises:
        CheckpointError: Its files are missing or do not fit.
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as err:
        raise MissingExtraError("transformers", "torch") from err
    try:
        if importlib.util.find_spec("torchvision") is not None:
            return transformers.AutoProcessor.from_pretrained(name_or_path)
        return _without_video(transformers, name_or_path)
    except Exception as err:  # whatever transformers finds wrong with it, the caller learns which checkpoint it was
        raise CheckpointError(
            f"The processor of {name_or_path!r} cannot be loaded: {err}. A checkpoint needs preprocessor_config.json, "
            "tokenizer.json and a chat template beside its weights; without a network it must be a local folder."
        ) from err


class NoVideo:
    """Stands where a processor looks up the settings of its video part: it has none."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _without_video(transformers: Any, name_or_path: str) -> Any:
    """The processor with tokenizer and pictures; where it would have a video part, that is left out."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    config = transformers.AutoConfig.from_pretrained(name_or_path)
    class_name = PROCESSOR_MAPPING_NAMES.get(config.model_type)
    found = getattr(transformers, class_name or "", None)
    if found is None or "video_processor" not in found.get_attributes():
        return transformers.AutoProcessor.from_pretrained(name_or_path)

    class WithoutVideo(found):  # type: ignore[misc, valid-type]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor":
                return NoVideo
            return super().check_argument_for_proper_class(argument_name, argument)

    tokenizer = transformers.AutoTokenizer.from_pretrained(name_or_path)
    pictures = transformers.AutoImageProcessor.from_pretrained(name_or_path, backend="pil")
    # processor_config.json holds settings of the processor itself (how many tokens a picture takes, for example) beside
    # those of its parts: only the first are handed on.
    taken = set(inspect.signature(found.__init__).parameters) - {*found.get_attributes(), "chat_template"}
    saved, _ = found.get_processor_dict(name_or_path)
    own = {name: value for name, value in saved.items() if name in taken}
    return WithoutVideo(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=NoVideo(),
        chat_template=saved.get("chat_template") or tokenizer.chat_template,
        **own,
    )
