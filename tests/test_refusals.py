"""Whether an answer says that the pages do not hold it: refusals in many words, and answers that only look like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.generation.evisrag import parse_evidence
from visrag_integrations.generation.refusals import rests_on_nothing, says_insufficient, says_nothing_relevant
from visrag_integrations.types import Evidence, Page

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cases" / "says-it-does-not-know" / "texts.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
REFUSALS = [
    "The images do not provide the answer.",
    "I'm sorry, but I can't find that information in the provided images.",
    "Sorry, I cannot determine the total from these pages.",
    "Unfortunately, the document doesn't say who signed it.",
    "None of the provided pages mention the expiry date.",
    "There is no information about the price in the images.",
    "No information about the warranty is given.",
    "The expiry date is not specified.",
    "Not specified in the document.",
    "Not mentioned.",
    "I don't know.",
    "I do not have enough information to answer this.",
    "The answer cannot be determined from the given images.",
    "It cannot be determined.",
    "It is impossible to tell from the pages.",
    "The provided context does not contain information about the fee.",
    "The pages only show the address and do not mention the total.",
    "The provided pages do not mention the total. They only show the address.",
    "The images show a garden. However, none of them mention the price.",
    "There is insufficient evidence in the images to determine the date.",
    "No relevant information was found in the pages.",
    "The report does not state the number of employees.",
    "We are unable to answer this question based on the images.",
    "Neither page mentions the phone number.",
    "The table does not provide data for 2019.",
    "**The provided images do not contain the requested information.**",
    "No page shows the total.",
    "The phone number is not provided in the document.",
    "The total is not shown on any of the pages.",
    "It's not possible to say based on the images.",
    "There is no mention of dogs in the documents.",
    "Based on the evidence, the question cannot be answered.",
    "According to the document, the expiry date is not mentioned.",
    "I couldn't find the total in the pages.",
    "The document lacks information on the price.",
    "The text does not explain why the bridge was closed.",
    "图片中没有提到总额。",
    "根据现有信息无法回答该问题。",
    "文档中未提供该信息。",
    "没有足够的信息来回答这个问题。",
    "無法從圖片中確定答案。",
    "画像からは判断できません。",
    "提供されたページには合計の記載がありません。",
    "質問に答えるための情報が不足しています。",
    "제공된 이미지에는 총액에 대한 정보가 없습니다.",
    "답변할 수 없습니다.",
    "문서에 언급되어 있지 않습니다.",
    "Das Dokument enthält keine Angaben zum Preis.",
    "Das lässt sich anhand der Bilder nicht beantworten.",
    "Die Frage kann nicht beantwortet werden.",
    "Der Gesamtbetrag ist nicht angegeben.",
    "Leider geht das aus den Seiten nicht hervor.",
    "Ich kann die Frage nicht beantworten.",
    "Les documents ne mentionnent pas le total.",
    "Aucune information sur le prix n'est disponible.",
    "Il est impossible de déterminer la date.",
    "La date d'expiration n'est pas précisée.",
    "Je ne peux pas répondre à cette question.",
    "Las páginas no mencionan el total.",
    "No es posible determinar el total.",
    "No hay suficiente información para responder.",
    "El documento no especifica cuándo caduca el permiso.",
    "As páginas não mencionam o total.",
    "Não é possível determinar o total.",
    "Não há informações suficientes para responder.",
    "Le pagine non menzionano il totale.",
    "Non è possibile rispondere alla domanda.",
    "Informazioni insufficienti per rispondere.",
    "De pagina's vermelden het totaal niet.",
    "Er is onvoldoende informatie om de vraag te beantwoorden.",
    "На страницах не указана общая сумма.",
    "Невозможно определить сумму.",
    "Недостаточно информации для ответа.",
    "Strony nie zawierają informacji o cenie.",
    "Nie można określić ceny na podstawie dokumentu.",
    "Brak wystarczających informacji.",
    "Sidorna nämner inte totalsumman.",
    "Sayfalarda toplam tutar belirtilmemiştir.",
    "Soruyu yanıtlamak için yeterli bilgi yok.",
    "لا تحتوي الصفحات على معلومات كافية.",
    "لا يمكن تحديد الإجابة.",
    "पृष्ठों में कुल राशि का उल्लेख नहीं है।",
    "Các trang không đề cập đến tổng số tiền.",
    "Không đủ thông tin để trả lời.",
    "Dokumen tidak menyebutkan totalnya.",
    "ไม่มีข้อมูลเพียงพอ",
    "The document does not specify when the permit expires, so I cannot answer.",
    "As of the provided pages, there's no information on this.",
    "The images provided do not show any totals.",
    "Page 1 does not mention the total.",
    "I could not find any mention of the total in the provided documents.",
    "The requested information is not available in the provided pages.",
]
ANSWERS = [
    "The answer is no",
    "none of the 12 boats",
    "Not available in size 4",
    "No",
    "None",
    "No data was collected in 2019",
    "Nobody was informed",
    "There is no fee.",
    "No fee is charged for children.",
    "There is no information desk.",
    "No information is shared with third parties.",
    "No information about customers is sold.",
    "You cannot park there.",
    "The warranty does not cover water damage.",
    "The contract does not include parking.",
    "The policy does not mention a deductible, but the annex sets it to 500 euros.",
    "Breakfast is not included in the price.",
    "The cause of the crash could not be determined.",
    "It was not possible to determine the cause of the fire.",
    "The shop is not open on Sundays.",
    "7, the currency is not mentioned",
    "The fee is 7 euros and the currency is not stated.",
    "42. The document does not specify the unit.",
    "Insufficient funds",
    "Not enough",
    "No evidence of asbestos was found.",
    "Cannot be cancelled",
    "Unable to fly",
    "The lake cannot be seen from the road.",
    "The document must not be copied.",
    "The pages are numbered from 1 to 12.",
    "The image shows a cat.",
    "None of the pages are signed.",
    "The document is not signed.",
    "Documents are not returned.",
    "The document may not be shared.",
    "There is no evidence of life.",
    "Information",
    "It is impossible to cross the river in winter.",
    "It is not possible to pay in cash.",
    "I cannot live without music",
    "Dogs are not allowed.",
    "Not applicable",
    "Unknown artist",
    "不可以取消",
    "没有",
    "不包含早餐",
    "5月前は解約できません。",
    "日曜日は営業していません。",
    "5월 이전에는 해지할 수 없습니다.",
    "Der Vertrag kann nicht vor Mai gekündigt werden.",
    "Nein, der Vertrag nennt keine Hunde.",
    "Das Frühstück ist nicht enthalten.",
    "Der Eintritt ist für Kinder kostenlos.",
    "Keine",
    "Hunde sind nicht erlaubt.",
    "Das Gerät ist nicht für Kinder bestimmt.",
    "Le contrat ne peut pas être résilié avant mai.",
    "Il est impossible de résilier avant mai.",
    "Le petit-déjeuner n'est pas inclus.",
    "No se permiten perros.",
    "El contrato no puede cancelarse antes de mayo.",
    "No es posible cancelar antes de mayo.",
    "Não é possível cancelar antes de maio.",
    "Il contratto non può essere annullato.",
    "Договор нельзя расторгнуть до мая.",
    "Собаки не допускаются.",
    "Umowy nie można rozwiązać przed majem.",
    "Sözleşme mayıstan önce feshedilemez.",
    "Seven of the images show boats",
    "The information is confidential and must not be disclosed.",
    "The text is not bold.",
    "Page 7",
    "No smoking",
    "The images are not to scale.",
    "Nothing",
    "Zero",
    "Based on the provided images, the total is 7.",
    "In 2019, no fee was charged.",
    "According to the document, dogs are not allowed.",
    "The document was not found guilty",
    "The file is not encrypted",
    "The context menu does not close",
    "Documents do not need a stamp.",
    "The pages do not match.",
    "The source does not leak.",
    "The slides do not open.",
    "Text messages do not cost anything.",
    "I do not like Mondays",
    "We cannot help falling in love",
    "无糖",
    "不需要",
    "文件不可复印",
    "Die Seiten sind nicht nummeriert.",
    "Les chiens ne sont pas admis.",
    "Los documentos no se devuelven.",
    "Die Unterlagen werden nicht zurückgegeben.",
    "Документы не возвращаются.",
    "The report has no conclusion",
    "The deadline is not before May.",
    "The material does not contain lead.",
    "The material contains no PVC.",
    "The content is not free.",
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_contents_of_answers(case: dict[str, Any]) -> None:
    assert says_insufficient(case["text"]) is not case["sufficient"]
    answer = parse_evidence(f"<evidence>[1]: e</evidence><answer>{case['text']}</answer>", [Page("d", 1)])
    assert answer.sufficient is case["sufficient"]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert says_insufficient(text)
    assert says_insufficient(f" **{text}** ")


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_that_say_no_or_not(text: str) -> None:
    assert not says_insufficient(text)
    assert not says_insufficient(f" **{text}** ")


@pytest.mark.parametrize(
    "text",
    [
        "The pages do not mention the total, but the subtotal is 7 euros.",
        "The document does not state the date; however, the stamp says 3 May.",
        "The total is 7. The document does not specify the currency.",
        "7 (the pages do not say in which currency)",
        "42, although the evidence is insufficient for 2019",
        "Yes. The document does not mention any exception.",
        "No, the pages do not mention dogs.",
        "Nein, die Seiten erwähnen keine Hunde.",
        "Non, les pages ne mentionnent pas les chiens.",
        "不，文件没有提到狗。",
        "いいえ、犬についての記載はありません。",
    ],
)
def test_what_is_answered_all_the_same_is_an_answer(text: str) -> None:
    assert not says_insufficient(text)


@pytest.mark.parametrize(
    "text",
    [
        "keine relevanten Informationen",
        "Aucune information pertinente.",
        "Ninguna información relevante",
        "Nenhuma informação relevante.",
        "Nessuna informazione rilevante",
        "geen relevante informatie",
        "Нет релевантной информации.",
        "Brak istotnych informacji",
        "無相關資訊",
        "関連情報なし",
        "관련 정보 없음",
        "لا توجد معلومات ذات صلة",
        "Không có thông tin liên quan",
        "なし",
        "nichts",
    ],
)
def test_nothing_relevant_in_other_languages(text: str) -> None:
    assert says_nothing_relevant(text)


@pytest.mark.parametrize(
    "text",
    [
        "keine Hunde erlaubt",
        "aucune information pertinente, mais le total est 7",
        "nada se perdió",
        "Нет выходных",
        "nichts ist gratis",
        "没有停车位",
        "関連会社は三社",
    ],
)
def test_evidence_that_says_no_is_relevant(text: str) -> None:
    assert not says_nothing_relevant(text)


NOTHING = [Evidence(1, "no relevant information", relevant=False), Evidence(2, "None", relevant=False)]


@pytest.mark.parametrize(
    ("text", "texts", "nothing"),
    [
        ("Unknown", ["The fee is 7 euros.", "Dogs are welcome."], True),
        ("Napoleon Bonaparte", ["The fee is 7 euros.", "Dogs are welcome."], True),
        ("Dogs", ["The fee is 7 euros.", "Dogs are welcome."], False),  # a word of it is on a page
        ("Napoleon", ["The fee is 7 euros.", ""], False),  # what is on the second page is not known
        ("No", ["The fee is 7 euros."], False),
        ("7", ["The fee is eight euros."], False),
        ("Napoleon", [], False),
    ],
)
def test_an_answer_that_no_page_holds(text: str, texts: list[str], nothing: bool) -> None:
    pages = [Page("d", number, page_text) for number, page_text in enumerate(texts, start=1)]
    written = f"<evidence>[1]: no relevant information\n[2]: None</evidence><answer>{text}</answer>"
    assert parse_evidence(written, pages).sufficient is not nothing
    assert not rests_on_nothing(text, [*NOTHING, Evidence(3, "seven")], texts)
    assert not rests_on_nothing(text, [], texts)


def test_long_texts_are_read_in_linear_time() -> None:
    import time

    start = time.process_time()
    for unit in ("no ", "the pages do not ", "(", "is not ", "なし", "не ", "a" * 50 + " ", ", "):
        text = unit * (1_000_000 // len(unit))
        says_insufficient(text)
        says_nothing_relevant(text)
    assert time.process_time() - start < 5
