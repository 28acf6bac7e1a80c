"""How "the pages do not say" is said in the languages that models answer in, as regular expressions.

Each language has up to four kinds of sentence, and only these: what the answer itself may deny is none of them.

* the pages, which do not say it: "Die Seiten enthalten nicht genügend Informationen." A contract, a permit or a hotel
  that does not say or allow something is an answer.
* somebody who cannot know it: "I cannot determine". To be unable to cancel, to park or to pay is an answer.
* a thing that is not stated: "The date is not specified." A thing that is not included, allowed or open is an answer.
* information that is missing: "no information about the price". No dogs, no fee and no evidence of asbestos are answers.
"""

from __future__ import annotations

import re

_FLAGS = re.IGNORECASE


def _kinds(*patterns: str, **words: str) -> re.Pattern[str]:
    """One expression for all kinds of sentence of a language; `{name}` in them stands for the words of that name."""
    filled = []
    for pattern in patterns:
        for name, value in words.items():
            pattern = pattern.replace("{" + name + "}", f"(?:{value})")
        filled.append(pattern)
    return re.compile("|".join(filled), _FLAGS)


# --- English ------------------------------------------------------------------------------------------------------

_GIVEN = r"(?:provided|given|supplied|attached|available|shown|above|retrieved|following|visible|\w{1,5}|\d+)"
_SURELY_GIVEN = r"(?:provided|given|supplied|attached|available|shown|above|retrieved)"
# "The material does not contain lead" is about the material, "the provided material" is what the model was shown.
PAGES = (
    r"(?:(?:in |on |from )?(?:all|any|either|each) of )?(?:the |these |this |those |your )?"
    rf"(?:(?:{_GIVEN} ){{0,3}}(?:pages?|images?|pictures?|photos?|documents?|files?|texts?|context|slides?|excerpts?|"
    r"passages?|scans?|screenshots?|pdfs?|documentation)"
    rf"|(?:{_SURELY_GIVEN} ){{1,2}}(?:information|evidence|materials?|contents?|sources?|data))"
    r"(?: (?:\d+|provided|given|shown|supplied|above|(?:that )?(?:i was|you|were) (?:given|provided|shown|shared)))?"
)
_PARTS = r"(?:the |this |that )?(?:\w+ )?(?:table|chart|figure|report|article|diagram|graph|form|map|snippet|section)"
_NOT_DO = r"(?:(?:do|does|did)(?: not|n['’]?t)|fails? to|(?:has|have) no(?:t|thing)?)(?: (?:\w+ly|seem to|appear to|even))?"
_SAY = (
    r"(?:mention|specify|specif(?:y|ies)|states?|say|indicate|disclose|provide|give|reveal|tell|address|discuss|"
    r"explain|clarify|answer|define|detail|name|make (?:it )?clear|make (?:any )?mention|refer to|offer|identify|list)"
)
_HOLD = r"(?:contain|include|show|hold|have|display|present|describe|depict|cover|report|record|support|supply|note)"
_ENABLE = r"(?:allow|permit|enable|let|help|suffice)(?: \w+)? (?:to )?{know}"
_KNOW = (
    r"(?:answer|determine|tell|say|know|infer|conclude|establish|ascertain|deduce|respond|state|specify|identify|"
    r"figure out|work out|give (?:an?|the|any) (?:\w+ )?answer|provide (?:an?|the|any) (?:\w+ )?answer)"
)
_LOOK = r"(?:find|locate|see|read|verify|confirm|calculate|compute|extract|discern|make out|derive|estimate|assess)"
_INFORMATION = r"(?:information|info|mentions?|details?|context)"
_MISSING = (
    r"(?:no|not enough|not sufficient|insufficient|not any|too little|no sufficient|lack(?:s|ing|ed)?(?: of)?(?: the)?|"
    r"without(?: any)?)"
)
_FOUND = r"(?:provided|given|available|mentioned|shown|found|present(?:ed)?|included|stated|supplied|visible|listed)"
_SAID = r"(?:mentioned|specified|stated|disclosed|indicated|addressed|discussed|clarified|made clear)"
# The subject of "is not specified": short, and no clause that already says something.
_SUBJECT = r"(?:(?!\b(?:is|are|was|were|costs?|amounts?|equals?|and|while|of which)\b)[^.,;:!?\n]){0,120}"

