"""Every module says its job first, and is short."""

import ast

import pytest

from tests.house.sources import python_files, read

LINES_MAX = 400
# Path -> why this module is better whole than in two.
LONGER: dict[str, str] = {}


@pytest.mark.parametrize("name", python_files())
def test_a_module_starts_with_its_job(name: str) -> None:
    """The first line is a docstring whose first line is a sentence."""
    assert "" == docstring_problem(read(name))


@pytest.mark.parametrize("name", python_files())
def test_a_module_is_short(name: str) -> None:
    """A second job has moved in where a module is longer; an exemption is not kept longer than it is needed."""
    assert (name in LONGER) == is_long(read(name))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "import json\n",
        '# A comment.\n"""Hold flags."""\n',
        '"""\nHold flags.\n"""\n',
        '"""Hold flags"""\n',
        '"""Hold flags,\nand segments."""\n',
        '"""hold flags."""\n',
        'f"""Hold {0}."""\n',
    ],
)
def test_a_missing_sentence_is_found(source: str) -> None:
    """A docstring that is absent, late, unfinished or computed is none."""
    assert "" != docstring_problem(source)


@pytest.mark.parametrize(
    "source", ['"""Hold flags."""\n', '#!/usr/bin/env python3\n"""Hold flags.\n\nThen more.\n"""\n']
)
def test_a_sentence_passes(source: str) -> None:
    """The sentence may be followed by more, and preceded by what makes a script run."""
    assert "" == docstring_problem(source)


def test_a_long_module_is_found() -> None:
    """The bound is part of what is allowed."""
    assert (False, True) == (is_long("\n" * LINES_MAX), is_long("\n" * (LINES_MAX + 1)))


def docstring_problem(source: str) -> str:
    """What is wrong with a module's docstring; "" when nothing is."""
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree, clean=False)
    if docstring is None:
        return "no docstring"
    if tree.body[0].lineno != 1 + source.startswith("#!"):
        return "the docstring does not stand on the first line"
    first = docstring.splitlines()[0].strip() if docstring else ""
    if not first.endswith(".") or first[0].islower():
        return f"the first line is no sentence: {first!r}"
    return ""


def is_long(source: str) -> bool:
    """Whether a module has more lines than one job usually needs."""
    return source.count("\n") > LINES_MAX
