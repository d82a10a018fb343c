"""The endpoints, a module for each resource. Each module exports ``ENDPOINTS``."""

from sojourn.gateway.endpoint import Endpoint
from sojourn.gateway.route import (
    agent,
    credential,
    deployment,
    environment,
    event,
    event_log,
    file,
    model,
    resource,
    session,
    thread,
    vault,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *agent.ENDPOINTS,
    *credential.ENDPOINTS,
    *deployment.ENDPOINTS,
    *environment.ENDPOINTS,
    *event.ENDPOINTS,
    *event_log.ENDPOINTS,
    *file.ENDPOINTS,
    *model.ENDPOINTS,
    *resource.ENDPOINTS,
    *session.ENDPOINTS,
    *thread.ENDPOINTS,
    *vault.ENDPOINTS,
)

__all__ = ["ENDPOINTS"]