ENGLISH = _kinds(
    r"{pages} {not} (?:{say}|{hold})\b",
    r"{parts} {not} {say}\b",
    rf"{{pages}} {{not}} {_ENABLE}",
    r"{pages} (?:only )?(?:shows?|contains?|lists?|describes?|mentions?|discuss(?:es)?)[^.,;:!?\n\d]{0,100}"
    r"(?:but|and)(?: (?:they|it|the \w+))? {not} (?:{say}|{hold})\b",
    r"(?:none|neither|nothing)(?: (?:of|in|on))?(?: (?:the|these|those|them))?(?: {pages})?(?: \w+ly)? "
    r"(?:{say}|{hold}|gives|tells|shows|says|has)(?:s|es|ies)?\b",
    r"(?:no|neither) (?:\w+ )?(?:pages?|images?|pictures?|documents?)(?: \w+)?(?: \w+ly)? (?:{say}|{hold}|ha)s?\b",
    r"(?:i|we)(?: \w+ly)? (?:can ?not|can['’]?t|could(?: not|n['’]?t)|(?:am|are|was|were)(?: unable| not able)(?= to)|"
    r"do(?: not|n['’]?t))(?: to)?(?: \w+ly)? (?:{know}|{look}|help (?:with|you)|assist)\b",
    r"(?:i|we) (?:do(?: not|n['’]?t) have|have no(?:t)?)(?: \w+){0,3} (?:{information}|access|data|idea|clue|answer)\b",
    r"(?:i )?(?:do not|don['’]?t) know\b|no idea\b",
    r"(?:unable|impossible|not possible) to {know}\b|unable to {look}\b",
    r"(?:it|this)(?: is|['’]s)(?: \w+ly)? (?:not possible|impossible|not feasible)(?: \w+){0,2} to {know}\b",
    r"(?:it|this)(?: is|['’]s| was)(?: \w+ly)? (?:not possible|impossible)(?: \w+){0,2} to (?:{look}|{know})\b"
    r"[^.;:!?\n]{0,80}\b(?:from|in|on|using|with|based on|given) {pages}",
    r"there(?: is|['’]s) no way (?:of|to) (?:{know}|knowing|telling|determining|saying)\b",
    r"(?:it|this)(?: is|['’]s)(?: \w+ly)? (?:unclear|unknown|not clear|not known|not evident|not apparent)\b"
    r"[^.;:!?\n]{0,60}\b(?:from|in|based on) {pages}",
    r"{subject}(?:can ?not|can['’]?t) be (?:\w+ly )?(?:answered|determined|inferred|ascertained|deduced|concluded)\b",
    r"{subject}(?:can ?not|can['’]?t|could not) be (?:\w+ly )?(?:answered|determined|identified|found|seen|read|located|"
    r"verified|confirmed|established|calculated|derived|inferred)\b[^.;:!?\n]{0,60}\b(?:from|in|on|based on|using) {pages}",
    r"{subject}\b(?:(?:is|are|was|were)(?: not|n['’]?t)(?: \w+ly)?|(?:is|are) (?:nowhere|never)) {said}\b",
    r"{subject}\b(?:is|are|was|were)(?: not|n['’]?t)(?: \w+ly)? {found}[^.,;:!?\n]{0,30}"
    r"\b(?:in|on|within|by|among|from|anywhere in) {pages}",
    r"not (?:\w+ly )?{said}\b|not (?:given|provided)(?:$|[.,;]| in {pages})",
    r"not (?:{found}) (?:in|on|within|by) {pages}",
    r"{subject}\b(?:is|are) (?:missing|absent) (?:from|in) {pages}",
    r"(?:there(?: is| are|['’]s| was| were)(?: simply)? |i (?:see|find|found) |{pages} (?:has|have|contains?|provides?|gives?)"
    r" |due to |because of |{pages} (?=lack))?{missing} (?:\w+ly )?(?:\w+ ){0,2}{information}"
    r"(?: (?:about|on|of|for|regarding|concerning|as to|that|which|in|from|here|whether|what|when|how|to (?:{know}|"
    r"{look}))\b|(?: (?:is|are|was|were))? {found}(?! to (?!{know}))|$)",
    r"(?:there (?:is|are) )?(?:not enough|insufficient|not sufficient) (?:\w+ )?(?:data|evidence)"
    r"(?: (?:in|on|from) {pages})? (?:to|for)(?: \w+)? (?:{know}|{look}|answering|determining)",
    r"(?:the |this |your )?question (?:can ?not|can['’]?t|could not) be answered|(?:the |this )?question is not answerable",
    pages=PAGES,
    parts=_PARTS,
    say=_SAY,
    hold=_HOLD,
    know=_KNOW,
    look=_LOOK,
    information=_INFORMATION,
    missing=_MISSING,
    found=_FOUND,
    said=_SAID,
    subject=_SUBJECT,
    **{"not": _NOT_DO},
)
# "No information about customers is sold to others" says what is done with it, not that it is missing.
USED = re.compile(
    r"\b(?:shared|sold|stored|collected|passed on|transmitted|transferred|retained|kept|processed|sent|disclosed to|"
    r"weitergegeben|gespeichert|verkauft|erhoben|transmise?s?|partagée?s?|vendue?s?|compartid[ao]s?|vendid[ao]s?)\b",
    _FLAGS,
)
# What a sentence may begin with before it says anything.
LEAD_IN = re.compile(
    r"(?:(?:based on|according to|from|given|in|on|within|after|looking at|having|as per|as of|judging|considering|upon|"
    r"with|despite|for)\b[^,.;:!?\n]{0,90},\s*"
    r"|(?:unfortunately|regrettably|sadly|apologies|however|therefore|thus|so|hence|as such|overall|actually|"
    r"in conclusion|as a result|consequently),?\s+"
    r"|(?:i['’]?m|i am|we are|we['’]re)? ?(?:very )?(?:sorry|afraid)[,.]?(?: (?:but|that))?\s+"
    r"|i apologi[sz]e[,.]?(?: but)?\s+"
    r"|(?:it (?:seems|appears)|i (?:think|believe)|note)(?: that|:)?\s+|(?:the )?(?:final )?answer(?: is(?: that)?|:)\s+"
    r"|insufficient to answer[.:,;]?\s+)+",
    _FLAGS,
)
# A sentence that only says what the pages show or what was looked at; the next one may say that the answer is missing.
DESCRIPTION = re.compile(
    rf"(?:{PAGES}|they|it|i|we|each \w+|the (?:first|second|third) \w+)(?: (?:\w+ly|only|all|have|has))? "
    r"(?:shows?|depicts?|displays?|describes?|discuss(?:es)?|looked|checked|reviewed|examined|searched|read|covers?|"
    r"talks?|deals?|focus(?:es)?|only (?:shows?|contains?|mentions?|lists?|provides?|gives?))\b",
    _FLAGS,
)

