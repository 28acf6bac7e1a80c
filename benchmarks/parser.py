"""EVisRAG's parser on texts made to hurt it: exceptions, cuts that change what is read, and time.

    python benchmarks/parser.py [--texts 1000000] [--seed 1] [--bytes 1000000] [--large 10000000] [--repeats 3]

1. Texts from a grammar of answers, with mutations: each is read as a whole and in pieces, and both must give the same
   answer and the same evidence in their events. Counted: exceptions, and texts of which any cut reads differently.
2. Seconds for one text of `--bytes` and of `--large` characters of each kind that could take more than linear time, as
   a whole and in pieces of 16, beside one pass of `re` over it. Ten times the text should take ten times as long.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable

from visrag_integrations.generation.events import AnswerReady, EvidenceFound
from visrag_integrations.generation.evisrag import EvidenceStream, parse_evidence

UNITS = [
    *("<think>", "<answer><think>", "<observe><evidence><think><answer>", "</answer>", "<think></think>", "<", "</"),
    *("<evidence>[1]:", "<evidence>[", "<evidence></observe>", "<evidence>\n", "[1]: x ", "image 1:", "**", "text "),
    *(
        "[1][1]",
        "[[",
        "[1,",
        "\n[1]: see [2]: ",
        "**<think>**",
        "&lt;",
        '<think a="',
        "\n1. x",
        "\nPage 1 x",
        "i",
        "`_*",
    ),
    *('{"1":', "[{", '"x", ', "\nAnswer: ", "图", "\\"),
]
TAG = re.compile(r"</?(?:observe|evidence|think|answer)>", re.IGNORECASE)

# --- the grammar --------------------------------------------------------------------------------------------------

NAMES = ("observe", "evidence", "think", "answer")
TAG_FORMS = ("<{}>", "<{}>", "<{}>", "< {} >", "**<{}>**", "`<{}>`", "＜{}＞", "&lt;{}&gt;", "\\<{}\\>", '<{} a="b">')
INDEX_FORMS = (
    *(
        "[{}]: ",
        "[{}]: ",
        "[{}]:",
        "[{}]：",
        "**[{}]:** ",
        "**[{}]**: ",
        "Image {}: ",
        "[Image {}]: ",
        "图片{}：",
        "【{}】：",
    ),
    *(
        "[{}][3]: ",
        "[{}, 4]: ",
        "[{}-9]: ",
        "[{}] ",
        "- [{}] ",
        "Page {}: ",
        "{}. ",
        "{}) ",
        "({}) ",
        "| {} | ",
        "第{}页：",
    ),
    *("`[{}]`: ", "[[{}]]: ", "### Image {}\n", "Images {} and 5: ", "\\[{}\\]: "),
)
WORDS = (
    *("the total is 7", "no relevant information", "see ", "subimage 3: ", "word", "合计 7", "**bold**", "a < b & c"),
    *("insufficient to answer", "The pages do not mention it.", "x" * 60, "图" * 30, "\ud800", "é" * 49, '{"1": "x"}'),
)
NOISE = (
    *(
        "<",
        ">",
        "/",
        "[",
        "]",
        ":",
        "：",
        "**",
        "*",
        "_",
        "`",
        "\\",
        "&",
        "&lt",
        "&gt;",
        "\n",
        " ",
        "1",
        "image",
        "i",
        "＜",
    ),
    *("</", "answer", "think>", "Answer: 7", "```json\n", "{", "}", '"', ",", "\u200b", "\0", "9" * 12, "①"),
)


class Grammar:
    """Answers as models write them, in any spelling, and then damaged."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> str:
        """One text."""
        choose = self._random.random()
        if choose < 0.08:
            text = self._json()
        elif choose < 0.12:
            text = self._words()
        else:
            text = self._sections()
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4, 8))):
            text = self._mutated(text)
        return text

    def cuts(self, text: str) -> list[str]:
        """The text in pieces."""
        sizes = self._random.choice(((1,), (1, 2, 3), (7, 30), (47, 48, 49, 50), (3, 160)))
        pieces = []
        start = 0
        while start < len(text):
            end = start + self._random.choice(sizes)
            pieces.append(text[start:end])
            start = end
        return pieces

    def _words(self) -> str:
        return " ".join(self._random.choices(WORDS, k=self._random.randint(0, 3)))

    def _sections(self) -> str:
        names = list(NAMES)
        if self._random.random() < 0.2:
            self._random.shuffle(names)
        if self._random.random() < 0.2:
            names.pop(self._random.randrange(4))
        form = self._random.choice(TAG_FORMS)
        text = ""
        for name in names:
            content = self._evidence() if name == "evidence" else self._words()
            text += form.format(name) + content + form.format("/" + name) + self._random.choice(("", "\n"))
        return text

    def _evidence(self) -> str:
        if self._random.random() < 0.1:
            return self._json()
        form = self._random.choice(INDEX_FORMS)
        between = self._random.choice(("\n", "\n", " ", "\n- "))
        entries = []
        for index in range(1, self._random.randint(1, 4)):
            entries.append(form.format(index) + self._words())
        return self._random.choice(("", "\n")) + between.join(entries)

    def _json(self) -> str:
        return self._random.choice(
            (
                '{"observe": "o", "evidence": {"1": "x", "[2]": "y"}, "answer": "7"}',
                '{"evidence": ["x", {"image": 2, "text": "y"}], "answer": 7}',
                '```json\n[{"index": 1, "text": "x"}]\n```',
                '["[1]: x", "y"]',
            )
        )

    def _mutated(self, text: str) -> str:
        """Something put in, left out, repeated or moved."""
        at = self._random.randint(0, len(text))
        end = min(len(text), at + self._random.choice((1, 1, 2, 5, 20)))
        kind = self._random.randrange(4)
        if kind == 0:
            return text[:at] + self._random.choice(NOISE) + text[at:]
        if kind == 1:
            return text[:at] + text[end:]
        if kind == 2:
            return text[:at] + text[at:end] * self._random.choice((2, 3, 50)) + text[end:]
        to = self._random.randint(0, len(text))
        return text[:to] + text[at:end] + text[to:]


