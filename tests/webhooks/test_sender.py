"""One attempt, against receivers that do all they should not: an outcome, in time and within bounds."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from standardwebhooks import Webhook

from tests.webhooks.receiver import Receiver, receiving, refusing, unanswering
from tests.webhooks.sending import BODY, LOOPBACK, SECRET, SHORT_S, TRUSTED, message, tried
from webhooks import limits
from webhooks.client import Client, open_client
from webhooks.sender import send
from webhooks.signing import new_key_pair, new_secret, read_key


@pytest.fixture
async def receiver() -> Receiver:
    """Nothing has come yet."""
    return Receiver()


@pytest.fixture
async def port(receiver: Receiver) -> AsyncIterator[int]:
    """Where it listens."""
    async with receiving(receiver) as port:
        yield port


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """One that may reach the loopback address."""
    async with open_client(LOOPBACK, ssl_context=TRUSTED) as client:
        yield client


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_two_hundred_and_something_arrived(client: Client, port: int, status: int) -> None:
    """Any 2xx is a success, with a body or without."""
    outcome = await tried(client, port, f"/status/{status}")

    assert (status, "", True) == (outcome.status_code, outcome.error, outcome.arrived)


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 413, 415, 429, 500, 501, 502, 503, 504, 600])
async def test_all_other_answers_are_failures(client: Client, port: int, status: int) -> None:
    """The error says the status; the answer is kept for people to look at."""
    outcome = await tried(client, port, f"/status/{status}")

    assert (status, False, False) == (outcome.status_code, outcome.arrived, outcome.gone)
    assert f"answered {status}" in outcome.error


async def test_gone_is_told(client: Client, port: int) -> None:
    """410 says that the endpoint is no more."""
    outcome = await tried(client, port, "/status/410")

    assert (410, True, False) == (outcome.status_code, outcome.gone, outcome.arrived)


async def test_it_is_signed_as_it_is_sent(client: Client, receiver: Receiver, port: int) -> None:
    """The independent library verifies the very bytes that arrived; the id is the event's, the timestamp of now."""
    now = time.time()
    await send(client, message(port, "/ok"), now=now)
    request = receiver.requests[0]

    assert {"id": "evt_1"} == Webhook(SECRET).verify(request.body, dict(request.headers))
    assert ("evt_1", str(int(now)), "1") == tuple(
        request.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-attempt")
    )


async def test_each_secret_signs(client: Client, receiver: Receiver, port: int) -> None:
    """While secrets are rotated, whichever the receiver knows holds; an Ed25519 key signs beside them."""
    private, _ = new_key_pair(b"k" * 32)
    other = new_secret(b"t" * 32)
    await send(client, message(port, "/ok", keys=tuple(map(read_key, (other, SECRET, private)))), now=time.time())
    request = receiver.requests[0]

    for secret in (other, SECRET):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert ["v1", "v1", "v1a"] == [each.split(",")[0] for each in request.headers["webhook-signature"].split(" ")]


async def test_an_unsigned_message_has_no_signature(client: Client, receiver: Receiver, port: int) -> None:
    """A receiver that is known by its URL gets the id and the time all the same."""
    await tried(client, port, "/ok", keys=())

    assert "webhook-signature" not in receiver.requests[0].headers
    assert "evt_1" == receiver.requests[0].event_id


async def test_an_endpoint_cannot_set_our_headers(client: Client, receiver: Receiver, port: int) -> None:
    """Its own headers are sent, but none that say what is signed or where the body ends."""
    forged = {
        "Authorization": "Bearer abc",
        "WEBHOOK-ID": "evt_2",
        "Webhook-Signature": "v1,forged",
        "Content-length": "3",
        "transfer-encoding": "chunked",
        "Host": "elsewhere.test",
    }
    await tried(client, port, "/ok", headers=forged)
    headers = receiver.requests[0].headers

    assert ("Bearer abc", "evt_1", str(len(BODY)), f"127.0.0.1:{port}") == tuple(
        headers[name] for name in ("authorization", "webhook-id", "content-length", "host")
    )
    assert "transfer-encoding" not in headers
    assert "forged" not in headers["webhook-signature"]


