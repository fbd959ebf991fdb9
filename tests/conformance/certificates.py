"""Make a throwaway certificate authority and a server certificate that it signed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.installations import tool

DAYS: Final = "2"
EXTENSIONS: Final = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM."""

    authority: Path
    """What a client is to trust."""

    server: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Write all into a folder. Errors: Unavailable without the openssl command; AssertionError when it fails."""
    openssl = tool("openssl")
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    authority_key, request, extensions = folder / "authority.key", folder / "server.csr", folder / "extensions"
    extensions.write_text(EXTENSIONS, encoding="utf-8")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _run(
        openssl, "req", "-x509", *new_key, "-keyout", authority_key, "-out", made.authority, "-days", DAYS,
        "-subj", "/CN=Throwaway authority",
    )  # fmt: skip
    _run(openssl, "req", *new_key, "-keyout", made.key, "-out", request, "-subj", "/CN=localhost")
    _run(
        openssl, "x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", authority_key, "-CAcreateserial",
        "-out", made.server, "-days", DAYS, "-extfile", extensions,
    )  # fmt: skip
    return made


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[1]} ended with {done.returncode}:\n{done.stderr}"