# --- other languages ----------------------------------------------------------------------------------------------

_ANY = r"[^.!?。！？\n]"
_HAN_PAGES = r"图片|图像|页面|文档|文件|资料|文中|文本|材料|内容|图中|上述|圖片|圖像|頁面|文檔|文檔|資料|圖中|信息|页|頁"
_CHINESE = _kinds(
    rf"{{pages}}{_ANY}{{0,30}}?(?:没有|沒有|并未|並未|均未|未|都没|不|没)(?:有)?(?:明确|直接|具体|明確|具體)?(?:地)?"
    r"(?:提及|提到|说明|注明|给出|提供|包含|显示|列出|标明|写明|记载|指出|涉及|含有|描述|說明|註明|給出|顯示|標明|記載)",
    r"(?:无法|不能|难以|無法|難以|未能|不可能)(?:从[^，。]{0,20}|根据[^，。]{0,20}|從[^，。]{0,20})?"
    r"(?:回答|作答|确定|判断|得知|得出|推断|推测|看出|知道|確定|判斷|推斷|推測)",
    r"(?:没有|无|缺乏|缺少|沒有|無|未找到|找不到|未提供)(?:足够|充分|任何|相关|有关|具体|足夠|相關|有關|具體)的?"
    r"(?:信息|資訊|资料|資料|证据|證據|数据|數據|内容|內容|依据|線索|线索|答案)",
    r"(?:信息|证据|资料|資訊|證據|資料)(?:并|並)?不(?:足|够|夠|充分)|不知道|未提及|未说明|未注明|未說明",
    pages=_HAN_PAGES,
)
_JAPANESE = _kinds(
    r"(?:情報|記載|記述|言及|手がかり|データ)(?:は|が|も)?[^。]{0,12}?"
    r"(?:ありません|ない|なし|見つかりません|見当たりません|不足|含まれていません|存在しません|得られません|不十分)",
    r"(?:記載|言及|明記|説明|提示|掲載|記述|明示)は?されて(?:い(?:ません|ない)|おりません)",
    r"(?:回答|判断|特定|確認|判別|断定|把握|お答え|答える(?:こと)?|知ること|読み取ること)(?:は|が|することは|することが|を)?"
    r"(?:でき(?:ません|ない|かね)|不可|不能|困難)|(?:分か|わか)り(?:ません|かねます)|不明です|答えられません",
)
_KOREAN = _kinds(
    r"(?:정보|언급|내용|설명|단서|근거)[가이는은도를을]?[^.]{0,16}?(?:없|부족|찾을 수 없|있지 않|제공되지|불충분|포함되지)",
    r"(?:답변|대답|답|판단|확인|알|확정|파악|결정|판별)(?:할|을|하는|하기|해|이|은|는|를|은)?[ 가-힣]{0,6}?"
    r"(?:수가? ?없|불가|어렵)",
    r"(?:언급|명시|기재|표시|제시|제공|포함|기술)(?:되어|돼|되고|하고|하지)? ?(?:있지|되지)? ?않|"
    r"(?:나와|적혀|쓰여) 있지 않|모르겠",
)
_GERMAN = _kinds(
    rf"{{pages}}{_ANY}{{0,60}}?\b(?:enth[aä]lt(?:en)?|nenn(?:t|en)|erwähn(?:t|en)|geben|gibt|zeig(?:t|en)|liefer[tn]|"
    r"mach(?:t|en)|sag(?:t|en)|beinhalte[nt]|biete[nt]|führ(?:t|en)|besag(?:t|en)|spezifizier(?:t|en)|"
    rf"beschreib(?:t|en)|beantworte[nt]|reich(?:t|en))\b{_ANY}{{0,90}}?\b(?:nicht|nichts|kein\w*)\b",
    r"\b(?:ich|wir|man)\b[^.!?\n]{0,60}\b(?:nicht|leider nicht)\b[^.!?\n]{0,40}\b(?:beantwort\w*|bestimm(?:en|bar)|"
    r"ermitteln|feststellen|erkennen|sagen|wissen|finden|entnehmen|ableiten)\b|\bweiß (?:es |ich )?(?:leider )?nicht\b",
    r"\b(?:kann|können|lässt|lassen)\b[^.!?\n]{0,90}?\bnicht (?:\w+ ){0,3}?(?:beantwort\w*|bestimmt werden|bestimmen|"
    r"ermittel[nt]\w*|festgestellt|feststellen|erkennen|abgeleitet|ableiten|entnommen|entnehmen|sagen)\b",
    r"\bnicht (?:\w+ ){0,2}?(?:erwähnt|angegeben|genannt|spezifiziert|ersichtlich|erkennbar|zu entnehmen|zu erkennen|"
    r"möglich,? (?:die |diese )?(?:frage )?(?:\w+ ){0,4}zu (?:beantworten|bestimmen|ermitteln|sagen))\b",
    r"\bgeht\b[^.!?\n]{0,80}\bnicht hervor\b",
    r"\b(?:nicht genug|nicht genügend|nicht ausreichend\w*|keine(?:rlei)?|unzureichende?|zu wenige?|ungenügende?)"
    r"(?: \w+){0,2} (?:informationen|angaben|hinweise?|details|auskunft)\b(?! (?:werden|wird|an)\b)",
    pages=r"\b(?:seiten?|bild(?:er|ern)?|dokumente?n?|unterlagen|texte?n?|auszüge?|auszug|dateien|datei|informationen|"
    r"folien?|kontext|abbildung(?:en)?|quellen?|materialien|material)\b",
)
_FRENCH = _kinds(
    rf"{{pages}}{_ANY}{{0,60}}?\bn(?:e |['’])(?:\w+ )?(?:permet(?:tent)?|contien(?:t|nent)|mentionn(?:e|ent)|"
    r"précis(?:e|ent)|indiqu(?:e|ent)|fourni(?:t|ssent)|donn(?:e|ent)|montr(?:e|ent)|dit|disent|spécifi(?:e|ent)|"
    r"comporte(?:nt)?|suffi(?:t|sent)|révèle(?:nt)?|expliqu(?:e|ent)|présente(?:nt)?|répond(?:ent)?|parle(?:nt)?|inclu(?:t|ent))"
    r"(?: \w+)? (?:pas|aucune?|rien)\b",
    r"\b(?:n['’]est|n['’]était|ne sont|n['’]apparaît|ne figure)\s?(?:pas|nulle part)(?: \w+)? (?:mentionnée?s?|précisée?s?|"
    r"indiquée?s?|spécifiée?s?)|\bne figure(?:nt)? (?:pas|nulle part) (?:dans|sur) les? {pages}",
    r"\b(?:impossible|pas possible)(?: \w+){0,2} d(?:e |['’])(?:répondre|déterminer|savoir|dire|connaître|établir|déduire)",
    r"\b(?:je|on|nous) ne (?:peux|peut|pouvons|sais|suis|trouve|vois) pas(?: \w+){0,3} "
    r"(?:répondre|déterminer|savoir|dire|identifier|trouver|conclure)|\bje ne sais pas\b|\bne peut (?:pas )?être déterminée?\b",
    r"\b(?:aucune?|pas (?:assez|suffisamment) d(?:e |['’])|manque d(?:e |['’]))\s?"
    r"(?:informations?|mention|détails?|indication|renseignements?)\b(?! n['’]est)",
    r"\binformations? (?:insuffisantes?|manquantes?|non (?:disponibles?|fournies?))|"
    r"^non (?:mentionnée?|précisée?|spécifiée?|indiquée?)\b",
    pages=r"\b(?:pages?|images?|documents?|textes?|fichiers?|extraits?|informations?|contexte|éléments|captures?|"
    r"diapositives?|sources?)\b",
)
_SPANISH_PORTUGUESE = _kinds(
    rf"{{pages}}{_ANY}{{0,60}}?\b(?:no|não|nao|tampoco|nem) (?:\w+ )?(?:contien|menciona|especifica|indica|proporciona|"
    r"ofrece|muestra|dice|incluye|permite|revela|presenta|responde|detalla|señala|aparece|brinda|dan\b|da\b|aporta|"
    r"contêm|contém|conte[mn]|fornece|mostra|diz|inclu|informa|apresenta|responde)\w*",
    r"\b(?:no es posible|es imposible|no (?:se )?pued[eo]n?|no podemos|no puedo|não é possível|é impossível|"
    r"não (?:se )?pode(?:mos)?|não posso|não consigo|no soy capaz de|no logro)(?: \w+){0,2}? "
    r"(?:respond\w+|contest\w+|determin\w+|saber|decir|dizer|conocer|identific\w+|deduc\w+|inferir|establecer|"
    r"ser respondid[ao]|ser determinad[ao])\b",
    r"\b(?:no|não) (?:se )?(?:est[áa]n? |es |é |foi |fue |se )?(?:mencion\w+|especific\w+|indica\w*|precisa\w*)\b"
    r"(?! (?:el|la) (?:contrato|ley))",
    r"\b(?:no hay|no existe|sin|falta|não há|não existe|sem|nenhuma|ninguna|no contiene|no tengo|não tenho)"
    r"(?: \w+){0,2}? (?:informaci[óo]n|informaç(?:ão|ões)|detalles|datos suficientes|mención|menção|dados suficientes)\b",
    r"\b(?:informaci[óo]n|informaç(?:ão|ões)|dados|datos|evidencia|evidência) (?:\w+ )?(?:insuficientes?|no disponible)\b|"
    r"\binsuficiente para (?:responder|contestar|determinar)|\bno (?:lo )?sé\b|\bnão sei\b",
    pages=r"\b(?:p[áa]ginas?|im[áa]gen(?:es)?|imagen|imagens?|documentos?|textos?|archivos?|arquivos?|fragmentos?|"
    r"informaci[óo]n|informaç(?:ão|ões)|contexto|materiale?s?|fuentes?|fontes?|diapositivas?)\b",
)
_ITALIAN = _kinds(
    rf"{{pages}}{_ANY}{{0,60}}?\bnon (?:\w+ )?(?:contien|menziona|specifica|indica|fornisc|mostra|dic|includ|permett|"
    r"consent|riporta|rivela|presenta|rispond|offr)\w*",
    r"\b(?:non è possibile|è impossibile|impossibile|non (?:si )?può|non posso|non possiamo|non sono in grado di|non riesco a)"
    r"(?: \w+){0,2}? (?:rispondere|determinare|sapere|dire|stabilire|identificare|dedurre|essere determinat\w)\b",
    r"\bnon (?:è |sono |viene |vengono )(?:\w+ )?(?:menzionat|specificat|indicat|precisat)\w\b",
    r"\b(?:nessuna?|non ci sono|non c['’]è|mancano|senza)(?: \w+){0,2}? (?:informazion[ei]|menzione|dettagli|indicazion[ei])\b",
    r"\binformazioni (?:\w+ )?insufficienti|\binsufficient[ei] per (?:rispondere|determinare)|\bnon (?:lo )?so\b",
    pages=r"\b(?:pagin[ae]|immagin[ei]|document[oi]|test[oi]|file|estratt[oi]|informazioni|contesto|material[ei]|font[ei])\b",
)
_DUTCH = _kinds(
    rf"{{pages}}{_ANY}{{0,60}}?\b(?:bevat(?:ten)?|noem(?:t|en)|vermeld(?:t|en)|geeft|geven|to(?:ont|nen)|zeg(?:t|gen)|"
    rf"bied(?:t|en)|specifice(?:ert|ren)|beschrijf?(?:t|ven))\b{_ANY}{{0,80}}?\b(?:niet|geen|niets)\b",
    r"\b(?:niet mogelijk|onmogelijk) om[^.!?\n]{0,60}\bte (?:beantwoorden|bepalen|zeggen|weten)\b",
    r"\bkan[^.!?\n]{0,60}\bniet (?:\w+ ){0,3}?(?:beantwoord\w*|bepaa?l\w*|vastgesteld|zeggen|worden bepaald)\b",
    r"\bniet (?:\w+ )?(?:vermeld|genoemd|gespecificeerd|aangegeven)\b|\bik weet het niet\b",
    r"\b(?:geen|onvoldoende|niet genoeg|te weinig)(?: \w+)? (?:informatie|details|gegevens om)\b(?! wordt)",
    pages=r"\b(?:pagina['’]?s?|afbeelding(?:en)?|document(?:en)?|tekst(?:en)?|bestanden|informatie|context|bronnen|dia['’]?s)\b",
)
_SLAVIC = _kinds(
    # Russian, Ukrainian
    r"\b(?:страниц\w*|изображени\w+|документ\w*|текст\w*|файл\w*|картинк\w+|материал\w*|источник\w*|информаци\w+|контекст\w*|"
    rf"сторінк\w+|зображенн\w+|інформаці\w+){_ANY}{{0,60}}?\bне (?:\w+ )?(?:содерж\w+|указ\w+|упомина\w+|упомян\w+|сообща\w+|"
    r"привод\w+|говор\w+|да[её]т|дают|позволя\w+|хватает|достаточно|міст\w+|вказ\w+|згаду\w+|наведен\w+|дозволя\w+|отображ\w+|показ\w+)",
    r"\b(?:невозможно|нельзя|не могу|не можем|не удалось|не представляется возможным|неможливо|не можу)(?: \w+){0,2}? "
    r"(?:ответить|определить|сказать|узнать|установить|дать ответ|відповісти|визначити|сказати)\b",
    r"\bне (?:указан|упомянут|упоминается|указывается|уточняется|приведен|вказан|згадан|зазначен)\w*\b|\bне знаю\b",
    r"\b(?:нет|недостаточно|отсутствует|немає|недостатньо|нема|отсутствуют)(?: \w+){0,2}? "
    r"(?:информации|сведений|данных (?:для|о|об)|упоминани\w+|інформації|відомостей)\b",
    # Polish, Czech, Slovak
    rf"\b(?:stron\w*|obraz\w*|dokument\w*|tekst\w*|materiał\w*|stránk\w+|obráz\w+|text\w*|zdroj\w*){_ANY}{{0,60}}?\b"
    r"(?:nie (?:\w+ )?(?:zawiera|podaj|podan|wspomina|określa|wskazuj|pozwala|informuj)|neobsahuj|neuvád|nezmiňuj|"
    r"nespecifikuj|neumožňuj|neposkytuj)\w*",
    r"\b(?:nie można|nie mogę|nie da się|niemożliwe jest|nie jest możliwe)(?: \w+){0,2}? (?:odpowiedzieć|określić|ustalić|stwierdzić)|"
    r"\b(?:nelze|není možné|nemohu)(?: \w+){0,2}? (?:odpovědět|určit|zjistit)|\bnie wiem\b|\bnevím\b",
    r"\b(?:brak|za mało|niewystarczając\w+|nie ma)(?: \w+){0,2}? informacji\b|\b(?:nedostatek|žádné|není dostatek)(?: \w+)? informac\w+|"
    r"\bnie (?:podano|określono|wspomniano|wskazano|jest podan\w+)\b|\bnení (?:uveden|zmíněn|specifikován)\w*\b",
)
_NORDIC = _kinds(
    r"\b(?:sid(?:an|or|orna|erne|ene|er)|bild(?:en|er|erna)|billed\w+|bild\w+|dokument\w*|text\w*|tekst\w*|information\w*)\b"
    rf"{_ANY}{{0,60}}?\b(?:innehåller|nämner|anger|visar|ger|indeholder|nævner|angiver|viser|giver|inneholder|nevner|angir|gir)\b"
    rf"{_ANY}{{0,60}}?\b(?:inte|ikke|ingen|inga|ingenting|intet)\b",
    r"\b(?:inte möjligt att|ikke mulig(?:t)? å|ikke muligt at|går inte att|kan (?:inte|ikke))(?: \w+){0,2}? "
    r"(?:besvar\w+|svara|svare|avgöra\w*|avgjøre\w*|afgøre\w*|bestäm\w+|bestem\w+|fastställ\w+)",
    r"\b(?:inte|ikke) (?:\w+ )?(?:nämn\w+|angiv\w+|angett|angitt|nevnt|nævnt|specificer\w+|spesifisert)\b|\bvet inte\b|\bved ikke\b|\bvet ikke\b",
    r"\b(?:ingen|inte tillräcklig\w*|otillräcklig\w*|ikke nok|ikke tilstrækkelig\w*|ikke tilstrekkelig\w*|utilstrækkelig\w*)"
    r"(?: \w+)? (?:information\w*|informasjon|oplysninger|opplysninger|uppgifter)\b",
    # Finnish, Hungarian, Romanian, Greek
    r"\b(?:ei(?:vät)?) (?:\w+ )?(?:mainit\w*|sisällä|kerro|ilmoit\w+|määritel\w*)|\bei (?:ole )?(?:mahdollista|voi\w*) (?:\w+ )?"
    r"(?:vastata|määrittää)|\bei (?:ole )?(?:\w+ )?(?:riittäv\w+ )?tieto(?:a|ja)\b|\ben tiedä\b",
    r"\bnem (?:\w+ )?(?:említ\w*|tartalmaz\w*|határozható meg|állapítható meg|válaszolható meg|derül ki)|"
    r"\bnincs (?:\w+ )?(?:elegendő )?információ|\bnem tudom\b",
    r"\bnu (?:\w+ )?(?:conțin|menționează|specifică|oferă|indică|precizează)|\bnu (?:este posibil|pot|se poate)(?: \w+){0,2}? "
    r"(?:răspund\w*|determin\w*|stabili\w*)|\b(?:nu există|nicio|insuficiente) (?:\w+ )?informați\w+|\bnu știu\b",
    r"\bδεν (?:\w+ )?(?:αναφέρ\w+|περιέχ\w+|παρέχ\w+|προσδιορίζ\w+|αναγράφ\w+)|\bδεν (?:είναι δυνατό\w*|μπορ\w+)(?: \w+){0,3}? "
    r"(?:απαντη\w+|προσδιορ\w+|καθορ\w+)|\bδεν υπάρχ\w+ (?:\w+ )?πληροφορί\w+|\bδεν γνωρίζω\b",
)
_OTHERS = _kinds(
    # Turkish
    r"\b(?:belirtilme\w+|bahsedilme\w+|yer alm\w+|bulunmamaktad\w+|geçmiyor|verilmemiş\w*)\b|"
    r"\b(?:cevap ver|yanıtla|cevapla|belirle|tespit ed|söyle)\w*? ?(?:mek|mak)? ?(?:mümkün değil|imkansız|emiyor\w*|ilemez|ilemiyor|enemiyor|enemez|nemez)|"
    r"\b(?:yeterli|yeterince|hiçbir|ilgili) (?:\w+ )?bilgi (?:yok|bulunm\w+|içerm\w+|mevcut değil)|\bbilmiyorum\b",
    # Arabic, Persian, Hebrew
    r"لا (?:تحتوي|تتضمن|تذكر|يذكر|يحتوي|توضح|تحدد|تشير|يحدد|توفر|تقدم)|لم (?:يتم )?(?:يذكر|تذكر|ذكر|تحديد|يرد)|غير مذكور|"
    r"لا (?:يمكن|أستطيع|يمكنني)(?: \w+){0,2} ?(?:الإجابة|تحديد|الجواب|معرفة|الرد)|لا توجد (?:\w+ )?معلومات|معلومات غير كافية|لا أعرف|"
    r"(?:المعلومات|الصفحات|الصور) (?:\w+ )?غير كافية|"
    r"ذکر نشده|مشخص نشده|اشاره نشده|اطلاعات کافی (?:\w+ )?(?:ندار\w+|نیست|وجود ندارد)|نمی\u200c?توان(?:م)? (?:\w+ ){0,2}(?:پاسخ|تعیین)|نمی\u200c?دانم|"
    r"לא (?:מצוין|מוזכר|נאמר|צוין|מפורט|מוזכרת|מציינים|מכילים|מציין|מכיל)|לא ניתן (?:לקבוע|לענות|לדעת|להסיק)|אין (?:\w+ )?(?:מספיק )?מידע|לא יודע",
    # Hindi
    r"(?:उल्लेख|जानकारी|विवरण)[^।\n]{0,30}?(?:नहीं|पर्याप्त नहीं|उपलब्ध नहीं|अपर्याप्त)|(?:उत्तर|जवाब|निर्धारित|निर्धारण|पता)[^।\n]{0,20}?"
    r"(?:नहीं (?:दिया|किया|लगाया|दे|कर|चल)|संभव नहीं|असंभव)|नहीं बताया गया|मुझे नहीं पता",
    # Vietnamese, Indonesian and Malay, Thai
    r"không (?:được )?(?:đề cập|nêu rõ|nêu|nói rõ|chứa|cung cấp|ghi rõ)|không (?:thể|có cách nào)(?: \S+){0,2} (?:trả lời|xác định|biết)|"
    r"không (?:có|đủ|có đủ) (?:\S+ )?thông tin|thông tin không đủ|không biết",
    r"\btidak (?:\w+ )?(?:menyebutkan|disebutkan|mencantumkan|dicantumkan|memuat|menjelaskan|dijelaskan|memberikan informasi|dinyatakan)|"
    r"\btidak (?:dapat|bisa|mungkin)(?: \w+)? (?:menjawab|dijawab|menentukan|ditentukan|diketahui)|"
    r"\b(?:tidak ada|tidak cukup|tidak terdapat|kurangnya) (?:\w+ )?informasi|\binformasi (?:\w+ )?tidak (?:cukup|memadai)|\btidak tahu\b",
    r"ไม่(?:ได้)?(?:ระบุ|กล่าวถึง|บอก|แสดง|มีการระบุ)|ไม่สามารถ(?:ตอบ|ระบุ|บอก|หา|ทราบ|กำหนด)|ไม่มีข้อมูล|ข้อมูลไม่เพียงพอ|ไม่ทราบ",
)
OTHER_LANGUAGES = (
    *(_CHINESE, _JAPANESE, _KOREAN, _GERMAN, _FRENCH, _SPANISH_PORTUGUESE, _ITALIAN, _DUTCH, _SLAVIC, _NORDIC),
    _OTHERS,
)
# Who begins with yes or no answers the question, whatever the rest says that the page does not mention.
YES_OR_NO = re.compile(
    r"(?:yes|no|nope|ja|nein|oui|non|s[íi]|sim|não|nee|да|нет|так|ні|tak|nie|ano|ne|nej|nei|kyllä|ei|igen|nem|da|nu|ναι|"
    r"όχι|evet|hayır|نعم|لا|بله|نه|כן|לא|हाँ|नहीं|có|không|ya|tidak|ใช่|ไม่|はい|いいえ|네|예|아니요|아니오|是的|是|否|不是|没有|不)"
    r"\s*(?:[,，、،.。:：;；!！–—-]|$)",
    _FLAGS,
)
CONTRAST = re.compile(
    r"\b(?:but|however|except|although|though|yet|nevertheless|still|only|aber|jedoch|allerdings|sondern|mais|cependant|"
    r"toutefois|pero|sin embargo|mas|porém|contudo|però|tuttavia|maar|echter|но|однако|але|ale|jednak|však|men|dock|mutta|"
    r"azonban|dar|însă|αλλά|όμως|ama|fakat|ancak|لكن|ولكن|אבל|लेकिन|परंतु|nhưng|tetapi|namun|แต่)\b|"
    r"但|不过|然而|不過|しかし|ただし|ですが、|하지만|그러나|지만",
    _FLAGS,
)