async def test_a_header_that_cannot_be_sent_is_an_outcome(client: Client, receiver: Receiver, port: int) -> None:
    """Nothing is sent, and the error holds nothing of it."""
    outcome = await tried(client, port, "/ok", headers={"X-Split": "a\r\nX-Secret: hush"})

    assert (None, []) == (outcome.status_code, receiver.requests)
    assert "as it is set" in outcome.error
    assert "hush" not in outcome.error


async def test_it_takes_no_proxy_and_no_cookie(
    client: Client, receiver: Receiver, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment sends it nowhere else, and receivers leave nothing with us."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", "/dev/null")
    for _ in range(2):
        assert (await tried(client, port, "/cookie")).arrived

    assert all("cookie" not in request.headers for request in receiver.requests)


@pytest.mark.parametrize("target", ["self", "ok", "metadata"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    client: Client, receiver: Receiver, port: int, status: int, target: str
) -> None:
    """It is a failure that says what helps, and one request is all that was made."""
    outcome = await tried(client, port, f"/redirect/{status}/{target}")

    assert (status, False) == (outcome.status_code, outcome.arrived)
    assert "redirects are not followed" in outcome.error
    assert 1 == len(receiver.requests)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("429/30", "30"),
        ("503/garbage", "soon"),
        ("429/negative", "-5"),
        ("429/absurd", "9" * limits.RETRY_AFTER_CHARS_MAX),
        ("429/", None),
        ("500/30", None),
        ("200/30", None),
    ],
)
async def test_when_to_come_again_is_handed_up(client: Client, port: int, path: str, asked: str | None) -> None:
    """As it stands in the header, cut where it is absurd, and only of answers that may say it."""
    assert asked == (await tried(client, port, f"/retry-after/{path}")).retry_after


async def test_a_date_to_come_again_is_handed_up(client: Client, port: int) -> None:
    """Retry-After has two forms."""
    assert "GMT" in ((await tried(client, port, "/retry-after/429/date")).retry_after or "")


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("word", "told"), [("disable", (True, False)), ("abort-message", (False, True)), ("x", (False, False))]
)
async def test_a_receiver_may_ask_for_less(
    client: Client, port: int, word: str, told: tuple[bool, bool], status: int
) -> None:
    """By the header webhook-delivery, of any answer; what it asks beyond that is nothing."""
    outcome = await tried(client, port, f"/control/{word}/{status}")

    assert told == (outcome.disable, outcome.abort)


@pytest.mark.parametrize("path", ["/silence", "/slow/30", "/drip-head", "/continues"])
async def test_the_timeout_is_total(client: Client, port: int, path: str) -> None:
    """However a receiver spends its time, a byte now and then buys it no more."""
    outcome = await tried(client, port, path, timeout_s=SHORT_S)

    assert (None, "no answer within 0.4 s") == (outcome.status_code, outcome.error)
    assert outcome.took_ms >= 1_000 * SHORT_S


async def test_a_connection_that_is_never_made_is_given_up(client: Client) -> None:
    """As behind a firewall that drops; the error tells it from a receiver that does not answer."""
    with unanswering() as port:
        outcome = await tried(client, port, "/ok", timeout_s=SHORT_S)

    assert "no connection within 0.4 s" == outcome.error


async def test_a_refused_connection_is_an_outcome(client: Client) -> None:
    """In the system's words."""
    with refusing() as port:
        assert "no connection: connection refused" == (await tried(client, port, "/ok")).error


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/reset", "the connection broke before an answer: connection reset by peer"),
        ("/close", "the connection was closed before an answer"),
        ("/garbage", "what came is no HTTP answer, or its head is longer than is read"),
        ("/http-09", "what came is no HTTP answer, or its head is longer than is read"),
        ("/huge-head", "what came is no HTTP answer, or its head is longer than is read"),
        ("/many-headers", "what came is no HTTP answer, or its head is longer than is read"),
        ("/bad-length", "what came is no HTTP answer, or its head is longer than is read"),
    ],
)
async def test_a_broken_answer_is_none(client: Client, receiver: Receiver, port: int, path: str, error: str) -> None:
    """It is told in our words, with nothing of what came, and asked once: no connection was used before."""
    assert (None, error) == ((outcome := await tried(client, port, path)).status_code, outcome.error)
    assert 1 == len(receiver.requests)


