"""A wall around LibreOffice: no network, no files but its own folder, the program and its fonts.

Bubblewrap (`bwrap`) builds it where it is installed and the system lets users have namespaces of their own. Elsewhere
`unshare` takes at least the network away, where it can; the report says what is missing of the wall. The settings and
the cleaned package are walls of their own.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from visrag_integrations.files import ScratchFolder

# Seconds. "soffice --version" takes a third of one; a very busy machine takes far longer.
_TEST_TIMEOUT = 30.0
# Of the system: programs, libraries and what they are set up with. No home, no /var, no /run, no /tmp.
_READABLE = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib32",
    "/usr/libexec",
    "/usr/bin",
    "/usr/share",
    "/usr/local/share/fonts",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/fonts",
    "/etc/libreoffice",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/var/cache/fontconfig",
)
# The only variables that reach LibreOffice: which language and fonts it has. No keys, no tokens, no proxies.
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "SAL_USE_VCLPLUGIN")


def environment(folder: Path) -> dict[str, str]:
    """The environment of LibreOffice, whose home is the folder of this conversion."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "XDG_DATA_HOME": str(_data_home()),  # the user's own fonts are there
        "SAL_USE_VCLPLUGIN": "svp",  # draws without a display
        **kept,
    }


@dataclass(frozen=True)
class Wall:
    """What stands around LibreOffice.

    Attributes:
        command: The beginning of the command that runs it.
        missing: What is missing of the wall; "" where nothing is.
    """

    command: tuple[str, ...] = ()
    missing: str = ""


NO_FILES_HIDDEN = (
    "LibreOffice ran without network, but could see the files of this machine: bubblewrap (bwrap) is not installed or "
    "not allowed. Links in documents are cut out all the same. apt-get install bubblewrap puts up the whole wall."
)
NO_WALL = (
    "LibreOffice ran without a wall around it: bubblewrap (bwrap) is not installed, or the system refuses user "
    "namespaces. Links in documents are cut out all the same."
)
# Ways to have no network, of which the first that the system allows is taken: older versions of unshare, and some
# containers, know only the second.
_WITHOUT_NETWORK = (("--user", "--map-current-user", "--net", "--"), ("--map-root-user", "--net", "--"))


def wall(program: str, folder: Path) -> Wall:
    """What runs LibreOffice behind the wall, as far as this machine can build it.

    Args:
        program: Of LibreOffice.
        folder: What it may read and write.
    """
    real = Path(program).resolve()
    bwrap = shutil.which("bwrap")
    # A script that starts LibreOffice from elsewhere (snap, flatpak) has its own sandbox, and needs its own places.
    if bwrap is not None and (real.parent / "soffice.bin").exists():
        for options in ((), ("no proc",)):
            if _works(bwrap, str(real), options):
                return Wall(tuple(_command(bwrap, real, folder, options)))
    unshare = shutil.which("unshare")
    if unshare is not None:
        for ways in _WITHOUT_NETWORK:
            if _starts((unshare, *ways), str(real)):
                return Wall((unshare, *ways), NO_FILES_HIDDEN)
    return Wall(missing=NO_WALL)


def _works(bwrap: str, program: str, options: tuple[str, ...]) -> bool:
    """Whether LibreOffice starts behind the wall; asked once a process."""
    return _starts(tuple(_command(bwrap, Path(program), None, options)), program)


@functools.lru_cache
def _starts(prefix: tuple[str, ...], program: str) -> bool:
    """Whether LibreOffice starts with something in front of its command."""
    # A home of its own: even for its version LibreOffice makes folders in its home.
    with ScratchFolder("office") as folder:
        try:
            done = subprocess.run(
                [*prefix, program, "--version"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TEST_TIMEOUT,
                env=environment(folder),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _command(bwrap: str, program: Path, folder: Path | None, options: tuple[str, ...]) -> list[str]:
    command = [bwrap, "--unshare-all", "--die-with-parent", "--tmpfs", "/tmp"]
    fonts = _data_home() / "fonts"
    for place in (*_READABLE, str(program.parent.parent), str(fonts)):
        if os.path.islink(place):  # "/lib" of a merged system
            command += ["--symlink", os.readlink(place), place]
        else:
            command += ["--ro-bind-try", place, place]
    if "no proc" not in options:  # inside of some containers it cannot be mounted
        command += ["--proc", "/proc"]
    command += ["--dev", "/dev"]
    if folder is not None:
        command += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
    return command


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
