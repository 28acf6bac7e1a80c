"""The running demo over HTTP: what it gives, what it refuses, several visitors at once, and how it starts and ends."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio  # (these tests are left out where it is not installed)
import pytest
from demo_visitor import PATIENCE, ROOT, Visitor, free_port, running_demo
from drawing import draw_pdf

from visrag_integrations.cli import main

# The demo as a program, one for all of these tests.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo_http")]
FIRST = "My documents"
HANDLERS = (
    *(
        "take",
        "watch",
        "ask",
        "restored",
        "make",
        "ask_first",
        "remove",
        "stop",
        "leave",
        "forget",
        "_report",
        "compare",
        "refresh",
    ),
    *("try_password", "hide", "remove_ticked", "take_source"),
)
LIMITS = ("--max-upload-mb", "1", "--max-files", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "bases"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_demo(folder, *LIMITS) as running:
        yield running


@pytest.fixture
def visitor(url: str) -> Iterator[Visitor]:
    with Visitor(url) as one:
        yield one


def pdf(tmp_path: Path, *texts: str) -> bytes:
    return draw_pdf(tmp_path / "drawn.pdf", texts).read_bytes()


def text_of(said: list[dict[str, object]]) -> str:
    return "\n".join(str(message["output"]) for message in said if "output" in message)


def test_upload_ask_and_see_the_page(visitor: Visitor, folder: Path, tmp_path: Path) -> None:
    visitor.call("make", "Häfen", FIRST)
    content = pdf(tmp_path, "The harbour holds forty sailing boats.", "Bread takes an hour.")
    status = visitor.add("Häfen", ("../boats é.pdf", content), ("bad.pdf", b"nonsense"))
    assert "1 document · 2 pages" in status
    assert "boats é.pdf" in status
    assert "is not a PDF" in status
    said = text_of(visitor.ask("Häfen", "How many sailing boats are in the harbour?"))
    assert "forty sailing boats" in said
    assert "data:image/jpeg;base64," in said
    assert "vr-outlined" in said
    assert str(folder) not in said
    assert [path for path in (folder / "incoming").rglob("*") if path.is_file()] == []
    assert "file=" not in said


def test_no_file_is_served(visitor: Visitor, url: str, folder: Path, tmp_path: Path) -> None:
    (mine,) = visitor.upload(("secret.pdf", pdf(tmp_path, "secret")))
    kept = kept_file(folder, mine)
    assert kept.is_file()
    targets = [
        *("/etc/passwd", mine["path"], str(kept), str(folder / "visrag-demo.json"), str(ROOT / "README.md")),
        f"{kept.parent}/../../visrag-demo.json",
    ]
    prefixes = (
        "/gradio_api/file=",
        "/file=",
        "/gradio_api/file/",
        "/gradio_api/%66ile=",
        "/static/..",
        "/assets/../..",
    )
    for target in targets:
        for prefix in prefixes:
            status, body = raw_get(url, prefix + target)
            assert status in {403, 404}, (prefix, target)
            assert b"root:" not in body
            assert b"format_version" not in body


def kept_file(folder: Path, upload: dict[str, Any]) -> Path:
    """Where the server keeps an upload that its visitors know by a name."""
    return folder / "incoming" / str(upload["path"]).removeprefix("uploaded/")


def raw_get(url: str, path: str) -> tuple[int, bytes]:
    """Nothing of the path is normalised."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_no_file_of_the_machine_or_of_another_base_is_taken(visitor: Visitor, folder: Path, tmp_path: Path) -> None:
    visitor.call("make", "Private", FIRST)
    visitor.add("Private", ("private.pdf", pdf(tmp_path, "A private page.")))
    (private,) = folder.glob("private-*/documents/private.pdf")
    for path in ("/etc/passwd", str(private), str(folder / "visrag-demo.json"), str(folder / "incoming" / "a" / "b")):
        refused = visitor.join("take", FIRST, [visitor.file(path, "stolen.pdf")], "")
        assert (refused.status_code, refused.text) == (403, "Only files that were uploaded here are taken.")
    for name in ("uploaded/../visrag-demo.json", "uploaded/a/../../visrag-demo.json", "uploaded//etc", "uploaded/a"):
        assert visitor.join("take", FIRST, [visitor.file(name, "stolen.pdf")], "").status_code == 403
    assert private.exists()
    assert not list(folder.glob("*/documents/stolen*"))
    assert visitor.join("ask", *visitor.asked(FIRST, visitor.file("http://localhost/x"))).status_code == 403


