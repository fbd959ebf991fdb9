"""The options of `flagstaff serve` about HTTP."""

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://a.example,https://b.example"]
)
def test_no_origin(run: Run, origin: str) -> None:
    """An origin that no browser sends is refused before anything listens."""
    ran = run("serve", "--cors-origin", "https://app.example.com", "--cors-origin", origin)

    assert 0 != ran.code
    assert "is no origin" in ran.err


def test_no_staleness(run: Run) -> None:
    """A negative time is refused."""
    assert 2 == run("serve", "--max-staleness", "-1").code


def test_help_names_what_is_served(run: Run) -> None:
    """The HTTP port's help has the protocol by which clients look for it."""
    assert "OFREP" in run("serve", "--help").out
