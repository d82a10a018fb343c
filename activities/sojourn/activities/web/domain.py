"""Which hosts the settings of a web tool allow."""

from collections.abc import Iterable
from urllib.parse import SplitResult

from sojourn.sandbox.address import AddressRefusedError, plain_host
from sojourn.types.agent import ToolOptions


def allows(options: ToolOptions | None, url: SplitResult) -> bool:
    """Whether the settings let a URL through. Every URL with a host is let through where there are none."""
    try:
        host = plain_host(url.hostname or "")
    except (AddressRefusedError, ValueError):
        return False
    if options is None:
        return True
    if options.allowed_domains:
        return _covers(options.allowed_domains, host, url.path)
    return not _covers(options.blocked_domains, host, url.path)


def _covers(domains: Iterable[str], host: str, path: str) -> bool:
    return any(_is_in(domain, host, path) for domain in domains)


def _is_in(domain: str, host: str, path: str) -> bool:
    name, slash, start = domain.partition("/")
    name = name.lower()
    return (host == name or host.endswith(f".{name}")) and (path or "/").startswith(slash + start)
