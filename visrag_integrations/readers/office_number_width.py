"""How many characters a number of a sheet takes as it is shown: in a narrower column it would be drawn as "###"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

# Formats that every workbook has, by their numbers; those of dates are told by their letters like any other.
# From ECMA-376, part 1, 18.8.30. Numbers 37 to 44 are for accounts: brackets, and room for a currency.
_BUILT_IN = {
    0: "",
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: "mm/dd/yyyy",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "mm/dd/yyyy h:mm",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
_OTHERWISE = "#,##0.00 XXXX"
# Names of days and months are longer than the letters that stand for them: "dddd" is "Wednesday".
_DATE_ROOM = 10
# Digits that LibreOffice shows of a number without a format.
_DIGITS = 15
# Signs and brackets around a number.
_SIGNS = 2
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|[_*].')
_MOST = 60.0


@dataclass
class Formats:
    """The number format of each style of a workbook's cells."""

    codes: list[str] = field(default_factory=list)

    def width(self, value: str, style: str) -> float:
        """Characters that a number takes.

        >>> formats = Formats(["", '#,##0.00" EUR"', "dddd, d mmmm yyyy"])
        >>> [formats.width("1234567.891", style) for style in ("", "1", "2")]
        [11.0, 20.0, 27.0]
        """
        code = ""
        if style.isdecimal() and int(style) < len(self.codes):
            code = self.codes[int(style)]
        try:
            number = float(value)
        except ValueError:
            return min(float(len(value)), _MOST)
        return min(float(_shown_width(number, code)), _MOST)


def read_formats(styles: bytes) -> Formats:
    """The formats in a workbook's styles.

    Raises:
        ValueError: These are damaged.
    """
    try:
        root = ElementTree.fromstring(styles)
    except ElementTree.ParseError as err:
        raise ValueError("damaged styles") from err
    codes = dict(_BUILT_IN)
    for item in root.iter():
        if item.tag.rpartition("}")[2] == "numFmt" and item.get("numFmtId", "").isdecimal():
            codes[int(item.get("numFmtId", "0"))] = item.get("formatCode", "")
    formats = Formats()
    for part in root:
        if part.tag.rpartition("}")[2] != "cellXfs":
            continue
        for style in part:
            number = style.get("numFmtId", "0")
            formats.codes.append(codes.get(int(number), _OTHERWISE) if number.isdecimal() else "")
    return formats


def _shown_width(number: float, code: str) -> int:
    if code in {"", "General", "@"}:
        return len(f"{number:.{_DIGITS}g}")
    section = code.split(";")[0]
    plain = _LITERAL.sub("", section)
    if re.search(r"[ymdhs]", plain, re.IGNORECASE):
        return len(plain) + _DATE_ROOM
    literal = len(section) - len(plain)
    if "%" in plain:
        number *= 100
    if not abs(number) < 1e40:  # infinity, and what no column shows
        return int(_MOST)
    digits = len(str(int(abs(number))))
    if "," in plain:
        digits += digits // 3
    decimals = len(plain.partition(".")[2])
    return max(digits, len(plain.partition(".")[0].lstrip("#,"))) + decimals + 1 + literal + _SIGNS
