"""Evaluate a whole flag set by OFREP, conditionally."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.evaluation.snapshot import Clock, CompiledFlag, Snapshot
from server.core.flags import ValueType
from server.live.holder import Serving
from tests.fakes import DEFAULT_SET, answer, chooses, holder_of, snapshot_of, static_flag
from tests.web.asking import BULK, SINGLE, app_of, client_of, post, sample

ANN: Final = {"context": {"targetingKey": "ann", "age": 20}}
VALUES: Final = st.none() | st.booleans() | st.floats(-9, 9) | st.text(max_size=5)
CONTEXTS: Final = st.dictionaries(st.text(max_size=5), VALUES)


async def bulk(body: Any = None, *, query: str = "", **options: Any) -> httpx.Response:
    """Evaluate everything."""
    return await post(BULK + query, body, **options)


async def test_every_flag_has_the_body_of_its_single_evaluation() -> None:
    """Entries are what a single evaluation says, failures among them, sorted by key."""
    keys = sorted(sample().flags)

    entries = (await bulk(ANN)).json()["flags"]

    assert [(await post(SINGLE + quote(key), ANN)).json() for key in keys] == entries


async def test_a_broken_flag_is_one_failure_among_answers() -> None:
    """The reply is 200; what is wrong with a flag is said in its entry."""
    response = await bulk()

    codes = {each["key"]: each["errorCode"] for each in response.json()["flags"] if "errorCode" in each}
    expected = {"parse": "PARSE_ERROR", "general": "GENERAL", "mismatch": "GENERAL", "keyless": "TARGETING_KEY_MISSING"}
    assert (200, expected) == (response.status_code, codes)


async def test_no_flags() -> None:
    """An empty flag set is answered with an empty list."""
    response = await bulk(app=app_of(holder_of(snapshot_of())))

    assert (200, []) == (response.status_code, response.json()["flags"])


async def test_event_streams_name_the_flag_set() -> None:
    """The address of the events has the flag set, since a browser sends no selector with an event stream."""
    expected = {
        "type": "sse",
        "endpoint": {"requestUri": "/ofrep/v1/events?flagSetId=default%2Fproduction"},
        "inactivityDelaySec": 120,
    }

    assert [expected] == (await bulk()).json()["eventStreams"]


async def test_selector_is_repeated_in_metadata() -> None:
    """For the whole reply and for each flag."""
    reply = (await bulk(headers={"flagd-selector": f"flagSetId={DEFAULT_SET}"})).json()

    assert {"flagSetId": DEFAULT_SET} == reply["metadata"]
    assert {DEFAULT_SET} == {each["metadata"]["flagSetId"] for each in reply["flags"] if "errorCode" not in each}


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"[]", {}, "INVALID_CONTEXT"),
        (b"{", {}, "INVALID_CONTEXT"),
        (b"{}", {"flagd-selector": "a=b"}, "GENERAL"),
        (b"{}", {"flagd-selector": "flagSetId=no/such"}, "GENERAL"),
    ],
)
async def test_refusals(body: bytes, headers: dict[str, str], code: str) -> None:
    """Without a context or a flag set there is nothing to evaluate: 400, which clients show, and no key."""
    response = await bulk(body, headers=headers)

    assert (400, {"errorCode", "errorDetails"}, code) == (
        response.status_code, set(response.json()), response.json()["errorCode"],
    )  # fmt: skip


async def test_the_same_again_is_not_sent_again() -> None:
    """If-None-Match with the entity tag is answered 304, with the tag and without a body."""
    first = await bulk(ANN)

    again = await bulk(ANN, headers={"if-none-match": first.headers["etag"]})

    assert (304, b"", first.headers["etag"]) == (again.status_code, again.content, again.headers["etag"])


@pytest.mark.parametrize("form", ["W/{}", '"other", {}', '"a",W/{} , "b"'])
async def test_forms_of_if_none_match(form: str) -> None:
    """A weakened tag counts, and so does one of several."""
    tag = (await bulk(ANN)).headers["etag"]

    assert 304 == (await bulk(ANN, headers={"if-none-match": form.format(tag)})).status_code


@pytest.mark.parametrize("held", ['"other"', "", "*", '"'])
async def test_other_tags_are_no_match(held: str) -> None:
    """Anything else is answered in full."""
    assert 200 == (await bulk(ANN, headers={"if-none-match": held})).status_code


@given(CONTEXTS, CONTEXTS)
def test_tags_tell_contexts_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal contexts have one tag, in whatever order they are written; others have another."""
    turned = dict(reversed(one.items()))

    async def tags() -> list[str]:
        app = app_of()
        return [(await bulk({"context": each}, app=app)).headers["etag"] for each in (one, turned, other)]

    first, same, third = asyncio.run(tags())
    assert first == same
    assert (repr(sorted(one.items())) == repr(sorted(other.items()))) is (first == third)


