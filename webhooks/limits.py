"""Name every bound that a delivery, an endpoint or an answer must keep.

A bound stands here once; errors print its figure.
"""

from typing import Final

SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64
"""Length of an HMAC secret, as Standard Webhooks has it."""

SECRETS_PER_ENDPOINT_MAX: Final = 8
"""Secrets that sign at once while they are rotated; each makes the header some 50 characters longer."""

SIGNATURES_READ_MAX: Final = 32
"""Signatures of one inbound header that are looked at: a header full of them would buy us as many comparisons."""

TOLERANCE_S: Final = 300
"""How far an inbound message's timestamp may lie from now, either way, as the reference library has it."""

ATTEMPTS_MAX: Final = 30
"""Attempts of one delivery by its schedule."""

DELAY_S_MAX: Final = 24 * 60 * 60
"""Longest wait between two attempts, before its jitter."""

SCHEDULE_S_MAX: Final = 14 * 24 * 60 * 60
"""All waits of one schedule together."""

RETRY_AFTER_S_MAX: Final = 24 * 60 * 60
"""Longest wait that a receiver may ask for. Clamped: it may ask for a year."""

URL_CHARS_MAX: Final = 2_048
ALLOWED_PLACES_MAX: Final = 1_000
"""Networks and hosts that an operator allows."""
