"""Addresses of databases in messages: without passwords, and for strangers without anything."""

import pytest
from sqlalchemy import make_url

from server.store.addresses import shown, without_address

URL = make_url("postgresql+psycopg://flags:secret@db1.example.com:5433/flags?host=db2.example.com&sslpassword=hidden")


@pytest.mark.parametrize(
    "form",
    [
        "cannot reach {where}",
        "cannot reach {where}; try again",
        'cannot reach {where} (connection to "db1.example.com" (10.0.0.7), user "flags" failed; Is it up?); try again',
    ],
)
def test_a_message_for_strangers(form: str) -> None:
    """It names neither host, user nor database, also where the driver did; what helps stays."""
    message = form.format(where=shown(URL))
    told = without_address(URL, message)

    assert "cannot reach the database" == told.partition(";")[0]
    assert told.endswith("try again") == message.endswith("try again")
    assert not any(each in told for each in ("example.com", "flags", "10.0.0.7", "secret", "hidden"))
