"""The tests' tiny networks on a GPU, in float32 and bfloat16, against numbers that are known to be right.

    python benchmarks/gpu_golden.py                 # exit code 1: something differs by more than its type explains
    python benchmarks/gpu_golden.py --device cpu

VisRAG-Ret and the losses have expected numbers of the published code; the other networks have those of the same
checkpoint in float32 on the processor, where the tests compare them with the published way. Pages of several shapes and
texts of several lengths go through together, so that a mask, a position or a weight on the wrong device shows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import table
import torch
from comparing import largest_difference, least_cosine

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from tiny_models import build_idefics3, shared_qwen2_5_vl  # noqa: E402
from tiny_rerankers import picture_reranker, text_reranker  # noqa: E402
from tiny_retrievers import tiny  # noqa: E402
from visrag_ret_golden import CHECKPOINT, EXPECTED, FOLDER, IMAGES, ITEMS, ROUNDED, TEXTS  # noqa: E402

from visrag_integrations import Page, load_embedder  # noqa: E402
from visrag_integrations.embedders.pretrained import silent  # noqa: E402

# The largest difference of float32 numbers of about 1, with TF32 off: sums in another order give some 1e-6.
FLOAT32 = 1e-4
# Cosine of bfloat16 vectors to float32 ones: eight bits of a number leave some 0.999 after a few layers.
BFLOAT16 = 0.99
SYSTEMS = ("colqwen2", "colpali", "colmodernvbert", "dse-qwen2", "bge-vl-clip", "bge-vl-mllm", "sentence-transformers")
QUESTIONS = ("", "margin", "how many packages of the second kind were sent in the last quarter?", "x" * 60)
SHAPES = ((200, 300), (333, 111), (64, 64), (300, 200))


@dataclass
class Checks:
    """What was compared.

    Attributes:
        device: Where it was computed.
        failed: What was not as it must be.
        worst: Of the check that goes on: the largest difference in float32, the least cosine in bfloat16.
    """

    device: str
    failed: list[str] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)

    def keep(self, name: str) -> None:
        """A check is over: its worst numbers become rows."""
        for what, value in self.worst.items():
            table.keep(f"golden: {name}, {what}", value)
        self.worst = {}

    def same(self, name: str, found: Sequence[Any], expected: Sequence[Any], limit: float = FLOAT32) -> None:
        """Float32 numbers, against what they must be."""
        off = largest_difference(found, expected)
        what = f"float32, largest difference (limit {limit:g})"
        self.worst[what] = max(off, self.worst.get(what, 0.0))
        self._judge(f"{name}, float32", f"largest difference {off:.2g}, limit {limit:g}", off <= limit)

    def alike(self, name: str, found: Sequence[Any], expected: Sequence[Any], limit: float = BFLOAT16) -> None:
        """Bfloat16 vectors, against those of float32."""
        cosine = least_cosine(found, expected)
        what = f"bfloat16, least cosine (limit {limit:g})"
        self.worst[what] = min(cosine, self.worst.get(what, 1.0))
        self._judge(f"{name}, bfloat16", f"least cosine {cosine:.6f}, limit {limit:g}", cosine >= limit)

    def _judge(self, name: str, what: str, good: bool) -> None:
        print(f"{'good' if good else 'WRONG':6s}{name}: {what}", flush=True)
        if not good:
            self.failed.append(f"{name}: {what}")


def pages() -> list[Page]:
    from visrag_ret import draw_page

    made: list[Page] = []
    for number, size in enumerate(SHAPES, 1):
        made.append(Page.from_image(draw_page(number).resize(size), doc_id="drawn", number=number))
    return made


def check_visrag_ret(checks: Checks) -> None:
    """Against the published code's numbers: pages, queries, and both in batches."""
    shown = [Page.from_image(FOLDER / ITEMS[name]["file"], doc_id=name) for name in IMAGES]
    texts = [ITEMS[name]["text"] for name in TEXTS]
    expected_pages = [EXPECTED[f"{name}.embedding"] for name in IMAGES]
    expected_texts = [EXPECTED[f"{name}.embedding"] for name in TEXTS]
    # This Pillow may round a pixel otherwise than the one that made the numbers; tests/data says so.
    limit = 1e-3 if ROUNDED else FLOAT32
    for attention in ("sdpa", "eager"):
        settings: dict[str, Any] = {"device": checks.device, "instruction": "", "attn_implementation": attention}
        with load_embedder(CHECKPOINT, dtype="float32", **settings) as embedder:
            checks.same(f"VisRAG-Ret {attention}, pages", embedder.embed_pages(shown), expected_pages, limit)
            checks.same(f"VisRAG-Ret {attention}, queries", embedder.embed_queries(texts), expected_texts)
            alone = [embedder.embed_pages([page])[0] for page in shown]
            checks.same(f"VisRAG-Ret {attention}, page by page", alone, expected_pages, limit)
        with load_embedder(CHECKPOINT, dtype="bfloat16", **settings) as embedder:
            checks.alike(f"VisRAG-Ret {attention}, pages", embedder.embed_pages(shown), expected_pages)
            checks.alike(f"VisRAG-Ret {attention}, queries", embedder.embed_queries(texts), expected_texts)


