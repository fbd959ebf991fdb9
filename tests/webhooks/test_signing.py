"""Signatures are those of Standard Webhooks: its published vector, an independent verifier, and laws."""

import base64
from datetime import UTC, datetime
from typing import Final

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from webhooks import limits, signing
from webhooks.errors import InvalidSetting, SignatureRefused
from webhooks.signing import Signed

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW: Final = 1_614_265_330
IDS: Final = st.from_regex(r"evt_[0-9a-f]{1,32}", fullmatch=True)
RAW_SECRETS: Final = st.binary(min_size=limits.SECRET_BYTES_MIN, max_size=limits.SECRET_BYTES_MAX)


def test_the_published_vector() -> None:
    """The specification's own example gives its own signature."""
    key = signing.read_key(SECRET)

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == signing.sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, b'{"test": 2432232314}', keys=[key]
    )


@given(IDS, st.text(), RAW_SECRETS, RAW_SECRETS)
def test_an_independent_library_verifies(message_id: str, text: str, old: bytes, new: bytes) -> None:
    """The standardwebhooks package takes what we signed by an old and a new secret, whichever it knows."""
    texts = [signing.new_secret(old), signing.new_secret(new)]
    timestamp = int(datetime.now(UTC).timestamp())
    keys = [signing.read_key(one) for one in texts]
    sent = signing.headers(message_id, timestamp, text.encode(), keys=keys)

    for one in texts:
        standardwebhooks.Webhook(one).verify(text.encode(), sent, json_parse=False)


@given(IDS, st.text(), RAW_SECRETS)
def test_an_independent_library_signs_the_same(message_id: str, text: str, raw: bytes) -> None:
    """Both write one signature for one message."""
    secret = signing.new_secret(raw)
    theirs = standardwebhooks.Webhook(secret).sign(message_id, datetime.fromtimestamp(NOW, UTC), text)

    assert theirs == signing.sign(message_id, NOW, text.encode(), keys=[signing.read_key(secret)])


@given(IDS, st.binary(), RAW_SECRETS, st.binary(min_size=32, max_size=32))
def test_what_was_signed_verifies(message_id: str, body: bytes, raw: bytes, seed: bytes) -> None:
    """By HMAC and by Ed25519, with the private key and with the public one, within the tolerance and not beyond it."""
    private, public = signing.new_key_pair(seed)
    secret = signing.read_key(signing.new_secret(raw))
    header = signing.sign(message_id, NOW, body, keys=[secret, signing.read_key(private)])
    message = Signed(message_id, str(NOW), header, body)

    for key in (secret, signing.read_key(private), signing.read_key(public)):
        signing.verify(message, keys=[key], now=NOW + limits.TOLERANCE_S)
        signing.verify(message, keys=[key], now=NOW - limits.TOLERANCE_S)
        for late in (NOW + limits.TOLERANCE_S + 1, NOW - limits.TOLERANCE_S - 1):
            with pytest.raises(SignatureRefused, match="from now"):
                signing.verify(message, keys=[key], now=late)


@given(IDS, st.binary(min_size=1), st.data())
def test_a_changed_message_is_refused(message_id: str, body: bytes, data: st.DataObject) -> None:
    """Another byte of the body, another id, another timestamp or another key: no signature holds."""
    private, _ = signing.new_key_pair(bytes(32))
    keys = [signing.read_key(SECRET), signing.read_key(private)]
    header = signing.sign(message_id, NOW, body, keys=keys)
    place = data.draw(st.integers(0, len(body) - 1))
    other = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    strangers = [signing.read_key(signing.new_secret(bytes(24))), signing.read_key(signing.new_key_pair(b"x" * 32)[1])]

    for message, by in (
        (Signed(message_id, str(NOW), header, other), keys),
        (Signed(message_id + "0", str(NOW), header, body), keys),
        (Signed(message_id, str(NOW + 1), header, body), keys),
        (Signed(message_id, str(NOW), header, body), strangers),
        (Signed(message_id, str(NOW), header, body), []),
    ):
        with pytest.raises(SignatureRefused, match="no signature"):
            signing.verify(message, keys=by, now=NOW)


