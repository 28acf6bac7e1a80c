"""What to do about a server's refusal: one table, from what Qdrant says to what the reader types next."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from visrag_integrations.store.info import FIELD_KINDS
from visrag_integrations.store.patience import REFUSED_S
from visrag_integrations.store.refusals import (
    FULL_DISK,
    NO_SUCH_STORAGE,
    TOO_LARGE,
    Refusal,
    read_refusal,
)


@dataclass(frozen=True)
class AskedServer:
    """Where requests go.

    Attributes:
        address: Host, port and path as they were asked.
        note: What differs from what was typed, or "".
    """

    address: str = "The server"
    note: str = ""


class _Rule(NamedTuple):
    """Advice for what fits: any status where it is None, any sentence where the pattern is empty."""

    status: int | None
    pattern: str
    advice: str | Callable[[re.Match[str]], str]


def _right(found: re.Match[str]) -> str:
    """`Forbidden: Write access to collection pages is required`, and its kin."""
    whole, right, collection = found["whole"], (found["right"] or "").lower(), found["collection"]
    if right == "manage":
        return (
            "This key may not manage: make, change or delete collections and their aliases. Use a key that may, or let "
            "somebody who has one call prepare() first."
        )
    on = f"collection {collection}" if collection else "every collection of this server"
    if right == "write":
        return f"This key may not write to {on}. Use a key that may; with this one, search only."
    if whole or not collection:
        return f"This key may not see {on}. Use a key for all of them, or name a collection that it is for."
    return f"This key may not see {on}. Use a key that is for this collection too."


def _missing_index(found: re.Match[str]) -> str:
    """`Index required but not found for "metadata.org" of one of the following types: [keyword]`."""
    path, kinds = found["path"], [kind.strip() for kind in found["kinds"].split(",")]
    if not path.startswith("metadata."):
        return "This index is the store's own: prepare(embedder), with a key that may write, makes it."
    kind = next((each for each in FIELD_KINDS if each in kinds), "keyword")
    other = ""
    if "float" in kinds:
        # For ranges, and for numbers such as 2.5, which are looked up by one. It fits whole numbers too.
        kind, other = "float", ' ("integer" where all values are whole numbers)'
    key = path.removeprefix("metadata.").replace('"', "")
    return (
        "This server looks only at keys with an index. Open the store with "
        f'indexed_fields={{"{key}": "{kind}"}}{other} '
        "and call prepare(embedder): it makes the index."
    )


_STRICT = (
    "The collection's strict mode forbids it. Ask for less (top_k, candidates, fewer ids), or let whoever manages the "
    "server change strict_mode_config."
)
_DEAD_NODE = (
    "A node of the cluster is away, and so are the shards that it alone holds. Start it again. A new collection lives "
    'on without it if each shard has two copies: server_options={"replication_factor": 2}, or --replicas 2.'
)

_RULES = (
    _Rule(401, "Invalid API key|JWT", "This server does not know the key: look at api_key=... (QDRANT_API_KEY)."),
    _Rule(401, "", "This server wants a key: give api_key=... (QDRANT_API_KEY on the command line) and https://."),
    _Rule(
        403,
        r"(?P<whole>global )?(?:(?P<right>manage|write|read) )?access "
        r"(?:to collection (?P<collection>\S+) )?is required",
        _right,
    ),
    _Rule(403, "", "This key may not do that. Use one with more rights."),
    _Rule(
        None,
        r'Index required but not found for \\?"(?P<path>.+?)\\?" of one of the following types: \[(?P<kinds>[^\]]*)\]',
        _missing_index,
    ),
    _Rule(
        None,
        FULL_DISK.pattern,
        "The server's disk is full. Searches go on, and what was added is kept; deleting pages needs room too. Give it "
        "a larger disk, then do the same again: pages that are there already are not doubled.",
    ),
    _Rule(
        None,
        NO_SUCH_STORAGE.pattern,
        "This version of the server cannot keep vectors in that way. Say storage='float16', or use a newer server.",
    ),
    _Rule(
        None,
        "consensus",
        "The nodes of the cluster do not agree, and until they do nothing can be created. Look at "
        "consensus_thread_status in GET /cluster of each node; a node that stopped must be started again or repaired.",
    ),
    _Rule(None, r"(?:read|write) operations? failed|shards? failed to apply|tcp connect error", _DEAD_NODE),
    _Rule(None, TOO_LARGE.pattern, "Add fewer pages at a time, or pages with less text and metadata."),
    _Rule(
        None,
        "Total size of all vectors",
        "One page has more numbers than a server takes (1,048,575): embed it with fewer vectors, or cut the page.",
    ),
    _Rule(
        None,
        "Not existing vector name|Vector dimension error",
        "The collection is another embedder's by now. Open the store again.",
    ),
    _Rule(None, "not a valid point ID", "Ids are those of Page.id: UUIDs, or whole numbers."),
    _Rule(
        None, "Shard key not specified", "The collection was made with custom sharding, which is not supported here."
    ),
    _Rule(None, r"Limit exceeded|size limit reached|Exact search disabled|is forbidden on|Set exact=false", _STRICT),
    _Rule(
        404,
        r"Collection .* doesn't exist",
        "Look at collection=...; prepare(embedder) makes one. It may just be renewed.",
    ),
    _Rule(None, "already exists", "Another process was first. Open the store again, and it finds what was made."),
    _Rule(429, "", "The server asks for fewer requests at a time. Wait a little, then do the same again."),
    _Rule(413, "", "A proxy before the server limits requests. Raise its limit, or add fewer pages at a time."),
)


def advice_on(err: BaseException, doing: str, server: AskedServer) -> str:
    """What to do about a failed request.

    Args:
        err: The client's error.
        doing: What was tried, as messages name it.
        server: Where.
    """
    refusal = read_refusal(err)
    if refusal.silent:
        return _advice_on_silence(refusal, server)
    if refusal.status is None and refusal.from_qdrant:
        return "No server says so, but the Qdrant client in this process."
    if refusal.status == 401 and not refusal.from_qdrant:
        return f"{server.address} wants to know who asks: give api_key=..., or headers={{...}} for a proxy."
    if not refusal.from_qdrant:
        return _no_qdrant(server)
    for rule in _RULES:
        if rule.status not in (None, refusal.status):
            continue
        found = re.search(rule.pattern, refusal.sentence, re.IGNORECASE)
        if found is None:
            continue
        if callable(rule.advice):
            return rule.advice(found)
        return rule.advice
    return _advice_on_status(refusal, doing, server)


def _advice_on_silence(refusal: Refusal, server: AskedServer) -> str:
    """No answer, or only a part of one."""
    if refusal.connecting:
        asked = f"{server.address} was asked. Is the Qdrant server running and the URL right?"
        if refusal.refused:
            asked = f"Tried for {REFUSED_S:.0f} seconds. {asked}"
        return f"{asked} {server.note}".rstrip()
    return f"{server.address} was asked. Is the Qdrant server running? Longer answers need timeout=seconds."


def _advice_on_status(refusal: Refusal, doing: str, server: AskedServer) -> str:
    status = refusal.status or 0
    if status == 404:
        return _no_qdrant(server)
    if status in (408, 504):
        return "The server was too slow. Longer answers need timeout=seconds."
    if status >= 500:
        advice = f"The server is in trouble (status {status}): its log says more."
    else:
        advice = (
            f"The server does not take this request (status {status}): is it older or newer than this library knows?"
        )
    if doing == "adding pages":
        advice += " What was added before is kept."
    return advice


def _no_qdrant(server: AskedServer) -> str:
    return (
        f"{server.address} was asked, and something answers there that is no Qdrant server, or stands before one "
        f"(a proxy, a login page). Give the address of Qdrant itself. {server.note}"
    ).rstrip()