def check_embedder(checks: Checks, system: str) -> None:
    folder, shown = tiny(system), pages()
    with load_embedder(folder, device="cpu", dtype="float32") as embedder:
        expected_pages, expected_texts = embedder.embed_pages(shown), embedder.embed_queries(QUESTIONS)
    with load_embedder(folder, device=checks.device, dtype="float32") as embedder:
        checks.same(f"{system}, pages", embedder.embed_pages(shown), expected_pages)
        checks.same(f"{system}, queries", embedder.embed_queries(QUESTIONS), expected_texts)
        alone = [embedder.embed_pages([page])[0] for page in shown]
        checks.same(f"{system}, page by page", alone, expected_pages)
    with load_embedder(folder, device=checks.device, dtype="bfloat16") as embedder:
        checks.alike(f"{system}, pages", embedder.embed_pages(shown), expected_pages)
        checks.alike(f"{system}, queries", embedder.embed_queries(QUESTIONS), expected_texts)


def check_generator(checks: Checks, name: str, folder: Path) -> None:
    """The same text with the same probability; in bfloat16 the logits of the prompt."""
    from visrag_integrations import load_generator
    from visrag_integrations.generation.evisrag import evisrag_messages
    from visrag_integrations.types import GenerationSettings

    asked = [evisrag_messages("How many packages?", pages()[:2]), evisrag_messages("Where?", pages()[2:])]
    greedy = GenerationSettings(max_tokens=16, temperature=0.0, repetition_penalty=1.0)
    written: dict[str, list[Any]] = {}
    for place in ("cpu", checks.device):
        generator: Any = load_generator(str(folder), engine="transformers", device=place, dtype="float32")
        written[place] = generator.generate(asked, greedy)
    expected = written["cpu"]
    for one, other in zip(written[checks.device], expected, strict=True):
        checks.same(f"{name}, logprob of a text", [one.logprob], [other.logprob])
        if one.text != other.text:
            checks.failed.append(f"{name} wrote {one.text!r}, and {other.text!r} on the processor")
    checks.alike(f"{name}, logits", logits(folder, checks.device, "bfloat16"), logits(folder, "cpu", "float32"))


def logits(folder: Path, device: str, dtype: str) -> list[Any]:
    """Of a prompt with two pictures: (tokens, vocabulary)."""
    from visrag_integrations.generation.chat import PromptWriter
    from visrag_integrations.generation.checkpoint import load_checkpoint
    from visrag_integrations.generation.evisrag import evisrag_messages
    from visrag_integrations.types import GenerationSettings

    checkpoint = load_checkpoint(str(folder), device=device, dtype=dtype, trust_remote_code=False)
    conversation = evisrag_messages("How many packages?", pages()[:2])
    prompt = PromptWriter(checkpoint.processor, 8192).write(conversation, GenerationSettings(max_tokens=4))
    with torch.inference_mode():
        found = checkpoint.model(**checkpoint.inputs(prompt.text, prompt.pictures)).logits[0]
    return [found.float().cpu().numpy()]


def check_reranker(checks: Checks, name: str, folder: Path, reads: str) -> None:
    from visrag_integrations.rerankers import CrossEncoderReranker
    from visrag_integrations.types import ScoredPage

    hits = []
    for page, text in zip(pages(), ("margin", "packages were sent", "a", "quarter " * 3), strict=True):
        hits.append(ScoredPage(Page.from_image(page.open_image(), doc_id=text, text=text), 1.0))
    scores: dict[tuple[str, str], list[float]] = {}
    for place, dtype in (("cpu", "float32"), (checks.device, "float32"), (checks.device, "bfloat16")):
        reranker = CrossEncoderReranker(folder, device=place, dtype=dtype, reads=reads, scores="raw")  # type: ignore[arg-type]
        by_name = {hit.page.doc_id: hit.score for hit in reranker.rerank("how many packages?", hits)}
        scores[place, dtype] = [by_name[hit.page.doc_id] for hit in hits]
        reranker.close()
    expected = scores["cpu", "float32"]
    checks.same(f"{name}, scores", scores[checks.device, "float32"], expected)
    checks.alike(f"{name}, scores", [scores[checks.device, "bfloat16"]], [expected])


