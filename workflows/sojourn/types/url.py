"""Addresses on the web as rules compare them: by host, port and path, never as one text."""

import re
from dataclasses import dataclass

from sojourn.types.glob import TextGlob, escaped

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE)
_NETLOC = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_QUAD = re.compile(r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.|$)){4}")
_PORTS = {"http": "80", "https": "443"}
_PATTERN = re.compile(r"(?:(https?)://)?([A-Za-z0-9._*-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}|\*))?(/.*)?", re.DOTALL)


@dataclass(frozen=True)
class Url:
    """An address of which no part can be taken for another."""

    scheme: str
    host: str
    port: str
    path: str
    """With the query; begins with a slash. What stands after ``#`` is not sent and does not count."""

    @classmethod
    def of(cls, text: str) -> "Url | None":
        """Read an address; ``None`` for one that programs could read in different ways."""
        found = _URL.fullmatch(text) if re.fullmatch(r"[!-~]+", text) and "\\" not in text else None
        netloc = _NETLOC.fullmatch(found.group(2)) if found else None
        if found is None or netloc is None:
            return None
        scheme, host = found.group(1).lower(), netloc.group(1).lower().removesuffix(".")
        if not host or ".." in host or (_is_number(host) and not _QUAD.fullmatch(host)):
            return None
        port = (netloc.group(2) or _PORTS[scheme]).lstrip("0")
        return cls(scheme, host, port, _normal(found.group(3)) + (found.group(4) or ""))

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


def _is_number(host: str) -> bool:
    return re.fullmatch(r"\d+|0x[0-9a-f]*", host.rpartition(".")[2]) is not None


def _normal(path: str) -> str:
    """Without dot segments, in whatever way they are written."""
    parts: list[str] = []
    segments = re.sub(r"%2[eE]", ".", path).split("/")[1:] or [""]
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if segment == "..":
            parts = parts[:-1]
        elif segment != ".":
            parts.append(segment)
        if last and segment in (".", ".."):
            parts.append("")
    return "/" + "/".join(parts)


@dataclass(frozen=True)
class UrlPattern:
    """A pattern for addresses: ``https://*.example.com/docs/*``. Without a path it is the whole host."""

    scheme: str | None
    """``None`` is http and https."""
    host: TextGlob
    port: str | None
    """``*`` is every port, ``None`` the usual one."""
    path: TextGlob | None

    @classmethod
    def of(cls, text: str) -> "UrlPattern":
        """Read a pattern.

        Raises:
            ValueError: It is none.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no pattern of an address; write one such as https://*.example.com/docs/*")
        scheme, host, port, path = found.groups()
        return cls(scheme, TextGlob.of(host.lower()), port, TextGlob.of(path) if path else None)

    @property
    def is_exact(self) -> bool:
        """Whether it matches one address only."""
        whole = self.scheme is not None and self.path is not None and self.path.is_exact
        return whole and self.host.is_exact and self.port != "*"

    def matches(self, url: Url) -> bool:
        """Whether the address is of this form."""
        if self.scheme not in (None, url.scheme) or not self.host.matches(url.host):
            return False
        if self.port != "*" and url.port != (self.port or _PORTS[url.scheme]):
            return False
        return self.path is None or self.path.matches(url.path)


def exact_url_pattern(url: Url) -> str:
    """The pattern of this address alone."""
    port = "" if url.port == _PORTS[url.scheme] else f":{url.port}"
    return f"{url.scheme}://{url.host}{port}{escaped(url.path)}"
