"""Make the flags and contexts that benchmarks run on; the same ones at every run."""

from collections.abc import Callable, Mapping
from typing import Any, Final

SCALE_FLAGS: Final = 10_000
RULES_EACH: Final = 5
SEGMENTS: Final = 60

COUNTRIES: Final = ("de", "fr", "at", "ch", "nl", "be", "pl", "cz", "dk", "se")
TIERS: Final = ("free", "pro", "business", "enterprise")

Condition = Callable[[int], dict[str, Any]]


def _var(name: str) -> dict[str, str]:
    return {"var": name}


CONDITIONS: Final[tuple[Condition, ...]] = (
    lambda n: {"==": [_var("tier"), f"tier-{n}"]},
    lambda n: {"!=": [_var("country"), COUNTRIES[n % 10]]},
    lambda n: {"in": [_var("country"), [COUNTRIES[n % 10], COUNTRIES[(n + 3) % 10], f"c{n}"]]},
    lambda n: {">=": [_var("age"), 18 + n % 50]},
    lambda n: {"<": [_var("orders"), n % 1_000]},
    lambda n: {"<=": [n % 20, _var("age"), 20 + n % 40]},
    lambda n: {"ends_with": [_var("email"), f"@team{n}.example.com"]},
    lambda n: {"starts_with": [_var("email"), f"qa{n}."]},
    lambda n: {"sem_ver": [_var("version"), ">=", f"{n % 9}.{n % 40}.0"]},
    lambda n: {"sem_ver": [_var("version"), "^", f"{n % 9}.1.0"]},
    lambda n: {"and": [{"==": [_var("tier"), f"t{n}"]}, {">": [_var("age"), n % 90]}]},
    lambda n: {"or": [{"==": [_var("plan"), f"p{n}"]}, {"in": [_var("tier"), [f"t{n}", "pro"]]}]},
    lambda n: {"!": [{"==": [_var("beta"), n % 2 == 0]}]},
    lambda n: {"and": [{"!=": [_var("country"), None]}, {"or": [{"==": [_var("os"), f"os{n}"]}, {"!": _var("beta")}]}]},
    lambda n: {">": [{"+": [_var("orders"), n % 7]}, 10 + n % 100]},
    lambda n: {"==": [{"%": [_var("age"), 2 + n % 5]}, n % 2]},
    lambda n: {"in": [f"tag-{n}", _var("tags")]},
    lambda n: {"some": [_var("tags"), {"==": [_var(""), f"tag-{n}"]}]},
    lambda n: {"==": [{"cat": [_var("country"), "-", _var("os")]}, f"{COUNTRIES[n % 10]}-os{n}"]},
    lambda n: {"==": [{"substr": [_var("email"), 0, 3]}, f"a{n % 90}"]},
    lambda n: {"<": [{"var": "$flagd.timestamp"}, 1_800_000_000 + n]},
    lambda n: {"==": [{"var": "company.name"}, f"company {n}"]},
    lambda n: {"missing": [f"attribute-{n % 200}"]},
    lambda n: {"$ref": f"segment-{n % SEGMENTS}"},
    lambda n: {"and": [{"$ref": f"segment-{n % SEGMENTS}"}, {"==": [_var("country"), COUNTRIES[n % 10]]}]},
    lambda n: {"if": [{"==": [_var("os"), "ios"]}, {">": [_var("age"), n % 60]}, {"==": [_var("tier"), "pro"]}]},
)
"""One maker a rule shape; the constants depend on the number."""


def scale_document(flag_count: int = SCALE_FLAGS) -> dict[str, Any]:
    """A flag set of ours: many flags with five rules each, in mixed shapes, shares, splits and segments."""
    return {
        "segments": {f"segment-{number}": _segment(number) for number in range(SEGMENTS)},
        "flags": {f"flag-{number:05}": scale_flag(number) for number in range(flag_count)},
    }


def scale_flag(number: int) -> dict[str, Any]:
    """One of the flags of `scale_document`."""
    variants = _variants(number)
    names = list(variants)
    flag: dict[str, Any] = {
        "variants": variants,
        "offVariant": names[-1],
        "rules": [_rule(number, place, names) for place in range(RULES_EACH)],
        "default": names[-1],
        "description": f"Flag number {number} of a large flag set",
        "owner": f"team-{number % 40}",
        "tags": [f"area-{number % 25}"],
    }
    if number % 10 == 3:
        flag["targets"] = {names[0]: [f"user-{number}", f"user-{number + 1}"]}
    if number % 50 == 7:
        flag["prerequisites"] = [{"flag": f"flag-{number - 7:05}", "variants": [next(iter(_variants(number - 7)))]}]
    return flag


