"""Index the documents beside this file, ask three questions, and write the answers to demo.html."""

from pathlib import Path

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG, index_documents, load_embedder, load_generator
from visrag_integrations.report import report as html_report

SAMPLES = Path(__file__).parent
QUESTIONS = [
    "What is the default value of groupSpacing?",  # a table beside charts
    "Which script makes a nice tree view of strace output?",  # a scanned page: pixels only
    "如果您对打包仍然存在疑问，可以通过哪些方式与他人沟通？",  # a Chinese page
]

embedder = load_embedder("ocr")  # with a GPU: load_embedder("openbmb/VisRAG-Ret")
generator = load_generator("extractive")  # with a GPU: load_generator("openbmb/EVisRAG-7B")

with QdrantPageStore(".visrag-demo") as store:
    report = index_documents([SAMPLES], store=store, embedder=embedder)
    print(f"{report.pages} pages of {report.documents} documents, {report.added} added in {report.seconds:.1f} s")

    answers = VisRAG(PageRetriever(embedder, store), generator).ask_many(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(f"\n{question}\n  -> {answer.text}")
        for evidence in answer.evidence:
            if evidence.relevant and evidence.page:
                print(f"     [{evidence.page_index}] {Path(evidence.page.source).name}, page {evidence.page.number}")

    Path("demo.html").write_text(html_report(list(zip(QUESTIONS, answers, strict=True))), encoding="utf-8")
print("\nOpen demo.html to see the pages with the evidence outlined.")
