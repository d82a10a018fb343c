"""The endpoints, a module for each resource. Each module exports ``ENDPOINTS``."""

from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.route import agent, model

ENDPOINTS: tuple[Endpoint, ...] = (*agent.ENDPOINTS, *model.ENDPOINTS)

__all__ = ["ENDPOINTS"]
