"""The endpoints, a module for each resource. Each module exports ``ENDPOINTS``."""

from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.route import agent, event_log, model, thread

ENDPOINTS: tuple[Endpoint, ...] = (*agent.ENDPOINTS, *model.ENDPOINTS, *event_log.ENDPOINTS, *thread.ENDPOINTS)

__all__ = ["ENDPOINTS"]
