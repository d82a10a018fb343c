"""The HTTP gateway: the Managed Agents API over sojourn, for the official SDKs and anything else that speaks HTTP."""

from sojourn.gateway.app import create_app
from sojourn.gateway.endpoint import Gateway, GatewayOptions
from sojourn.gateway.serving import base_url, serving

__all__ = ["Gateway", "GatewayOptions", "base_url", "create_app", "serving"]
