"""What the attacks send is what they say."""

import gzip

from tests.crash.abuse import gzip_of_zeros
from tests.crash.frames import GOAWAY, frame, text


def test_bomb() -> None:
    """A bomb is honest gzip: it ends as its checksum and length say, and is very much smaller."""
    bomb = gzip_of_zeros(3 * 2**20)

    assert bytes(3 * 2**20) == gzip.decompress(bomb)
    assert len(bomb) < 2**20 / 50


def test_frame() -> None:
    """A frame has its length in three bytes, its kind, its flags and its stream."""
    assert b"\x00\x00\x02\x07\x04\x00\x00\x00\x05hi" == frame(GOAWAY, b"hi", stream=5, flags=4)


def test_text() -> None:
    """A text of a header block has its length before it."""
    assert b"\x08trailers" == text("trailers")
