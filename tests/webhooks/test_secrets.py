"""Secrets stay secret: sealed in the database, redacted wherever somebody looks."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.errors import InvalidSetting, SealBroken
from webhooks.redaction import show_headers, show_url
from webhooks.sealing import NONCE_BYTES, Sealer, derive_key

OLD = derive_key(b"o" * 32)
NEW = derive_key(b"n" * 32)
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
SECRETS = st.from_regex(r"S[A-Za-z0-9]{11,30}T", fullmatch=True)


@given(st.text(), st.text(), NONCES)
def test_only_its_key_opens_a_sealed_text(text: str, row: str, nonce: bytes) -> None:
    """And only in its own row."""
    sealed = Sealer([OLD]).seal(text, row, nonce=nonce)

    assert text == Sealer([NEW, OLD]).unseal(sealed, row)
    with pytest.raises(SealBroken, match="not here"):
        Sealer([NEW]).unseal(sealed, row)
    with pytest.raises(SealBroken, match="changed"):
        Sealer([OLD]).unseal(sealed, row + "0")


@given(st.text(min_size=1), NONCES, NONCES)
def test_rotation_seals_again(text: str, first: bytes, second: bytes) -> None:
    """After that the old key is not needed; what is current is left as it is."""
    sealer = Sealer([NEW, OLD])
    moved = sealer.reseal(Sealer([OLD]).seal(text, "ep_1", nonce=first), "ep_1", nonce=second)

    assert text == Sealer([NEW]).unseal(moved, "ep_1")
    assert sealer.is_current(moved)
    assert moved == sealer.reseal(moved, "ep_1", nonce=first)


@given(st.text(), st.data())
def test_a_changed_text_does_not_open(text: str, data: st.DataObject) -> None:
    """Whatever is changed of its bytes or its head, there is one kind of error."""
    head, key_id, encoded = Sealer([OLD]).seal(text, "ep_1", nonce=bytes(NONCE_BYTES)).split(".")
    raw = bytearray(base64.urlsafe_b64decode(encoded))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(raw).decode()

    for other in (
        f"{head}.{key_id}.{changed}",
        f"v2.{key_id}.{encoded}",
        f"{head}.0.{encoded}",
        encoded,
        f"{head}.{key_id}.é",
    ):
        with pytest.raises(SealBroken):
            Sealer([OLD]).unseal(other, "ep_1")


def test_a_key_must_be_long_and_there() -> None:
    """A short secret, no key and a short nonce are refused where they are given; a key does not show itself."""
    with pytest.raises(InvalidSetting, match="32 bytes"):
        derive_key(b"short")
    with pytest.raises(InvalidSetting, match="need a key"):
        Sealer([])
    with pytest.raises(InvalidSetting, match="nonce"):
        Sealer([OLD]).seal("x", "ep_1", nonce=b"")
    assert f"SealingKey(id='{OLD.id}')" == repr(OLD)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/planted", "https://hooks.slack.com/services/***"),
        ("https://hooks.zapier.com/hooks/catch/1/planted/", "https://hooks.zapier.com/hooks/***"),
        ("https://x.logic.azure.com:443/workflows/1/run?sig=planted", "https://x.logic.azure.com:443/workflows/***"),
        ("https://user:planted@example.com/", "https://example.com/"),
        ("https://example.com/planted", "https://example.com/***"),
        ("https://example.com/?planted", "https://example.com/?***"),
        ("https://[2606:4700::1]:8443/hook", "https://[2606:4700::1]:8443/hook/"),
        ("planted", "***"),
        ("https://[planted/", "***"),
        ("ftp://example.com/planted", "***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Where it leads can be seen, and nothing that opens it."""
    assert shown == show_url(url)


@given(SECRETS, st.sampled_from(["hooks/{}", "{}", "a/{}/b", "?sig={}", "services/?{}", "#{}", "{}@x/"]))
def test_a_planted_secret_is_not_shown(secret: str, form: str) -> None:
    """Wherever in a URL it stands, and in whatever header."""
    assert secret not in show_url("https://example.com/" + form.format(secret))
    assert secret not in show_url(f"https://{secret}:{secret}@example.com/")
    assert {"X-Mine": "***", "Authorization": "***", "Content-Type": "a/b"} == show_headers(
        {"X-Mine": secret, "Authorization": "Bearer " + secret, "Content-Type": "a/b"}
    )