def differs(text: str, pieces: list[str]) -> bool:
    """Whether the pieces read differently from the whole, or their events from their answer."""
    whole = parse_evidence(text)
    stream = EvidenceStream()
    events = []
    for piece in pieces:
        events += stream.feed(piece)
    events += stream.finish()
    last = events[-1]
    told = tuple(event.evidence for event in events if isinstance(event, EvidenceFound))
    return not isinstance(last, AnswerReady) or last.answer != whole or told != whole.evidence


def mutate(texts: int, seed: int) -> None:
    """Read so many texts; the first few that go wrong are printed."""
    grammar = Grammar(seed)
    exceptions = different = characters = 0
    start = time.perf_counter()
    for _ in range(texts):
        text = grammar.text()
        characters += len(text)
        try:
            wrong = differs(text, grammar.cuts(text))
        except Exception as err:  # noqa: BLE001 (counted: none may come)
            exceptions += 1
            print(f"{type(err).__name__}: {err}: {text!r}")
            continue
        if wrong:
            different += 1
            if different <= 3:
                print(f"differs in pieces: {text!r}")
    seconds = time.perf_counter() - start
    print(
        f"{texts} texts, {characters} characters, seed {seed}: exceptions {exceptions}, differing cuts {different}; "
        f"{seconds:.0f} s"
    )


# --- time ---------------------------------------------------------------------------------------------------------


def median(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stream(text: str, size: int) -> None:
    reader = EvidenceStream()
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    reader.close()


def measure(small: int, large: int, repeats: int) -> None:
    """Print the seconds for each kind of text."""
    print(f"{'unit':40} {'whole s':>8} {'x re':>6} {'16-char pieces s':>17} {'large s':>8} {'x small':>8}")
    worst = worst_large = 0.0
    for unit in UNITS:
        text = "<evidence>" + unit * (small // len(unit))
        whole = median(lambda text=text: parse_evidence(text), repeats)  # type: ignore[misc]
        scan = median(lambda text=text: TAG.findall(text), repeats)  # type: ignore[misc]
        pieces = median(lambda text=text: stream(text, 16), 1)  # type: ignore[misc]
        text = "<evidence>" + unit * (large // len(unit))
        much = median(lambda text=text: parse_evidence(text), 1)  # type: ignore[misc]
        worst, worst_large = max(worst, whole), max(worst_large, much)
        print(f"{unit!r:40} {whole:8.3f} {whole / scan:6.1f} {pieces:17.3f} {much:8.3f} {much / whole:8.1f}")
    print(f"worst: {worst:.3f} s for {small} characters, {worst_large:.3f} s for {large}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.texts:
        mutate(arguments.texts, arguments.seed)
    if arguments.bytes:
        measure(arguments.bytes, arguments.large, arguments.repeats)


if __name__ == "__main__":
    main()