def _variants(number: int) -> dict[str, Any]:
    if number % 4 == 1:
        return {"a": f"text {number} a", "b": f"text {number} b", "c": f"text {number} c"}
    if number % 4 == 2:
        return {"low": number, "high": number * 10}
    return {"on": True, "off": False}


def _rule(number: int, place: int, names: list[str]) -> dict[str, Any]:
    seed = number * RULES_EACH + place
    rule: dict[str, Any] = {
        "id": f"rule-{place}",
        "condition": CONDITIONS[(seed * 7 + number // 3) % len(CONDITIONS)](seed),
        "serve": names[seed % len(names)],
    }
    if seed % 5 == 2:
        rule["share"] = {"percent": seed % 100 + 0.5}
    if seed % 7 == 3:
        rule["serve"] = {"weights": {name: 1 + (seed + index) % 9 for index, name in enumerate(names)}}
    return rule


def _segment(number: int) -> dict[str, Any]:
    if number % 3 == 0:
        return {"keys": [f"user-{number}-{index}" for index in range(50)]}
    if number % 3 == 1:
        return {"condition": {"==": [_var("company.name"), f"company {number}"]}}
    return {"condition": {"or": [{"$ref": f"segment-{number - 1}"}, {"==": [_var("tier"), f"tier-{number}"]}]}}


def context(number: int) -> dict[str, Any]:
    """An ordinary context of six attributes."""
    return {
        "targetingKey": f"user-{number}",
        "tier": TIERS[number % 4],
        "country": COUNTRIES[number % 10],
        "age": 18 + number % 60,
        "email": f"person{number}@{'example.com' if number % 2 else 'partner.example.org'}",
        "beta": number % 3 == 0,
    }


def contexts(count: int = 100) -> list[dict[str, Any]]:
    """Ordinary contexts, all different."""
    return [context(number) for number in range(count)]


TIER_RULE: Final = {"==": [_var("tier"), "pro"]}
NESTED_RULE: Final = {
    "or": [
        {"and": [{"==": [_var("tier"), "pro"]}, {">=": [_var("age"), 40]}]},
        {"and": [{"in": [_var("country"), ["de", "fr"]]}, {"!": [_var("beta")]}]},
    ]
}
SPLIT: Final = {"fractional": [_var("email"), ["on", 25], ["off", 75]]}

FLAGD_FLAGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "static": {},
    "one-rule": {"if": [TIER_RULE, "on", "off"]},
    "nested": {"if": [NESTED_RULE, "on", "off"]},
    "fractional": SPLIT,
}
"""Targeting by flag key; each flag is boolean with the variants on and off, off by default."""


def flagd_file(targeting: Mapping[str, Mapping[str, Any]] = FLAGD_FLAGS) -> dict[str, Any]:
    """A flagd file with such flags."""
    return {
        "flags": {
            key: {
                "state": "ENABLED",
                "variants": {"on": True, "off": False},
                "defaultVariant": "off",
                **({"targeting": rule} if rule else {}),
            }
            for key, rule in targeting.items()
        }
    }


def batch_document() -> dict[str, Any]:
    """A flag set of ours with ten flags of mixed kinds: four static ones, three with rules, three with hashes."""
    texts = {"red": "#c00", "blue": "#00c"}
    switch = {"on": True, "off": False}
    rule = {"variants": switch, "default": "off"}
    return {
        "flags": {
            "static-boolean": {"variants": switch, "default": "on"},
            "static-text": {"variants": texts, "default": "red"},
            "static-number": {"variants": {"few": 10, "many": 100}, "default": "many"},
            "static-object": {"variants": {"wide": {"columns": 3, "title": "Shop"}}, "default": "wide"},
            "rule-tier": {**rule, "rules": [{"condition": TIER_RULE, "serve": "on"}]},
            "rule-nested": {**rule, "rules": [{"condition": NESTED_RULE, "serve": "on"}]},
            "rule-email": {
                **rule,
                "rules": [{"condition": {"ends_with": [_var("email"), "@example.com"]}, "serve": "on"}],
            },
            "share": {**rule, "rules": [{"share": {"percent": 20}, "serve": "on"}]},
            "split": {"variants": texts, "default": {"weights": {"red": 1, "blue": 1}}},
            "share-of-tier": {
                **rule,
                "rules": [{"condition": TIER_RULE, "share": {"percent": 50}, "serve": "on"}],
            },
        }
    }
