"""Rates are kept over any time, and an address is whose it is said to be by those who are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.core.pacing import UNKNOWN, Rate, client_address, read_network, read_rate, take


@given(
    st.floats(0.1, 1_000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_no_more_than_the_rate_and_a_burst(per_s: float, burst: int, pauses: list[float]) -> None:
    """Over any stretch of time, however the requests come."""
    rate = Rate(per_s, burst)
    now, full_at, taken = 0.0, 0.0, []
    for pause in pauses:
        now += pause
        full_at, wait_s = take(full_at, rate, now)
        if not wait_s:
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + per_s * (taken[last] - begin) + 1e-3


@given(st.floats(0.1, 1_000), st.integers(1, 50), st.floats(0, 1e9))
def test_who_waits_as_told_is_served(per_s: float, burst: int, now: float) -> None:
    """The time that a refusal names is enough, and a refusal costs nothing."""
    rate = Rate(per_s, burst)
    full_at, wait_s = 0.0, 0.0
    while not wait_s:
        full_at, wait_s = take(full_at, rate, now)
    again, wait_again_s = take(full_at, rate, now)
    _, later_s = take(full_at, rate, now + wait_s * (1 + 1e-6) + 1e-6)

    assert (full_at, wait_s, 0.0) == (again, wait_again_s, later_s)


def test_a_burst_comes_at_once() -> None:
    """Then one at a time, and after a while all of it again."""
    rate = Rate(2, 3)
    full_at, waits = 0.0, []
    for now in (10.0, 10.0, 10.0, 10.0, 10.5, 10.5, 100.0, 100.0, 100.0, 100.0):
        full_at, wait_s = take(full_at, rate, now)
        waits.append(round(wait_s, 6))

    assert [0, 0, 0, 0.5, 0, 0.5, 0, 0, 0, 0.5] == waits


@pytest.mark.parametrize(
    ("text", "rate"), [("100", Rate(100, 200)), ("100:5", Rate(100, 5)), ("0.5", Rate(0.5, 1)), ("0.1:1", Rate(0.1, 1))]
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    """The burst is two seconds' worth where none is given, and never less than one."""
    assert rate == read_rate(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "1:0", "1:", "1:2:3", "1e3", "inf", "99999999999"])
def test_rates_that_are_none(text: str) -> None:
    """A rate that lets nothing through is a mistake."""
    with pytest.raises(InvalidRequest, match="is no rate"):
        read_rate(text)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:[2001:db8::7]:5000", "2001:db8::/64"),
        ("ipv6:%5B2001:db8:0:0:9::7%5D:5000", "2001:db8::/64"),
        ("ipv6:[::ffff:192.0.2.7]:5000", "192.0.2.7"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::/64"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("unix:/run/flagstaff.sock", UNKNOWN),
        ("", UNKNOWN),
        ("test", UNKNOWN),
    ],
)
def test_peers(peer: str, address: str) -> None:
    """As gRPC and HTTP write them; of version 6 the whole site counts, which one client can roam."""
    assert address == client_address(peer, ["203.0.113.9"], [])


PROXIES = [read_network("10.0.0.0/8"), read_network("2001:db8:ffff::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        # What the client wrote itself stands before what the proxy has heard.
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["rubbish"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::/64"),
        ("ipv6:[2001:db8:ffff::1]:99", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [",".join(["1.1.1.1"] * 10_000 + ["10.0.0.2"] * 40)], "10.0.0.2"),
    ],
)
def test_behind_trusted_proxies(peer: str, forwarded: list[str], address: str) -> None:
    """The nearest address that is no proxy's; nobody can choose another one by writing the header."""
    assert address == client_address(peer, forwarded, PROXIES)


@pytest.mark.parametrize("text", ["", "proxy", "10.0.0.0/33", "10.0.0"])
def test_networks_that_are_none(text: str) -> None:
    """Are refused at the start."""
    with pytest.raises(InvalidRequest, match="no address"):
        read_network(text)
