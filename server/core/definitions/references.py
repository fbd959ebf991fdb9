"""Find the segments that a rule refers to, and what in it belongs to the flag that it stands in."""

from server.core.definitions.problems import Path
from server.core.json import Json


def references(rule: Json) -> frozenset[str]:
    """Keys of the segments that a rule refers to by `{"$ref": key}`."""
    found: set[str] = set()
    stack = [rule]
    while stack:
        node = stack.pop()
        if type(node) is list:
            stack.extend([item for item in node if type(item) is dict or type(item) is list])
        elif type(node) is dict and len(node) == 1:
            ((operator, operand),) = node.items()
            if operator == "$ref" and isinstance(operand, str):
                found.add(operand)
            else:
                stack.append(operand)
    return frozenset(found)


def reference_paths(rule: Json, path: Path) -> list[tuple[Path, str]]:
    """Where a rule refers to which segment."""
    found: list[tuple[Path, str]] = []
    stack: list[tuple[Path, Json]] = [(path, rule)]
    while stack:
        at, node = stack.pop()
        if isinstance(node, list):
            stack.extend(((at, index), item) for index, item in enumerate(node))
        elif isinstance(node, dict) and len(node) == 1:
            ((operator, operand),) = node.items()
            if operator == "$ref" and isinstance(operand, str):
                found.append(((at, operator), operand))
            else:
                stack.append(((at, operator), operand))
    return found


def uses_shorthand(rule: Json) -> bool:
    """Whether a `fractional` without a bucketing value stands in a rule; it hashes the key of the flag it stands in."""
    stack = [rule]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict) and len(node) == 1:
            ((operator, operand),) = node.items()
            if operator == "fractional" and isinstance(operand, list) and operand[:1] and isinstance(operand[0], list):
                return True
            stack.append(operand)
    return False
