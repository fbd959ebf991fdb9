"""What `flagstaff serve` asks of the C library before it starts."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from server.memory import LARGE_BYTES, return_memory

ROOT = Path(__file__).parents[2]


class Library:
    """Takes note of what is set."""

    def __init__(self, *, possible: bool = True) -> None:
        self.possible = possible
        self.set: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int) -> int:
        """As the C library's."""
        self.set[parameter] = value
        return int(self.possible)


def test_both_are_set() -> None:
    """Parameters -3 and -1 are M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h."""
    library = Library()

    assert return_memory({}, library=library)
    assert {-3: LARGE_BYTES, -1: LARGE_BYTES} == library.set


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_environment_goes_before(name: str) -> None:
    """Whoever sets one of them knows what they want."""
    library = Library()

    assert not return_memory({name: "4"}, library=library)
    assert {} == library.set


def test_a_library_that_cannot_is_no_error() -> None:
    """The server works without."""
    assert not return_memory({}, library=Library(possible=False))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_glibc_takes_it() -> None:
    """The numbers are right: it says so, in a process of its own."""
    script = "from server.memory import return_memory; print(return_memory({}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "True\n" == done.stdout
