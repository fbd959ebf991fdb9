"""Nothing is sent to an address that is not public: asserted at the socket, through the client that delivers."""

import asyncio
import ipaddress
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from webhooks.addresses import SPECIAL, Allowed, check_address, read_allowed, refusal, socket_factory
from webhooks.errors import AddressRefused, InvalidSetting
from webhooks.urls import UrlRules, check_url

PUBLIC: Final = json.loads((Path(__file__).parent / "addresses.json").read_text(encoding="utf-8"))["cases"]
FORGERIES: Final = json.loads((Path(__file__).parent / "forgeries.json").read_text(encoding="utf-8"))
CONNECTED: Final[list[Any]] = []
"""Where every socket of this process was connected to, since it was last cleared."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        CONNECTED.append(arguments[1])


@dataclass
class Scripted(AbstractResolver):
    """A resolver that gives the next of its answers each time it is asked, and reads numbers as the system does."""

    answers: Sequence[Sequence[str]] = ()
    asked: int = field(default=0)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The next answer, or what the numbers in a host stand for."""
        if self.answers:
            found = list(self.answers[min(self.asked, len(self.answers) - 1)])
            self.asked += 1
        elif host.rstrip(".").lower() == "localhost":
            found = ["127.0.0.1", "::1"]
        else:
            try:
                infos = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise OSError("no such name") from error
            found = [str(info[4][0]) for info in infos]
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module", autouse=True)
def watched() -> Iterator[None]:
    """Every connection that this process opens is written down; an audit hook cannot be taken away again."""
    sys.addaudithook(_watch)
    yield


@pytest.fixture
async def canary() -> AsyncIterator[tuple[int, list[Any]]]:
    """A port that listens on all addresses of this machine's loopback, and who came."""
    came: list[Any] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(accept, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    yield port, came
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("address", "public"), PUBLIC)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    """The table says it, and the socket is refused by it; one to a public address is opened by nobody here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    info = (family, socket.SOCK_STREAM, 0, "", (address, 443))

    if public:
        check_address(address)
    else:
        with pytest.raises(AddressRefused):
            socket_factory()(info)


@given(st.ip_addresses())
def test_what_is_allowed_is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Nothing passes that Python's own reading of the registries holds to be private."""
    if refusal(address) is None:
        plain = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF) if int(address) >> 48 == 0 else address
        assert plain.is_global
        assert not plain.is_multicast


@given(st.data())
def test_no_special_network_has_a_hole(data: st.DataObject) -> None:
    """Every address of every special network is refused."""
    network, _ = data.draw(st.sampled_from(SPECIAL))
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]

    assert refusal(address) is not None


async def test_no_forged_url_connects(canary: tuple[int, list[Any]]) -> None:
    """Every way to write an address that is not public is refused by the client, unchecked when it was written."""
    port, came = canary
    assert [] == await connections([url.replace("{port}", str(port)) for url in FORGERIES["urls"]], Scripted())
    assert [] == came


async def test_no_name_leads_inside(canary: tuple[int, list[Any]]) -> None:
    """Whatever a name resolves to, alone or among several."""
    port, came = canary
    for answer in FORGERIES["answers"]:
        assert [] == await connections([f"http://hook.example:{port}/"], Scripted([answer]))
    assert [] == came


async def test_rebinding_leads_nowhere(canary: tuple[int, list[Any]]) -> None:
    """A name that was allowed when it was looked at first is looked at again at each connection."""
    port, came = canary
    for inside in FORGERIES["rebinding"]:
        resolver = Scripted([["8.8.8.8"], [inside]])
        (first,) = await resolver.resolve("hook.example", port)
        check_address(first["host"])
        assert [] == await connections([f"http://hook.example:{port}/"], resolver)
    assert [] == came


