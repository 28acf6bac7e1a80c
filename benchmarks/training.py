"""Training retriever, reader and agent: that they learn, what a step costs, that memory does not grow with the batch.

    python benchmarks/training.py proof              # coloured squares, killed once, resumed, loaded, searched
    python benchmarks/training.py evidence           # RS-GRPO on a tiny reader, and the control with swapped scopes
    python benchmarks/training.py agent-proof        # the agent's reward over 40 steps, from three seeds
    python benchmarks/training.py speed              # a GradCache step against the forward pass
    python benchmarks/training.py memory             # peak memory at batches of 32, 128 and 512, micro-batch 2
    python benchmarks/training.py speed --size real  # 3.4 B random weights on a GPU: float32, bfloat16 products

`proof` counts processor time of one thread (`time.process_time`), which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import table
import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from quads import TINY, all_quads, draw, make_base, quads_set, query_of  # noqa: E402
from visrag_ret import SIZES, draw_page  # noqa: E402

from visrag_integrations.embedders.devices import choose_device  # noqa: E402
from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer  # noqa: E402
from visrag_integrations.embedders.minicpm_inputs import Preparer, exact_pixels  # noqa: E402
from visrag_integrations.embedders.minicpm_runner import Runner  # noqa: E402
from visrag_integrations.embedders.slicing import Slicing  # noqa: E402
from visrag_integrations.embedders.visrag_ret import INSTRUCTION  # noqa: E402
from visrag_integrations.models.visrag_ret import VisRAGRetModel  # noqa: E402
from visrag_integrations.training.gradcache import Vectors, backward_cached  # noqa: E402
from visrag_integrations.training.stream import MicroBatch, ReadyPair  # noqa: E402
from visrag_integrations.training.trainable import TrainableRetriever  # noqa: E402

PROOF: dict[str, Any] = {"max_steps": 85, "lr": 5e-4, "batch_size": 64, "micro_batch": 16, "save_steps": 20}
TRAINING_PAGES, HELD_OUT_PAGES = 2000, 100
TEMPERATURE = 0.02
AGENT_SEEDS, AGENT_STEPS = (0, 1, 2), 40


class RandomEmbedder:
    """What `TrainableRetriever` needs of an embedder, around a random network: no checkpoint is on the disk."""

    kind = "single"

    def __init__(self, size: str, device: torch.device) -> None:
        config = SIZES[size]
        self.module = VisRAGRetModel.random(config, device=device, dtype=torch.float32)
        self._runner = Runner(self.module, None, None)
        slicing = Slicing(config.max_slice_nums, config.scale_resolution, config.tower.patch_size, config.slice_mode)
        preparer = Preparer(LlamaTokenizer(TINY), slicing, config.query_num, 2048, exact_pixels)
        self.page_item = preparer.picture_item
        self._text_item = preparer.text_item
        self.launch = self._runner.launch

    def query_item(self, text: str) -> Any:
        return self._text_item(INSTRUCTION + text)


def score(folder: Path) -> dict[str, float]:
    """The held-out pages through a loaded checkpoint and a store."""
    from visrag_integrations import PageRetriever, QdrantPageStore, load_embedder
    from visrag_integrations.evaluation import evaluate_retrieval, index_pages

    held_out = quads_set(all_quads()[-HELD_OUT_PAGES:], "held out")
    metrics = ("recall@1", "recall@5", "mrr@10")
    with load_embedder(folder, device="cpu") as embedder, QdrantPageStore(":memory:", collection="p") as store:
        index_pages(held_out.pages, embedder, store, progress=False)
        return dict(evaluate_retrieval(held_out, PageRetriever(embedder, store), metrics, progress=False).metrics)


def train(base: Path, output: Path, kill_at: int | None) -> None:
    """The proof's run; killed after a step where that is asked for."""
    from transformers import TrainerCallback

    from visrag_integrations.training import train_retriever, trainer

    class Killer(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at is not None:
        quieten = trainer.quieten
        trainer.quieten = lambda each: (quieten(each), each.add_callback(Killer()))  # type: ignore[assignment]
    report = train_retriever(base, quads_set(all_quads()[:TRAINING_PAGES], "quads"), output, **PROOF)
    print(json.dumps({"cpu": time.process_time(), "losses": report.losses[:: len(report.losses) // 8]}))


def prove(arguments: argparse.Namespace) -> None:
    """Untrained, trained, trained with a kill between two checkpoints: scores, and whether the weights are equal."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        base = arguments.base or make_base(root / "base")
        print("untrained", rounded(score(base)))
        run_apart("train", str(base), str(root / "whole"))
        print("trained  ", rounded(score(root / "whole" / "checkpoint-85")))
        run_apart("train", str(base), str(root / "killed"), "--kill-at", "50")
        run_apart("train", str(base), str(root / "killed"))
        print("killed after step 50, resumed", rounded(score(root / "killed" / "checkpoint-85")))
        files = [load_file(root / run / "checkpoint-85" / "model.safetensors") for run in ("whole", "killed")]
        same = all(torch.equal(weight, files[1][name]) for name, weight in files[0].items())
        print("their weights are", "equal" if same else "NOT equal")


def prove_evidence(arguments: argparse.Namespace) -> None:
    """Two rewards of a tiny Qwen2.5-VL, each on its half of the tokens; then with the halves swapped."""
    from scoped_proof import prove as prove_scopes
    from tiny_models import build_qwen2_5_vl

    with tempfile.TemporaryDirectory() as scratch:
        base = build_qwen2_5_vl(Path(scratch) / "base")
        for swapped in (False, True):
            started = time.process_time()
            curve = prove_scopes(base, Path(scratch) / f"run-{swapped}", swapped=swapped, steps=60)
            seconds = time.process_time() - started
            reached = [step for step, (digits, capitals) in enumerate(curve, 1) if digits >= 0.8 and capitals >= 0.8]
            print("scopes swapped" if swapped else "scopes right", f"{seconds:.0f} processor seconds")
            print("  both >= 0.8 first at step", reached[0] if reached else "never")
            for step in (1, 10, 20, 30, 40, 50, 60):
                print(f"  step {step}: digits {curve[step - 1][0]:.2f}, capitals {curve[step - 1][1]:.2f}")


def prove_agent(arguments: argparse.Namespace) -> None:
    """Each seed in a process of its own with one thread; two of them at a time, unless `--at-once` says otherwise."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(arguments.at_once) as both:
        runs = [both.submit(prove_agent_once, Path(scratch) / str(seed), seed) for seed in AGENT_SEEDS]
        for run in runs:
            print(agent_row(run.result()), flush=True)


def prove_agent_once(folder: Path, seed: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "agent_proof.py"), str(folder), str(seed), str(AGENT_STEPS)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if made.returncode != 0:
        raise SystemExit(made.stderr)
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def agent_row(found: dict[str, Any]) -> str:
    """A row of the table in RESULTS.md."""
    from agent_proof import rise

    before, after, error = rise(found["trajectory"])
    cells = [str(found["seed"]), f"{before:.3f}", f"{after:.3f}", f"{error:.3f}", f"{(after - before) / error:.1f}"]
    for name in ("form", "judged", "ndcg"):
        first, last, _ = rise(found[name])
        cells.append(f"{first:.2f} -> {last:.2f}")
    cells += [f"{seconds:.0f}" for seconds in found["seconds"]]
    return "| " + " | ".join(cells) + " |"


def run_apart(*command: str) -> None:
    """This file again, in a process of its own, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    made = subprocess.run(
        [sys.executable, __file__, *command], capture_output=True, text=True, check=False, env=environment
    )
    if made.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(made.stderr)
    print(" ".join(command[:1] + command[3:]), made.stdout.strip() or "killed", flush=True)


def make_pairs(retriever: TrainableRetriever, count: int, size: str) -> list[ReadyPair]:
    """Drawn pages with queries; only a few different ones are cut, so that cutting does not count."""
    preparer = retriever.preparer()
    pairs: list[ReadyPair] = []
    for number in range(count):
        if number < 8:
            page = draw_page(number) if size == "real" else draw(all_quads()[number]).resize((448, 448))
            item = preparer.picture(page)
        else:
            item = pairs[number % 8].pages[0]
        query = preparer.query(query_of(all_quads()[number]))
        pairs.append(ReadyPair(query, (item,), (str(number),), ""))
    return pairs


def step(retriever: TrainableRetriever, pairs: Sequence[ReadyPair], micro: int, device: torch.device) -> float:
    """One GradCache pass over a batch; the loss."""
    parts = [MicroBatch(pairs[start : start + micro]) for start in range(0, len(pairs), micro)]
    ids = [pair.page_ids[0] for pair in pairs]

    def embed(part: MicroBatch) -> Vectors:
        with half_precision(device):
            vectors: Vectors = retriever(part)
        return vectors

    def loss_of(vectors: Sequence[Vectors]) -> Tensor:
        return retriever.loss(vectors, TEMPERATURE, ids)

    return float(backward_cached(parts, embed, loss_of))


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def forward(retriever: TrainableRetriever, pairs: Sequence[ReadyPair], micro: int, device: torch.device) -> None:
    with torch.no_grad(), half_precision(device):
        for start in range(0, len(pairs), micro):
            retriever(MicroBatch(pairs[start : start + micro]))


def seconds_of(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """The median of several runs, after one to warm up."""
    taken: list[float] = []
    for _ in range(runs + 1):
        started = time.perf_counter() if device.type == "cuda" else time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - started)
        else:
            taken.append(time.process_time() - started)
    return statistics.median(taken[1:])


def time_steps(arguments: argparse.Namespace) -> None:
    """Pages a second of the forward pass, and of a GradCache step with and without gradient checkpointing."""
    device = choose_device(arguments.device)
    size = arguments.size or "small"
    retriever = TrainableRetriever(RandomEmbedder(size, device))  # type: ignore[arg-type]
    retriever.open_weights(None)
    count = sum(weight.numel() for weight in retriever.parameters())
    print(f"{size}: {count / 1e9:.2f} B weights, batch {arguments.batch}, micro-batch {arguments.micro}, {device}")
    pairs = make_pairs(retriever, arguments.batch, size)
    plain = arguments.batch / seconds_of(
        lambda: forward(retriever, pairs, arguments.micro, device), device, arguments.runs
    )
    print(f"forward                     {plain:8.2f} pages/s")
    table.keep("training: forward pass alone", plain, "pages/s")
    optimizer = torch.optim.AdamW(retriever.parameters(), lr=1e-5)
    for recompute, share in ((True, 5), (False, 4)):
        if not recompute and arguments.only_checkpointing:
            continue
        network: Any = retriever.network
        network.checkpoint_activations(recompute)
        rate = arguments.batch / seconds_of(
            lambda: (step(retriever, pairs, arguments.micro, device), optimizer.step(), optimizer.zero_grad()),
            device,
            arguments.runs,
        )
        name = "GradCache, checkpointing" if recompute else "GradCache"
        memory = ""
        table.keep(f"training: {name}, a step of {arguments.batch} pairs", arguments.batch / rate, "s")
        table.keep(f"training: {name}, pages", rate, "pages/s", plain / share)
        if device.type == "cuda":
            table.keep(f"training: {name}, memory at most", torch.cuda.max_memory_allocated() / 2**30, "GiB")
            memory = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
            torch.cuda.reset_peak_memory_stats()
        print(f"{name:<27} {rate:8.2f} pages/s: {rate / (plain / share):.2f} of the forward pass / {share}{memory}")


def peak_of(arguments: argparse.Namespace) -> None:
    """A few steps of one batch size; the peak of this process, or of the GPU."""
    device = choose_device(arguments.device)
    size = arguments.size or "small"
    retriever = TrainableRetriever(RandomEmbedder(size, device))  # type: ignore[arg-type]
    retriever.open_weights(None)
    pairs = make_pairs(retriever, arguments.batch, size)
    for _ in range(2):
        step(retriever, pairs, arguments.micro, device)
        retriever.zero_grad()
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    else:
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def compare_memory(arguments: argparse.Namespace) -> None:
    for batch in (32, 128, 512):
        more = ["--size", arguments.size] if arguments.size else []
        run_apart("peak", "-", "-", "--batch", str(batch), "--micro", "2", *more)


def rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["proof", "evidence", "agent-proof", "speed", "memory", "train", "peak"])
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help="of the proof; without one, a random checkpoint is made")
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=sorted(SIZES))
    parser.add_argument("--device")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2, help="seeds of agent-proof")
    parser.add_argument("--only-checkpointing", action="store_true")
    arguments = parser.parse_args()
    if arguments.device != "cuda" and arguments.size != "real":
        torch.set_num_threads(1)
    if arguments.what == "train":
        train(Path(arguments.paths[0]), Path(arguments.paths[1]), arguments.kill_at)
    else:
        tasks = {
            "proof": prove,
            "evidence": prove_evidence,
            "agent-proof": prove_agent,
            "speed": time_steps,
            "memory": compare_memory,
            "peak": peak_of,
        }
        tasks[arguments.what](arguments)


if __name__ == "__main__":
    main()
