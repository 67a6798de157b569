"""The names by which an endpoint on loopback may be asked, against DNS rebinding.

A page in a browser can have its own name resolve to 127.0.0.1, and then read what is served there.
The browser still sends that name as `Host`.
"""

import re
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from bufpool_workers.metrics.apps import WSGIApp

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d*)?", re.IGNORECASE)
_REFUSAL: Final = (
    b"this endpoint listens on loopback, and answers to loopback names and this host's own; "
    b"bufpool_metrics_hosts adds the names that a proxy passes on as Host\n"
)


def check_host(app: WSGIApp, *, hosts: Iterable[str] = ()) -> WSGIApp:
    """Make an application that answers 421 to a `Host` that is neither this host nor in `hosts`.

    `/healthz` tells nothing, so probes may ask as they like. A request without `Host` comes from
    no browser.
    """
    known = {_plain(name) for name in ("localhost", socket.gethostname(), *hosts)}

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST")
        if host is None or environ.get("PATH_INFO") == "/healthz" or _is_known(host, known):
            return app(environ, start_response)
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_REFUSAL)))]
        start_response("421 Misdirected Request", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [_REFUSAL]

    return checked


def _is_known(host: str, known: set[str]) -> bool:
    found = _HOST.fullmatch(host)
    if not found:
        return False
    name = _plain(found[1] or found[2])
    if name in known or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return is_loopback(name)
    except ValueError:  # no address
        return False


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def is_loopback(address: str) -> bool:
    """Check a numeric address, which may be an IPv4 one in the form of IPv6."""
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback
