"""The hash of an audit entry covers all of it, and stays what it is."""

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.audit import GENESIS, ROW, AuditEntry, canonical_json, chain_hash, row_hash

ENTRY = AuditEntry(
    "shop", 7, "production", 3, "ann", "flag.updated", "flag", "checkout", None, '{"a":1}', "why", "cause", "r1",
    datetime(2026, 1, 1, 12, tzinfo=UTC),
)  # fmt: skip


def test_the_hash_never_changes() -> None:
    """A chain that was written once must verify for ever."""
    assert "0447b0b1603b3eae6eb12370313646366918d6b8dfe44c715c329ca7b0f4c89b" == chain_hash(ENTRY, GENESIS)


@pytest.mark.parametrize("name", [field.name for field in fields(AuditEntry) if "hash" not in field.name])
def test_every_field_counts(name: str) -> None:
    """Whatever is changed shows."""
    old = getattr(ENTRY, name)
    new: Any = old + 1 if isinstance(old, int) else old + timedelta(1) if isinstance(old, datetime) else f"{old}x"

    assert chain_hash(ENTRY, GENESIS) != chain_hash(replace(ENTRY, **{name: new}), GENESIS)


def test_the_entry_before_counts() -> None:
    """An entry belongs to its place."""
    assert chain_hash(ENTRY, GENESIS) != chain_hash(ENTRY, "1" * 64)


def test_the_same_instant_is_the_same() -> None:
    """However its time zone is written."""
    elsewhere = replace(ENTRY, at=ENTRY.at.astimezone(timezone(timedelta(hours=2))))

    assert chain_hash(ENTRY, GENESIS) == chain_hash(elsewhere, GENESIS)


def test_canonical_json_is_one_text() -> None:
    """Sorted, without spaces, ASCII."""
    assert '{"a":"\\u00e9","b":[1,null]}' == canonical_json({"b": [1, None], "a": "é"})


TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(('{"a":"é"}', "\x7f", "\x00\x1f", "\ud800", '"\\/\b\f\n\r\t')))


@given(
    st.builds(
        AuditEntry,
        project=TEXTS,
        sequence=st.integers(0, 2**63),
        environment=TEXTS,
        revision=st.integers(0, 2**63),
        actor=TEXTS,
        action=TEXTS,
        subject_kind=TEXTS,
        subject_key=TEXTS,
        before=st.none() | TEXTS,
        after=st.none() | TEXTS,
        reason=TEXTS,
        cause=TEXTS,
        request_id=TEXTS,
        at=st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)),
    )
)
def test_the_quick_way_writes_what_the_slow_way_writes(entry: AuditEntry) -> None:
    """Chains that exist were written as canonical JSON."""
    content = {
        "project": entry.project,
        "sequence": entry.sequence,
        "environment": entry.environment,
        "revision": entry.revision,
        "actor": entry.actor,
        "action": entry.action,
        "subjectKind": entry.subject_kind,
        "subjectKey": entry.subject_key,
        "before": entry.before,
        "after": entry.after,
        "reason": entry.reason,
        "cause": entry.cause,
        "requestId": entry.request_id,
        "at": entry.at.isoformat(timespec="microseconds"),
        "previousHash": GENESIS,
    }
    as_stored = (*(getattr(entry, name) for name in ROW[:-1]), entry.at.strftime("%Y-%m-%d %H:%M:%S.%f"))
    expected = hashlib.sha256(canonical_json(content).encode()).hexdigest()

    assert expected == chain_hash(entry, GENESIS)
    assert expected == row_hash((*as_stored[:2], GENESIS, *as_stored[3:]))
