# ruff: noqa: E501  XML in lines of its own length
"""Office documents with links to things outside of them, drawn for the tests."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
MAIN = "http://schemas.openxmlformats.org"
A = f'xmlns:a="{MAIN}/drawingml/2006/main" xmlns:r="{OFFICE}"'
W = (
    f'{A} xmlns:w="{MAIN}/wordprocessingml/2006/main" xmlns:wp="{MAIN}/drawingml/2006/wordprocessingDrawing" '
    f'xmlns:pic="{MAIN}/drawingml/2006/picture" xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:o="urn:schemas-microsoft-com:office:office"'
)
ODF = (
    " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
        for name, long in {
            "office": "office",
            "draw": "drawing",
            "text": "text",
            "table": "table",
            "style": "style",
            "svg": "svg-compatible",
            "presentation": "presentation",
            "meta": "meta",
            "script": "script",
            "manifest": "manifest",
            "form": "form",
        }.items()
    )
    + ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:of="urn:oasis:names:tc:opendocument:xmlns:of:1.2"'
)


def write_zip(path: Path, entries: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def relations(*rows: tuple[str, str, str, bool]) -> str:
    """Id, kind, target, whether it is external."""
    items = ""
    for key, kind, target, outside in rows:
        mode = 'TargetMode="External"' if outside else ""
        items += f'<Relationship Id="{key}" Type="{OFFICE}/{kind}" Target="{target}" {mode}/>'
    return f'<?xml version="1.0"?><Relationships xmlns="{PACKAGE}/relationships">{items}</Relationships>'


def types(**parts: str) -> str:
    overrides = "".join(
        f'<Override PartName="/{name}" ContentType="application/vnd.{kind}+xml"/>' for name, kind in parts.items()
    )
    return (
        f'<?xml version="1.0"?><Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="application/'
        'vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="html" ContentType="text/html"/><Default Extension="svg" ContentType="image/svg+xml"/>'
        f"{overrides}</Types>"
    )


def blip(attribute: str) -> str:
    """A picture of DrawingML."""
    return (
        '<pic:pic><pic:nvPicPr><pic:cNvPr id="1" name="p"/><pic:cNvPicPr/></pic:nvPicPr><pic:blipFill>'
        f"<a:blip {attribute}/><a:stretch><a:fillRect/></a:stretch></pic:blipFill><pic:spPr><a:xfrm>"
        '<a:off x="0" y="0"/><a:ext cx="3000000" cy="3000000"/></a:xfrm><a:prstGeom prst="rect"><a:avLst/></a:prstGeom>'
        "</pic:spPr></pic:pic>"
    )


def docx(path: Path, body: str, rows: tuple[tuple[str, str, str, bool], ...] = (), **more: str | bytes) -> Path:
    return write_zip(
        path,
        {
            "[Content_Types].xml": types(
                **{
                    "word/document.xml": "ms-word.document.macroEnabled.main"
                    if path.suffix == ".docm"
                    else "openxmlformats-officedocument.wordprocessingml.document.main"
                }
            ),
            "_rels/.rels": relations(("r0", "officeDocument", "word/document.xml", False)),
            "word/document.xml": f'<?xml version="1.0"?><w:document {W}><w:body><w:p><w:r><w:t>before the link'
            f"</w:t></w:r></w:p>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(*rows),
            **more,
        },
    )


def inline(attribute: str) -> str:
    return (
        '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="3000000" cy="3000000"/><wp:docPr id="1" name="p"/><a:graphic>'
        f'<a:graphicData uri="{MAIN}/drawingml/2006/picture">{blip(attribute)}</a:graphicData></a:graphic></wp:inline>'
        "</w:drawing></w:r></w:p>"
    )


def linked_docx(path: Path, link: str) -> Path:
    return docx(path, inline('r:link="r1"'), (("r1", "image", link, True),))


def click_docx(path: Path, link: str) -> Path:
    """The picture's relationship says that it is a hyperlink."""
    return docx(path, inline('r:link="r1"'), (("r1", "hyperlink", link, True),))


