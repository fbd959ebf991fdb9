"""New files for TLS are used without a restart; those that do not work are refused, and the last good ones stay."""

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1 import tokens_pb2 as tokens
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.tokens_pb2_grpc import TokenServiceStub
from server.tls import TlsFiles
from tests.tls.certificates import Authority, Pair, make_authority
from tests.tls.conftest import TIMEOUT_S, Start, serving

PORTS: Final = ("grpc_port", "sync_port", "http_port")


@pytest.fixture
def used(tmp_path: Path, authority: Authority) -> Pair:
    """The files that a server reads: a pair that works."""
    pair = Pair(tmp_path / "used.pem", tmp_path / "used.key")
    put(authority.sign("first"), pair)
    return pair


def put(new: Pair, used: Pair, *, key: bool = True) -> None:
    """Write files over the used ones."""
    if key:
        shutil.copy(new.key, used.key)
    shutil.copy(new.certificate, used.certificate)


def options(pair: Pair) -> tuple[str, str]:
    """How the command line names a pair."""
    return f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}"


def served(told: dict[str, Any], port: str) -> str:
    """The certificate that a new connection is shown, PEM."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if port != "http_port" else ["http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", told[port]), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another process is to do."""
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def all_serve(told: dict[str, Any], pair: Pair) -> bool:
    """Whether every port shows this certificate."""
    return {pair.certificate.read_text().strip()} == {served(told, port).strip() for port in PORTS}


def channel(told: dict[str, Any], authority: Authority, proof: Pair | None = None) -> Any:
    """A connection of its own."""
    ours = (None, None) if proof is None else (proof.key.read_bytes(), proof.certificate.read_bytes())
    credentials = grpc.ssl_channel_credentials(authority.own.certificate.read_bytes(), *ours)
    local = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"localhost:{told['grpc_port']}", credentials, options=local)


def test_a_new_pair_is_used(start: Start, authority: Authority, used: Pair) -> None:
    """On every port, gRPC and HTTP; streams that are open stay, and so do connections."""
    told = serving(start(*options(used)))
    assert all_serve(told, used)
    with channel(told, authority) as open_channel:
        stream = EvaluationServiceStub(open_channel).Watch(messages.WatchRequest(), timeout=TIMEOUT_S)
        next(stream)
        new = authority.sign("second")
        put(new, used)
        wait_until(lambda: all_serve(told, new))

        assert stream.is_active()
        assert EvaluationServiceStub(open_channel).Evaluate(messages.EvaluateRequest(flag_key="banner")).revision


def test_a_pair_that_does_not_work_is_refused(start: Start, authority: Authority, used: Pair) -> None:
    """A key of another certificate, an expired one, rubbish: the log says what is wrong, and the good one stays."""
    first = Pair(used.certificate.with_suffix(".first"), used.key.with_suffix(".first"))
    shutil.copy(used.certificate, first.certificate)
    process = start(*options(used))
    told = serving(process)
    put(authority.sign("other"), used, key=False)
    assert "does not belong to the certificate" in line_about_tls(process)
    put(authority.sign("old", days=-1), used)
    assert "certificate has expired" in line_about_tls(process)
    used.certificate.write_text("rubbish")
    assert "are not a certificate chain and its key" in line_about_tls(process)

    assert all_serve(told, first)
    good = authority.sign("third")
    put(good, used)
    wait_until(lambda: all_serve(told, good))


def line_about_tls(process: subprocess.Popen[str]) -> str:
    """The next line of the log that says that new files are refused."""
    assert process.stderr is not None
    for line in process.stderr:
        if "the last good ones stay" in line:
            return line
    raise AssertionError("the log ended")


