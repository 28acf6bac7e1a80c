"""Languages by the names that data sets give them: "french", "fra", "fra-Latn", "fr"."""

from __future__ import annotations

# ISO 639-1, ISO 639-3 (and its older bibliographic code where it differs), English name: the languages of ViDoRe V2 and
# V3, Jina VDR, KoViDoRe and of mteb's other sets of documents. One that is not here is only known as it is written.
_LANGUAGES = """
ar ara arabic
bn ben bengali
cs ces cze czech
da dan danish
de deu ger german
el ell gre greek
en eng english
es spa spanish
et est estonian
fa fas per persian
fi fin finnish
fr fra fre french
he heb hebrew
hi hin hindi
hr hrv croatian
hu hun hungarian
id ind indonesian
it ita italian
ja jp jpn japanese
ko kor korean
lt lit lithuanian
lv lav latvian
my mya bur burmese
nb no nor nob norwegian
nl nld dut dutch
pl pol polish
pt por portuguese
ro ron rum romanian
ru rus russian
sk slk slo slovak
sl slv slovenian
sr srp serbian
sv swe swedish
sw swa swahili
ta tam tamil
te tel telugu
th tha thai
tr tur turkish
uk ukr ukrainian
ur urd urdu
vi vie vietnamese
yo yor yoruba
zh zho chi chinese
"""
# Jina VDR writes "jp" for Japanese, which is no code of the standard.


def _codes() -> dict[str, str]:
    codes: dict[str, str] = {}
    for line in _LANGUAGES.split("\n"):
        for name in line.split():
            codes[name] = line.split()[0]
    return codes


_CODES = _codes()


def language_code(name: str) -> str:
    """One code for all the names of a language; an unknown one is its own, in lower case.

    >>> language_code("French"), language_code("fra-Latn"), language_code("fr_FR"), language_code("Klingon")
    ('fr', 'fr', 'fr', 'klingon')
    """
    name = name.strip().lower()
    # "fra-Latn" names the script too, "fr_FR" the country; "zh-hans" is Chinese for us.
    first = name.replace("_", "-").partition("-")[0]
    return _CODES.get(name) or _CODES.get(first) or name


def is_language(name: str) -> bool:
    """Whether it is a language's name or code.

    >>> is_language("english"), is_language("academic_paper"), is_language("id-cards")
    (True, False, False)
    """
    name = name.strip().lower()
    first, dash, script = name.replace("_", "-").partition("-")
    if not dash:
        return name in _CODES
    # "fra-latn", "fr-fr"; not "id-cards" or "no-tables".
    return first in _CODES and (len(script) in (2, 4) and script.isalpha())