@given(st.text(), st.text(), st.text(), st.binary())
def test_whatever_a_header_holds_it_is_refused(message_id: str, timestamp: str, signature: str, body: bytes) -> None:
    """A stranger's headers raise one kind of error, which names none of them."""
    keys = [signing.read_key(SECRET), signing.read_key(signing.new_key_pair(bytes(32))[1])]

    for stamp in (timestamp, str(NOW)):
        with pytest.raises(SignatureRefused):
            signing.verify(Signed(message_id, stamp, f"v1,{signature} v1a,{signature}", body), keys=keys, now=NOW)


@pytest.mark.parametrize(
    "signature", ["v1,", "v1", ",", "v1a,!!!!", "v1a," + "A" * 1000, "v1,é", "v2,g0hM9SsE", "v1,\ud800", "v1a,\ud800"]
)
def test_a_malformed_signature_is_refused(signature: str) -> None:
    """Also where the reference library raises something else."""
    keys = [signing.read_key(SECRET), signing.read_key(signing.new_key_pair(bytes(32))[1])]

    with pytest.raises(SignatureRefused):
        signing.verify(Signed("evt_1", str(NOW), signature, b""), keys=keys, now=NOW)


@pytest.mark.parametrize("timestamp", ["", "-1", "1.5", "1_0", " 1", "٣", "nan", "1" * 5000])
def test_an_odd_timestamp_is_refused(timestamp: str) -> None:
    """Only digits are a number of seconds, and not too many of them."""
    with pytest.raises(SignatureRefused, match="whole number"):
        signing.verify(Signed("evt_1", timestamp, "v1,x", b""), keys=[signing.read_key(SECRET)], now=NOW)


def test_only_so_many_signatures_are_looked_at() -> None:
    """One that holds behind a crowd of others is not found, and so a crowd costs a bounded time."""
    key = signing.read_key(SECRET)
    good = signing.sign("evt_1", NOW, b"", keys=[key])
    crowd = "v1,x " * (limits.SIGNATURES_READ_MAX - 1)

    signing.verify(Signed("evt_1", str(NOW), crowd + good, b""), keys=[key], now=NOW)
    with pytest.raises(SignatureRefused):
        signing.verify(Signed("evt_1", str(NOW), "v1,x " + crowd + good, b""), keys=[key], now=NOW)


@pytest.mark.parametrize("size", [0, 23, 65, 200])
def test_a_secret_of_another_length_is_refused(size: int) -> None:
    """24 to 64 bytes, both where it is made and where it is read."""
    with pytest.raises(InvalidSetting, match=f"24 to 64 bytes, not {size}"):
        signing.new_secret(bytes(size))
    with pytest.raises(InvalidSetting, match=f"24 to 64 bytes, not {size}"):
        signing.read_key("whsec_" + base64.b64encode(bytes(size)).decode())


@pytest.mark.parametrize(
    "text", ["", "planted", "whsec_planted!", "whsk_cGxhbnRlZA==", "whpk_cGxhbnRlZA==", "WHSEC_planted", "whsec_é"]
)
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    """The error names the place, and not a letter of what stood there."""
    with pytest.raises(InvalidSetting) as refused:
        signing.read_key(text, "/secrets/0")

    assert "/secrets/0" == refused.value.problems[0].path
    assert "planted" not in str(refused.value)
    assert "cGxhbnRlZA" not in str(refused.value)


def test_a_key_does_not_show_its_secret() -> None:
    """What a log would print of it has neither the text nor the bytes."""
    shown = repr(signing.read_key(SECRET)) + repr(signing.read_key(signing.new_key_pair(b"s" * 32)[0]))

    assert "SymmetricKey()SigningKey()" == shown


@pytest.mark.parametrize("message_id", ["", "a.b", "."])
def test_an_id_with_a_dot_is_not_signed(message_id: str) -> None:
    """Else the same bytes could be read as another id with another timestamp."""
    with pytest.raises(InvalidSetting, match="no dot"):
        signing.sign(message_id, NOW, b"", keys=[signing.read_key(SECRET)])


def test_nothing_is_signed_by_no_key_or_by_a_public_one() -> None:
    """A message never goes out unsigned because the last secret ran out."""
    public = signing.read_key(signing.new_key_pair(bytes(32))[1])

    for keys in ([], [public], [signing.read_key(SECRET)] * (limits.SECRETS_PER_ENDPOINT_MAX + 1)):
        with pytest.raises(InvalidSetting):
            signing.sign("evt_1", NOW, b"", keys=keys)
