"""Make throwaway certificates with the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs certificates of its directory."""

    directory: Path
    own: Pair

    def sign(self, name: str, *, use: str = "serverAuth", days: int = 2) -> Pair:
        """A certificate for localhost; one of -1 day has expired."""
        pair = Pair(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.txt"
        extensions.write_text(f"{NAMES}\nextendedKeyUsage={use}\n", encoding="utf-8")
        openssl("req", "-new", *_new_key(pair.key), "-subj", f"/CN={name}", "-out", str(request))
        signer = ("-CA", str(self.own.certificate), "-CAkey", str(self.own.key), "-CAcreateserial")
        lasting = ("-days", str(days), "-extfile", str(extensions))
        openssl("x509", "-req", "-in", str(request), *signer, *lasting, "-out", str(pair.certificate))
        pair.key.chmod(0o600)
        return pair


def make_authority(directory: Path, name: str = "ca") -> Authority:
    """One that nobody knows yet."""
    own = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    openssl("req", "-x509", *_new_key(own.key), "-subj", f"/CN={name}", "-days", "2", "-out", str(own.certificate))
    return Authority(directory, own)


def openssl(*arguments: str, text: str = "", check: bool = True) -> str:
    """Run it; what it printed."""
    done = subprocess.run(
        ["openssl", *arguments], input=text, check=check, timeout=60, capture_output=True, text=True, errors="replace"
    )
    return done.stdout + done.stderr


def _new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path))
