"""Reflection lists and describes every service, under both of its names."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from server.rpc.reflection import SERVICES
from tests.rpc.conftest import Running, Serve

LISTED = {
    "flagd.evaluation.v1.Service",
    "flagd.evaluation.v2.Service",
    "flagd.sync.v1.FlagSyncService",
    "flagstaff.v1.EvaluationService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


async def ask(running: Running, service: str, *requests: bytes) -> list[Any]:
    """Send requests, read the replies."""

    def each() -> Iterator[bytes]:
        yield from requests

    method: Any = running.channel.stream_stream(f"/{service}/ServerReflectionInfo", None, None)
    return [reflection.ServerReflectionResponse.FromString(raw) async for raw in method(each(), timeout=5)]


@pytest.mark.parametrize("service", SERVICES)
async def test_services_are_listed(serve: Serve, service: str) -> None:
    """A tool sees what there is."""
    request = reflection.ServerReflectionRequest(list_services="")
    (reply,) = await ask(await serve(), service, request.SerializeToString())

    assert LISTED == {each.name for each in reply.list_services_response.service}


@pytest.mark.parametrize("service", SERVICES)
async def test_services_are_described(serve: Serve, service: str) -> None:
    """For each listed service a tool gets files from which it can rebuild the service."""
    requests = [reflection.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(LISTED)]
    replies = await ask(await serve(), service, *(each.SerializeToString() for each in requests))

    for name, reply in zip(sorted(LISTED), replies, strict=True):
        pool = DescriptorPool()
        # Dependencies come after what needs them.
        for raw in reversed(reply.file_descriptor_response.file_descriptor_proto):
            pool.Add(FileDescriptorProto.FromString(raw))
        assert pool.FindServiceByName(name).methods


async def test_unknown_symbol_is_an_answer(serve: Serve) -> None:
    """What is not there is said in the reply, and the stream goes on."""
    unknown = [
        reflection.ServerReflectionRequest(file_containing_symbol="no.Such"),
        reflection.ServerReflectionRequest(file_by_filename="no.proto"),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="no.Such"),
        reflection.ServerReflectionRequest(
            file_containing_extension=reflection.ExtensionRequest(
                containing_type="flagd.evaluation.v1.AnyFlag", extension_number=5
            )
        ),
    ]
    replies = await ask(await serve(), SERVICES[0], *(each.SerializeToString() for each in unknown))

    assert [grpc.StatusCode.NOT_FOUND.value[0]] * 4 == [each.error_response.error_code for each in replies]
