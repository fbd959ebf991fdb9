"""Keep what a flag's existing rules hash, so that no unit changes its variant unasked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.core.errors import Problem
from server.core.flags import FlagDefinition, Rule, Serve, Split


def keep_salts(
    stored: FlagDefinition, given: FlagDefinition, *, minds_salts: bool = True
) -> tuple[FlagDefinition, Sequence[Problem]]:
    """The given definition with the stored salts, and a problem for each salt or attribute that it tries to change.

    Rules are the same when their ids are. A given salt that is only the default for its place means "keep it". A
    `bucketBy` that is left out is the targeting key, as everywhere. Without `minds_salts` another given salt is no
    problem: nobody has asked for it.
    """
    problems: list[Problem] = []
    by_id = {rule.id: rule for rule in stored.config.rules}
    key = given.key
    path = f"/flags/{key.replace('~', '~0').replace('/', '~1')}"
    rules = tuple(
        _rule(by_id[rule.id], rule, _Place(f"{path}/rules/{index}", f"{key}/{rule.id}", problems, minds_salts))
        if rule.id in by_id
        else rule
        for index, rule in enumerate(given.config.rules)
    )
    at_default = _Place(f"{path}/default", f"{key}/default", problems, minds_salts)
    default = _serve(stored.config.default, given.config.default, at_default)
    if rules == given.config.rules and default == given.config.default:
        return given, problems
    return replace(given, config=replace(given.config, rules=rules, default=default)), problems


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    name: str
    problems: list[Problem]
    minds_salts: bool

    def salt(self, stored: str, given: str, part: str) -> str:
        if self.minds_salts and given not in (stored, f"{self.name}/{part}"):
            self._would_change("salt", stored, given, helps="leave the salt out to keep it")
        return stored

    def attribute(self, stored: str, given: str) -> None:
        if given != stored:
            self._would_change("bucketBy", stored, given, helps=f"write {stored!r} to keep it")

    def _would_change(self, field: str, stored: str, given: str, *, helps: str) -> None:
        self.problems.append(
            Problem(
                f"{self.path}/{field}",
                f"{field} would change from {stored!r} to {given!r}, and units would get other variants than they "
                f"have; {helps}, or ask to rerandomise",
            )
        )


def _rule(stored: Rule, given: Rule, place: _Place) -> Rule:
    share = given.share
    if share is not None and stored.share is not None:
        at_share = replace(place, path=f"{place.path}/share")
        at_share.attribute(stored.share.bucket_by, share.bucket_by)
        share = replace(share, salt=at_share.salt(stored.share.salt, share.salt, "share"))
    serve = _serve(stored.serve, given.serve, replace(place, path=f"{place.path}/serve"))
    assert serve is not None  # A rule always serves something; only a default may be None.
    return replace(given, share=share, serve=serve)


def _serve(stored: Serve | None, given: Serve | None, place: _Place) -> Serve | None:
    if not isinstance(stored, Split) or not isinstance(given, Split):
        return given
    place.attribute(stored.bucket_by, given.bucket_by)
    return replace(given, salt=place.salt(stored.salt, given.salt, "split"))
