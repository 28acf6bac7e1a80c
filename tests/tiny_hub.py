"""A model hub on this machine: folders under their names, as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """The hub's address, and what was asked of it so far ("name/file")."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            for name, folder in repositories.items():
                files = sorted(file for file in folder.rglob("*") if file.is_file())
                names = [file.relative_to(folder).as_posix() for file in files]
                if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                    content = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in names]}
                    return self._send(json.dumps(content).encode(), "application/json")
                if path.startswith(f"/api/models/{name}/tree/"):
                    tree = []
                    for file, each in zip(files, names, strict=True):
                        tree.append({"type": "file", "path": each, "size": file.stat().st_size, "oid": etag(file)})
                    return self._send(json.dumps(tree).encode(), "application/json")
                before = f"/{name}/resolve/"
                if path.startswith(before):
                    wanted = path.removeprefix(before).partition("/")[2]
                    if wanted in names:
                        asked.append(f"{name}/{wanted}")
                        return self._send(
                            (folder / wanted).read_bytes(), "application/octet-stream", etag(folder / wanted)
                        )
            self.send_error(404)
            return None

        def _send(self, content: bytes, kind: str, tag: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            if tag:
                self.send_header("ETag", f'"{tag}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
