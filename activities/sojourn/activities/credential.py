"""The activities of a vault: `fetch_token`, `probe_credential`, `reseal_secrets`. No plain secret travels."""

from collections.abc import Sequence

from pydantic import SecretStr
from pydantic_core import to_json
from temporalio import activity
from temporalio.client import Client

from sojourn.activities.oauth import fetch_token, shown
from sojourn.activities.outbound import Answer, Outbound, UnreachableError
from sojourn.activities.sealed import Secrets, explained, read_vault
from sojourn.types.credential import CredentialEntry, McpOAuth, OAuthRefresh, Sealed
from sojourn.types.error import InvalidRequestError, SojournError
from sojourn.types.id import CredentialId
from sojourn.types.name import FETCH_TOKEN_ACTIVITY, PROBE_CREDENTIAL_ACTIVITY, RESEAL_SECRETS_ACTIVITY
from sojourn.types.seal import Sealer
from sojourn.types.vault import (
    CredentialPlace,
    FetchTokenResult,
    McpProbe,
    ProbeCredentialResult,
    ResealedCredential,
    ResealSecretsInput,
    ResealSecretsResult,
    TokenRefresh,
)

_INITIALIZE = to_json(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "sojourn", "version": "1"},
        },
    }
)
_REFUSED = (401, 403)


class CredentialCalls:
    """Holds what the activities need on a worker."""

    def __init__(self, client: Client, *, sealer: Sealer | None = None, outbound: Outbound | None = None) -> None:
        """Use a client.

        Args:
            client: Connected to the namespace of the vaults.
            sealer: Opens and seals; ``None`` takes the keys of the environment, once they are needed.
            outbound: Sends requests; ``None`` makes one with what the environment allows.
        """
        self._client = client
        self._secrets = Secrets(sealer)
        self._outbound = outbound

    @activity.defn(name=FETCH_TOKEN_ACTIVITY)
    async def fetch_token(self, place: CredentialPlace) -> FetchTokenResult:
        """Get a new access token for a credential.

        Attempted once: a refresh token may hold for one use. What comes of it is a result, failures too.
        """
        try:
            entry, auth = await self._oauth(place)
            if auth.refresh is None:
                refresh = TokenRefresh(status="no_refresh_token", reason="it has no refresh token")
                return FetchTokenResult(refresh=refresh)
            return await self._fetched(place, entry, auth.refresh)
        except SojournError as error:
            return FetchTokenResult(refresh=TokenRefresh(status="failed", reason=str(error)[:300]))

    @activity.defn(name=PROBE_CREDENTIAL_ACTIVITY)
    async def probe_credential(self, place: CredentialPlace) -> ProbeCredentialResult:
        """Introduce ourselves to a server with its credential. Safe to retry: nothing is left behind."""
        try:
            entry, auth = await self._oauth(place)
            token = self._secrets.open(place.workspace, entry, "access_token")
            return await self._probed(auth.mcp_server_url, token)
        except SojournError as error:
            activity.logger.warning("credential %s cannot be tried: %s", place.credential_id, error)
            return ProbeCredentialResult(verdict="unknown", failed=McpProbe(method="initialize"))

    @activity.defn(name=RESEAL_SECRETS_ACTIVITY)
    async def reseal_secrets(self, wanted: ResealSecretsInput) -> ResealSecretsResult:
        """Seal with the first key what another one has sealed. Safe to retry: the vault takes what comes back, or not.

        Raises:
            VaultUnavailableError: The vault cannot be read now.
        """
        state = await read_vault(self._client, wanted.workspace, wanted.vault_id)
        found: list[ResealedCredential] = []
        failures: dict[CredentialId, str] = {}
        for entry in state.active if state is not None else ():
            id = entry.credential.id
            try:
                if sealed := self._secrets.resealed(wanted.workspace, entry):
                    found.append(ResealedCredential(credential_id=id, generation=entry.generation, sealed=sealed))
            except SojournError as error:
                failures[id] = explained(error)
        return ResealSecretsResult(credentials=tuple(found), failures=failures)

    async def _oauth(self, place: CredentialPlace) -> tuple[CredentialEntry, McpOAuth]:
        state = await read_vault(self._client, place.workspace, place.vault_id)
        entry = state.find(place.credential_id) if state is not None else None
        if entry is None or not isinstance(entry.credential.auth, McpOAuth):
            raise InvalidRequestError(f"credential {place.credential_id!r} is gone, or no OAuth credential")
        return entry, entry.credential.auth

    async def _fetched(self, place: CredentialPlace, entry: CredentialEntry, config: OAuthRefresh) -> FetchTokenResult:
        with_secret = config.token_endpoint_auth.type != "none"
        grant = await fetch_token(
            self._sender,
            config,
            refresh_token=self._secrets.open(place.workspace, entry, "refresh_token"),
            client_secret=self._secrets.open(place.workspace, entry, "client_secret") if with_secret else None,
        )
        sealed: Sealed = {}
        for name, secret in grant.secrets.items():
            sealed |= self._secrets.seal(place.workspace, entry, name, secret)
        return FetchTokenResult(refresh=grant.refresh, sealed=sealed, expires_at=grant.expires_at)

    async def _probed(self, url: str, token: SecretStr) -> ProbeCredentialResult:
        headers = {
            "authorization": f"Bearer {token.get_secret_value()}",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        try:
            answer = await self._sender.request("POST", url, headers=headers, content=_INITIALIZE, stream=True)
        except UnreachableError:
            return ProbeCredentialResult(verdict="unknown", failed=McpProbe(method="initialize"))
        if answer.is_success:
            await self._leave(url, headers, answer)
            return ProbeCredentialResult(verdict="accepted")
        return ProbeCredentialResult(
            verdict="refused" if answer.status in _REFUSED else "unknown", failed=_failed(answer, [token])
        )

    async def _leave(self, url: str, headers: dict[str, str], answer: Answer) -> None:
        """End the session that the server has begun for us."""
        if (session := answer.headers.get("mcp-session-id")) is None:
            return
        try:
            await self._sender.request("DELETE", url, headers={**headers, "mcp-session-id": session})
        except UnreachableError:
            activity.logger.info("the session of a probe was not ended")

    @property
    def _sender(self) -> Outbound:
        if self._outbound is None:
            self._outbound = Outbound()
        return self._outbound


def _failed(answer: Answer, secrets: Sequence[SecretStr]) -> McpProbe:
    return McpProbe(method="initialize", http_response=shown(answer, secrets))
