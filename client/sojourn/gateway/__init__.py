"""The HTTP gateway: the Managed Agents API over sojourn, for the official SDKs and anything else that speaks HTTP."""

from sojourn.gateway.app import create_app
from sojourn.gateway.endpoint import Gateway, GatewayOptions

__all__ = ["Gateway", "GatewayOptions", "create_app"]
