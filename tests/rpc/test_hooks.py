"""HookService over a real server: what goes in, what comes out again, and who may."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import hooks_pb2 as messages
from tests.operations.hooking import HEADER, NARROW, READER, TOOL, URL, deliver
from tests.rpc.conftest import Running, Serve
from tests.rpc.managing import called, managing, refusal
from tests.store.definitions import NOW, new_shop
from webhooks.states import Status

SERVICE: Final = "/flagstaff.v1.HookService/"


@dataclass
class Hooked:
    """A server over a shop, and what a test asks of it."""

    engine: Engine
    running: Running

    async def ask(self, method: str, *, by: str = "", **fields: Any) -> Any:
        """A method's reply, of the shop."""
        request, reply = self._messages(method)
        return await called(self.running.channel, SERVICE + method, request(**fields), reply, by=by)

    async def refused(self, method: str, *, by: str = "", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """A method that is to refuse."""
        request, _ = self._messages(method)
        return await refusal(self.running.channel, SERVICE + method, request(**fields), by=by)

    async def create(self, *, by: str = "", environment: str = "", **fields: Any) -> Any:
        """A new hook's reply."""
        hook = {"target_url": URL, "event_types": ["flag.*"], "headers": {"Authorization": HEADER}, **fields}
        return await self.ask("CreateHook", by=by, project="shop", environment=environment, hook=messages.Hook(**hook))

    @staticmethod
    def _messages(method: str) -> tuple[Any, Any]:
        found = messages.DESCRIPTOR.services_by_name["HookService"].methods_by_name[method]
        return getattr(messages, found.input_type.name), getattr(messages, found.output_type.name)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop without hooks."""
    engine = new_shop(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
async def hooked(shop: Engine, serve: Serve) -> AsyncIterator[Hooked]:
    """A server over it."""
    with managing(shop) as (manager, table):
        manager.people.update(tool=TOOL, narrow=NARROW, reader=READER)
        yield Hooked(shop, await serve(table=table))


async def test_what_goes_in_comes_out_without_secrets(hooked: Hooked) -> None:
    """All fields, but for what is secret."""
    settled: dict[str, Any] = {
        "name": "n8n",
        "filter": messages.HookFilter(environments=["staging"], tags=["a"], owners=["b"], expression="data.enabled"),
        "format": "cloudevents",
        "rate_per_s": 2.5,
        "burst": 3,
        "concurrency": 2,
        "retry_schedule": [0, 60],
        "ordering": messages.HOOK_ORDERING_PER_KEY,
        "timeout_s": 5,
        "source": "n8n",
    }
    created = await hooked.create(by="tool", **settled)
    hook = (await hooked.ask("GetHook", by="reader", project="shop", id=created.hook.id)).hook

    assert created.hook == hook and created.secret.startswith("whsec_")
    assert settled == {name: getattr(hook, name) for name in settled}
    assert ("https://hooks.example.com/***", {"Authorization": "***"}) == (hook.target_url, dict(hook.headers))
    assert (messages.HOOK_STATE_ENABLED, 1, NOW) == (
        hook.state,
        hook.version,
        hook.created_at.ToDatetime(NOW.tzinfo),
    )
    told = str(created).replace(created.secret, "") + str(hook)
    assert not [each for each in ("T0PS3CR3T", "s3cr3t", created.secret) if each in told]


async def test_problems_have_their_paths(hooked: Hooked) -> None:
    """As field violations, all at once."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await hooked.create(target_url="http://example.com/T0PS3CR3T", event_types=["flag.x"], timeout_s=99)
    status = rpc_status.from_call(cast(Any, refused.value))
    assert status is not None
    found = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(found)

    assert grpc.StatusCode.INVALID_ARGUMENT is refused.value.code()
    assert {"/target_url", "/event_types/0", "/timeout_s"} == {each.field for each in found.field_violations}
    assert "T0PS3CR3T" not in str(found)


async def test_an_environment_of_its_own(hooked: Hooked) -> None:
    """Named beside the hook it is its filter; another one in the filter contradicts it."""
    created = await hooked.create(by="narrow", environment="staging")
    code, details = await hooked.refused(
        "CreateHook",
        project="shop",
        environment="staging",
        hook=messages.Hook(target_url=URL, event_types=["*"], filter=messages.HookFilter(environments=["production"])),
    )

    assert ["staging"] == list(created.hook.filter.environments)
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "/filter/environments" in details)
    wide = await hooked.create()
    listed = await hooked.ask("ListHooks", by="narrow", project="shop")
    assert [created.hook.id] == [each.id for each in listed.hooks] and 1 == listed.total_size
    assert (
        grpc.StatusCode.NOT_FOUND is (await hooked.refused("GetHook", by="narrow", project="shop", id=wide.hook.id))[0]
    )


