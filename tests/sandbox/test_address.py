import asyncio
from collections.abc import Sequence

import pytest

from sojourn.sandbox.address import (
    AddressRefusedError,
    PrivateHosts,
    Resolver,
    connect,
    is_public,
    plain_host,
    public_addresses,
)
from sojourn.types import InvalidRequestError


def answers(*addresses: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


async def no_names(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host!r} was looked up")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.80",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fec0::1",
        "ff02::1",
        "nonsense",
    ],
)
def test_address_that_not_everybody_can_reach_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8"]
)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.01",
        "8.8.8.8.8",
        "256.1.1.1",
        "1.2.3",
        "a.0x10",
    ],
)
async def test_address_in_an_unusual_notation_is_refused(host: str) -> None:
    with pytest.raises(AddressRefusedError, match="unusual notation"):
        await public_addresses(host, 80, resolver=no_names)


@pytest.mark.parametrize(
    "host",
    ["", ".", "a b", "a/b", "user@host", "a..b", "a\nb", "[::1", "::1%eth0", "[fe80::1%25eth0]", "a" * 300, "\u2028"],
)
async def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(AddressRefusedError, match="no name of a host"):
        await public_addresses(host, 80, resolver=no_names)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "::1",
        "[::ffff:169.254.169.254]",
        "169.254.169.254",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "\u2460\u2461\u2466.0.0.1",
        "localhost",
        "LOCALHOST.",
        "any.localhost",
    ],
)
async def test_private_address_in_any_spelling_is_refused_without_a_lookup(host: str) -> None:
    with pytest.raises(AddressRefusedError):
        await public_addresses(host, 80, resolver=no_names)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(AddressRefusedError, match="no such port"):
        await public_addresses("example.com", port, resolver=no_names)


async def test_public_name_gives_its_addresses_in_order_and_once() -> None:
    resolver = answers("2606:4700::1111", "8.8.8.8", "8.8.8.8")

    assert await public_addresses("Example.com.", 443, resolver=resolver) == ["2606:4700::1111", "8.8.8.8"]


async def test_public_address_needs_no_lookup() -> None:
    assert await public_addresses("8.8.8.8", 443, resolver=no_names) == ["8.8.8.8"]


async def test_name_with_one_private_address_among_public_ones_is_refused() -> None:
    with pytest.raises(AddressRefusedError) as error:
        await public_addresses("rebind.example", 80, resolver=answers("8.8.8.8", "10.0.0.1"))

    assert str(error.value) == (
        "'rebind.example' has an address that is not public; the operator may allow it with SOJOURN_PRIVATE_HOSTS"
    )


async def test_name_is_looked_up_in_its_ascii_form() -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["8.8.8.8"]

    await public_addresses("Bücher.example", 80, resolver=resolve)

    assert asked == ["xn--bcher-kva.example"]


async def test_name_that_does_not_resolve_is_an_error_of_the_network() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("unknown")

    with pytest.raises(OSError, match="unknown"):
        await public_addresses("nowhere.example", 80, resolver=resolve)
    with pytest.raises(OSError, match="no address"):
        await public_addresses("nowhere.example", 80, resolver=answers())


async def test_label_that_is_too_long_is_an_error_of_the_network() -> None:
    with pytest.raises(OSError, match=r"no name of a host|not known|failure"):
        await public_addresses("a" * 64 + ".example", 80)


async def test_private_host_is_allowed_by_name_and_port_alone() -> None:
    private = PrivateHosts.parse("git.internal:8080, 10.0.0.7, [::1]:9000, Wiki.Internal.")
    resolver = answers("10.0.0.5")

    assert await public_addresses("git.internal", 8080, private=private, resolver=resolver) == ["10.0.0.5"]
    assert await public_addresses("WIKI.internal", 1234, private=private, resolver=resolver) == ["10.0.0.5"]
    assert await public_addresses("10.0.0.7", 22, private=private) == ["10.0.0.7"]
    assert await public_addresses("[::1]", 9000, private=private) == ["::1"]
    for host, port in [("git.internal", 80), ("other.internal", 8080), ("10.0.0.5", 8080), ("::1", 9001)]:
        with pytest.raises(AddressRefusedError):
            await public_addresses(host, port, private=private, resolver=resolver)


@pytest.mark.parametrize("text", ["http://x", "x:0", "x:y", "x:70000", "a b", "127.1", ":80", "x:\u0661"])
def test_entry_that_is_no_host_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="write host or host:port"):
        PrivateHosts.parse(text)


def test_private_hosts_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PrivateHosts.from_environment() == PrivateHosts()
    monkeypatch.setenv("SOJOURN_PRIVATE_HOSTS", "a.internal:81,b.internal,::1")

    assert PrivateHosts.from_environment().hosts == {("a.internal", 81), ("b.internal", None), ("::1", None)}
    assert PrivateHosts.from_environment().ports("a.internal") == {81}


@pytest.mark.parametrize(("host", "plain"), [("EXAMPLE.com.", "example.com"), ("[2606:4700:0::1]", "2606:4700::1")])
def test_host_has_one_form(host: str, plain: str) -> None:
    assert plain_host(host) == plain


async def test_connection_goes_to_the_address_that_was_judged() -> None:
    """A second lookup would lead elsewhere; there is none, and an address that is dead gives way to the next."""
    lookups = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        lookups.append(host)
        return ["::1", "127.0.0.1"]

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await connect("x.example", port, private=PrivateHosts.parse("x.example"), resolver=resolve)
        reader, writer = await asyncio.open_connection(sock=connection)
        said = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert said == b"here"
    assert lookups == ["x.example"]
