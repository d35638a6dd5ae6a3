"""Who sends a request, as admission counts them: the name is the client's own word, the address is what we see."""

from __future__ import annotations

import ipaddress

import gradio as gr

from rag_inspect.admission import OURSELVES, Asker


def read_asker(request: gr.Request | None, *, on_space: bool) -> Asker:
    """Return the session that the client made up, and its network address.

    The address is uvicorn's: that of the connection or, if a proxy on this machine (or one in FORWARDED_ALLOW_IPS)
    made it, the last hop in X-Forwarded-For that is no such proxy. What a client writes into the header stands before
    that hop and counts for nothing. A Space always has a proxy in front, at addresses that nobody lists: there it is
    the last hop with a public address.
    """
    if request is None:
        return OURSELVES
    address = request.client.host if request.client else ""
    if on_space:
        hops = request.headers.get("x-forwarded-for", "").split(",")
        address = next(filter(_is_public, map(str.strip, reversed(hops))), address)
    return Asker(request.session_hash or "", _group(address))


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _group(address: str) -> str:
    """Return the address; of IPv6 the first half, because one subscriber has all of the second."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
