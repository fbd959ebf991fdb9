"""Say when a flag's configuration becomes another one by the clock alone, and write down what it became.

Shares have steps, and rules begin and end, at instants that every evaluator knows beforehand. So settling changes no
answer: it takes what the clock has made of a flag as written, for its history and for people who read it.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from server.core.flags import FlagConfig, Rule, Share


def settled(config: FlagConfig, at: datetime) -> FlagConfig:
    """The same configuration, without the instants that have come; rules that ended stay, to be read and used again."""
    rules = tuple(_settled_rule(rule, at) for rule in config.rules)
    return config if rules == config.rules else replace(config, rules=rules)


def next_instant(config: FlagConfig, after: datetime) -> datetime | None:
    """The first instant at which there is something to settle: also one that has passed and was not settled.

    The end of a rule counts until it has come, for it leaves nothing to settle.
    """
    waiting = [instant for rule in config.rules for instant in _begins(rule)]
    ends = [rule.ends_at for rule in config.rules if rule.ends_at is not None and rule.ends_at > after]
    return min([*waiting, *ends], default=None)


def ended(config: FlagConfig, at: datetime) -> tuple[str, ...]:
    """The ids of the rules that end at an instant."""
    return tuple(rule.id for rule in config.rules if rule.ends_at == at)


def _settled_rule(rule: Rule, at: datetime) -> Rule:
    share = rule.share if rule.share is None else _settled_share(rule.share, at)
    begun = rule.starts_at is not None and rule.starts_at <= at
    if share is rule.share and not begun:
        return rule
    return replace(rule, share=share, starts_at=None if begun else rule.starts_at)


def _settled_share(share: Share, at: datetime) -> Share:
    later = tuple(step for step in share.steps if step.at > at)
    if len(later) == len(share.steps):
        return share
    return replace(share, parts=share.parts_at(at.timestamp()), steps=later)


def _begins(rule: Rule) -> Iterator[datetime]:
    if rule.starts_at is not None:
        yield rule.starts_at
    if rule.share is not None:
        for step in rule.share.steps:
            yield step.at
