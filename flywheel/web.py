"""Addresses of servers, and how they are reached: those on this machine never through a proxy.

A proxy that the environment names cannot reach the loopback of this machine. It is left out for
these addresses, for other programs' clients too, and named where a server behind it is silent.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, MutableMapping
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def address(host: str, port: int) -> str:
    """Return the URL of a server; an IPv6 address gets its brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address, without brackets."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_loopback(url: str | None) -> bool:
    """Whether a url is on this machine; so is a service without a url."""
    host = urlsplit(url).hostname if url else None
    return host is None or is_loopback_host(host)


def through(url: str) -> str:
    """Return ` through the proxy ...` for a message on a server behind one, else nothing."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return ""
    known = getproxies()
    name = next((name for name in (parts.scheme, "all") if known.get(name)), None)
    if name is None:
        return ""
    shown = known[name].rpartition("@")[2].removeprefix("http://")
    return (
        f" through the proxy {shown} of {name}_proxy (if it is reached without one, "
        f"add {parts.hostname} to no_proxy)"
    )


def spare_loopback(environment: MutableMapping[str, str] = os.environ) -> Iterator[str]:
    """Let every client of this process and its children reach loopback without a proxy.

    Yields:
        A line for each proxy that no client can use, which is left out.
    """
    names = [name for name in environment if name.lower() in _PROXIES and environment[name]]
    if not names:
        return
    for name in names:
        if fault := _fault(environment[name]):
            yield f"{name} = {environment[name]!r} is left out: {fault}"
            del environment[name]
    spared = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    known = [entry.strip() for entry in spared.split(",") if entry.strip()]
    spared = ",".join([*known, *(host for host in _LOOPBACK if host not in known)])
    environment["no_proxy"] = environment["NO_PROXY"] = spared


def _fault(proxy: str) -> str | None:
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
    try:
        host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname
    except ValueError as error:
        return f"{error}. Write http://HOST:PORT"
    if scheme.startswith("socks") and find_spec("socksio") is None:
        return "the package socksio is missing. Install it with pip install 'httpx[socks]'"
    if scheme not in {"http", "https", "socks5", "socks5h"} or not host:
        return "it is no proxy that clients know. Write http://HOST:PORT"
    return None
