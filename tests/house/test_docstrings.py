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
    assert "" == length_problem(name, read(name), LONGER)


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


@pytest.mark.parametrize(
    ("lines", "exempt", "problem"),
    [
        (LINES_MAX, {}, ""),
        (LINES_MAX + 1, {}, "401 lines, at most 400"),
        (LINES_MAX + 1, {"a.py": "A table."}, ""),
        (LINES_MAX, {"a.py": "A table."}, "no longer needs its exemption"),
    ],
)
def test_a_long_module_is_found(lines: int, exempt: dict[str, str], problem: str) -> None:
    """The bound itself is allowed, and so is what has a reason."""
    assert problem == length_problem("a.py", "\n" * lines, exempt)


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


def length_problem(name: str, source: str, exempt: dict[str, str]) -> str:
    """What is wrong with a module's length; "" when nothing is."""
    lines = source.count("\n")
    if name in exempt:
        return "" if lines > LINES_MAX else "no longer needs its exemption"
    return f"{lines} lines, at most {LINES_MAX}" if lines > LINES_MAX else ""
