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

ENDPOINT_NAME_CHARS_MAX: Final = 200
ENDPOINTS_PER_PROJECT_MAX: Final = 1_000
"""Endpoints that are not deleted: each event is held against all of them."""

HEADERS_MAX: Final = 20
"""Headers that an owner may add."""

HEADER_CHARS_MAX: Final = 4_096
SETTINGS_CHARS_MAX: Final = 16_384
"""What a format's settings, or its secrets, take as JSON."""

CONCURRENCY_MAX: Final = 64
"""Deliveries to one endpoint that may be under way at once."""

TIMEOUT_S_MIN: Final = 1.0
TIMEOUT_S_MAX: Final = 30.0
"""As long as Standard Webhooks lets a sender wait at most."""

TEMPLATE_CHARS_MAX: Final = 16_000
TEMPLATE_TAG_CHARS_MAX: Final = 1_000
"""Between `{{` and `}}`, or `{%` and `%}`: some rules of the library's lexer cost the square of it."""

TEMPLATE_BLANKS_MAX: Final = 100
"""Spaces and line ends in a row, for the same reason."""

TEMPLATE_DEPTH_MAX: Final = 20
"""Conditions, loops and the like that stand in each other."""

TEMPLATE_PARTS_DEPTH_MAX: Final = 100
"""The same with all parts that the library makes of them, and of what stands in them."""

TEMPLATE_STEPS_MAX: Final = 100_000
"""What one rendering may cost: each turn of a loop the parts of the template, each value that is read or made what it
weighs. It is over within some 0.2 s in any case."""

TEMPLATE_VALUE_WEIGHT_MAX: Final = 4_000
"""Of one value in a template; a text of 128,000 characters weighs as much."""

TEMPLATE_VALUES_WEIGHT_MAX: Final = 8_000
"""Of all values together that a template keeps under names."""

TEMPLATE_NUMBER_BITS_MAX: Final = 512
RENDERED_BYTES_MAX: Final = 256 * 1024
"""Of what a template makes of an event: four times as long, since it may say things twice and escape them."""

CLAIM_MAX: Final = 500
"""Deliveries that are claimed, or whose outcomes are kept, in one transaction."""

LEASE_MARGIN_S: Final = 30.0
"""How much longer than its timeout an attempt's claim lasts: nobody else may send while it might still be answered."""

EVENTS_PER_FAN_OUT_MAX: Final = 200
"""Events that become deliveries in one transaction."""

FAILING_S_MAX: Final = 5 * 24 * 60 * 60
"""An endpoint that answered nothing but failures for so long is disabled."""

ROWS_PER_SWEEP_MAX: Final = 1_000
"""Deliveries that one transaction replays or removes."""

ERROR_CHARS_MAX: Final = 500
"""What is kept of an attempt's error."""

FILTER_VALUES_MAX: Final = 100
"""Types, environments, tags or owners of one filter."""

FILTER_VALUE_CHARS_MAX: Final = 200

EXPRESSION_CHARS_MAX: Final = 2_000
EXPRESSION_DEPTH_MAX: Final = 100
"""Parts of an expression, or of a value in it, that stand in each other; a chain of `||` is as deep as it is long."""

EXPRESSION_STEPS_MAX: Final = 20_000
"""What one evaluation may cost; an expression that people write takes some ten, and some hundred over lists."""

CONNECTIONS_MAX: Final = 1_000
CONNECTIONS_PER_HOST_MAX: Final = 100
"""Connections of a process at once; endpoints of one host share the second figure."""

KEEP_ALIVE_S: Final = 15.0
"""How long a connection lies idle before it is closed."""

STALE_S: Final = 1.0
"""A used connection that ends so soon after it is used again, without an answer, had ended before."""

LOOKUPS_MAX: Final = 16
"""Host names that are looked up at once."""

ANSWER_BYTES_MAX: Final = 4_096
"""What is read of an answer's body, for people to look at."""

ANSWER_BODY_S: Final = 2.0
"""How long an answer's body is waited for once its status has come, which is all that counts."""

RETRY_AFTER_CHARS_MAX: Final = 64
"""What is read of a Retry-After header; an HTTP-date has 29."""

BODY_BYTES_MAX: Final = 64 * 1024
"""Largest body of an event; receivers ask for less than 20 kB, and intermediaries must forward 64 KiB."""

CUT_TEXT_CHARS: Final = 200
"""What is left of a text in an event that is too large."""

SLOTS: Final = 500
"""Deliveries that a process has under way at once."""

RESERVED_PART: Final = 4
"""One in so many of a process's slots is kept for endpoints that have nothing under way."""

POLL_S: Final = 1.0
"""How long nobody looks for due deliveries when nobody says that there are any."""

AHEAD_S: Final = POLL_S
"""How far ahead an endpoint's rate is reserved: until the next look, so that it is kept and used."""

TURN_S: Final = 0.02
"""Between two looks at the database while deliveries are under way: what comes meanwhile shares a transaction."""

STOP_S: Final = 20.0
"""How long a stop waits for the answers to what is under way."""

TROUBLE_S_MAX: Final = 10.0
"""Longest wait before a database that fails is asked again."""
