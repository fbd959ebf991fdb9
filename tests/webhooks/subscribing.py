"""Make subscriptions, and keep them, for tests."""

import hashlib
import itertools
from collections.abc import Callable
from typing import Any, Final

from tests.webhooks.made import NOW
from webhooks.addresses import read_allowed
from webhooks.rotation import SECRET_BYTES, Secret, make_secret
from webhooks.sealing import Sealer, derive_key
from webhooks.subscribed import Vault
from webhooks.subscriptions import Subscription, Surroundings, check_plain, read_subscription
from webhooks.urls import UrlRules

SURROUNDINGS: Final = Surroundings(
    rules=UrlRules(read_allowed(["n8n.lan"])),
    event_types=("flag.created", "flag.killed", "release.paused", "webhook.endpoint_disabled"),
    formats={"standard": check_plain, "cloudevents": check_plain},
)
MASTER: Final = b"k" * 32
TOKEN: Final = "Bearer s3cr3t-of-the-receiver"


def document(**fields: Any) -> dict[str, Any]:
    """One that can be read, with these fields besides."""
    return {"target_url": "https://hooks.example.com/in/T0PS3CR3T", "event_types": ["flag.*"], **fields}


def subscribe(**fields: Any) -> Subscription:
    """The same, read."""
    return read_subscription(document(**fields), SURROUNDINGS)


def chances() -> Callable[[int], bytes]:
    """Bytes that look random, never the same twice, and are the same in each run."""
    numbers = itertools.count()
    return lambda size: hashlib.shake_128(str(next(numbers)).encode()).digest(size)


def vault(*masters: bytes) -> Vault:
    """What seals with the first of these keys."""
    return Vault(Sealer(derive_key(each) for each in masters or (MASTER,)), chances())


def secret(number: int = 1, *, asymmetric: bool = False) -> Secret:
    """A signing secret."""
    return make_secret(number, bytes([number]) * SECRET_BYTES, asymmetric=asymmetric, now=NOW)
