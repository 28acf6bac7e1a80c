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
def serve(
    repositories: dict[str, Path], revisions: dict[tuple[str, str], Path] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The hub's address, and what was asked of it so far ("name/file").

    Args:
        repositories: What each name has by now, as the revision `COMMIT`.
        revisions: Earlier ones, by name and commit.
    """
    asked: list[str] = []
    versions = {(name, COMMIT): folder for name, folder in repositories.items()} | (revisions or {})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            for (name, commit), folder in versions.items():
                # The newest one is called main too, and is given where no revision is named.
                called = (commit, "main") if commit == COMMIT else (commit,)
                for revision in called:
                    if self._answer_of(path, name, revision, commit, folder):
                        return
            self.send_error(404)

        def _answer_of(self, path: str, name: str, revision: str, commit: str, folder: Path) -> bool:
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            names = [file.relative_to(folder).as_posix() for file in files]
            described = [f"/api/models/{name}/revision/{revision}"]
            if revision == "main":
                described.append(f"/api/models/{name}")
            if path in described:
                content = {"id": name, "sha": commit, "siblings": [{"rfilename": each} for each in names]}
                self._send(json.dumps(content).encode(), "application/json", commit)
                return True
            if path.startswith(f"/api/models/{name}/tree/{revision}"):
                tree = []
                for file, each in zip(files, names, strict=True):
                    tree.append({"type": "file", "path": each, "size": file.stat().st_size, "oid": etag(file)})
                self._send(json.dumps(tree).encode(), "application/json", commit)
                return True
            before = f"/{name}/resolve/{revision}/"
            wanted = path.removeprefix(before)
            if not path.startswith(before) or wanted not in names:
                return False
            asked.append(f"{name}/{wanted}")
            content = (folder / wanted).read_bytes()
            self._send(content, "application/octet-stream", commit, etag(folder / wanted))
            return True

        def _send(self, content: bytes, kind: str, commit: str, tag: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", commit)
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