def test_a_visitor_cannot_guess_the_upload_of_another(url: str, visitor: Visitor, folder: Path, tmp_path: Path) -> None:
    (mine,) = visitor.upload(("mine.pdf", pdf(tmp_path, "Mine.")))
    with Visitor(url) as other:
        for guess in ("uploaded/mine.pdf", "uploaded/a/mine.pdf", "uploaded/*/mine.pdf"):
            joined = other.join("take", FIRST, [other.file(guess, "guessed.pdf")], "")
            if joined.status_code == 200:
                other.call("take", FIRST, [other.file(guess, "guessed.pdf")], "")
        assert "guessed.pdf" not in text_of(other.ask(FIRST, "Mine?"))
    kept = kept_file(folder, mine)
    assert kept.is_file()
    visitor.call("take", FIRST, [mine], "")
    assert not kept.exists()


def test_no_reply_holds_a_path_of_the_server(visitor: Visitor, folder: Path, tmp_path: Path) -> None:
    """Whatever is asked, and however wrong the request is."""
    files = [("files", ("a.pdf", pdf(tmp_path, "A page."))), ("files", ("ü ½.pdf", b"broken"))]
    uploaded = visitor.http.post("/gradio_api/upload", files=files)
    names = uploaded.json()
    assert [name.rpartition("/")[0][:9] for name in names] == ["uploaded/"] * 2
    replies = [uploaded.text]
    form = {"content-type": "multipart/form-data; boundary=zz"}
    replies.append(visitor.http.post("/gradio_api/upload", content=b"no form", headers=form).text)
    replies += [visitor.http.get(path).text for path in ("/", "/config", "/theme.css", "/manifest.json")]
    given = [visitor.file(name) for name in names]
    inputs: list[tuple[Any, ...]] = [(FIRST, given, ""), (FIRST, [visitor.file(names[0] + "x")], ""), (FIRST,), ()]
    inputs += [({"a": 1}, [1], None), (None, given[0], 3)]
    for handler in HANDLERS:
        for data in inputs:
            if handler == "remove" and data[:1] == (FIRST,):
                continue  # other tests use it
            replies.append(json.dumps(visitor.call(handler, *data)))
    said = "\n".join(replies)
    # Python's and this project's own folders, as text and as it stands in JSON.
    for hidden in (str(folder), json.dumps(str(folder))[1:-1], str(ROOT), os.path.dirname(gradio.__file__), "/tmp/"):
        assert hidden not in said
    assert "Traceback" not in said


def test_upload_limits(visitor: Visitor) -> None:
    large = visitor.http.post("/gradio_api/upload", files=[("files", ("a.pdf", b"x" * (2 << 20)))])
    assert large.status_code == 413
    many = [("files", (f"{i}.pdf", b"x" * (1 << 20))) for i in range(5)]
    assert visitor.http.post("/gradio_api/upload", files=many).status_code == 413
    status = visitor.add(FIRST, *[(f"{i}.txt", b"text") for i in range(4)])
    assert "at most 3 files" in status
    assert visitor.http.post("/gradio_api/queue/join", content=b"[" + b"1," * (1 << 20)).status_code == 413


