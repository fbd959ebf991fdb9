"""Read the tables of known answers that stand beside this module."""

import json
from pathlib import Path
from typing import Any

import pytest


def table(name: str) -> Any:
    """One JSON file of this directory."""
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


def cases(name: str, part: str | None = None) -> pytest.MarkDecorator:
    """Parametrise a test by the rows of a table, or of one part of it; an id shows the row."""
    found = table(name) if part is None else table(name)[part]
    return pytest.mark.parametrize("row", found["cases"], ids=json.dumps)