def test_a_new_authority_of_clients_is_used(start: Start, tmp_path: Path, authority: Authority, used: Pair) -> None:
    """Clients of the old one are refused at their next connection, those of the new one are served."""
    known, later = tmp_path / "clients.pem", make_authority(authority.directory, "later")
    shutil.copy(authority.own.certificate, known)
    told = serving(start(*options(used), f"--tls-client-ca={known}"))
    old, new = authority.sign("old-client", use="clientAuth"), later.sign("new-client", use="clientAuth")
    assert [True, False] == [may_enter(told, authority, proof) for proof in (old, new)]
    shutil.copy(later.own.certificate, known)
    wait_until(lambda: may_enter(told, authority, new))

    assert not may_enter(told, authority, old)


def may_enter(told: dict[str, Any], authority: Authority, proof: Pair) -> bool:
    """Whether gRPC and HTTP both serve who proves this; never one of them alone for long."""
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    context.load_cert_chain(proof.certificate, proof.key)
    try:
        url = f"https://localhost:{told['http_port']}/healthz"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as reply:
            web = reply.status == 200
    except OSError:
        web = False
    try:
        with channel(told, authority, proof) as connection:
            EvaluationServiceStub(connection).Evaluate(messages.EvaluateRequest(flag_key="banner"), timeout=TIMEOUT_S)
        ours = True
    except grpc.RpcError:
        ours = False
    return web and ours


def test_a_certificate_is_a_role(start: Start, authority: Authority, used: Pair) -> None:
    """By its name, over gRPC and HTTP; a certificate without a role is a stranger's."""
    known, other = (authority.sign(name, use="clientAuth") for name in ("billing", "unknown"))
    role = "--certificate-role=billing=evaluate-client@default/production"
    ca = f"--tls-client-ca={authority.own.certificate}"
    told = serving(start(*options(used), ca, role, "--require-token"))
    with channel(told, authority, known) as connection:
        me = TokenServiceStub(connection).WhoAmI(tokens.WhoAmIRequest())
        EvaluationServiceStub(connection).Evaluate(messages.EvaluateRequest(flag_key="banner"), timeout=TIMEOUT_S)
        with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
            TokenServiceStub(connection).ListTokens(tokens.ListTokensRequest())
    with channel(told, authority, other) as connection, pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        EvaluationServiceStub(connection).Evaluate(messages.EvaluateRequest(flag_key="banner"), timeout=TIMEOUT_S)

    assert "certificate:billing" == me.actor
    assert [200, 401] == [evaluated(told, authority, proof) for proof in (known, other)]


def evaluated(told: dict[str, Any], authority: Authority, proof: Pair) -> int:
    """The status of an evaluation over HTTP."""
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    context.load_cert_chain(proof.certificate, proof.key)
    url = f"https://localhost:{told['http_port']}/ofrep/v1/evaluate/flags"
    request = urllib.request.Request(url, json.dumps({}).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_roles_need_certificates(start: Start, used: Pair) -> None:
    """Without an authority nobody could prove a name; wrong usage."""
    for role in ("billing=read", "billing"):
        process = start(*options(used), f"--certificate-role={role}")
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert (2, True) == (process.returncode, "--certificate-role" in err)


@pytest.fixture
def files(used: Pair) -> Iterator[TlsFiles]:
    """Files that only the test looks at."""
    yield TlsFiles(used.certificate, used.key)


def test_half_a_change_is_waited_out(files: TlsFiles, used: Pair, authority: Authority) -> None:
    """Certificate and key are written one after the other: nothing is tried before they have settled."""
    first, new = files.current, authority.sign("settled")
    found = []
    for written in ("certificate", "both", "", ""):
        if written:
            put(new, used, key=written == "both")
        files.look()
        found.append(files.current is first)

    assert [True, True, False, False] == found
    assert new.certificate.read_bytes() == files.current.certificate


def test_a_missing_file_changes_nothing(files: TlsFiles, used: Pair) -> None:
    """Some tools take the old one away first."""
    first, kept = files.current, used.key.read_bytes()
    used.key.unlink()
    files.look()
    files.look()
    used.key.write_bytes(kept)
    files.look()

    assert first is files.current
