"""Be an OpenID Connect issuer on a port of the loopback interface: discovery, keys, and tokens for whoever asks.

Run as a program it prints its address and serves until its standard input ends. POST /token takes {"claims", "key",
"header"} and gives a signed token; POST /keys takes the names of the keys to publish; POST /break decides whether it
answers 500 to everything else.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KINDS: Final[dict[str, Any]] = {
    "rsa": (lambda: rsa.generate_private_key(65_537, 2_048), "RS256", jwt.algorithms.RSAAlgorithm),
    "rsa2": (lambda: rsa.generate_private_key(65_537, 2_048), "RS256", jwt.algorithms.RSAAlgorithm),
    "ec": (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256", jwt.algorithms.ECAlgorithm),
    "ed": (ed25519.Ed25519PrivateKey.generate, "EdDSA", jwt.algorithms.OKPAlgorithm),
}


class State:
    """The keys, which of them are published, and whether it works."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {name: make() for name, (make, _, _) in KINDS.items()}
        self.published = ["rsa", "ec", "ed"]
        self.broken = False
        self.fetched = 0
        self.address = ""

    def jwks(self) -> dict[str, Any]:
        """The published keys."""
        return {
            "keys": [*map(self.jwk, self.published), {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, {"kty": "x"}]
        }

    def jwk(self, name: str) -> dict[str, Any]:
        """One of them."""
        _, _, algorithm = KINDS[name]
        told: dict[str, Any] = json.loads(algorithm.to_jwk(self.keys[name].public_key()))
        return {**told, "kid": name, "use": "sig"}

    def token(self, asked: dict[str, Any]) -> str:
        """A token with these claims, as the key's kind signs."""
        name = asked.get("key", "rsa")
        algorithm = asked.get("algorithm") or KINDS[name][1]
        return jwt.encode(asked["claims"], self.keys[name], algorithm, {"kid": name, **asked.get("header", {})})


STATE: Final = State()


class Handler(BaseHTTPRequestHandler):
    """Answer what a client of an issuer asks."""

    def do_GET(self) -> None:
        """Discovery and keys."""
        if self.path == "/fetched":
            self._answer(200, {"count": STATE.fetched})
        elif STATE.broken:
            self._answer(500, {})
        elif self.path == "/.well-known/openid-configuration":
            STATE.fetched += 1
            self._answer(200, {"issuer": STATE.address, "jwks_uri": f"{STATE.address}/jwks"})
        elif self.path == "/jwks":
            self._answer(200, STATE.jwks())
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        """Tokens, and what a test wants to be otherwise."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/token":
            self._answer(200, {"token": STATE.token(asked)})
            return
        if self.path == "/keys":
            STATE.published = asked
        elif self.path == "/break":
            STATE.broken = asked
        self._answer(200, {})

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def main() -> None:
    """Serve."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    STATE.address = f"http://127.0.0.1:{server.server_port}"
    print(STATE.address, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
