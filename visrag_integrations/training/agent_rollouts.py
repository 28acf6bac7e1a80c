"""Runs of the agent, written by the network that is trained: our own episodes, with every token and who wrote it.

All runs of a step are under way at once: in each round, those that wait for a turn are written to together, as one
batch of the engine. The tokens that are trained are the very ones that were drawn; nothing is tokenised a second time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image as Pictures

from visrag_integrations.agent import Trace, VRAGAgent
from visrag_integrations.agent.episode import Episode, Write
from visrag_integrations.agent.rounds import requests_of, run_rounds
from visrag_integrations.errors import CheckpointError
from visrag_integrations.generation.chat import control_tokens, merged_parts, shown_pictures, without_control
from visrag_integrations.generation.vrag import parse_turn
from visrag_integrations.training.agent_tokens import TokenTurn, TurnRole, own_token_mask
from visrag_integrations.training.spelling import spell
from visrag_integrations.types import Conversation, Generation, Message, Usage

if TYPE_CHECKING:
    from PIL.Image import Image

PADDING_SIDE = 56
"""Pixels of the black picture behind a run that was shown none: four tokens, the fewest that Qwen2.5-VL takes."""


class DrawnTurn(NamedTuple):
    """A turn as an engine wrote it.

    Attributes:
        tokens: Ids, with that of the end of the turn where it was drawn.
        log_probs: Of each of them, where the engine tells: what vLLM draws from differs a little from the network.
    """

    tokens: Sequence[int]
    log_probs: Sequence[float] | None = None


@dataclass
class RunTokens:
    """One run as tokens.

    Attributes:
        episode: The run itself.
        prompt: Token ids before the first turn.
        turns: What was written after it, and by whom.
        pictures: What it was shown, in order.
        log_probs: Of the tokens after the prompt, as the engine told them; NaN at those that it did not draw.
        told: Whether it did tell them, in every turn.
    """

    episode: Episode
    prompt: list[int] = field(default_factory=list)
    turns: list[TokenTurn] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list, repr=False)
    log_probs: list[float] = field(default_factory=list, repr=False)
    told: bool = True

    def add(self, role: TurnRole, tokens: Sequence[int], log_probs: Sequence[float] | None = None) -> None:
        """Put a turn behind the others."""
        self.turns.append(TokenTurn(role, tokens))
        if role == "assistant":
            self.told = self.told and log_probs is not None
        known = [math.nan] * len(tokens) if log_probs is None else list(log_probs)
        self.log_probs += known

    @property
    def trace(self) -> Trace:
        """What happened."""
        return self.episode.trace

    @property
    def completion(self) -> list[int]:
        """All token ids after the prompt."""
        tokens: list[int] = []
        for turn in self.turns:
            tokens += turn.tokens
        return tokens

    def own(self, *, published: bool = False) -> list[int]:
        """1 at the completion's tokens that are trained."""
        return [int(each) for each in own_token_mask(self.turns, published=published).tolist()]


WriteTurns = Callable[[Sequence[RunTokens]], Sequence[DrawnTurn]]
"""Writes one turn to each run."""


