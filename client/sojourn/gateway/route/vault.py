"""`/v1/vaults` (Managed Agents API §1.7)."""

from pydantic import Field

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, create_once
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.page import ListPage
from sojourn.gateway.wire.vault import DeletedVault, Vault, wire_vault
from sojourn.types import Vault as StoredVault
from sojourn.types import VaultChange, VaultDefinition, VaultExistsError
from sojourn.types.wire import Wire


class VaultsQuery(Wire):
    """Which vaults."""

    include_archived: bool = False
    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None


async def create(call: Call[VaultDefinition, None]) -> Vault:
    async def make(id: str) -> StoredVault:
        return await call.runtime.create_vault(call.body, vault_id=id, owner=call.owner)

    async def find(id: str) -> StoredVault:
        return await call.runtime.get_vault(id, owner=call.owner)

    def same(found: StoredVault) -> bool:
        return found.display_name == call.body.display_name

    return wire_vault(await create_once(call, Creation("vlt_", make, find, VaultExistsError, same)))


async def retrieve(call: Call[None, None]) -> Vault:
    return wire_vault(await call.runtime.get_vault(call.path["vault_id"], owner=call.owner))


async def update(call: Call[VaultChange, None]) -> Vault:
    return wire_vault(await call.runtime.update_vault(call.path["vault_id"], call.body, owner=call.owner))


async def list_vaults(call: Call[None, VaultsQuery]) -> ListPage[Vault]:
    query = call.query
    found = await call.runtime.list_vaults(
        include_archived=query.include_archived,
        limit=query.limit,
        page=server_page("vaults", query.page),
        owner=call.owner,
    )
    return ListPage(
        data=tuple(wire_vault(each) for each in found.data),
        next_page=cursor("vaults", at=found.next_page) if found.next_page else None,
    )


def server_page(kind: str, page: str | None) -> str | None:
    """The runtime's cursor in one of ours."""
    if not page:
        return None
    at = read_cursor(kind, page).get("at")
    if not isinstance(at, str):
        raise bad_cursor()
    return at


async def archive(call: Call[None, None]) -> Vault:
    return wire_vault(await call.runtime.archive_vault(call.path["vault_id"], owner=call.owner))


async def delete(call: Call[None, None]) -> DeletedVault:
    id = call.path["vault_id"]
    await call.runtime.delete_vault(id, owner=call.owner)
    return DeletedVault(id=id)


_ALL = "/v1/vaults"
_ONE = "/v1/vaults/{vault_id}"

ENDPOINTS = (
    Endpoint("POST", _ALL, "vaults.create", create, "write", "Create a vault", VaultDefinition, reply=Vault),
    Endpoint("GET", _ALL, "vaults.list", list_vaults, "read", "List vaults", None, VaultsQuery, ListPage[Vault]),
    Endpoint("GET", _ONE, "vaults.retrieve", retrieve, "read", "Get a vault", reply=Vault),
    Endpoint("POST", _ONE, "vaults.update", update, "write", "Change a vault", VaultChange, reply=Vault),
    Endpoint("DELETE", _ONE, "vaults.delete", delete, "control", "Delete a vault", reply=DeletedVault),
    Endpoint("POST", f"{_ONE}/archive", "vaults.archive", archive, "control", "Archive a vault", reply=Vault),
)
