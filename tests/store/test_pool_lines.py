"""What SQLAlchemy's pool logs of connections that are lost."""

import io
import json
import logging

from server.telemetry import JsonLines, lost_in_one_line


def test_a_lost_connection_is_one_line() -> None:
    """Without a traceback, and without what the driver said, which names the database's host; others keep theirs."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    handler.addFilter(lost_in_one_line)
    for name in ("sqlalchemy.pool.impl.QueuePool", "flagstaff.live"):
        try:
            raise ConnectionError("to db1.example.com as flags")
        except ConnectionError as error:
            caught = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord(name, logging.ERROR, "", 0, "Exception during reset", (), caught))
    lost, other = map(json.loads, lines.getvalue().splitlines())

    assert ("a connection to the database is lost and was given up", "ConnectionError") == (
        lost["message"],
        lost["error"],
    )
    assert "exception" not in lost and "db1" not in str(lost)
    assert ("Exception during reset", True) == (other["message"], "Traceback" in other["exception"])
