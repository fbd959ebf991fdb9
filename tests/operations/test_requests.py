"""Log requests that failed or were slow, without what belongs in no log."""

import logging
from dataclasses import dataclass

import pytest

from server.operations.requests import Finished, RequestLog, request_id, where_raised


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def finished(took_s: float = 0.001, *, identifier: str = "id-1") -> Finished:
    """A request to the default set."""
    return Finished("/a.B/C", "OK", identifier, took_s, "shop/production")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged, at every level."""
    caplog.set_level(logging.DEBUG, "flagstaff.requests")
    return caplog


def test_a_failure_is_logged(lines: pytest.LogCaptureFixture) -> None:
    """A fault of ours is a warning, a refusal is not; both say which request it was."""
    log = RequestLog()
    log.failed(finished(), is_fault=True)
    log.failed(finished(), is_fault=False)

    assert [("WARNING", "request failed in the server"), ("INFO", "request was refused")] == [
        (line.levelname, line.getMessage()) for line in lines.records
    ]
    told = vars(lines.records[0])
    assert ("/a.B/C", "OK", "id-1", 1.0, "shop/production") == tuple(
        told[name] for name in ("method", "status", "request_id", "duration_ms", "flag_set")
    )


@pytest.mark.parametrize(
    ("access_log", "took_s", "message"),
    [(False, 0.6, "request was slow"), (True, 0.6, "request was slow"), (True, 0.001, "request")],
)
def test_slow_and_all_requests(lines: pytest.LogCaptureFixture, access_log: bool, took_s: float, message: str) -> None:
    """The access log has every request; slow ones are marked in both."""
    log = RequestLog(slow_s=0.5, access_log=access_log)
    log.answered(finished(took_s))

    assert ([message], 0.0 if access_log else 0.5) == ([line.getMessage() for line in lines.records], log.noted_s)


def test_lines_are_bounded(lines: pytest.LogCaptureFixture) -> None:
    """Beyond the bound of a second they are counted, which the next second tells once."""
    clock = Clock()
    log = RequestLog(lines_per_s_max=2, clock=clock)
    for _ in range(5):
        log.failed(finished(), is_fault=False)
    clock.now += 1
    log.failed(finished(), is_fault=False)
    clock.now += 1
    log.failed(finished(), is_fault=False)

    messages = [line.getMessage() for line in lines.records]
    assert (4, 1, 3) == (messages.count("request was refused"), len(messages) - 4, log.left_out_count)
    assert 3 == next(vars(line)["count"] for line in lines.records if line.levelname == "WARNING")


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 65, "a\nb", "ü", 'a"b'])
def test_an_id_that_is_not_well_formed_is_replaced(sent: str | None) -> None:
    """What is logged and sent back is short and plain."""
    assert (True, 16) == (request_id(sent) != sent, len(request_id(sent)))


@pytest.mark.parametrize("sent", ["4bf92f35", "a.b-c_d:e", "x" * 64])
def test_a_well_formed_id_is_kept(sent: str) -> None:
    """The caller finds its own id again."""
    assert sent == request_id(sent)


def test_an_error_is_told_without_its_text() -> None:
    """The text of an error may be the value that caused it."""
    with pytest.raises(KeyError) as caught:
        dict[str, int]()["alice@example.com"]
    told = where_raised(caught.value)

    assert ("KeyError", True, False) == (told[-1], __file__ in told[0], "alice" in "".join(told))
