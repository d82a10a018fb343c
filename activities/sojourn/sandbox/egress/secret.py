"""Secrets that a sandbox holds placeholders of: put in place on the way out, taken out on the way back."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from sojourn.sandbox.egress.policy import matches

_SHORTEST_MASKED = 6
"""A shorter value would be found, and replaced, in answers that have nothing to do with it."""

_MOST_FORMS = 256
"""Written forms of values that one connection remembers; a sandbox could make any number of them."""

Headers = list[tuple[bytes, bytes]]

# What decides where a message ends and whom it is for is never the place of a secret.
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te"})


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """An environment variable whose value stays outside the sandbox (Managed Agents API §1.7)."""

    name: str
    placeholder: str
    """What the variable holds inside: unguessable, made of letters, digits, ``_`` and ``-``."""
    value: str = field(repr=False)
    allowed_hosts: tuple[str, ...] | None = None
    """Hosts that may get the value, ``*.example.com`` for all below one; ``None`` is every host."""
    header: bool = True
    """Whether it is put into headers of requests."""
    body: bool = True
    """Whether it is put into bodies of requests."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{16,256}", self.placeholder):
            raise ValueError(f"placeholder of {self.name!r} must be 16 to 256 letters, digits, '_' or '-'")

    def goes_to(self, host: str) -> bool:
        """Whether a host may get the value. ``host`` is as `plain_host` gives it."""
        return self.allowed_hosts is None or any(matches(each, host) for each in self.allowed_hosts)

    @property
    def fits_header(self) -> bool:
        """Whether the value can stand in a header at all."""
        return self.value.isprintable() and self.value.isascii()


class Replacer:
    """Replaces byte strings in a stream, also those that arrive in pieces; holds back no more than it must."""

    def __init__(self, pairs: Mapping[bytes, bytes]) -> None:
        self._pairs = {old: new for old, new in pairs.items() if old}
        longest = sorted(self._pairs, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest))) if longest else None
        # The empty class of nothing to find would be no pattern.
        self._first = re.compile(b"[" + re.escape(bytes({old[0] for old in self._pairs} or {0})) + b"]")
        self._window = max(map(len, longest), default=1) - 1
        self._held = b""

    def replaced(self, data: bytes) -> bytes:
        """The data with all replacements, as a whole."""
        if self._pattern is None:
            return data
        return self._pattern.sub(lambda found: self._pairs[found[0]], data)

    def feed(self, data: bytes) -> bytes:
        """What can be given on after the next piece."""
        if self._pattern is None:
            return data
        data = self._held + data
        end = max((found.end() for found in self._pattern.finditer(data)), default=0)
        cut = self._cut(data, max(end, len(data) - self._window))
        self._held = data[cut:]
        return self.replaced(data[:cut])

    def finish(self) -> bytes:
        """The rest."""
        held, self._held = self._held, b""
        return held

    def _cut(self, data: bytes, start: int) -> int:
        """Where the first beginning of something to replace stands that the data cuts off."""
        for found in self._first.finditer(data, start):
            rest = data[found.start() :]
            if any(old.startswith(rest) for old in self._pairs):
                return found.start()
        return len(data)


class Exchange:
    """The secrets of one connection to one host: in for its requests, out of its answers."""

    def __init__(self, secrets: Iterable[SecretVariable]) -> None:
        self._secrets = tuple(secrets)
        self._seen: dict[bytes, bytes] = {}
        """What was sent in another form than the value itself, and what the sandbox had sent."""

    def request_headers(self, headers: Headers) -> Headers:
        """The headers of a request with values in place of placeholders."""
        pairs = {_raw(each.placeholder): _raw(each.value) for each in self._secrets if each.header and each.fits_header}
        put = Replacer(pairs)
        return [(name, value if name in _FRAMING else self._header(value, put)) for name, value in headers]

    def _header(self, value: bytes, put: Replacer) -> bytes:
        scheme, space, token = value.partition(b" ")
        if scheme.lower() == b"basic" and space:
            plain = _decoded(token.strip())
            if (changed := put.replaced(plain)) != plain:
                sent = base64.b64encode(changed)
                self._remember(sent, token.strip())
                return scheme + space + sent
        return put.replaced(value)

    def request_body(self, content_type: bytes) -> Replacer | None:
        """What puts values into a request's body; ``None`` if nothing is to be put there.

        A value is written as the type of the body asks for, so that it stays one value.
        """
        kind = content_type.partition(b";")[0].strip().lower()
        pairs = {_raw(each.placeholder): _written(each.value, kind) for each in self._secrets if each.body}
        for placeholder, sent in pairs.items():
            self._remember(sent, placeholder)
        return Replacer(pairs) if pairs else None

    def _remember(self, sent: bytes, placed: bytes) -> None:
        if len(sent) >= _SHORTEST_MASKED:
            self._seen[sent] = placed
        while len(self._seen) > _MOST_FORMS:
            del self._seen[next(iter(self._seen))]

    def answer(self) -> Replacer:
        """What takes values out of an answer."""
        plain = {
            _raw(each.value): _raw(each.placeholder)
            for each in self._secrets
            if len(_raw(each.value)) >= _SHORTEST_MASKED
        }
        return Replacer(self._seen | plain)

    def answer_headers(self, headers: Headers) -> Headers:
        """The headers of an answer without values."""
        out = self.answer()
        return [(name, value if name in _FRAMING else out.replaced(value)) for name, value in headers]


def environment_variables(secrets: Sequence[SecretVariable]) -> dict[str, str]:
    """What the sandbox gets: placeholders."""
    return {each.name: each.placeholder for each in secrets}


def _raw(text: str) -> bytes:
    return text.encode()


def _decoded(token: bytes) -> bytes:
    try:
        return base64.b64decode(token, validate=True)
    except binascii.Error:
        return b""


def _written(value: str, kind: bytes) -> bytes:
    if kind == b"application/json" or kind.endswith(b"+json"):
        return json.dumps(value)[1:-1].encode()
    if kind == b"application/x-www-form-urlencoded":
        return quote_plus(value).encode()
    return value.encode()