def test_bases_are_created_and_deleted_by_name(visitor: Visitor, folder: Path) -> None:
    assert "../evil" in text_of(visitor.call("make", "../evil", FIRST))
    assert {path.parent.parent for path in folder.parent.rglob("base.json")} == {folder}
    assert "already" in text_of(visitor.call("make", "../EVIL", FIRST))
    visitor.call("remove", "../evil")
    for handler, inputs in (("restored", ["../evil", None]), ("ask", visitor.asked("../evil", "boats?"))):
        assert "There is no knowledge base" in text_of(visitor.call(handler, *inputs))


def test_a_question_is_checked(visitor: Visitor) -> None:
    assert "Type a question" in text_of(visitor.ask(FIRST, "  "))
    assert "longer than" in text_of(visitor.ask(FIRST, "x" * 5000))


def test_two_ask_while_one_indexes(url: str, visitor: Visitor, tmp_path: Path) -> None:
    visitor.call("make", "Shared", FIRST)
    visitor.add("Shared", ("a.pdf", pdf(tmp_path, "The harbour holds forty sailing boats.")))
    more = pdf(tmp_path, *[f"Page {i} about lighthouses." for i in range(12)])

    def ask(question: str) -> str:
        with Visitor(url) as one:
            return text_of(one.ask("Shared", question))

    with ThreadPoolExecutor(3) as people, Visitor(url) as busy:
        indexing = people.submit(busy.add, "Shared", ("b.pdf", more))
        asking = [people.submit(ask, "How many sailing boats are in the harbour?") for _ in range(4)]
        assert all("forty sailing boats" in answer.result() for answer in asking)
        assert "2 documents · 13 pages" in indexing.result()


IN_ANOTHER_PROCESS = """
import contextlib, io, json, sys
from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.extractive import ExtractiveGenerator
from visrag_integrations.servers.demo import build_demo

folder, port = sys.argv[1:]
said = io.StringIO()
with contextlib.redirect_stderr(said):
    code = main(["demo", "--preset", "cpu", "--folder", folder + "-taken", "--port", port])

made, make = [], ExtractiveGenerator.__init__
ExtractiveGenerator.__init__ = lambda self: (made.append(self), make(self))[1]
for _ in range(2):
    build_demo(folder, embedder="ocr", generator="extractive")
refused = []
for wrong in ({"embedder": "ocr"}, {"embedder": "ocr", "generator": "extractive", "password": " "}):
    try:
        build_demo(folder, **wrong)
    except SettingError as error:
        refused.append(str(error))
handlers = []
for opened_to in ({}, {"password": "x"}, {"hosts": ["localhost"]}, {"hosts": ["localhost"], "local": True}):
    demo = build_demo(folder, embedder="ocr", generator="extractive", **opened_to)
    handlers.append([str(dependency["api_name"]) for dependency in demo.config["dependencies"]])
print(json.dumps({"handlers": handlers, "port": [code, said.getvalue()], "made": len(made), "refused": refused}))
"""


