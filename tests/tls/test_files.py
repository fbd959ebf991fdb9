"""Files for TLS are refused before anybody listens with them, and the message says why."""

import ssl
from pathlib import Path

import pytest

from server.core.errors import InvalidRequest
from server.tls import is_open_to_others, read_tls
from tests.tls.certificates import Authority, Pair, openssl


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    """A pair that works."""
    return authority.sign("good")


def refusal(certificate: Path, key: Path, client_ca: Path | None = None) -> str:
    """What is said of files that do not work."""
    with pytest.raises(InvalidRequest) as refused:
        read_tls(certificate, key, client_ca=client_ca)
    return str(refused.value)


def test_a_good_pair_is_read(good: Pair) -> None:
    """As it stands in its files, for TLS 1.2 and later, without asking clients for anything."""
    tls = read_tls(good.certificate, good.key)

    assert (good.certificate.read_bytes(), good.key.read_bytes(), None) == (tls.certificate, tls.key, tls.client_ca)
    assert (ssl.TLSVersion.TLSv1_2, ssl.CERT_NONE) == (tls.context.minimum_version, tls.context.verify_mode)


def test_a_chain_is_read(authority: Authority, good: Pair, tmp_path: Path) -> None:
    """The certificate first, then who signed it."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(good.certificate.read_bytes() + authority.own.certificate.read_bytes())

    assert chain.read_bytes() == read_tls(chain, good.key).certificate


def test_clients_are_asked_when_there_is_an_authority(authority: Authority, good: Pair) -> None:
    """For a certificate that it signed."""
    tls = read_tls(good.certificate, good.key, client_ca=authority.own.certificate)

    assert (ssl.CERT_REQUIRED, authority.own.certificate.read_bytes()) == (tls.context.verify_mode, tls.client_ca)


def test_a_file_that_is_not_there(good: Pair, tmp_path: Path) -> None:
    """Is named."""
    missing = tmp_path / "missing.pem"

    assert f"cannot read {missing} (No such file or directory); TLS needs it" == refusal(missing, good.key)
    assert f"cannot read {missing}" in refusal(good.certificate, missing)
    assert f"cannot read {missing}" in refusal(good.certificate, good.key, missing)


def test_a_key_of_another_certificate(authority: Authority, good: Pair) -> None:
    """Both files are named."""
    other = authority.sign("other")

    assert f"the key in {other.key} does not belong to the certificate in {good.certificate}" == refusal(
        good.certificate, other.key
    )


def test_an_expired_certificate(authority: Authority) -> None:
    """Clients would refuse it, so the server does."""
    old = authority.sign("old", days=-1)

    assert f"clients would refuse the certificate in {old.certificate}: certificate has expired" == refusal(
        old.certificate, old.key
    )


def test_a_certificate_that_is_not_for_servers(authority: Authority) -> None:
    """Likewise."""
    pair = authority.sign("person", use="clientAuth")

    assert "certificate purpose" in refusal(pair.certificate, pair.key)


def test_files_that_are_mixed_up(good: Pair, tmp_path: Path) -> None:
    """The other way round, or something else altogether."""
    text = tmp_path / "notes.txt"
    text.write_text("not PEM", encoding="utf-8")

    assert "are not a certificate chain and its key" in refusal(good.key, good.certificate)
    assert "are not a certificate chain and its key" in refusal(text, text)
    assert f"{text} has no certificates" in refusal(good.certificate, good.key, text)


def test_a_key_with_a_passphrase(good: Pair, tmp_path: Path) -> None:
    """Nobody is asked for it on the terminal of a server."""
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", str(good.key), "-aes256", "-passout", "pass:secret", "-out", str(locked))

    assert f"the key in {locked} is encrypted; expected one without a passphrase" == refusal(good.certificate, locked)


def test_who_can_read_the_key(good: Pair, tmp_path: Path) -> None:
    """Everybody, or its owner and group."""
    copy = tmp_path / "copy.key"
    copy.write_bytes(good.key.read_bytes())
    answers = []
    for mode in (0o600, 0o640, 0o644):
        copy.chmod(mode)
        answers.append(is_open_to_others(copy))

    assert [False, False, True] == answers
