"""The server as a process of its own: `PYTHONPATH=tests python -m fake_qdrant [--strict] [--version 1.18.3]`.

It prints its address, answers until it is ended, and leaves nothing behind. Programs, the command line and
`make test-qdrant` can be tried on it where there is no Qdrant.
"""

from __future__ import annotations

import argparse
import signal

from fake_qdrant import CLOUD, serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fake_qdrant")
    parser.add_argument("--port", type=int, default=0, help="by default one that is free")
    parser.add_argument("--version", default="1.18.3", help="what it says of itself")
    parser.add_argument("--strict", action="store_true", help="strict mode for new collections, without exact searches")
    options = parser.parse_args()
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are other threads, which would die of them
    with serving(port=options.port, grpc=True) as server:
        server.version = options.version
        if options.strict:
            server.strict = {**CLOUD, "search_allow_exact": False}
        print(server.url, "and gRPC at port", server.grpc.port, flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