@pytest.mark.parametrize(
    "path", ["/huge", "/endless", "/drip-body", "/short-body", "/long-body", "/gzip-bomb", "/dies"]
)
async def test_a_body_changes_no_verdict(client: Client, port: int, path: str) -> None:
    """The status has said that it arrived; sent again for its body's sake it would come twice."""
    outcome = await tried(client, port, path)

    assert (200, "") == (outcome.status_code, outcome.error)
    assert len(outcome.body) <= limits.ANSWER_BYTES_MAX


async def test_a_body_without_end_does_not_keep_us(client: Client, receiver: Receiver, port: int) -> None:
    """The rest of an answer is not read, and its connection is not used again: the next request comes by another."""
    for path in ("/huge", "/drip-body/500", "/ok", "/ok"):
        await tried(client, port, path)

    assert [1, 2, 3, 3] == [request.connection for request in receiver.requests]


async def test_hints_before_an_answer_are_passed_over(client: Client, port: int) -> None:
    """1xx is no answer yet."""
    assert 200 == (await tried(client, port, "/hinted")).status_code


async def test_a_connection_that_ended_while_idle_costs_no_attempt(
    client: Client, receiver: Receiver, port: int
) -> None:
    """The receiver ended it just when it was used again: it is asked once more, by a new one, with the same message."""
    outcomes = [await tried(client, port, "/stale") for _ in range(3)]

    assert [200, 200, 200] == [outcome.status_code for outcome in outcomes]
    assert [1, 1, 2, 3] == [request.connection for request in receiver.requests]
    assert 1 == len({(request.body, request.headers["webhook-signature"]) for request in receiver.requests})


async def test_a_receiver_that_dies_at_work_is_not_asked_twice(client: Client, receiver: Receiver, port: int) -> None:
    """A used connection that ends after a while had not ended before: that is a failure, for all to see."""
    path = f"/at-work/{limits.STALE_S + 0.2}"
    outcomes = [await tried(client, port, path) for _ in range(2)]

    assert ["", "the connection was closed before an answer"] == [outcome.error for outcome in outcomes]
    assert 2 == len(receiver.requests)


async def test_connections_are_used_again(client: Client, receiver: Receiver, port: int) -> None:
    """As long as the receiver leaves them open."""
    for _ in range(5):
        await tried(client, port, "/ok")

    assert {1} == {request.connection for request in receiver.requests}


async def test_a_host_has_so_many_connections(receiver: Receiver, port: int) -> None:
    """What is sent at once beyond that waits for one of them, within its timeout."""
    async with open_client(LOOPBACK, per_host=2) as client:
        outcomes = await asyncio.gather(*(tried(client, port, "/slow/0.05") for _ in range(8)))

    assert {200} == {outcome.status_code for outcome in outcomes}
    assert 2 == receiver.connections


async def test_an_answer_says_back_no_secret(client: Client, port: int) -> None:
    """What people look at holds nothing of the endpoint's headers, its path or its query."""
    outcome = await tried(
        client,
        port,
        "/echo/T0SECRET0PATH/x?sig=s3cr3t-of-query",
        headers={"Authorization": "Bearer s3cr3t-of-header", "X-Key": "an0ther-secret"},
    )

    assert "accept-encoding" in outcome.snippet
    for secret in ("T0SECRET0PATH", "s3cr3t", "an0ther"):
        assert secret not in outcome.snippet
    assert "s3cr3t" not in repr(outcome)


@pytest.mark.parametrize("path", ["/reset", "/garbage", "/silence", "/redirect/302/self", "/status/404"])
async def test_an_error_holds_nothing_secret(client: Client, port: int, path: str) -> None:
    """Neither what the URL hides nor what the receiver sent instead of an answer."""
    url = f"http://127.0.0.1:{port}{path}?sig=hush-hush"
    outcome = await tried(client, port, path, url=url, headers={"X-Key": "hush-hush"}, timeout_s=SHORT_S)

    assert outcome.error
    for secret in ("hush", "secret-of-the-receiver"):
        assert secret not in repr(outcome)
    assert "hush" not in repr(message(port, path, url=url, headers={"X-Key": "hush-hush"}))
