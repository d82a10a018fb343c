"""`/v1/vaults/{vault_id}/credentials` (Managed Agents API §1.7). Secrets go in, and never come out."""

from dataclasses import replace

from pydantic import Field

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, create_once
from sojourn.gateway.route.vault import server_page
from sojourn.gateway.wire.cursor import cursor
from sojourn.gateway.wire.page import ListPage
from sojourn.gateway.wire.vault import (
    Credential,
    DeletedCredential,
    Validation,
    wire_credential,
    wire_validation,
)
from sojourn.types import Credential as StoredCredential
from sojourn.types import CredentialChange, CredentialDefinition, CredentialExistsError
from sojourn.types.wire import Wire


class CredentialsQuery(Wire):
    """Which credentials."""

    include_archived: bool = False
    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None


async def create(call: Call[CredentialDefinition, None]) -> Credential:
    vault_id = call.path["vault_id"]
    # The id is derived from a digest of the body, and anybody sees ids: without a key they could try guesses on it.
    call = replace(call, body_digest=call.runtime.secret_fingerprint(call.body_digest))

    async def make(id: str) -> StoredCredential:
        return await call.runtime.create_credential(vault_id, call.body, credential_id=id, owner=call.owner)

    async def find(id: str) -> StoredCredential:
        return await call.runtime.get_credential(vault_id, id, owner=call.owner)

    def same(found: StoredCredential) -> bool:
        wanted = call.body.auth.shown()
        return (found.auth.type, found.auth.key) == (wanted.type, wanted.key)

    return wire_credential(await create_once(call, Creation("vcrd_", make, find, CredentialExistsError, same)))


async def retrieve(call: Call[None, None]) -> Credential:
    vault_id, id = call.path["vault_id"], call.path["credential_id"]
    return wire_credential(await call.runtime.get_credential(vault_id, id, owner=call.owner))


async def update(call: Call[CredentialChange, None]) -> Credential:
    vault_id, id = call.path["vault_id"], call.path["credential_id"]
    return wire_credential(await call.runtime.update_credential(vault_id, id, call.body, owner=call.owner))


async def list_credentials(call: Call[None, CredentialsQuery]) -> ListPage[Credential]:
    query = call.query
    found = await call.runtime.list_credentials(
        call.path["vault_id"],
        include_archived=query.include_archived,
        limit=query.limit,
        page=server_page("credentials", query.page),
        owner=call.owner,
    )
    return ListPage(
        data=tuple(wire_credential(each) for each in found.data),
        next_page=cursor("credentials", at=found.next_page) if found.next_page else None,
    )


async def archive(call: Call[None, None]) -> Credential:
    vault_id, id = call.path["vault_id"], call.path["credential_id"]
    return wire_credential(await call.runtime.archive_credential(vault_id, id, owner=call.owner))


async def delete(call: Call[None, None]) -> DeletedCredential:
    vault_id, id = call.path["vault_id"], call.path["credential_id"]
    await call.runtime.delete_credential(vault_id, id, owner=call.owner)
    return DeletedCredential(id=id)


async def validate(call: Call[None, None]) -> Validation:
    vault_id, id = call.path["vault_id"], call.path["credential_id"]
    return wire_validation(await call.runtime.validate_credential(vault_id, id, owner=call.owner))


_ALL = "/v1/vaults/{vault_id}/credentials"
_ONE = "/v1/vaults/{vault_id}/credentials/{credential_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        _ALL,
        "credentials.create",
        create,
        "write",
        "Put a credential into a vault",
        CredentialDefinition,
        reply=Credential,
    ),
    Endpoint(
        "GET",
        _ALL,
        "credentials.list",
        list_credentials,
        "read",
        "List the credentials of a vault",
        None,
        CredentialsQuery,
        ListPage[Credential],
    ),
    Endpoint("GET", _ONE, "credentials.retrieve", retrieve, "read", "Get a credential", reply=Credential),
    Endpoint(
        "POST",
        _ONE,
        "credentials.update",
        update,
        "write",
        "Change a credential",
        CredentialChange,
        reply=Credential,
    ),
    Endpoint("DELETE", _ONE, "credentials.delete", delete, "control", "Delete a credential", reply=DeletedCredential),
    Endpoint(
        "POST",
        f"{_ONE}/archive",
        "credentials.archive",
        archive,
        "control",
        "Archive a credential: its secrets are gone",
        reply=Credential,
    ),
    Endpoint(
        "POST",
        f"{_ONE}/mcp_oauth_validate",
        "credentials.mcp_oauth_validate",
        validate,
        "write",
        "Try an OAuth credential on its server",
        reply=Validation,
    ),
)
