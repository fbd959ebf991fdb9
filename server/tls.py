"""Read the files for TLS, prove that they work before anybody listens with them, and follow their changes."""

import logging
import ssl
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.core.errors import InvalidRequest

VERSION_MIN: Final = ssl.TLSVersion.TLSv1_2
"""Also what gRPC's core has as its own minimum."""

LOOK_S: Final = 0.4
"""How often the files are looked at; new ones are taken when they were the same twice."""

log = logging.getLogger("flagstaff.tls")


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server proves itself with, in the forms that its doors need; PEM."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    """Who signs clients' certificates; None asks clients for none."""

    context: ssl.SSLContext


class TlsFiles:
    """Files for TLS, read anew when they change. What works is used for new connections; those that are open stay."""

    def __init__(self, certificate: Path, key: Path, *, client_ca: Path | None = None, look_s: float = LOOK_S) -> None:
        """Errors: as `read_tls`, for the files as they are now."""
        self._paths = (certificate, key) if client_ca is None else (certificate, key, client_ca)
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._look_s = look_s
        self._taken = self._seen = self._signature()
        self.current = read_tls(certificate, key, client_ca=client_ca)
        self.context = self._following_context()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="flagstaff-tls", daemon=True)

    def start(self) -> None:
        """Begin to follow the files; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Take the files when they have changed, and were the same at the look before: one comes after the other."""
        seen, before = self._signature(), self._seen
        self._seen = seen
        if seen in (self._taken, None) or seen != before:
            return
        self._taken = seen
        try:
            self.current = read_tls(self._certificate, self._key, client_ca=self._client_ca)
        except InvalidRequest as error:
            log.error("the new files for TLS cannot be used; the last good ones stay", extra={"error": str(error)})
        else:
            log.info("new files for TLS are used", extra={"certificate": str(self._certificate)})

    def _signature(self) -> tuple[tuple[int, ...], ...] | None:
        """What is another when a file was written or put in another's place; None while one is missing."""
        try:
            found = [path.stat() for path in self._paths]
        except OSError:
            return None
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def _following_context(self) -> ssl.SSLContext:
        """A context that hands each new connection over to the one that is current then."""

        def hand_over(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self.current.context

        context = self.current.context
        following = _server_context(self._certificate, self._key)
        # Whether clients are asked is settled before the handing over, and by whom they are known after it.
        following.verify_mode = context.verify_mode
        if self._client_ca is not None:
            following.load_verify_locations(self._client_ca)
        following.sni_callback = hand_over
        return following

    def _follow(self) -> None:
        while not self._stopping.wait(self._look_s):
            try:
                self.look()
            except Exception:
                # The thread must live on: a certificate that is not renewed ends everything one day.
                log.exception("looking at the files for TLS failed; trying again")


def read_tls(certificate: Path, key: Path, *, client_ca: Path | None = None) -> Tls:
    """Read a certificate chain and its key, and shake hands with them once.

    Errors: InvalidRequest when a file cannot be read or is not PEM, when the two do not belong together, when the
    certificate is expired or not yet valid or not for servers.
    """
    contents = [_read(path) for path in (certificate, key, client_ca)]
    context = _server_context(certificate, key)
    _shake_hands(context, certificate)
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise InvalidRequest(f"{client_ca} has no certificates ({error.reason}); expected PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return Tls(contents[0] or b"", contents[1] or b"", contents[2], context)


def is_open_to_others(key: Path) -> bool:
    """Whether every user of this machine can read the file."""
    return bool(key.stat().st_mode & stat.S_IROTH)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path} ({error.strerror}); TLS needs it") from None


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    def refuse_passphrase() -> str:
        raise InvalidRequest(f"the key in {key} is encrypted; expected one without a passphrase")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSION_MIN
    try:
        context.load_cert_chain(certificate, key, password=refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidRequest(f"the key in {key} does not belong to the certificate in {certificate}") from None
        why = error.reason or "no PEM block"
        raise InvalidRequest(
            f"{certificate} and {key} are not a certificate chain and its key ({why}); expected PEM"
        ) from None
    return context


def _shake_hands(server_context: ssl.SSLContext, certificate: Path) -> None:
    """Be a client that trusts exactly this certificate: it still refuses one that is expired or not for servers."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    try:
        # Each is done after its second turn; a further one does nothing.
        for side in (client, server) * 3:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise InvalidRequest(f"clients would refuse the certificate in {certificate}: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise InvalidRequest(f"no TLS connection is possible with {certificate}: {error.reason}") from None
