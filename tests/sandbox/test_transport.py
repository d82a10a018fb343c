import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import httpx2
import pytest
from tests.sandbox.egress.conftest import Answer, Network

from sojourn.sandbox.address import AddressRefusedError, PrivateHosts
from sojourn.sandbox.transport import PublicTransport


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncGenerator[Network, None]:
    network = Network(tmp_path)
    try:
        yield network
    finally:
        await network.close()


async def both(host: str, port: int) -> Sequence[str]:
    return ["::1", "127.0.0.1"]


def client(hosts: Network, private: str = "") -> httpx2.AsyncClient:
    transport = PublicTransport(private=PrivateHosts.parse(private), resolver=both, trust=hosts.trust)
    return httpx2.AsyncClient(transport=transport, timeout=45)


async def test_host_is_reached_by_its_name_at_an_address_that_answers(hosts: Network) -> None:
    host = await hosts.host(tls="a.example")
    async with client(hosts, "a.example") as http:
        answers = await asyncio.gather(*(http.get(f"https://a.example:{host.port}/") for _ in range(3)))

    assert [answer.text for answer in answers] == ["hello"] * 3
    assert host.seen[0].header("host") == f"a.example:{host.port}"


async def test_private_host_is_refused_also_after_a_redirect(hosts: Network) -> None:
    host = await hosts.host()
    host.answer = lambda seen: Answer([("Location", f"http://b.example:{host.port}/")], [b""], 302)
    async with client(hosts, "a.example") as http:
        with pytest.raises(AddressRefusedError):
            await http.get(f"http://b.example:{host.port}/")
        with pytest.raises(AddressRefusedError):
            await http.get(f"http://a.example:{host.port}/", follow_redirects=True)

    assert len(host.seen) == 1


async def test_certificate_for_another_host_is_refused(hosts: Network) -> None:
    host = await hosts.host(tls="b.example")
    async with client(hosts, "a.example") as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(f"https://a.example:{host.port}/")
