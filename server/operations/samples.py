"""Give out the sample flags of a small shop."""

from importlib import resources
from typing import Final

from server.operations.flagsets import Definitions, Place, read_definitions

NAME: Final = "shop.yaml"


def sample_text() -> bytes:
    """The sample flags as a file of ours."""
    return resources.files("server").joinpath("samples", NAME).read_bytes()


def read_samples(*, project: str, environment: str) -> Definitions:
    """The sample flags for an environment."""
    return read_definitions(sample_text(), name=NAME, place=Place(project, environment))