def inner_docx(path: Path, link: str) -> Path:
    """The relationship does not say that its target is outside."""
    return docx(path, inline('r:embed="r1"'), (("r1", "image", link, False),))


def vml_docx(path: Path, link: str) -> Path:
    return docx(
        path,
        f'<w:p><w:r><w:pict><v:shape style="width:200pt;height:200pt"><v:imagedata src="{link}" o:href="{link}"/>'
        "</v:shape></w:pict></w:r></w:p>",
    )


def field_docx(path: Path, link: str) -> Path:
    return docx(
        path,
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> INCLUDEPI</w:instrText></w:r><w:r>'
        f'<w:instrText>CTURE "{link}" \\d </w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        '<w:r><w:t>old</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'
        f"<w:p><w:fldSimple w:instr='INCLUDETEXT \"{link}\"'><w:r><w:t>old</w:t></w:r></w:fldSimple></w:p>",
    )


def template_docx(path: Path, link: str) -> Path:
    return docx(
        path,
        "<w:p/>",
        (("r1", "settings", "settings.xml", False),),
        **{
            "word/settings.xml": f'<w:settings {W}><w:attachedTemplate r:id="r9"/></w:settings>',
            "word/_rels/settings.xml.rels": relations(("r9", "attachedTemplate", link, True)),
        },
    )


def chunk_docx(path: Path, link: str) -> Path:
    """A web page inside of a Word file."""
    return docx(
        path,
        '<w:altChunk r:id="r1"/>',
        (("r1", "aFChunk", "chunk.html", False),),
        **{"word/chunk.html": f'<html><body><img src="{link}" width=300 height=300><p>chunk</body></html>'},
    )


def header_docx(path: Path, link: str) -> Path:
    """The picture stands in the header of the pages, which has links of its own."""
    picture = inline('r:link="r7"')
    return docx(
        path,
        '<w:sectPr><w:headerReference w:type="default" r:id="r1"/></w:sectPr>',
        (("r1", "header", "header1.xml", False),),
        **{
            "word/header1.xml": f'<?xml version="1.0"?><w:hdr {W}>{picture}</w:hdr>',
            "word/_rels/header1.xml.rels": relations(("r7", "image", link, True)),
        },
    )


def part_docx(path: Path, link: str) -> Path:
    """A master document, whose chapter is another file."""
    return docx(path, '<w:subDoc r:id="r1"/>', (("r1", "subDocument", link, True),))


def svg_docx(path: Path, link: str) -> Path:
    """A drawing inside of the package that shows a picture from outside."""
    return docx(
        path,
        inline('r:embed="r1"'),
        (("r1", "image", "media/a.svg", False),),
        **{"word/media/a.svg": svg(link)},
    )


def svg(link: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="300" height="300">'
        f'<image width="300" height="300" xlink:href="{link}"/></svg>'
    )


def xlsx(path: Path, cells: str, rows: tuple[tuple[str, str, str, bool], ...] = (), **more: str | bytes) -> Path:
    return write_zip(
        path,
        {
            "[Content_Types].xml": types(
                **{
                    "xl/workbook.xml": "openxmlformats-officedocument.spreadsheetml.sheet.main",
                    "xl/worksheets/sheet1.xml": "openxmlformats-officedocument.spreadsheetml.worksheet",
                    "xl/drawings/drawing1.xml": "openxmlformats-officedocument.drawing",
                    "xl/connections.xml": "openxmlformats-officedocument.spreadsheetml.connections",
                    "xl/queryTables/queryTable1.xml": "openxmlformats-officedocument.spreadsheetml.queryTable",
                    "xl/externalLinks/externalLink1.xml": "openxmlformats-officedocument.spreadsheetml.externalLink",
                }
            ),
            "_rels/.rels": relations(("r0", "officeDocument", "xl/workbook.xml", False)),
            "xl/workbook.xml": f'<?xml version="1.0"?><workbook xmlns="{MAIN}/spreadsheetml/2006/main" xmlns:r="{OFFICE}">'
            '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets><externalReferences><externalReference r:id="r2"/>'
            "</externalReferences></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                ("r1", "worksheet", "worksheets/sheet1.xml", False),
                ("r2", "externalLink", "externalLinks/externalLink1.xml", False),
                ("r3", "connections", "connections.xml", False),
            ),
            "xl/worksheets/sheet1.xml": f'<?xml version="1.0"?><worksheet xmlns="{MAIN}/spreadsheetml/2006/main" '
            f'xmlns:r="{OFFICE}"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>before the link</t></is></c></row>'
            f"{cells}</worksheet>",
            "xl/worksheets/_rels/sheet1.xml.rels": relations(*rows),
            **more,
        },
    )


