"""A text layer is believed only where it says what the page shows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pymupdf
import pytest

from visrag_integrations import ocr
from visrag_integrations.readers import PageReader, page_text
from visrag_integrations.readers.content import PageContent
from visrag_integrations.readers.text_trust import suspicious_stretches
from visrag_integrations.types import Page, Word

CASES = Path(__file__).parent / "data" / "cases"
CONTRACT = [
    "Maintenance contract 2031",
    "The pump station Alder Creek is inspected every nine weeks.",
    "The inspection fee is 1,845.50 EUR per visit.",
    "Spare valves are kept in storage room C17.",
]

GOOD = {
    "English": "The inspection fee is due on the first day of every month and has to be paid in advance by the owner.",
    "German": "Die Prüfgebühr ist am ersten Tag jedes Monats fällig und muss vom Eigentümer im Voraus bezahlt werden.",
    "French": "Les frais d'inspection sont dus le premier jour de chaque mois et doivent être payés à l'avance.",
    "Spanish": "La tarifa de inspección vence el primer día de cada mes y debe ser pagada por adelantado por el dueño.",
    "Polish": "Opłata za przegląd jest płatna pierwszego dnia każdego miesiąca i musi być uiszczona z góry przez "
    "właściciela budynku, który odpowiada za stan techniczny urządzeń.",
    "Czech": "Poplatek za kontrolu je splatný první den každého měsíce a musí být uhrazen předem vlastníkem budovy.",
    "Finnish": "Tarkastusmaksu erääntyy jokaisen kuukauden ensimmäisenä päivänä ja se on maksettava etukäteen.",
    "Turkish": "Denetim ücreti her ayın ilk günü ödenir ve mal sahibi tarafından peşin olarak yatırılmalıdır.",
    "Vietnamese": "Phí kiểm tra phải được thanh toán vào ngày đầu tiên của mỗi tháng và phải được chủ trả trước.",
    "Russian": "Плата за осмотр вносится в первый день каждого месяца и должна быть оплачена владельцем заранее.",
    "Greek": "Το τέλος επιθεώρησης καταβάλλεται την πρώτη ημέρα κάθε μήνα και πρέπει να πληρωθεί εκ των προτέρων.",
    "Hebrew": "דמי הבדיקה משולמים ביום הראשון של כל חודש ויש לשלם אותם מראש על ידי בעל הבית או נציגו החוקי",
    "Arabic": "تستحق رسوم الفحص في اليوم الأول من كل شهر ويجب أن يدفعها المالك مقدما قبل بداية العمل في المبنى",
    "Chinese": "检查费用应于每月第一天支付，并由业主提前缴纳。设备每九周检查一次，备用阀门存放在仓库中。",
    "Japanese": "検査料は毎月一日に支払われ、所有者が前もって納めなければならない。予備の弁は倉庫にある。",
    "Korean": "검사 수수료는 매월 첫째 날에 지불하며 소유자가 미리 납부해야 한다. 예비 밸브는 창고에 있다.",
    "numbers": "1,204.50 99.10 17.3 4 881.00 12.5 % 7,450 2031-10-15 0.003 1.2e-5 44 810.20 99 17 3.50 80.10 7.25",
    "code": "for index, value in enumerate(values):\n    if value not in seen:\n        seen.add(value)\n"
    "        result[index] = parse(value, strict=True)\nreturn [result[key] for key in sorted(result)]",
    "formulas": "f(x) = a + b · x², ∑ (i = 1 … n) x_i / n = μ, E[X] = ∫ x p(x) dx, σ² = E[(X − μ)²], ∂f/∂x = 0",
    "parts": "HX-7782-B Valve 1/2 in. 4 pcs 12.50 KX-4471 Pump housing 1 pc 318.00 C17-0098 Gasket set 2 pcs 9.90",
    "contents": "1 Introduction . . . . . . . . . . . . . . 3\n2 Methods . . . . . . 14\n3 Results . . . . 88",
}


@pytest.mark.parametrize("name", GOOD)
def test_good_text_is_not_suspected(name: str) -> None:
    assert suspicious_stretches(GOOD[name]) == []
    assert suspicious_stretches("\n".join([GOOD[name]] * 30)) == []


def shifted(text: str, by: int) -> str:
    """Every Latin letter as another one, as a broken table of a font says."""
    out = ""
    for letter in text:
        first = "a" if letter.islower() else "A"
        out += (
            chr((ord(letter) - ord(first) + by) % 26 + ord(first)) if letter.isascii() and letter.isalpha() else letter
        )
    return out


def swapped(text: str) -> str:
    return text.encode("utf-16-le").decode("utf-16-be", "replace")


def glyph_numbers(text: str) -> str:
    return "".join(chr(ord(letter) - 29) if 61 < ord(letter) < 127 else letter for letter in text)


def exchanged(text: str, seed: int = 7) -> str:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    random.Random(seed).shuffle(letters)
    return text.lower().translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "".join(letters)))


BAD = {
    "shifted by 11": shifted(GOOD["English"], 11),
    "shifted by 1": shifted(GOOD["German"], 1),
    "shifted by 5": shifted(GOOD["French"], 5),
    "swapped bytes": swapped(GOOD["English"]),
    "glyph numbers": glyph_numbers(GOOD["English"]),
    "exchanged": exchanged(GOOD["Spanish"], 5),
    "no names": "The fee is due. \ue012\ue013\ue001\ue044 \ufffd\ufffd\ufffd\ufffd paid in advance by the owner.",
    "old OCR": "lhe 1nspect1on fee 1s due 0n the f1rst day 0f every m0nth and must be pa1d 1n advance by the 0wner. "
    "c0ntract w0rk m1ster st0ne p1pe v1sit r0om c0st l1ne t1me",
}


@pytest.mark.parametrize("name", BAD)
def test_broken_layers_are_suspected(name: str) -> None:
    assert suspicious_stretches(BAD[name])
    if name not in ("old OCR", "glyph numbers"):
        among_good = "\n".join([GOOD["English"]] * 6 + [BAD[name]] * 3 + [GOOD["English"]] * 6)
        stretches = suspicious_stretches(among_good)
        assert stretches
        begin, end = among_good.index(BAD[name]), among_good.rindex(BAD[name]) + len(BAD[name])
        assert any(stretch.start < end and begin < stretch.stop for stretch in stretches)


def test_checking_a_page_costs_less_than_a_millisecond() -> None:
    import time

    text = "\n".join([GOOD["English"]] * 40)
    suspicious_stretches(text)
    start = time.process_time()
    for _ in range(20):
        suspicious_stretches(text)
    assert (time.process_time() - start) / 20 < 0.005


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_the_contract_is_read_as_it_looks(backend: Any) -> None:
    pytest.importorskip("rapidocr")
    (page,) = PageReader(backend=backend).read(CASES / "garbled-text-layer" / "contract.pdf")
    assert page.text.splitlines() == CONTRACT
    assert page.metadata["text_source"] == "ocr"
    assert "text_suspect" not in page.metadata


def test_without_ocr_the_layer_stays_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ocr, "is_installed", lambda: False)
    page_text.warn_suspect.cache_clear()
    (page,) = PageReader().read(CASES / "garbled-text-layer" / "contract.pdf")
    assert "Esp tydapnetzy" in page.text
    assert page.metadata["text_source"] == "text_layer"
    assert "letters" in page.metadata["text_suspect"]
    assert "may not be what they show" in caplog.text


def painted(lines: list[str], layer: list[str]) -> bytes:
    """A page that shows these lines, with a text layer that says others: each in its place, by an invisible copy."""
    with pymupdf.open() as document:
        shown = document.new_page(width=595, height=842)
        for place, line in enumerate(lines):
            shown.insert_text((50, 100 + 24 * place), line, fontsize=12)
        area = pymupdf.Rect(20, 60, 575, 90 + 24 * len(lines))
        drawn = shown.get_pixmap(dpi=150, clip=area)
        page = document.new_page(width=595, height=842)
        page.insert_image(area, pixmap=drawn)
        for place, line in enumerate(layer):
            page.insert_text((50, 100 + 24 * place), line, fontsize=12, render_mode=3)
        document.delete_page(0)
        return bytes(document.tobytes())


def read(data: bytes) -> Page:
    pytest.importorskip("rapidocr")
    (page,) = PageReader().read(data)
    return page


def test_one_bad_font_among_good_ones() -> None:
    good = [
        "The harbour of the old town was built by the sons of the",
        "first settlers and restored in the spring of 1931.",
    ]
    bad = CONTRACT[1:]
    page = read(painted(good + bad, good + [shifted(line, 11) for line in bad]))
    assert page.metadata["text_source"] == "text_layer+ocr"
    assert page.text.splitlines() == good + bad


def test_a_strange_layer_that_is_right_stays() -> None:
    parts = ["XKJW-QZ PLHV-7782 BKDG", "WQXZ-PF KJHG-4471 VBNM", "ZXCV-LK QWPF-0098 HJKL", "BHGF-JK DFGH-1111 MNBV"]
    page = read(painted(parts, parts))
    assert suspicious_stretches(page.text), "the test is about text that looks wrong"
    assert page.metadata["text_source"] == "text_layer"
    assert page.text.splitlines() == parts
    assert "text_suspect" not in page.metadata


def test_what_ocr_cannot_read_is_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shifted(GOOD["English"], 11)
    words = tuple(Word(word, (0.1, 0.1, 0.2, 0.12)) for word in text.split())
    from PIL import Image

    content = PageContent(Image.new("RGB", (300, 200), "white"), text, words)
    monkeypatch.setattr(ocr, "is_installed", lambda: True)
    monkeypatch.setattr(ocr, "read_line", lambda picture: ("옜쉢", 0.4))
    found = page_text.read_text(content, "auto", "adjacent_merging", 1_000_000)
    assert (found.text, found.source) == (text, "text_layer")
    assert "OCR cannot read" in found.suspect
