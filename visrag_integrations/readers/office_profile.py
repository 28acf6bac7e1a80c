"""The settings of a LibreOffice that converts a document of somebody else: nothing is loaded, nothing is run.

A profile is made anew for every document, so nothing of the user's own is read or changed.
"""

from __future__ import annotations

from pathlib import Path

# Where each stands in LibreOffice's registry, its name, and its value. Names that a version does not know are ignored.
_SETTINGS: tuple[tuple[str, str, str], ...] = (
    # Links of documents are followed only from places that the user trusts, and no place is trusted.
    ("Office.Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Office.Common/Security/Scripting", "DisableActiveContent", "true"),
    ("Office.Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Office.Common/Security/Scripting", "DisablePythonRuntime", "true"),
    ("Office.Common/Security/Scripting", "DisableOLEAutomation", "true"),
    ("Office.Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Office.Common/Security/Scripting", "OfficeBasic", "0"),
    ("Office.Common/Security/Scripting", "ExecutePlugins", "false"),
    ("Office.Common/Security/Scripting", "CheckDocumentEvents", "true"),
    # The two programs number their choices differently: 0 is "never" in Writer, 1 in Calc.
    ("Office.Writer/Content/Update", "Link", "0"),
    ("Office.Writer/Content/Update", "Field", "false"),
    ("Office.Calc/Content/Update", "Link", "1"),
    # 1 is "never": cells show what was saved with them.
    ("Office.Calc/Formula/Load", "OOXMLRecalcMode", "1"),
    ("Office.Calc/Formula/Load", "ODFRecalcMode", "1"),
    # Where no wall keeps it from the network, http goes through a proxy that does not exist.
    ("Inet/Settings", "ooInetProxyType", "2"),
    ("Inet/Settings", "ooInetHTTPProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPProxyPort", "9"),
    ("Inet/Settings", "ooInetHTTPSProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPSProxyPort", "9"),
    ("Inet/Settings", "ooInetNoProxy", ""),
    ("Office.Java/VirtualMachine", "Enable", "false"),
    ("Office.Common/Misc", "CollectUsageInformation", "false"),
    ("Office.Common/Misc", "CrashReport", "false"),
    ("Office.Common/Misc", "FirstRun", "false"),
    # No picture of the disk's or the network's is looked for when only a link is known.
    ("Office.Common/Load", "ShowOfficeUpdateDialog", "false"),
)


def write_profile(folder: Path) -> None:
    """Make a profile in a folder that does not exist yet."""
    items: list[str] = []
    for place, name, value in _SETTINGS:
        items.append(
            f'<item oor:path="/org.openoffice.{place}"><prop oor:name="{name}" oor:op="fuse">'
            f"<value>{value}</value></prop></item>"
        )
    user = folder / "user"
    user.mkdir(parents=True)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<oor:items xmlns:oor="http://openoffice.org/2001/registry">\n'
        + "\n".join(items)
        + "\n</oor:items>\n"
    )
    (user / "registrymodifications.xcu").write_text(text, encoding="utf-8")