def drawing_xlsx(path: Path, link: str) -> Path:
    picture = blip('r:link="r1"').replace("pic:", "xdr:")
    anchor = (
        f'<xdr:wsDr xmlns:xdr="{MAIN}/drawingml/2006/spreadsheetDrawing" {A} xmlns:pic="x"><xdr:oneCellAnchor><xdr:from>'
        "<xdr:col>1</xdr:col><xdr:colOff>0</xdr:colOff><xdr:row>1</xdr:row><xdr:rowOff>0</xdr:rowOff></xdr:from>"
        f'<xdr:ext cx="3000000" cy="3000000"/>{picture}<xdr:clientData/>'
        "</xdr:oneCellAnchor></xdr:wsDr>"
    )
    return xlsx(
        path,
        '</sheetData><drawing r:id="d1"/>',
        (("d1", "drawing", "../drawings/drawing1.xml", False),),
        **{
            "xl/drawings/drawing1.xml": anchor,
            "xl/drawings/_rels/drawing1.xml.rels": relations(("r1", "image", link, True)),
        },
    )


def data_xlsx(path: Path, link: str) -> Path:
    """A web service, another workbook, a DDE link and a web query."""
    main = f'xmlns="{MAIN}/spreadsheetml/2006/main" xmlns:r="{OFFICE}"'
    return xlsx(
        path,
        f'<row r="2"><c r="A2" t="str"><f>WEBSERVICE("{link}")</f><v>kept value</v></c>'
        f'<c r="B2"><f>[1]S!$A$1</f><v>1</v></c><c r="C2"><f>\'{link}\'#S!A1</f></c>'
        '<c r="D2"><f>&#87;EBSERVICE("' + link + '")</f></c></row></sheetData>',
        (("q1", "queryTable", "../queryTables/queryTable1.xml", False),),
        **{
            "xl/externalLinks/externalLink1.xml": f'<externalLink {main}><externalBook r:id="r1"><sheetNames><sheetName '
            'val="S"/></sheetNames></externalBook></externalLink>',
            "xl/externalLinks/_rels/externalLink1.xml.rels": relations(("r1", "externalLinkPath", link, True)),
            "xl/connections.xml": f'<connections {main}><connection id="1" name="c" type="4" refreshOnLoad="1"><webPr '
            f'sourceData="1" url="{link}"/></connection></connections>',
            "xl/queryTables/queryTable1.xml": f'<queryTable {main} name="c" connectionId="1" refreshOnLoad="1"/>',
        },
    )


def odf(path: Path, kind: str, body: str, *, automatic: str = "", **more: str | bytes) -> Path:
    """`kind`: "text", "spreadsheet" or "presentation"."""
    media = f"application/vnd.oasis.opendocument.{kind}"
    listed = "".join(
        f'<manifest:file-entry manifest:full-path="{name}" manifest:media-type="text/xml"/>'
        for name in ("content.xml", *(name for name in more if name != "content.xml"))
    )
    return write_zip(
        path,
        {
            "mimetype": media,
            "META-INF/manifest.xml": f'<manifest:manifest {ODF}><manifest:file-entry manifest:full-path="/" '
            f'manifest:media-type="{media}"/>{listed}</manifest:manifest>',
            "content.xml": f'<?xml version="1.0"?><office:document-content {ODF} office:version="1.2">'
            f"<office:automatic-styles>{automatic}</office:automatic-styles><office:body><office:{kind}>{body}"
            f"</office:{kind}></office:body></office:document-content>",
            **more,
        },
    )