class RunEncoder:
    """Conversations of the agent as tokens, turn by turn.

    Args:
        processor: Of the network: tokenizer, pictures, chat template.
        ends: Token ids that end a turn.
        pictures: Token ids that stand for pictures; a turn ends before one that the network draws itself, because no
            picture belongs to it.
    """

    def __init__(self, processor: Any, ends: Sequence[int], pictures: Sequence[int] = ()) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.ends, self.pictures = frozenset(ends), frozenset(pictures)
        self._control = control_tokens(self.tokenizer)

    def extend(self, run: RunTokens, conversation: Conversation) -> None:
        """Put what the conversation holds beyond the run's tokens behind them: what was shown and told."""
        text = self._template(conversation, generate=True)
        if run.prompt:
            text = self._after_last_turn(run, conversation, text)
        pictures = shown_pictures(conversation, None)
        new = pictures[len(run.pictures) :]
        tokens = self._encode(text, new)
        run.pictures += new
        if run.prompt:
            run.add("user", tokens)
        else:
            run.prompt = tokens

    def pad(self, run: RunTokens) -> None:
        """A black picture behind a run that was shown none: every run of a batch goes through the vision tower."""
        if run.pictures:
            return
        black = Pictures.new("RGB", (PADDING_SIDE, PADDING_SIDE))
        # As the last turn of a conversation: a template may put a system prompt before the first.
        before: Conversation = (Message((".",)), Message((".",), "assistant"))
        text = self._template((*before, Message((black,))), generate=False)
        text = text.removeprefix(self._template(before, generate=False))
        run.add("padding", self._encode("\n" + text, [black]))
        run.pictures.append(black)

    def read(self, tokens: Sequence[int], most: int) -> tuple[list[int], Generation]:
        """What was drawn, up to the end of the first action, and the same as text.

        Engines stop there themselves where they know stop strings; what a model makes up after its search would
        otherwise be trained as if it had been read.

        Args:
            tokens: As they were drawn.
            most: How many could be drawn.
        """
        for place, token in enumerate(tokens):
            if token in self.pictures:
                tokens, most = tokens[:place], place
                break
        ended = bool(tokens) and tokens[-1] in self.ends
        cut_off = not ended and len(tokens) >= most
        text, offsets = spell(tokens, self._decode)
        action = parse_turn(text, cut_off=cut_off).action
        kept = list(tokens)
        if action is not None:
            for place, (_, end) in enumerate(offsets):
                if end >= action.end:
                    # What ends the turn stands behind it, and shows as no character.
                    whole = place + 1
                    if list(tokens[whole : whole + 1]) and tokens[whole] in self.ends:
                        whole += 1
                    kept, text, cut_off = list(tokens[:whole]), text[:end], False
                    break
        return kept, Generation(text, finish_reason="length" if cut_off else "stop")

    def _after_last_turn(self, run: RunTokens, conversation: Conversation, text: str) -> str:
        """The part of the written-out conversation that comes after the tokens of the run's last turn."""
        before = self._template(conversation[:-2], generate=True)
        said = without_control(str(conversation[-2].content[0]), self._control)
        if not text.startswith(before + said):
            raise CheckpointError(
                "The chat template writes earlier turns anew once a later one is there, so that it cannot be told what "
                "was written by whom. Use a template that only adds."
            )
        rest = text[len(before + said) :]
        drawn = run.turns[-1].tokens
        written = self._decode(drawn)
        if drawn and drawn[-1] in self.ends:
            ending = self.tokenizer.decode([drawn[-1]])
            if rest.startswith(ending):
                return rest[len(ending) :]
        # What the episode put there and the model did not draw: the closing tag of its action, or "(nothing)".
        if not written.strip():
            return said + rest
        if said.startswith(written.strip()):
            return said[len(written.strip()) :] + rest
        return rest

    def _encode(self, text: str, pictures: Sequence[Image]) -> list[int]:
        extra = {"images": [list(pictures)]} if pictures else {}
        ids: list[int] = self.processor(text=[text], **extra, return_tensors="pt")["input_ids"][0].tolist()
        return ids

    def _template(self, conversation: Conversation, *, generate: bool) -> str:
        messages = []
        for message, parts in zip(conversation, merged_parts(conversation), strict=True):
            content: list[dict[str, str]] = []
            for part in parts:
                if part is None:
                    content.append({"type": "image"})
                else:
                    content.append({"type": "text", "text": without_control(part, self._control)})
            messages.append({"role": message.role, "content": content})
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        return text

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def roll_out(
    agent: VRAGAgent, questions: Sequence[str], encoder: RunEncoder, write: WriteTurns, most: int
) -> list[RunTokens]:
    """Runs of the agent over the questions, all under way at once.

    Args:
        agent: Whose rules, retriever and filter hold; its generator is asked only what it takes.
        questions: One run for each; the same question may stand there several times.
        encoder: Makes tokens of what the model is shown.
        write: Writes the next turns of some runs, as one batch.
        most: Tokens of a turn.

    Returns:
        In the questions' order; each with a picture, so that a batch of them goes through the vision tower.
    """
    runs = [RunTokens(episode) for episode in agent.begin(questions)]
    by_episode = {id(run.episode): run for run in runs}

    def perform(waiting: list[Episode]) -> Sequence[Any]:
        requests = requests_of(waiting)
        if not isinstance(requests[0], Write):
            return agent.perform(requests)
        writing = [by_episode[id(episode)] for episode in waiting]
        for run, request in zip(writing, requests, strict=True):
            assert isinstance(request, Write)
            encoder.extend(run, request.conversation)
        written: list[Generation] = []
        for run, drawn in zip(writing, write(writing), strict=True):
            read = len(run.prompt) + len(run.completion)
            kept, generation = encoder.read(drawn.tokens, most)
            run.add("assistant", kept, None if drawn.log_probs is None else drawn.log_probs[: len(kept)])
            usage = Usage(read, len(kept))
            written.append(Generation(generation.text, usage=usage, finish_reason=generation.finish_reason))
        return written

    for _ in run_rounds(runs_episodes(runs), perform):
        pass  # the steps stay in their episode
    for run in runs:
        encoder.pad(run)
    return runs


def log_probs_of(runs: Sequence[RunTokens]) -> list[list[float]] | None:
    """Of each run's tokens after its prompt; None where the engine does not tell them."""
    if not all(run.told for run in runs):
        return None
    return [run.log_probs for run in runs]


def runs_episodes(runs: Sequence[RunTokens]) -> list[Episode]:
    """Their episodes."""
    return [run.episode for run in runs]
