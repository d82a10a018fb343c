"""The certificates that the worker itself trusts."""

import os
import ssl
from functools import cache


def machine_trust() -> ssl.SSLContext:
    """Those of the machine, read once in a process: reading them takes longer than many a request."""
    return _read(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))


@cache
def _read(file: str | None, folder: str | None) -> ssl.SSLContext:
    return ssl.create_default_context()
