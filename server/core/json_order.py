"""Keep JSON as it is stored where what is given says the same: on its way it may lose the order of names.

A protobuf message holds the names of an object in no order, and every number as a double. Sent back as it was read, a
flag must not differ.
"""

from dataclasses import replace

from server.core.flags import FlagDefinition, Rule
from server.core.json import Json


def as_stored(stored: FlagDefinition, given: FlagDefinition) -> FlagDefinition:
    """The given definition; its metadata, values, conditions and targeting as stored where they say the same."""
    flag, config = given.flag, given.config
    had = {rule.id: rule for rule in stored.config.rules}
    return replace(
        given,
        flag=replace(
            flag,
            metadata=_kept(stored.flag.metadata, flag.metadata),
            variants={key: _kept(stored.flag.variants.get(key), value) for key, value in flag.variants.items()},
        ),
        config=replace(
            config,
            rules=tuple(_rule(had.get(rule.id), rule) for rule in config.rules),
            targeting=_kept(stored.config.targeting, config.targeting),
        ),
    )


def says_the_same(one: Json, other: Json) -> bool:
    """Whether two JSON values are equal, in whatever order their names stand; true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(says_the_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(says_the_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _rule(stored: Rule | None, given: Rule) -> Rule:
    return given if stored is None else replace(given, condition=_kept(stored.condition, given.condition))


def _kept(stored: Json, given: Json) -> Json:
    return stored if says_the_same(stored, given) else given
