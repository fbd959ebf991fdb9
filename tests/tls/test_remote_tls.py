"""Remote commands over TLS: who is trusted, and what a client shows of itself."""

import os

from tests.cli.asking import app
from tests.cli.conftest import Ran, ran
from tests.tls.certificates import Authority, make_authority
from tests.tls.conftest import Start, serving


def _ask(*arguments: str) -> Ran:
    return ran(app, ["ask", "payments", *arguments], FLAGSTAFF_CONFIG=os.devnull)


def test_a_command_trusts_the_authority_that_it_is_told(start: Start, authority: Authority) -> None:
    """--tls-ca means TLS; without it, or with another authority, the server is not reached."""
    pair = authority.sign("remote-server")
    server = f"localhost:{serving(start(f'--tls-cert={pair.certificate}', f'--tls-key={pair.key}'))['grpc_port']}"
    other = make_authority(authority.directory, "other-authority")
    trusting = _ask("--server", server, "--tls-ca", str(authority.own.certificate))
    asked = [_ask("--server", server), _ask("--server", f"https://{server}")]
    asked.append(_ask("--server", server, "--tls-ca", str(other.own.certificate)))

    assert (0, "on\n") == (trusting.code, trusting.out)
    assert [3, 3, 3] == [each.code for each in asked]


def test_a_command_shows_its_certificate(start: Start, authority: Authority) -> None:
    """Where the server demands one; half of one is refused before anything is sent."""
    pair, mine = authority.sign("demanding-server"), authority.sign("me", use="clientAuth")
    told = serving(
        start(
            f"--tls-cert={pair.certificate}",
            f"--tls-key={pair.key}",
            f"--tls-client-ca={authority.own.certificate}",
        )
    )
    at = ("--server", f"localhost:{told['grpc_port']}", "--tls-ca", str(authority.own.certificate))
    shown = _ask(*at, "--tls-client-cert", str(mine.certificate), "--tls-client-key", str(mine.key))
    half = _ask(*at, "--tls-client-cert", str(mine.certificate))

    assert [0, 3, 1] == [shown.code, _ask(*at).code, half.code]
    assert "belong together" in half.err
