"""The slow Llama tokenizer of MiniCPM-V 2.0, on sentencepiece alone.

A text is split on the added tokens, and every stretch between two of them is encoded by itself, with its own dummy
prefix. Fast tokenizers, and the slow ones of today's transformers, get many strings wrong, hence this file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from visrag_integrations.errors import CheckpointError, MissingExtraError

MODEL = "tokenizer.model"
PICTURE_TOKENS = ("<image>", "</image>", "<slice>", "</slice>")


def _read_optional(path: Path) -> dict[str, Any]:
    """The object in one of the tokenizer's JSON files; checkpoints leave some of them out."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{path} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return content


def _load_pieces(folder: Path) -> Any:
    """The sentencepiece model of a checkpoint folder."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as err:
        raise MissingExtraError("sentencepiece", "torch") from err
    path = folder / MODEL
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {MODEL}. Give the folder of a whole checkpoint, tokenizer included.")
    try:
        return SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, OSError) as err:
        raise CheckpointError(f"{path} is no sentencepiece model ({err}). Download it again.") from err


def _declared_tokens(folder: Path) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """Added tokens with the ids they are given, and every special token with how it treats the spaces around it."""
    config = _read_optional(folder / "tokenizer_config.json")
    specials = _read_optional(folder / "special_tokens_map.json")
    ids: dict[str, int] = {}
    tokens: dict[str, dict[str, Any]] = {}
    for key, entry in dict(config.get("added_tokens_decoder") or {}).items():
        ids[entry["content"]] = int(key)
        tokens[entry["content"]] = entry
    for content, number in _read_optional(folder / "added_tokens.json").items():
        ids.setdefault(content, int(number))
        tokens.setdefault(content, {})
    for source in (config, specials):
        entries = list(source.get("additional_special_tokens") or [])
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            entries.append(source.get(name))
        for entry in entries:
            if isinstance(entry, dict):
                tokens.setdefault(entry["content"], entry)
            elif isinstance(entry, str):
                tokens.setdefault(entry, {})
    return ids, tokens


def _pattern(content: str, entry: dict[str, Any]) -> str:
    """A token, with the white space around it that it takes away."""
    pattern = f"({re.escape(content)})"
    if entry.get("lstrip"):
        pattern = r"\s*" + pattern
    if entry.get("rstrip"):
        pattern += r"\s*"
    return pattern


class LlamaTokenizer:
    """Text to ids, as the released checkpoints were trained.

    Attributes:
        bos: Id of the beginning of a sequence.
        unknown: Id of the unknown token, which holds a picture vector's place.
    """

    def __init__(self, folder: Path) -> None:
        self._pieces = _load_pieces(folder)
        try:
            ids, tokens = _declared_tokens(folder)
        except (KeyError, TypeError, ValueError) as err:
            raise CheckpointError(f"The tokenizer's JSON files in {folder} are not as they should be: {err!r}") from err
        for name in PICTURE_TOKENS:
            tokens.setdefault(name, {})
        self._ids: dict[str, int] = {}
        for content in filter(None, tokens):
            self._ids[content] = ids.get(content, self._pieces.piece_to_id(content))
        self.bos: int = self._pieces.bos_id()
        self.unknown: int = self._pieces.unk_id()
        missing = [name for name in PICTURE_TOKENS if self._ids[name] == self.unknown]
        if missing or self.bos < 0:
            raise CheckpointError(f"{folder / MODEL} has no {', '.join(missing) or 'beginning-of-sequence token'}.")
        # The longest first, so that a token is never taken for another that it begins with.
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._split = re.compile("|".join(_pattern(content, tokens[content]) for content in longest_first))

    @property
    def size(self) -> int:
        """One more than the largest id it gives."""
        return max(int(self._pieces.vocab_size()), 1 + max(self._ids.values()))

    def token_id(self, content: str) -> int:
        """The id of a special token."""
        return self._ids[content]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without a beginning-of-sequence id; the text's own tags become special ids."""
        ids: list[int] = []
        start = 0
        for match in self._split.finditer(text):
            ids += self._encode_stretch(text[start : match.start()])
            ids.append(self._ids[match[match.lastindex or 0]])
            start = match.end()
        return ids + self._encode_stretch(text[start:])

    def _encode_stretch(self, text: str) -> list[int]:
        if not text:
            return []
        clean = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no UTF-8
        pieces: list[int] = self._pieces.encode(clean)
        return pieces
