"""`visrag index`: documents into an index."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any, cast

from visrag_integrations.cli import ending, opening, options, output
from visrag_integrations.cli.pace import Estimate, Paced
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.ingestion import IndexReport
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.store import QdrantPageStore


def add_parser(subparsers: Any) -> None:
    """Add `visrag index` and its options."""
    parser = subparsers.add_parser("index", help="read documents and add their pages to an index")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders, URLs of them (PDF, images, office files, web pages)"
    )
    parser.add_argument("--prune", action="store_true", help="also remove documents whose files are gone from there")
    options.add_store_options(parser)
    options.add_reading_options(parser)
    options.add_cluster_options(parser)
    parser.set_defaults(run=run, when_ended=ending.KEPT)


def run(arguments: argparse.Namespace) -> int:
    """`visrag index`."""
    if arguments.ray is not None:
        from visrag_integrations.ingestion.ray_cluster import check_ray

        check_ray()
    with contextlib.ExitStack() as opened:
        options_of_server = opening.server_options(arguments)
        store = opened.enter_context(opening.open_store(arguments, server_options=options_of_server))
        if arguments.ray is None:
            embedder = opening.embedder_to_fill(arguments, store)
            opened.callback(close, embedder)
            report = index_paths(arguments, store, embedder)
        else:
            report = index_paths_on_ray(arguments, store)
    if arguments.json:
        output.print_json(report.as_dict())
    elif report.documents or report.removed:
        print(output.report_line(report, arguments.index))
    return exit_code(report)


def index_paths(arguments: argparse.Namespace, store: QdrantPageStore, embedder: PageEmbedder) -> IndexReport:
    """Index the paths of the command line; what failed is said on standard error."""
    from visrag_integrations.ingestion import index_documents

    second = opening.second_embedder(arguments, store)
    settings = {"workers": arguments.workers, **_settings(arguments)}
    if not getattr(arguments, "quiet", False):
        embedder = cast("PageEmbedder", Paced(embedder))
        if not sys.stderr.isatty():  # where it is one, the bar says it
            settings["on_progress"] = Estimate()
    try:
        return _report_failures(index_documents(arguments.paths, store=store, embedder=[embedder, *second], **settings))
    finally:
        for other in second:
            close(other)


def index_paths_on_ray(arguments: argparse.Namespace, store: QdrantPageStore) -> IndexReport:
    """The same on a Ray cluster, where every worker loads the embedder that is only named here."""
    from visrag_integrations.ingestion import RayCluster, index_documents_ray

    if arguments.embedder_url is not None:
        raise SettingError(
            "--embedder-url is not handed on to the workers of --ray. Set the variable VISRAG_EMBEDDER_URL where they "
            "run."
        )
    if arguments.device is not None:
        raise SettingError(
            f"--device {arguments.device} is for this machine; on a cluster every worker takes its own GPU. "
            "Leave it out."
        )
    # By name: a loaded model would have to be sent to every worker.
    name = opening.name_of_embedder_to_fill(arguments, store)
    cluster = RayCluster(arguments.ray, readers=arguments.workers, embedders=arguments.embedders)
    return _report_failures(
        index_documents_ray(arguments.paths, store=store, embedder=name, cluster=cluster, **_settings(arguments))
    )


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    from visrag_integrations.readers import PageReader

    reader = PageReader(
        backend=arguments.backend,
        ocr=arguments.ocr,
        password=arguments.password,
        max_pages=arguments.max_pages,
        web_hosts=tuple(arguments.web_host),
        web_scripts=arguments.web_scripts,
    )
    settings = {"reader": reader, "page_timeout": arguments.page_timeout}
    # `visrag ask` and `visrag eval` index too, without these options or without some of them.
    settings["prune"] = getattr(arguments, "prune", False)
    if getattr(arguments, "quiet", False):
        settings["progress"] = False
    return settings


def _report_failures(report: IndexReport) -> IndexReport:
    """The report, once what failed was said on standard error."""
    for line in (*output.failure_lines(report.failed), *output.warning_lines(report)):
        options.note(line)
    if not report.documents and not report.removed:
        options.note("nothing was indexed.")
    return report


def exit_code(report: IndexReport) -> int:
    """0: all done; 1: some inputs failed; 2: nothing done."""
    if not report.documents and not report.removed:  # a run that only removed documents did its work
        return 2
    return 1 if report.failed else 0