def frame(inside: str) -> str:
    return f'<draw:frame svg:width="9cm" svg:height="9cm" svg:x="1cm" svg:y="1cm" text:anchor-type="paragraph">{inside}</draw:frame>'


def loads(link: str) -> str:
    return f'xlink:href="{link}" xlink:type="simple" xlink:show="embed" xlink:actuate="onLoad"'


def linked_odt(path: Path, link: str) -> Path:
    return odf(
        path,
        "text",
        f"<text:p>before the link{frame(f'<draw:image {loads(link)}/>')}{frame(f'<draw:object {loads(link)}/>')}"
        f"{frame(f'<draw:floating-frame {loads(link)}/>')}{frame(f'<draw:plugin {loads(link)}/>')}</text:p>"
        f'<text:section text:name="s"><text:section-source {loads(link)}/><text:p>old</text:p></text:section>',
        **{
            "meta.xml": f"<office:document-meta {ODF}><office:meta><meta:template {loads(link)}/><meta:auto-reload "
            f'{loads(link)} meta:delay="PT0S"/></office:meta></office:document-meta>'
        },
    )


def climbing_odt(path: Path, link: str) -> Path:
    """A relative link that climbs out of the package, to the same file."""
    climbing = "../" * 12 + link.partition("://")[2].lstrip("/")
    return odf(path, "text", f"<text:p>before the link{frame(f'<draw:image {loads(climbing)}/>')}</text:p>")


def svg_odt(path: Path, link: str) -> Path:
    picture = frame(f"<draw:image {loads('Pictures/a.svg')}/>")
    return odf(
        path,
        "text",
        f"<text:p>before the link{picture}</text:p>",
        **{"Pictures/a.svg": svg(link)},
    )


def flat_odt(path: Path, link: str) -> Path:
    path.write_text(
        f'<?xml version="1.0"?><office:document {ODF} office:version="1.2" office:mimetype="application/vnd.oasis.'
        f'opendocument.text"><office:body><office:text><text:p>before the link{frame(f"<draw:image {loads(link)}/>")}'
        "</text:p></office:text></office:body></office:document>"
    )
    return path


def entity_odt(path: Path, link: str) -> Path:
    """The link stands in an entity of the document type."""
    picture = frame(f"<draw:image {loads('&where;')}/>")
    content = (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY where "{link}">]><office:document-content {ODF} '
        f'office:version="1.2"><office:body><office:text><text:p>before the link{picture}'
        "</text:p></office:text></office:body></office:document-content>"
    )
    return odf(path, "text", "", **{"content.xml": content})


def data_ods(path: Path, link: str) -> Path:
    cell = f"""of:=WEBSERVICE(&quot;{link}&quot;)"""
    return odf(
        path,
        "spreadsheet",
        f'<table:table table:name="S"><table:table-source {loads(link)}/><office:dde-source office:dde-application="soffice"'
        f' office:dde-topic="{link}" office:dde-item="a" office:automatic-update="true"/><table:table-row>'
        '<table:table-cell office:value-type="string"><text:p>before the link</text:p></table:table-cell>'
        f'<table:table-cell table:formula="{cell}"/><table:table-cell table:formula="of:=\'{link}\'#$S.A1"/>'
        f"<table:table-cell><text:p>{frame(f'<draw:image {loads(link)}/>')}</text:p></table:table-cell>"
        f'<table:table-cell><table:cell-range-source {loads(link)} table:name="A1"/></table:table-cell>'
        "</table:table-row></table:table>",
    )


