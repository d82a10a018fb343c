"""The gateway's authentication against keys on a real server, without a worker."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.client.key import KeyStore
from sojourn.gateway.auth import AuthenticationError, KeyAuthenticator
from sojourn.gateway.verification import KeyCache, KeyMemory

if TYPE_CHECKING:
    from tests.conftest import Stage


async def test_a_revoked_key_is_refused_by_every_gateway(stage: "Stage") -> None:
    keys = KeyStore(stage.client, task_queue=stage.task_queue)
    forgetful = KeyMemory(known=timedelta(0))
    gateways = [KeyAuthenticator(KeyCache(keys, memory=forgetful)) for _ in range(2)]
    made = await keys.create("ci", owner=stage.owner, scopes=("read",))
    headers = {"authorization": f"Bearer {made.token}"}

    for gateway in gateways:
        principal = await gateway.authenticate(headers)
        assert (principal.key_id, principal.owner) == (made.info.id, stage.owner)
        assert principal.scopes == {"read"}

    await keys.revoke(made.info.id, workspace=stage.owner.workspace)

    for gateway in gateways:
        with pytest.raises(AuthenticationError) as error:
            await gateway.authenticate(headers)
        assert (error.value.status, error.value.reason, error.value.key_id) == (401, "revoked", made.info.id)
