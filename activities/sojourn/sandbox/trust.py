"""The certificates that the worker itself trusts."""

import ssl
from functools import cache


@cache
def machine_trust() -> ssl.SSLContext:
    """Those of the machine, read once in a process: reading them takes longer than many a request."""
    return ssl.create_default_context()