async def test_a_mask_says_what_is_set(hooked: Hooked) -> None:
    """What is named and empty goes back to its default; the rest stays."""
    id_ = (await hooked.create(name="a", rate_per_s=3)).hook.id
    hook = messages.Hook(event_types=["release.*"], name="ignored")
    mask = FieldMask(paths=["event_types", "rate_per_s"])
    reply = await hooked.ask("UpdateHook", project="shop", id=id_, hook=hook, update_mask=mask)

    assert (["release.*"], "a", False, 2) == (
        list(reply.hook.event_types),
        reply.hook.name,
        reply.hook.HasField("rate_per_s"),
        reply.hook.version,
    )
    assert f"hook {id_} (https://hooks.example.com/***) is another one" == reply.result.changes[0]
    for paths, said in (([], "is empty"), (["state"], "names state")):
        code, details = await hooked.refused(
            "UpdateHook", project="shop", id=id_, hook=hook, update_mask=FieldMask(paths=paths)
        )
        assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, said in details)
    options = common.WriteOptions(expected_version=1)
    code, _ = await hooked.refused("UpdateHook", project="shop", id=id_, hook=hook, update_mask=mask, options=options)
    assert grpc.StatusCode.ABORTED is code


async def test_a_secret_is_rotated(hooked: Hooked) -> None:
    """The old one ends when the overlap does; of an Ed25519 key the public half is listed."""
    id_ = (await hooked.create()).hook.id
    reply = await hooked.ask("RotateHookSecret", project="shop", id=id_, overlap=Duration(seconds=60), asymmetric=True)

    assert [60, 0] == [
        each.expires_at.seconds and each.expires_at.seconds - int(NOW.timestamp())
        for each in reply.hook.signing_secrets
    ]
    assert reply.secret == reply.hook.signing_secrets[1].public_key


async def test_enabled_again_with_what_it_missed(hooked: Hooked) -> None:
    """One call does both; it can be left out."""
    id_ = (await hooked.create()).hook.id
    disabled = await hooked.ask("DisableHook", project="shop", id=id_)
    deliver(hooked.engine, id_, Status.MISSED, Status.MISSED, Status.DELIVERED)
    skipped = await hooked.ask("EnableHook", project="shop", id=id_, skip_missed=True)
    await hooked.ask("DisableHook", project="shop", id=id_)
    enabled = await hooked.ask("EnableHook", project="shop", id=id_)

    assert (messages.HOOK_STATE_DISABLED, "manual") == (disabled.hook.state, disabled.hook.why)
    assert (0, 2, "") == (skipped.replayed, enabled.replayed, enabled.next_page_token)


async def test_deliveries_are_listed_and_replayed(hooked: Hooked) -> None:
    """In pages, by status; one by its id with its attempts; and dead ones again."""
    id_ = (await hooked.create()).hook.id
    deliver(hooked.engine, id_, Status.EXHAUSTED, Status.DELIVERED, Status.EXHAUSTED)
    dead = messages.DeliverySelection(statuses=[messages.DELIVERY_STATUS_EXHAUSTED])
    first = await hooked.ask("ListDeliveries", by="reader", project="shop", selection=dead, page_size=1)
    second = await hooked.ask(
        "ListDeliveries", project="shop", id=id_, selection=dead, page_size=1, page_token=first.next_page_token
    )
    one = await hooked.ask("GetDelivery", by="reader", project="shop", id="d00001")
    replayed = await hooked.ask("ReplayDeliveries", by="tool", project="shop", id=id_)

    assert (["d00003"], ["d00001"], "") == (
        [each.id for each in first.deliveries],
        [each.id for each in second.deliveries],
        second.next_page_token,
    )
    assert second.deliveries[0] == one.delivery
    assert (2, "", ["2 deliveries are sent again"]) == (
        replayed.replayed,
        replayed.next_page_token,
        list(replayed.result.changes),
    )
    code, _ = await hooked.refused("ListDeliveries", project="shop", page_token="!")
    assert grpc.StatusCode.INVALID_ARGUMENT is code


async def test_a_test_that_nobody_answers(hooked: Hooked) -> None:
    """It says so when its time is over."""
    id_ = (await hooked.create()).hook.id
    reply = await hooked.ask("TestHook", by="tool", project="shop", id=id_, wait=Duration())

    assert reply.event_id.startswith("evt_") and "waits to be sent" in reply.said
    assert (
        grpc.StatusCode.PERMISSION_DENIED is (await hooked.refused("TestHook", by="reader", project="shop", id=id_))[0]
    )


async def test_it_is_deleted_twice(hooked: Hooked) -> None:
    """The second time nothing changes, and nothing is refused."""
    id_ = (await hooked.create()).hook.id
    replies = [await hooked.ask("DeleteHook", by="tool", project="shop", id=id_) for _ in range(2)]

    assert [common.OUTCOME_APPLIED, common.OUTCOME_UNCHANGED] == [each.result.outcome for each in replies]


async def test_hooks_in_pages(hooked: Hooked) -> None:
    """By id."""
    ids = sorted([(await hooked.create()).hook.id for _ in range(3)])
    first = await hooked.ask("ListHooks", project="shop", page_size=2)
    rest = await hooked.ask("ListHooks", project="shop", page_token=first.next_page_token)

    assert (ids, 3, "") == (
        [each.id for page in (first, rest) for each in page.hooks],
        rest.total_size,
        rest.next_page_token,
    )


async def test_formats_are_listed(hooked: Hooked) -> None:
    """With a schema of their settings; everybody who is known may ask."""
    reply = await hooked.ask("ListFormats", by="elsewhere")

    assert {"standard", "cloudevents"} <= {each.name for each in reply.formats}
    assert all(each.description and each.settings_schema["type"] == "object" for each in reply.formats)
