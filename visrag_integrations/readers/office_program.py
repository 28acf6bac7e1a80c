"""One run of LibreOffice: its command line, its wall, its time limit, and what it left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from visrag_integrations.errors import DocumentError, DocumentTimeoutError, printable
from visrag_integrations.readers import child_process
from visrag_integrations.readers.office_components import advice, component_for, is_missing
from visrag_integrations.readers.office_profile import write_profile
from visrag_integrations.readers.office_sandbox import environment, wall

_told: set[str] = set()  # what was said in this process about its wall


class LibreOffice:
    """Converts the files of one folder, in which it has its own profile too.

    Args:
        program: Its path.
        folder: What it may read and write.
        name: Of the document, for errors.
        timeout: Seconds for all conversions together.
    """

    def __init__(self, program: str, folder: Path, name: str, timeout: float) -> None:
        self._program, self._folder, self._name, self._timeout = program, folder, name, timeout
        self._ends = time.monotonic() + timeout
        self._wall = wall(program, folder)
        # A profile of its own: a LibreOffice that the user has open would otherwise answer, or be waited for.
        self._profile = folder / "profile"
        write_profile(self._profile)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said about how it ran; the same is said once a process, not for each document."""
        missing = self._wall.missing
        if not missing or missing in _told:
            return ()
        _told.add(missing)
        return (missing,)

    def needs(self, suffix: str) -> None:
        """Which part of LibreOffice the document needs.

        Raises:
            DocumentError: It is not installed.
        """
        component = component_for(suffix)
        if is_missing(component, self._program):
            raise DocumentError(self._name, f"cannot be opened: {advice(component)}.")

    def convert(self, given: Path, target: str, *options: str) -> Path:
        """The file that it makes of another one.

        Args:
            given: In the folder.
            target: What is made, as `--convert-to` takes it: "pdf".
            options: More of its options.

        Raises:
            DocumentTimeoutError: It took too long.
            DocumentError: It made nothing.
        """
        profile = f"-env:UserInstallation={self._profile.as_uri()}"
        command = [*self._wall.command, self._program, profile, "--headless", "--norestore", "--nolockcheck"]
        command += ["--nodefault", *options, "--convert-to", target, "--outdir", str(self._folder), str(given)]
        log = self._folder / "log.txt"
        try:
            code = _run(command, log, self._folder, max(0.1, self._ends - time.monotonic()))
        except subprocess.TimeoutExpired as err:
            raise DocumentTimeoutError(
                self._name,
                f"LibreOffice took longer than {self._timeout:g} seconds. Raise office_timeout, or convert it to PDF.",
            ) from err
        made = given.with_suffix(f".{target.partition(':')[0]}")
        if not made.exists():
            said = printable(log.read_text(encoding="utf-8", errors="replace").strip()[-300:])  # the end says why
            if said:
                said = f" {said.rstrip('.')}."
            raise DocumentError(
                self._name,
                f"LibreOffice made no PDF of it (exit code {code}).{said} Open it in the program that wrote it, save "
                "it as PDF, and index that.",
            )
        return made


def _run(command: list[str], log: Path, folder: Path, timeout: float) -> int:
    """The exit code; what the program started is ended with it."""
    # A reading process leads a group that is ended as a whole; anywhere else the program gets a group of its own.
    own_group = child_process.has_groups() and not child_process.leads_group()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=own_group,
            env=environment(folder),
        )
    try:
        return process.wait(timeout)
    finally:
        child_process.end_with_group(process, own_group=own_group)
        process.wait()
