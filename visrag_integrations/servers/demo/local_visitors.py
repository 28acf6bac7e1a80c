"""Whether a request comes from the very machine the demo runs on, by no detour."""

from __future__ import annotations

from typing import Any

from visrag_integrations.servers.web.hosts import LOOPBACK, host_name

# A proxy on this machine connects from this machine too; these are what it says about whom it speaks for.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")


def is_local(request: Any) -> bool:
    """Whether nobody else can have sent it; False where that is not certain.

    Args:
        request: Gradio's; it has `client` and `headers`.
    """
    headers = {str(name).lower(): str(value) for name, value in dict(request.headers).items()}
    if any(name in headers for name in _FORWARDED):
        return False
    client = getattr(getattr(request, "client", None), "host", None)
    return client in LOOPBACK and host_name(headers.get("host", "")) in LOOPBACK