async def test_no_redirect_leads_inside(canary: tuple[int, list[Any]]) -> None:
    """Also a client that follows them is stopped at the next socket; ours does not follow."""
    port, came = canary

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": request.query["to"]})

    application = web.Application()
    application.router.add_post("/", redirect)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    own = runner.addresses[0][1]
    allowed = read_allowed(["127.0.0.1"])
    urls = [f"http://127.0.0.1:{own}/?to={url.replace('{port}', str(port))}" for url in FORGERIES["redirects"]]
    assert {("127.0.0.1", own)} == set(await connections(urls, Scripted(), allowed))
    assert [] == came
    await runner.cleanup()


async def test_the_canary_sings(canary: tuple[int, list[Any]]) -> None:
    """A client without the check does connect, and is seen by the listener and by the watch on sockets."""
    port, came = canary
    CONNECTED.clear()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"http://127.0.0.1:{port}/")

    assert [("127.0.0.1", port)] == CONNECTED
    assert 1 == len(came)


@pytest.mark.parametrize("url", FORGERIES["urls"])
def test_a_forged_url_is_refused_where_it_is_written(url: str) -> None:
    """So that who writes it is told at once, and not by a delivery that fails."""
    with pytest.raises(InvalidSetting) as refused:
        check_url(url.replace("{port}", "8443"), UrlRules())

    assert "/url" == refused.value.problems[0].path


def test_there_are_as_many_as_promised() -> None:
    """300 forgeries and 60 addresses at least."""
    assert sum(len(FORGERIES[part]) for part in ("urls", "answers", "rebinding", "redirects")) >= 300
    assert len(PUBLIC) >= 60


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?a=b",
        "https://hooks.zapier.com/hooks/catch/1/abc/",
        "https://example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_a_public_url_is_taken_as_it_is(url: str) -> None:
    """What is not forged is not changed."""
    assert url == check_url(url, UrlRules())


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("http://example.com/", UrlRules(http=True)),
        ("https://example.com:22/", UrlRules(ports=frozenset({22}))),
        ("http://n8n.lan:5678/", UrlRules(allowed=read_allowed(["n8n.lan"]))),
        ("https://tools.example.internal/", UrlRules(allowed=read_allowed([".example.internal"]))),
        ("https://10.1.2.3/", UrlRules(allowed=read_allowed(["10.0.0.0/8"]))),
    ],
)
def test_an_operator_may_allow(url: str, rules: UrlRules) -> None:
    """What each rule refuses is allowed by its own switch, and refused without it."""
    assert url == check_url(url, rules)
    with pytest.raises(InvalidSetting):
        check_url(url, UrlRules())


def test_an_allowed_network_does_not_open_metadata() -> None:
    """Credentials of the machine are reached by naming their address and in no wider way."""
    check_address("10.1.2.3", read_allowed(["10.0.0.0/8"]))
    check_address("169.254.1.1", read_allowed(["169.254.0.0/16"]))
    check_address("169.254.169.254", read_allowed(["169.254.169.254"]))
    for address in ("169.254.169.254", "::ffff:169.254.169.254"):
        with pytest.raises(AddressRefused):
            check_address(address, read_allowed(["169.254.0.0/16", "0.0.0.0/0", "::/0"]))


def test_what_cannot_be_allowed_is_named() -> None:
    """Each place that is no address, network or host."""
    with pytest.raises(InvalidSetting) as refused:
        read_allowed(["10.0.0.1/8", "fine.example", "a b", "", "-x.example"])

    assert ["/allow/0", "/allow/2", "/allow/3", "/allow/4"] == [each.path for each in refused.value.problems]


async def connections(urls: Sequence[str], resolver: Scripted, allowed: Allowed | None = None) -> list[Any]:
    """Where sockets were connected to while these URLs were asked for, each of which must fail."""
    CONNECTED.clear()
    connector = aiohttp.TCPConnector(
        socket_factory=socket_factory(allowed), resolver=resolver, ssl=False, use_dns_cache=False
    )
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:
        for url in urls:
            with pytest.raises((aiohttp.ClientError, ValueError)):
                await session.post(url)
    return list(CONNECTED)