def linked_odp(path: Path, link: str) -> Path:
    return odf(
        path,
        "presentation",
        f'<draw:page draw:name="p">{frame(f"<draw:image {loads(link)}/>")}<draw:frame svg:width="9cm" svg:height="3cm" '
        'svg:x="1cm" svg:y="12cm"><draw:text-box><text:p>before the link</text:p></draw:text-box></draw:frame></draw:page>',
    )


def rtf(path: Path, link: str) -> Path:
    path.write_text(
        r"{\rtf1 before the link\par{\field{\*\fldinst INCLUDEPICTURE \\d " + f'"{link}"' + r"}{\fldrslt old}}"
        r"{\field{\*\fldinst INCLUDETEXT " + f'"{link}"' + r"}{\fldrslt old}}{\*\template " + link + "}}"
    )
    return path


def web_page(path: Path, link: str) -> Path:
    """A web page under the name of an office file, as many programs export it."""
    path.write_text(
        f'<html><head><link rel=stylesheet href="{link}"></head><body background="{link}"><p>before the link<br>'
        f'<img src="{link}" width=300 height=300><iframe src="{link}"></iframe><object data="{link}"></object></body></html>'
    )
    return path


def formulas_csv(path: Path, link: str) -> Path:
    path.write_text(
        f'before the link,"=WEBSERVICE(""{link}"")"\n1,"=\'{link}\'#$S.A1"\n2,"=HYPERLINK(""{link}"")"\n'
        f'3,"=DDE(""soffice"",""{link}"",""a"")"\n4,=cmd|\' /C calc\'!A0\n'
    )
    return path


LINKED: dict[str, tuple[str, Callable[[Path, str], Path]]] = {
    "docx picture": ("a.docx", linked_docx),
    "docx picture as a hyperlink": ("a.docx", click_docx),
    "docx target not told as outside": ("a.docx", inner_docx),
    "docx vml": ("a.docx", vml_docx),
    "docx fields": ("a.docx", field_docx),
    "docx template": ("a.docx", template_docx),
    "docx header": ("a.docx", header_docx),
    "docx of several files": ("a.docx", part_docx),
    "docx with a web page in it": ("a.docx", chunk_docx),
    "docx with an svg in it": ("a.docx", svg_docx),
    "docm": ("a.docm", linked_docx),
    "docx under a .doc name": ("a.doc", linked_docx),
    "xlsx picture": ("a.xlsx", drawing_xlsx),
    "xlsx data": ("a.xlsx", data_xlsx),
    "odt": ("a.odt", linked_odt),
    "odt climbing": ("a.odt", climbing_odt),
    "odt with an svg in it": ("a.odt", svg_odt),
    "odt by an entity": ("a.odt", entity_odt),
    "flat odt": ("a.odt", flat_odt),
    "ods": ("a.ods", data_ods),
    "odp": ("a.odp", linked_odp),
    "rtf": ("a.rtf", rtf),
    "rtf under a .doc name": ("a.doc", rtf),
    "web page under a .doc name": ("a.doc", web_page),
    "web page under a .xls name": ("a.xls", web_page),
}
LINKED_TABLES: dict[str, tuple[str, Callable[[Path, str], Path]]] = {"csv": ("a.csv", formulas_csv)}
"""Tables in plain text, which no wall is needed for: their formulas are texts."""
BINARY: dict[str, tuple[str, Callable[[Path, str], Path], str]] = {
    "doc picture": ("a.docx", linked_docx, ".doc"),
    "doc fields": ("a.docx", field_docx, ".doc"),
    "doc of an odt": ("a.odt", linked_odt, ".doc"),
    "xls data": ("a.xlsx", data_xlsx, ".xls"),
    "xls picture": ("a.xlsx", drawing_xlsx, ".xls"),
    "xls of an ods": ("a.ods", data_ods, ".xls"),
    "ppt picture": ("a.odp", linked_odp, ".ppt"),
}
"""Formats that are no packages: what they are converted from, and to, by LibreOffice as a user has it."""
