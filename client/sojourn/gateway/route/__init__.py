"""The endpoints, a module for each resource. Each module exports ``ENDPOINTS``."""

from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.route import agent, environment, event, model, session

ENDPOINTS: tuple[Endpoint, ...] = (
    *agent.ENDPOINTS,
    *environment.ENDPOINTS,
    *event.ENDPOINTS,
    *model.ENDPOINTS,
    *session.ENDPOINTS,
)

__all__ = ["ENDPOINTS"]
