"""`flagstaff serve --oidc-issuer`: people with an access token of the issuer are known by their roles."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as messages
from protos.flagstaff.v1 import tokens_pb2 as tokens
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.tokens_pb2_grpc import TokenServiceStub
from tests.oidc.conftest import TIMEOUT_S, Running, wait_until
from tests.tls.conftest import serving, start

__all__ = ["start"]


def by(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata with a token."""
    return (("authorization", f"Bearer {token}"),)


def evaluated(told: dict[str, Any], token: str) -> int:
    """The status of an evaluation over HTTP."""
    url = f"http://127.0.0.1:{told['http_port']}/ofrep/v1/evaluate/flags"
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps({}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_people_are_known_by_their_groups(start: Callable[..., Any], issuer: Running) -> None:
    """Over gRPC and HTTP, by every worker; who is in none has no role."""
    trusted = (f"--oidc-issuer={issuer.address}", "--oidc-audience=flagstaff")
    rules = ("--oidc-role=groups=admins:admin", "--oidc-role=groups=web:evaluate-client@default/production")
    told = serving(start("--require-token", "--workers=2", *trusted, *rules))
    admin, web, nobody = (issuer.token(groups=[name]) for name in ("admins", "web", "others"))
    with grpc.insecure_channel(f"127.0.0.1:{told['grpc_port']}") as channel:
        people, flags = TokenServiceStub(channel), EvaluationServiceStub(channel)
        # Each worker fetches the keys for itself.
        wait_until(lambda: [200] * 8 == [evaluated(told, web) for _ in range(8)])
        me = people.WhoAmI(tokens.WhoAmIRequest(), metadata=by(admin))
        made = people.CreateToken(
            tokens.CreateTokenRequest(name="ci", roles=[tokens.RoleGrant(role=tokens.ROLE_READ)]), metadata=by(admin)
        )
        value = flags.Evaluate(messages.EvaluateRequest(flag_key="banner"), metadata=by(web))
        with pytest.raises(grpc.RpcError, match=r"oidc:ann may not evaluate anywhere; it needs the role"):
            flags.Evaluate(messages.EvaluateRequest(flag_key="banner"), metadata=by(nobody))

    assert ("oidc:ann", "oidc:ann") == (me.actor, made.token.created_by)
    assert "welcome" == value.resolution.variant
    assert [200, 403, 401] == [evaluated(told, token) for token in (web, nobody, web[:-5] + "AAAAA")]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--oidc-role=groups=a:admin"], 2, "need --oidc-issuer"),
        (["--oidc-issuer=https://id.example.com"], 1, "need an audience"),
        (["--oidc-issuer=http://id.example.com", "--oidc-audience=x"], 1, "is no https:// address"),
        (["--oidc-issuer=https://id.example.com", "--oidc-audience=x", "--oidc-algorithm=HS256"], 1, "HS256"),
        (["--oidc-issuer=https://id.example.com", "--oidc-audience=x", "--oidc-role=admin"], 1, "is no rule"),
        (["--oidc-issuer=https://id.example.com", "--oidc-audience=x", "--oidc-role=a=b:root"], 1, "no role"),
    ],
)
def test_trust_that_is_none(start: Callable[..., Any], options: list[str], code: int, said: str) -> None:
    """Is refused before anything is served."""
    process = start(*options)
    _, err = process.communicate(timeout=TIMEOUT_S)

    assert (code, True) == (process.returncode, said in err), err
