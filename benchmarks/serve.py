"""The HTTP server under load: so many clients that ask without a pause, with batching and without it.

    python benchmarks/serve.py                        # the default of a machine without a GPU
    python benchmarks/serve.py --embedder device      # a stand-in for a GPU: so many ms a call, however many queries
    python benchmarks/serve.py --embedder tests/data/visrag_ret_tiny/checkpoint
    python benchmarks/serve.py --idle 1000 --seconds 60   # beside so many connections that ask nothing
    python benchmarks/serve.py --index .visrag            # `visrag serve` on an index of your own, and its words
    python benchmarks/serve.py --index http://localhost:6333 --workers 4
    python benchmarks/serve.py --quick                    # some seconds: only whether it runs

The server and the clients are processes of their own; every query is new. Every answer is checked: status 200, the
asked number of pages. "Without batching" is the same server with batches of one query. The clients write and read bytes
themselves (no HTTP library), and their processor time is said apart: with two cores the server has what they leave.
"The bare server" is an app of four lines on the same uvicorn that sends an answer of the same length without searching:
what is left of the processor time above it is ours and the engine's.

With `--idle`, the same load runs with and without so many connections beside it that send nothing, half a header, or a
request now and then, and are opened again whenever the server closes them; /health is asked twice a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import table

from visrag_integrations import Page, PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.servers.http import ServeSettings, create_app
from visrag_integrations.servers.web.running import address_of, listen, run

WORDS = ("harbour", "violin", "sourdough", "glacier", "lantern", "orchard", "quarry", "zeppelin", "torque", "budget")
TOP_K = 5


class Device:
    """A stand-in for a model on a device: a call takes so long, plus a little for each query."""

    name, kind, dimension = "device", "single", 256

    def __init__(self, call_ms: float, query_ms: float) -> None:
        self.call_ms, self.query_ms = call_ms, query_ms

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        return [self._vector(page.text) for page in pages]

    def embed_queries(self, queries: Iterable[Any]) -> list[np.ndarray]:
        queries = list(queries)
        time.sleep((self.call_ms + self.query_ms * len(queries)) / 1000)
        return [self._vector(str(query)) for query in queries]

    def _vector(self, text: str) -> np.ndarray:
        return np.random.default_rng(sum(text.encode())).normal(size=self.dimension).astype(np.float32)


def serve(options: argparse.Namespace) -> None:
    """The server's process: an index of drawn words, then requests until it is told to end."""
    chance = random.Random(0)
    embedder: Any = (
        Device(options.call_ms, options.query_ms) if options.embedder == "device" else load_embedder(options.embedder)
    )
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder, pictures=False) as store:
        store.prepare(embedder)
        for first in range(0, options.pages, 50):
            pages = [page_of(number, chance, embedder) for number in range(first, first + 50)]
            store.add_pages(pages, embedder.embed_pages(pages))
        embedder.embed_queries(["warm"])
        app = create_app(PageRetriever(embedder, store), settings=ServeSettings(max_batch=options.max_batch))
        with listen("127.0.0.1", 0) as listening:
            print(address_of(listening), flush=True)
            run(app, listening)


