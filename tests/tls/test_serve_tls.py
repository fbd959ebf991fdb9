"""`flagstaff serve --tls-cert --tls-key`: clients who know the authority are served, gRPC and HTTP alike."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import CacheType, ResolverType
from openfeature.evaluation_context import EvaluationContext

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.tls.certificates import Authority, Pair, make_authority, openssl
from tests.tls.conftest import TIMEOUT_S, Start, serving


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """What the server proves itself with."""
    return authority.sign("server")


def options(pair: Pair) -> tuple[str, str]:
    """As the server takes them."""
    return f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}"


def evaluate(told: dict[str, Any], credentials: grpc.ChannelCredentials | None, port: str = "grpc_port") -> bool:
    """By grpcio, which makes one attempt. Errors: grpc.RpcError."""
    address = f"localhost:{told[port]}"
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    request = messages.EvaluateRequest(flag_key="payments")
    with channel:
        return bool(EvaluationServiceStub(channel).Evaluate(request, timeout=TIMEOUT_S).resolution.bool_value)


def trusting(authority: Authority, proof: Pair | None = None) -> grpc.ChannelCredentials:
    """A client's, which may prove itself too."""
    ours = (None, None) if proof is None else (proof.key.read_bytes(), proof.certificate.read_bytes())
    return grpc.ssl_channel_credentials(authority.own.certificate.read_bytes(), *ours)


def healthy(told: dict[str, Any], authority: Authority, proof: Pair | None = None) -> int:
    """The status of /healthz by https. Errors: OSError."""
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    if proof is not None:
        context.load_cert_chain(proof.certificate, proof.key)
    url = f"https://localhost:{told['http_port']}/healthz"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as reply:
        return int(reply.status)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_clients_who_trust_the_authority_are_served(
    start: Start, authority: Authority, pair: Pair, workers: Sequence[str]
) -> None:
    """On all three ports; by several workers too. Others are not, and neither is who speaks plainly."""
    told = serving(start(*options(pair), *workers))
    stranger = make_authority(authority.directory, "stranger")
    served = [evaluate(told, trusting(authority), port) for port in ("grpc_port", "sync_port")]

    assert ([True, True], 200, True) == (served, healthy(told, authority), told["tls"])
    for credentials in (trusting(stranger), None):
        with pytest.raises(grpc.RpcError):
            evaluate(told, credentials)
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        healthy(told, stranger)
    with pytest.raises(OSError, match=r"closed|reset|Empty|empty"):
        urllib.request.urlopen(f"http://localhost:{told['http_port']}/healthz", timeout=TIMEOUT_S)


def test_the_official_provider_is_served(start: Start, authority: Authority, pair: Pair) -> None:
    """With its option for the authority's certificate."""
    told = serving(start(*options(pair)))
    provider = FlagdProvider(
        host="localhost",
        port=told["grpc_port"],
        tls=True,
        cert_path=str(authority.own.certificate),
        resolver_type=ResolverType.RPC,
        cache=CacheType.DISABLED,
        deadline_ms=30_000,
    )
    from openfeature import api

    api.set_provider_and_wait(provider, domain="tls")
    try:
        client: OpenFeatureClient = api.get_client("tls")
        details = client.get_boolean_details("new-checkout", False, EvaluationContext("alice"))
    finally:
        api.shutdown()

    assert (True, "TARGETING_MATCH", None) == (details.value, details.reason, details.error_code)


@pytest.mark.parametrize(("version", "works"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_versions_of_tls(start: Start, pair: Pair, version: str, works: bool) -> None:
    """1.2 and later; a client that offers only what is older gets nowhere."""
    told = serving(start(*options(pair)))
    for port in ("grpc_port", "http_port"):
        address = f"localhost:{told[port]}"
        # Without its security level openssl would itself not offer what is older.
        said = openssl(*("s_client", f"-{version}", "-connect", address, "-cipher", "DEFAULT@SECLEVEL=0"), check=False)

        assert works is ("Cipher is (NONE)" not in said), said


def test_clients_prove_themselves_when_asked(start: Start, authority: Authority, pair: Pair) -> None:
    """With `--tls-client-ca`: who has a certificate by that authority is served, others are not."""
    told = serving(start(*options(pair), f"--tls-client-ca={authority.own.certificate}"))
    known = authority.sign("known", use="clientAuth")
    unknown = make_authority(authority.directory, "strange").sign("unknown", use="clientAuth")

    assert (True, 200) == (evaluate(told, trusting(authority, known)), healthy(told, authority, known))
    for proof in (None, unknown):
        with pytest.raises(grpc.RpcError):
            evaluate(told, trusting(authority, proof))
        with pytest.raises(OSError, match=r"alert|reset|closed|EOF"):
            healthy(told, authority, proof)


def test_half_a_pair_is_wrong_usage(start: Start, pair: Pair) -> None:
    """One without the other, or only clients' authority."""
    certificate, key = options(pair)
    for given in (certificate, key, f"--tls-client-ca={pair.certificate}"):
        process = start(given)
        _, err = process.communicate(timeout=TIMEOUT_S)

        assert 2 == process.returncode
        assert "TLS needs both --tls-cert and --tls-key" in err


def test_wrong_files_end_it_before_it_listens(start: Start, authority: Authority, pair: Pair) -> None:
    """Exit code 1, one message, also with workers."""
    certificate, _ = options(pair)
    process = start(certificate, f"--tls-key={authority.own.key}", "--workers=2")
    out, err = process.communicate(timeout=TIMEOUT_S)

    assert (1, "", 1) == (process.returncode, out, err.count("does not belong to the certificate"))
    assert "starting a worker" not in err


def test_a_key_that_everybody_can_read_is_warned_about(start: Start, authority: Authority) -> None:
    """And served all the same: in many containers nobody else is there."""
    pair = authority.sign("open")
    pair.key.chmod(0o644)
    process = start(*options(pair))
    serving(process)
    process.terminate()
    _, err = process.communicate(timeout=TIMEOUT_S)

    assert f"WARNING: every user of this machine can read the key {pair.key}" in err