@pytest.fixture(scope="module")
def elsewhere(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened in another process: Gradio leaves event loops behind that it does not close."""
    folder = tmp_path_factory.mktemp("elsewhere") / "bases"
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(folder), str(urlsplit(url).port)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=True)
    happened: dict[str, Any] = json.loads(ended.stdout)
    return happened


def test_a_port_in_use_is_said(elsewhere: dict[str, Any]) -> None:
    code, said = elsewhere["port"]
    assert code == 2
    assert "Choose another --port" in said


def test_visitors_have_no_handler_for_folders_and_addresses(elsewhere: dict[str, Any]) -> None:
    *for_visitors, at_this_machine = elsewhere["handlers"]
    assert "take_source" in at_this_machine
    for handlers in for_visitors:
        assert "take" in handlers
        assert not [name for name in handlers if "source" in name]


def test_a_proxy_on_this_machine_reads_no_folders(url: str, visitor: Visitor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("Mine alone.")
    given = (FIRST, str(tmp_path / "mine"), "")
    with Visitor(url) as behind_a_proxy:
        behind_a_proxy.http.headers["x-forwarded-for"] = "203.0.113.9"
        assert "only by the person who runs the demo" in text_of(behind_a_proxy.call("take_source", *given))
    assert not list(folder.glob("*/documents/mine.txt"))
    visitor.call("take_source", *given)
    assert "mine.txt" in visitor.status(FIRST)
    assert (tmp_path / "mine" / "mine.txt").exists()
    visitor.call("remove_ticked", FIRST, ["mine.txt"])
    assert not list(folder.glob("*/documents/mine.txt"))


def test_a_visitor_is_told_nothing_of_anothers_questions(url: str, visitor: Visitor, tmp_path: Path) -> None:
    visitor.call("make", "Talk", FIRST)
    visitor.add("Talk", ("a.pdf", pdf(tmp_path, "The harbour holds forty sailing boats.")))
    said = visitor.ask("Talk", "How many sailing boats has PRIVATEWORD?")
    kept = [piece for message in said if "output" in message for piece in message["output"]["data"]]
    (conversation,) = [piece for piece in kept if isinstance(piece, dict) and "turns" in piece]
    assert "PRIVATEWORD" in text_of(visitor.call("restored", "Talk", conversation))
    with Visitor(url) as other:
        for handler, inputs in (
            ("restored", ["Talk", None]),
            ("stop", [None]),
            ("leave", [None]),
            ("_report", ["Talk", None]),
        ):
            assert "PRIVATEWORD" not in json.dumps(other.call(handler, *inputs))
        assert "PRIVATEWORD" not in text_of(other.ask("Talk", "How many boats?"))
        assert "PRIVATEWORD" not in other.http.get("/config").text


def test_a_cell_that_runs_again_takes_the_folder_over(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["made"] == 1  # the page that has the folder and the one that takes it over share their models
    missing, empty = elsewhere["refused"]
    assert 'generator="extractive"' in missing
    assert "password is empty" in empty


def test_sharing_needs_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VISRAG_DEMO_PASSWORD", raising=False)
    assert main(["demo", "--preset", "cpu", "--folder", str(tmp_path / "b"), "--share"]) == 2
    assert "--ask-password" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_password_opens_it_and_a_restart_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "bases"
    content = pdf(tmp_path, *[f"Page {i} about lighthouses." for i in range(8)])
    with running_demo(folder, password="open sesame") as url, Visitor(url) as visitor:
        for path in ("/", "/config", "/gradio_api/queue/data", "/assets/x"):
            assert visitor.http.get(path).status_code == 401
        assert visitor.http.post("/gradio_api/upload", files=[("files", ("a.pdf", b"x"))]).status_code == 401
        assert visitor.http.post("/login", data={"password": "open"}).status_code == 401
        assert visitor.http.post("/login", data={"password": "open sesame"}).status_code == 303
        visitor.call("take", FIRST, visitor.upload(("a.pdf", content)), "")  # and Ctrl-C at once
    with running_demo(folder) as url, Visitor(url) as visitor:
        assert "1 document · 8 pages" in visitor.status(FIRST)


def test_an_answer_is_shown_while_it_is_written_and_who_leaves_stops_it(tmp_path: Path) -> None:
    # A process of its own: a Gradio server leaves event loops behind that it does not close.
    command = [sys.executable, str(ROOT / "tests" / "endless_demo.py"), str(tmp_path / "bases"), str(free_port())]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            with Visitor(server.stdout.readline().strip()) as visitor:
                visitor.add(FIRST, ("a.pdf", pdf(tmp_path, "The harbour holds forty sailing boats.")))
                visitor.join("ask", *visitor.asked(FIRST, "How many boats?")).raise_for_status()
                with visitor.listen() as lines:
                    assert any("word1" in line for line in lines)
            assert server.stdout.readline() == "stopped\n"
            server.communicate("", timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode == 0