# --- nothing on this page -----------------------------------------------------------------------------------------

NOTHING_RELEVANT = re.compile(
    r"(?:(?:es gibt|hier gibt es|hier stehen|(?:diese seite|das bild|dieses bild|die seite) enthält) )?"
    r"keine(?:rlei)? (?:relevanten?|passenden?|nützlichen?|sachdienlichen?) (?:informationen?|angaben|hinweise|inhalte)|"
    r"nicht relevant|nichts relevantes|irrelevant|"
    r"(?:(?:il n['’]y a|(?:cette|la) page ne contient|(?:cette|l['’])\s?image ne contient) )?(?:pas d['’]|aucune )"
    r"informations? (?:pertinentes?|utiles?)|non pertinente?|rien de pertinent|"
    r"(?:(?:(?:esta|la|a) (?:p[áa]gina|imagen|imagem) )?(?:no hay|no contiene|não há|não contém|sin|sem) )?(?:ninguna |nenhuma )?"
    r"informaç?c?i?(?:ón|on|ão|ões|ao) (?:relevantes?|pertinentes?|útil)|nada relevante|no es relevante|não (?:é )?relevante|"
    r"(?:non ci sono |non contiene |nessuna )(?:alcuna )?informazion[ei] (?:rilevant[ei]|pertinent[ei]|util[ei])|non rilevante|"
    r"geen relevante informatie|niet relevant|(?:нет|не содержит|отсутствует) (?:\w+ )?(?:релевантной|соответствующей|нужной|"
    r"полезной) информации|не относится к вопросу|немає (?:релевантної|відповідної) інформації|"
    r"brak (?:istotnych|odpowiednich|przydatnych|trafnych) informacji|žádné relevantní informace|"
    r"ingen(?:ting)? relevant(?: information| informasjon)?|ingen relevante oplysninger|ei (?:olennaista|relevanttia) tietoa|"
    r"nincs releváns információ|nicio informație relevantă|καμία σχετική πληροφορία|δεν υπάρχουν σχετικές πληροφορίες|"
    r"(?:hiçbir )?(?:ilgili|alakalı) bilgi (?:yok|bulunm\w+)|لا توجد (?:أي )?معلومات (?:ذات صلة|متعلقة|مفيدة)|"
    r"اطلاعات مرتبطی (?:وجود ندارد|نیست)|אין מידע רלוונטי|कोई (?:प्रासंगिक|संबंधित) जानकारी नहीं|"
    r"không có thông tin (?:liên quan|phù hợp|hữu ích)|tidak ada informasi (?:yang )?(?:relevan|terkait)|ไม่มีข้อมูลที่เกี่ยวข้อง|"
    r"(?:関連(?:する|した)?|該当する)(?:情報|内容|記載)(?:は|が)?(?:なし|ありません|ない|見つかりません)|関連なし|無関係|"
    r"(?:관련(?:된)? ?|유용한 )(?:정보|내용)(?:가|이|는)? ?(?:없|찾을 수 없)|관련 ?없|"
    r"(?:没有|无|無|沒有|未找到|未发现|不包含)(?:任何)?(?:与[^，。]{0,10}|與[^，。]{0,10})?(?:相关|相關|有关|有關)的?(?:信息|資訊|内容|內容|资料|資料)",
    _FLAGS,
)
