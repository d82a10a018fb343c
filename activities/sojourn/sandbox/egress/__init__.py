"""How sandboxes reach the network: a proxy outside, which knows what each one may."""

from sojourn.sandbox.egress.authority import Authority
from sojourn.sandbox.egress.policy import AllowedHost, EgressPolicy
from sojourn.sandbox.egress.proxy import CA_FILE, EgressCount, EgressLimits, EgressProxy
from sojourn.sandbox.egress.secret import SecretVariable

__all__ = [
    "CA_FILE",
    "AllowedHost",
    "Authority",
    "EgressCount",
    "EgressLimits",
    "EgressPolicy",
    "EgressProxy",
    "SecretVariable",
]
