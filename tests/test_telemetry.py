"""Nothing is told to anybody: no name is looked up and no file appears but those of the index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visrag_integrations import telemetry

ROOT = Path(__file__).parent.parent
CLEAN = {name: value for name, value in os.environ.items() if name not in telemetry.VARIABLES}


def run(code: str, **variables: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], env={**CLEAN, **variables}, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return found.stdout.strip()


def test_importing_the_package_switches_telemetry_off_for_this_process_and_its_children() -> None:
    code = (
        "import visrag_integrations, subprocess, sys; "
        "subprocess.run([sys.executable, '-c', 'import os, json; print(json.dumps(dict(os.environ)))'])"
    )
    inherited = json.loads(run(code))
    assert {name: inherited.get(name) for name in telemetry.VARIABLES} == telemetry.VARIABLES


def test_what_the_user_has_set_stays() -> None:
    code = "import visrag_integrations, os; print(os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    assert run(code, HF_HUB_DISABLE_TELEMETRY="0") == "0"


def test_the_hub_package_imported_before_is_switched_off_too() -> None:
    pytest.importorskip("huggingface_hub")
    code = (
        "from huggingface_hub import constants; assert not constants.HF_HUB_DISABLE_TELEMETRY; "
        "import visrag_integrations; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    assert run(code) == "True"


WATCHED = r"""
import json, os, re, signal, socket, subprocess, sys, threading, time, urllib.request
from pathlib import Path

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
address = re.search(r"^nameserver (\S+)", Path("/etc/resolv.conf").read_text(), re.M)[1]
subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=False, stderr=subprocess.DEVNULL)
asked = []
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, 53))


def listen():
    while True:
        data, name, place = server.recv(2048), [], 12
        while data[place]:
            name.append(data[place + 1 : place + 1 + data[place]].decode())
            place += 1 + data[place]
        asked.append(".".join(name))


threading.Thread(target=listen, daemon=True).start()
samples, visrag = sys.argv[1], [sys.executable, "-m", "visrag_integrations.cli"]
pdf = f"{samples}/debian-tips-scan.pdf"
subprocess.run([*visrag, "index", pdf], check=True, stdout=subprocess.DEVNULL)
subprocess.run([*visrag, "search", "strace"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([*visrag, "ask", "What does strace show?"], check=True, stdout=subprocess.DEVNULL)
for command in (["serve", "--port", "8123"], ["demo", "--port", "8124", "--folder", "bases"]):
    program = subprocess.Popen([*visrag, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port = int(command[2])
    while program.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
        except urllib.error.HTTPError:
            pass
        except OSError:
            time.sleep(0.2)
            continue
        time.sleep(8)  # what is told at intervals is told by now
        break
    assert program.poll() is None, command
    program.send_signal(signal.SIGINT)
    program.wait()
home = Path(os.environ["HOME"])
print(json.dumps({"asked": asked, "made": [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]}))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"), reason="needs root")
def test_no_name_is_looked_up_and_no_file_appears_outside_the_index(tmp_path: Path) -> None:
    """The whole way, in a network of its own whose name server only listens."""
    home, temporary, work = tmp_path / "home", tmp_path / "tmp", tmp_path / "work"
    for folder in (home, temporary, work):
        folder.mkdir()
    environment = {**CLEAN, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    for name in ("XDG_CACHE_HOME", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        environment.pop(name, None)
    finished = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", WATCHED, str(ROOT / "samples")],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found == {"asked": [], "made": []}
    assert {path.name for path in temporary.iterdir()} <= {"gradio"}  # Gradio makes this folder when it is imported
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    assert {path.name for path in work.iterdir()} <= {".visrag", "bases"}
