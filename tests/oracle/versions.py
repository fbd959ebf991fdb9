"""Compare semantic versions by the rules of Go's x/mod/semver, for the reference's `sem_ver`."""

import re
from typing import Final

NUMBER: Final = "(?:0|[1-9][0-9]*)"
PRERELEASE: Final = f"(?:{NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
BUILD: Final = "[0-9A-Za-z-]+"
VERSION: Final = re.compile(
    rf"({NUMBER})(?:\.({NUMBER})(?:\.({NUMBER})"
    rf"(?:-({PRERELEASE}(?:\.{PRERELEASE})*))?(?:\+{BUILD}(?:\.{BUILD})*)?)?)?"
)


def compare_versions(left: str, operator: str, right: str) -> bool | None:
    """Whether the operator holds; None for what is no version or no operator."""
    first, second = parse(left), parse(right)
    if first is None or second is None:
        return None
    order = compare(first, second)
    answers = {
        "=": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
        "^": first[:1] == second[:1],
        "~": first[:2] == second[:2],
    }
    return answers.get(operator)


def parse(text: str) -> tuple[int, int, int, str] | None:
    """(major, minor, patch, pre-release); one leading v or V is dropped, 1 is 1.0.0, build metadata is ignored."""
    match = VERSION.fullmatch(text[1:] if text[:1] in ("v", "V") else text)
    if match is None:
        return None
    major, minor, patch, prerelease = match.groups()
    return int(major), int(minor or 0), int(patch or 0), prerelease or ""


def compare(left: tuple[int, int, int, str], right: tuple[int, int, int, str]) -> int:
    """Below, equal or above zero, by SemVer 2.0.0 section 11."""
    if left[:3] != right[:3]:
        return -1 if left[:3] < right[:3] else 1
    if not left[3] or not right[3]:
        return bool(right[3]) - bool(left[3]) if left[3] != right[3] else 0
    first, second = identifiers(left[3]), identifiers(right[3])
    return (first > second) - (first < second)


def identifiers(prerelease: str) -> list[tuple[int, int, str]]:
    """Sort keys of a pre-release: numbers first and by value, then words by ASCII."""
    parts = prerelease.split(".")
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