def changed(**change: Any) -> Snapshot:
    """The sample with another revision, definition or name."""
    flag = static_flag(answer("boolean", change.get("value", True)))
    exported = b'{"state":"ENABLED"}' if change.get("value", True) else b"{}"
    compiled = CompiledFlag("boolean", flag.type, flag.evaluate, flag.reads, flag.static, digest=exported)
    return snapshot_of(compiled, revision=change.get("revision", 1), flag_set=change.get("flag_set", DEFAULT_SET))


@pytest.mark.parametrize("change", [{"revision": 2}, {"value": False}])
async def test_tags_tell_states_apart(change: dict[str, Any]) -> None:
    """A later revision has another tag, and so has a database made anew that counts from 1 again."""
    before, after = holder_of(changed()), holder_of(changed(**change))

    tags = {(await bulk(ANN, app=app_of(each))).headers["etag"] for each in (before, after)}

    assert 2 == len(tags)


async def test_tags_tell_flag_sets_apart() -> None:
    """The same flags in two sets, or by another selector, have tags of their own."""
    app = app_of(holder_of(changed(), changed(flag_set="shop/staging")))
    chosen = ["", "flagSetId=shop/staging", "flagSetId="]

    tags = {(await bulk(ANN, app=app, headers={"flagd-selector": each})).headers["etag"] for each in chosen}

    assert 3 == len(tags)


async def test_a_flag_that_follows_the_clock_changes_the_tag() -> None:
    """What changes by itself is no match any more, though the revision is the same."""
    state = {"on": False}
    answers = {on: answer("timed", on, variant=str(on)) for on in (False, True)}
    timed = CompiledFlag(
        "timed", ValueType.BOOLEAN, lambda context, now: answers[state["on"]], frozenset(), clock=Clock((10,))
    )
    app = app_of(holder_of(snapshot_of(timed)))
    tag = (await bulk(app=app)).headers["etag"]
    held = {"if-none-match": tag}

    before = await bulk(app=app, headers=held)
    state["on"] = True
    after = await bulk(app=app, headers=held)

    assert (304, 200) == (before.status_code, after.status_code)


async def test_a_process_that_is_behind_waits_for_the_revision() -> None:
    """A client that was told of a revision by one process is answered from it by another."""
    holder = holder_of(changed())

    async def arrive() -> None:
        await asyncio.sleep(0.1)
        holder.serving = Serving({DEFAULT_SET: changed(revision=2, value=False)})

    arriving = asyncio.create_task(arrive())
    response = await bulk(ANN, app=app_of(holder), query="?flagConfigEtag=2-ab&flagConfigLastModified=9")

    await arriving
    assert False is response.json()["flags"][0]["value"]


@pytest.mark.parametrize("told", ["0-ab", "x", "", "9" * 40, "%00", "1"])
async def test_any_told_tag_is_answered(told: str) -> None:
    """A tag that says nothing is not waited for."""
    response = await bulk(ANN, app=app_of(holder_of(changed())), query=f"?flagConfigEtag={told}")

    assert 200 == response.status_code


async def test_a_large_set_lets_others_in() -> None:
    """While very many flags are evaluated, a single evaluation is answered."""
    flags = [chooses(f"flag-{number}", "age", bool) for number in range(5_000)]
    app = app_of(holder_of(snapshot_of(*flags)))
    order: list[str] = []

    async def ask(client: httpx.AsyncClient, path: str) -> None:
        await client.post(path, json={})
        order.append(path)

    async with client_of(app) as client:
        await asyncio.gather(ask(client, BULK), ask(client, SINGLE + "flag-1"))

    assert [SINGLE + "flag-1", BULK] == order