def serve_bare() -> None:
    """The server without anything of ours or of the engine's: it reads the request, and sends so many bytes."""
    hit = {"id": "8f2b6f0e-5d0c-5b0e-9a43-0c8f4a4f9b1d", "doc_id": "book", "source": "", "page": 12, "image": None}
    body = json.dumps({"pages": [{**hit, "score": 0.7123456789, "score_type": "fused"}] * TOP_K, "note": None}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": body})

    with listen("127.0.0.1", 0) as listening:
        print(address_of(listening), flush=True)
        run(app, listening)


def words_of(index: str, collection: str, folder: Path) -> Path:
    """A file with the words of an index, for questions."""
    with QdrantPageStore(index, collection, pictures=False) as store:
        words: set[str] = set()
        for page in store.scroll():
            words.update(word for word in page.text.split() if word.isalpha() and len(word) > 3)
    (folder / "words.json").write_text(json.dumps(sorted(words)))
    return folder / "words.json"


def page_of(number: int, chance: random.Random, embedder: Any) -> Page:
    text = " ".join(chance.choices(WORDS, k=200))
    needs_picture = getattr(embedder, "reads", "pixels") == "pixels" and not isinstance(embedder, Device)
    return Page("book", number + 1, text=text, picture=small_picture(number) if needs_picture else None)


def small_picture(number: int) -> Any:
    from PIL import Image

    return Image.new("RGB", (112, 112), (number % 256, number * 7 % 256, 90))


async def load(
    port: int, clients: int, seconds: float, idle: int = 0, words: tuple[str, ...] = WORDS
) -> dict[str, Any]:
    """What so many clients saw: the seconds of each answer, and what was wrong; and of /health."""
    times: list[float] = []
    wrong: list[str] = []
    health: list[float] = []
    closed = again = 0
    end = time.perf_counter() + seconds

    async def sit(number: int) -> None:
        nonlocal closed
        first = (
            b"",
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        )[number % 3]
        while time.perf_counter() < end:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(first)
                while await reader.read(1 << 16):
                    pass
                writer.close()
            except OSError:
                pass
            closed += 1
            await asyncio.sleep(0.05)  # a thousand that come again at once would be a flood, which is another attack

    async def ask_health() -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
            except OSError as err:
                answer = str(err).encode()
            health.append(time.perf_counter() - started)
            if b" 200 " not in answer[:15]:
                wrong.append(f"health: {answer[:40]!r}")
            await asyncio.sleep(0.5)

    async def client(number: int) -> None:
        nonlocal again
        chance = random.Random(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            query = " ".join(chance.choices(words, k=6)) + f" {chance.random()}"
            body = json.dumps({"text": query, "top_k": TOP_K}).encode()
            head = "POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
            started = time.perf_counter()
            while True:
                try:
                    writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    break
                except (OSError, asyncio.IncompleteReadError):
                    # Any HTTP client opens a kept connection again that was closed while nobody used it.
                    again += 1
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            length = int(answer.lower().split(b"content-length:")[1].split()[0])
            payload = await reader.readexactly(length)
            times.append(time.perf_counter() - started)
            if b" 200 " not in answer[:15] or payload.count(b'"score_type"') != TOP_K:
                wrong.append(answer[:40].decode())
        writer.close()

    sitting = [asyncio.create_task(sit(number)) for number in range(idle)]
    asked = asyncio.create_task(ask_health())
    await asyncio.gather(*map(client, range(clients)))
    await asked
    open_still = sum(not task.done() for task in sitting)
    for task in sitting:
        task.cancel()
    return {"times": times, "wrong": wrong, "health": health, "idle": open_still, "closed": closed, "again": again}


def measure(options: argparse.Namespace, max_batch: int, idle: int = 0, *, bare: bool = False) -> dict[str, float]:
    """One server, one load; what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        words: list[str] = []
        if options.index and not bare:
            words = ["--words", str(words_of(options.index, options.collection, Path(folder)))]
        server = subprocess.Popen(server_command(options, max_batch, bare), stderr=subprocess.STDOUT,
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            assert server.stdout is not None
            port = port_of(server.stdout)
            before = processor_seconds(server.pid)
            command = [sys.executable, __file__, "--load", port, "--clients", str(options.clients), *words]
            command += ["--idle", str(idle), "--seconds", str(options.seconds)]
            loading = subprocess.run(command, capture_output=True, text=True, check=True, timeout=options.seconds + 120)
            seen: dict[str, float] = json.loads(loading.stdout)
            used = processor_seconds(server.pid) - before
            batch = 0.0 if bare else batch_size(int(port))
            return {**seen, "batch": batch, "cpu": 1000 * used / seen["answers"]}
        finally:
            server.terminate()
            server.wait(60)
            assert server.stdout is not None
            server.stdout.close()


def server_command(options: argparse.Namespace, max_batch: int, bare: bool) -> list[str]:
    """How the server is started."""
    if bare:
        return [sys.executable, __file__, "--serve-bare"]
    if options.index:
        command = [sys.executable, "-m", "visrag_integrations.cli", "serve", "--index", options.index, "--search-only"]
        command += ["--collection", options.collection]
        return [*command, "--port", "0", "--max-batch", str(max_batch), "--workers", str(options.workers)]
    common = [sys.executable, __file__, "--embedder", options.embedder, "--pages", str(options.pages)]
    device = ["--call-ms", str(options.call_ms), "--query-ms", str(options.query_ms)]
    return [*common, *device, "--serve", "--max-batch", str(max_batch)]


def port_of(said: Iterable[str]) -> str:
    """The port of a server that has just begun, by the line that says where it is."""
    heard = []
    for line in said:
        heard.append(line)
        found = re.findall(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            return str(found[-1])
    raise SystemExit(f"The server did not begin: {''.join(heard)}")


def processor_seconds(process: int) -> float:
    """What a process and those it has started have used so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return used + sum(processor_seconds(int(child)) for child in children)


def batch_size(port: int) -> float:
    """Queries that were embedded together, on average."""
    import urllib.request

    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("visrag_batch_queries_"))
    return float(numbers["visrag_batch_queries_sum"]) / float(numbers["visrag_batch_queries_count"])


def told(seen: dict[str, Any], seconds: float, processor: float) -> str:
    """The clients' numbers as JSON."""
    times = sorted(seen["times"])
    cuts = statistics.quantiles(times, n=100)
    numbers = {"answers": len(times), "errors": len(seen["wrong"]), "rate": len(times) / seconds}
    return json.dumps(
        {
            **numbers,
            "p50": 1000 * cuts[49],
            "p95": 1000 * cuts[94],
            "health": 1000 * max(seen["health"]),
            "idle": seen["idle"],
            "closed": seen["closed"],
            "again": seen["again"],
            "client_cpu": 1000 * processor / len(times),
        }
    )


def own_seconds() -> float:
    """Processor seconds of this process: here that of the clients."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def line_of(seen: dict[str, float]) -> str:
    return (
        f"{seen['rate']:.0f} answers/s, p50 {seen['p50']:.0f} ms, p95 {seen['p95']:.0f} ms, {seen['errors']} errors of "
        f"{seen['answers']}; {seen['batch']:.1f} queries a batch, {seen['cpu']:.2f} ms of processor an answer "
        f"(clients {seen['client_cpu']:.2f}); "
        f"/health at worst {seen['health']:.0f} ms; {seen['idle']:.0f} idle connections, closed by the server "
        f"{seen['closed']:.0f} times; clients connected again {seen['again']:.0f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default="ocr", help="a name, a checkpoint folder, or device")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--call-ms", type=float, default=15.0, help="of the stand-in, for a call")
    parser.add_argument("--query-ms", type=float, default=0.2, help="of the stand-in, for each query")
    parser.add_argument("--idle", type=int, default=0, help="connections beside the clients that ask nothing")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--index", help="an index to serve by `visrag serve`, in place of drawn words")
    parser.add_argument("--collection", default="pages", help="with --index: the collection in it")
    parser.add_argument("--workers", type=int, default=1, help="with --index of a Qdrant server")
    parser.add_argument("--quick", action="store_true", help="2 seconds, 4 clients, 50 pages")
    parser.add_argument("--words", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options)
    if options.serve_bare:
        return serve_bare()
    if options.load:
        words = WORDS
        if options.words:
            words = tuple(json.loads(options.words.read_text()))
        before = own_seconds()  # what was used to import things is nobody's answer
        seen = asyncio.run(load(options.load, options.clients, options.seconds, options.idle, words))
        return print(told(seen, options.seconds, own_seconds() - before))
    if options.quick:
        options.seconds, options.clients, options.pages = 2.0, 4, 50
    if options.idle:
        for idle in (0, options.idle, 0, options.idle):
            print(f"{idle} idle:", line_of(measure(options, options.max_batch, idle)), flush=True)
        return None
    found = {}
    bare = measure(options, 1, bare=True)
    print("the bare server:", line_of(bare), flush=True)
    for max_batch in (1, options.max_batch):
        found[max_batch] = measure(options, max_batch)
        print(
            f"{options.index or options.embedder}, batches of up to {max_batch}:", line_of(found[max_batch]), flush=True
        )
    ours = found[options.max_batch]
    print(f"batched / unbatched: {ours['rate'] / found[1]['rate']:.2f} x (aim: 2)")
    table.keep("HTTP: answers a second", ours["rate"], "/s", bare["rate"])
    table.keep("HTTP: processor an answer", ours["cpu"], "ms", bare["cpu"])
    table.keep("HTTP: p95", ours["p95"], "ms", bare["p95"])
    table.keep("HTTP: wrong answers", ours["errors"])
    return None


if __name__ == "__main__":
    main()