def check_losses(checks: Checks) -> None:
    """The contrastive loss, GradCache and RS-GRPO, against the published code's losses and gradients."""
    from visrag_integrations.training.losses import contrastive
    from visrag_integrations.training.scoped import group_advantages, scoped_loss

    data = ROOT / "tests" / "data" / "training"
    pairs, groups = np.load(data / "contrastive.npz"), np.load(data / "rs_grpo_arrays.npz")

    def sent(arrays: Any, name: str) -> torch.Tensor:
        return torch.from_numpy(np.array(arrays[name])).to(checks.device)

    for case in ("pairs", "negatives3", "warm", "wide"):
        queries, shown = (sent(pairs, f"w1.{case}.{side}").requires_grad_() for side in ("queries", "pages"))
        loss = contrastive(queries, shown, float(pairs[f"w1.{case}.temperature"]))
        loss.backward()
        assert queries.grad is not None
        assert shown.grad is not None
        gradients = [pairs[f"w1.{case}.grad_queries"], pairs[f"w1.{case}.grad_pages"]]
        scale = max(1.0, *(float(np.abs(gradient).max()) for gradient in gradients))
        found = [loss.item(), queries.grad.cpu().numpy() / scale, shown.grad.cpu().numpy() / scale]
        expected = [pairs[f"w1.{case}.loss_per_rank"][0], gradients[0] / scale, gradients[1] / scale]
        checks.same(f"contrastive loss, {case}", found, expected)
    for case in sorted({name.split(".")[1] for name in groups.files if name.startswith("adv.")}):
        advantages = group_advantages(sent(groups, f"adv.{case}.rewards"), sent(groups, f"adv.{case}.index"))
        checks.same(f"advantages, {case}", [advantages.cpu().numpy()], [groups[f"adv.{case}.expected"]])
    names = ("log_probs", "old_log_probs", "advantages", "reward_masks")
    log_probs, old, advantages, masks = (sent(groups, f"loss.off_policy.{name}") for name in names)
    log_probs.requires_grad_()
    loss = scoped_loss(log_probs, old, advantages, masks)
    loss.backward()
    assert log_probs.grad is not None
    found = [loss.item(), log_probs.grad.cpu().numpy()]
    expected = [float(groups["loss.off_policy.loss"]), groups["loss.off_policy.grad_log_probs"]]
    checks.same("RS-GRPO's loss", found, expected)


def check_gradcache(checks: Checks) -> None:
    """VisRAG-Ret's weights' gradients of a batch in parts, with layers computed again, against the processor's."""
    import training

    found: dict[str, list[Any]] = {}
    for place in ("cpu", checks.device):
        torch.manual_seed(0)
        embedder = training.RandomEmbedder("tiny", torch.device("cpu"))
        embedder.module.to(torch.device(place))
        retriever = training.TrainableRetriever(embedder)  # type: ignore[arg-type]
        retriever.open_weights(None)
        network: Any = retriever.network
        network.checkpoint_activations(True)
        pairs = training.make_pairs(retriever, 4, "tiny")
        parts = [training.MicroBatch(pairs[start : start + 2]) for start in (0, 2)]
        ids = [pair.page_ids[0] for pair in pairs]
        training.backward_cached(parts, retriever, lambda vectors, ids=ids, own=retriever: own.loss(vectors, 0.1, ids))
        found[place] = [weight.grad.cpu().numpy() for weight in retriever.parameters() if weight.grad is not None]
    scale = max(float(np.abs(gradient).max()) for gradient in found["cpu"])
    ours, theirs = ([gradient / scale for gradient in found[place]] for place in (checks.device, "cpu"))
    checks.same("GradCache's gradients of every weight", ours, theirs)


def all_checks(checks: Checks, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "VisRAG-Ret", lambda: check_visrag_ret(checks)
    yield "Qwen2.5-VL writes", lambda: check_generator(checks, "Qwen2.5-VL writes", shared_qwen2_5_vl())
    yield "losses", lambda: check_losses(checks)
    yield "GradCache", lambda: check_gradcache(checks)
    for system in SYSTEMS:
        yield system, lambda system=system: check_embedder(checks, system)  # type: ignore[misc]
    idefics3, text, picture = folder / "idefics3", folder / "text", folder / "picture"
    idefics3.mkdir()
    yield "Idefics3 writes", lambda: check_generator(checks, "Idefics3 writes", build_idefics3(idefics3))
    yield "text reranker", lambda: check_reranker(checks, "text reranker", text_reranker(text), "text")
    yield "page reranker", lambda: check_reranker(checks, "page reranker", picture_reranker(picture), "image")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", help="checks whose names begin so")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # transformers' own, of every tiny network
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False  # on unless it is told: convolutions would be off by 1e-3
    checks = Checks(arguments.device)
    with tempfile.TemporaryDirectory() as folder, silent():
        for name, check in all_checks(checks, Path(folder)):
            if arguments.only and not name.startswith(tuple(arguments.only)):
                continue
            try:
                check()
            except Exception as err:  # noqa: BLE001 - the others are still to be seen
                traceback.print_exc()
                checks.failed.append(f"{name}: {type(err).__name__}: {err}".split("\n")[0])
            checks.keep(name)
    table.keep("golden: comparisons that are beyond their limits", len(checks.failed))
    if checks.failed:
        print(f"{len(checks.failed)} wrong: " + "; ".join(checks.failed))
        return 1
    print("All numbers are as they must be.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
