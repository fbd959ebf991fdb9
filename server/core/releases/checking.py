"""Find all that is wrong with a release's plan, before anything is kept of it."""

import math
from collections.abc import Iterator

from server.core.errors import InvalidDefinition, Problem
from server.core.flags import Split
from server.core.limits import (
    APPROVALS_MAX,
    KEY_CHARS_MAX,
    RELEASE_CHECKS_MAX,
    RELEASE_PATCHES_MAX,
    RELEASE_STEPS_MAX,
    RELEASE_WAIT_S_MAX,
    SHARE_PARTS,
    TEXT_CHARS_MAX,
    VARIANTS_MAX,
)
from server.core.releases.foretelling import is_foretold
from server.core.releases.plan import BackTo, Check, External, Gates, OnTimeout, Patch, Plan, Target


def check_plan(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out. Errors: InvalidDefinition with every problem and its path."""
    problems = list(plan_problems(plan))
    if problems:
        raise InvalidDefinition(problems)


def plan_problems(plan: Plan) -> Iterator[Problem]:
    """All that is wrong with a plan by itself; whether its flags exist is found out by trying it."""
    if not plan.name.strip():
        yield Problem("/name", "a release needs a name")
    for name, text, most in (("name", plan.name, KEY_CHARS_MAX), ("description", plan.description, TEXT_CHARS_MAX)):
        if len(text) > most:
            yield Problem(f"/{name}", f"it has {len(text)} characters, at most {most} are allowed")
    if not 1 <= len(plan.steps) <= RELEASE_STEPS_MAX:
        yield Problem("/steps", f"there are {len(plan.steps)} steps, expected 1 to {RELEASE_STEPS_MAX}")
        return
    if not 0 <= plan.start_approvals <= APPROVALS_MAX:
        yield Problem("/startApprovals", f"it is {plan.start_approvals}, expected 0 to {APPROVALS_MAX}")
    yield from target_problems(plan, plan.back_to, "/backTo")
    for index, step in enumerate(plan.steps):
        path = f"/steps/{index}"
        if not step.patches and index == 0:
            yield Problem(f"{path}/patches", "the first step changes nothing; a release begins with a change")
        if len(step.patches) > RELEASE_PATCHES_MAX:
            yield Problem(
                f"{path}/patches", f"there are {len(step.patches)}, at most {RELEASE_PATCHES_MAX} are allowed"
            )
        for place, patch in enumerate(step.patches):
            yield from _patch_problems(patch, f"{path}/patches/{place}")
        yield from _gate_problems(step.gates, f"{path}/gates")
    yield from _narrowing(plan)
    if plan.by_clock:
        yield from _clock_problems(plan)


def _clock_problems(plan: Plan) -> Iterator[Problem]:
    """Whether the clock has something to do, and can."""
    if not is_foretold(plan):
        text = "no step only widens shares after one that only time leaves, so there is nothing for the clock to do"
        yield Problem("/byClock", text)
    for index, step in enumerate(plan.steps):
        if step.gates.minimum_s != int(step.gates.minimum_s):
            text = f"{step.gates.minimum_s:g} s is no whole number of seconds, and flagd's clock knows no parts of one"
            yield Problem(f"/steps/{index}/gates/minimum", text)


def target_problems(plan: Plan, target: Target, path: str) -> Iterator[Problem]:
    """Whether there is a place to go back to."""
    if target.to is BackTo.STEP and not 0 <= target.step < len(plan.steps):
        yield Problem(path, f"there is no step {target.step + 1}; the release has {len(plan.steps)}")


def _patch_problems(patch: Patch, path: str) -> Iterator[Problem]:
    if not patch.environment or not patch.flag:
        yield Problem(path, "a patch names its environment and its flag")
    if patch.share_parts is not None and not patch.rule:
        yield Problem(f"{path}/share", "a share is of a rule; name the rule")
    if patch.share_parts is not None and not 0 <= patch.share_parts <= SHARE_PARTS:
        yield Problem(f"{path}/share", f"it is {patch.share_parts} parts, expected 0 to {SHARE_PARTS}")
    if patch.sets_condition and not patch.rule:
        yield Problem(f"{path}/condition", "a condition is of a rule; name the rule")
    if len(patch.variants) > VARIANTS_MAX:
        yield Problem(f"{path}/variants", f"there are {len(patch.variants)}, at most {VARIANTS_MAX} are allowed")
    if _changes_nothing(patch):
        yield Problem(path, "the patch changes nothing; say a share, a variant to serve or another field")


def _changes_nothing(patch: Patch) -> bool:
    return (
        patch.share_parts is None
        and patch.serve is None
        and not patch.sets_condition
        and patch.enabled is None
        and patch.prerequisites is None
        and not patch.variants
        and patch.add_rule is None
        and not patch.remove_rule
    )


def _gate_problems(gates: Gates, path: str) -> Iterator[Problem]:
    yield from _seconds(gates.minimum_s, f"{path}/minimum")
    if gates.sample_min < 0:
        yield Problem(f"{path}/sampleMin", f"it is {gates.sample_min}, expected 0 or more")
    if gates.sample_min and not any(not each.dry_run for each in gates.checks):
        yield Problem(f"{path}/sampleMin", "a minimum sample needs a check that counts it, one that is no dry run")
    if not 0 <= gates.approvals <= APPROVALS_MAX:
        yield Problem(f"{path}/approvals", f"it is {gates.approvals}, expected 0 to {APPROVALS_MAX}")
    if len(gates.checks) + len(gates.externals) > RELEASE_CHECKS_MAX:
        yield Problem(path, f"there are more checks and questions than {RELEASE_CHECKS_MAX}")
    for kind, names in (
        ("checks", [each.guard for each in gates.checks]),
        ("externals", [each.name for each in gates.externals]),
    ):
        if len(set(names)) < len(names) or not all(names):
            yield Problem(f"{path}/{kind}", "each has a name, and no two have the same")
    for index, check in enumerate(gates.checks):
        yield from _check_problems(check, f"{path}/checks/{index}")
    for index, external in enumerate(gates.externals):
        yield from _external_problems(external, f"{path}/externals/{index}")


def _check_problems(check: Check, path: str) -> Iterator[Problem]:
    yield from _seconds(check.initial_delay_s, f"{path}/initialDelay")
    if check.passes < 1:
        yield Problem(f"{path}/passes", f"it is {check.passes}, expected 1 or more")
    for name in ("fail", "inconclusive", "no_data", "error"):
        limit = getattr(check, name).limit
        if limit < 0:
            yield Problem(f"{path}/{name}/limit", f"it is {limit}, expected 0 or more")


def _external_problems(external: External, path: str) -> Iterator[Problem]:
    if len(external.name) > KEY_CHARS_MAX:
        yield Problem(f"{path}/name", f"it has {len(external.name)} characters, at most {KEY_CHARS_MAX} are allowed")
    yield from _seconds(external.timeout_s, f"{path}/timeout")
    if external.on_no_go is OnTimeout.GO:
        yield Problem(f"{path}/onNoGo", "a no-go that goes on is no question; hold or roll back")


def _seconds(given: float, path: str) -> Iterator[Problem]:
    if not (math.isfinite(given) and 0 <= given <= RELEASE_WAIT_S_MAX):
        yield Problem(path, f"it is {given} s, expected 0 to {RELEASE_WAIT_S_MAX:g}")


def _narrowing(plan: Plan) -> Iterator[Problem]:
    """A share that gets smaller takes units out, and a release only lets more of them in."""
    shares: dict[tuple[str, str, str], int] = {}
    arms: dict[tuple[str, str, str, str], int] = {}
    for index, step in enumerate(plan.steps):
        for place, patch in enumerate(step.patches):
            path, rule = f"/steps/{index}/patches/{place}", (patch.environment, patch.flag, patch.rule)
            if patch.share_parts is not None:
                had = shares.get(rule, 0)
                if patch.share_parts < had:
                    yield Problem(
                        f"{path}/share",
                        f"the share would shrink from {had / 1000:g} % to {patch.share_parts / 1000:g} %, "
                        "and a release only adds units; to go back is a roll-back",
                    )
                shares[rule] = patch.share_parts
            if isinstance(patch.serve, Split):
                yield from _split_problems(patch.serve, path)
                if plan.kind.value == "canary":
                    # The first is the treatment, the last its control; both only grow.
                    for variant, weight in (patch.serve.weights[0], patch.serve.weights[-1]):
                        if weight < arms.get((*rule, variant), 0):
                            yield Problem(f"{path}/serve", f"the slice of {variant} would shrink")
                        arms[*rule, variant] = weight


def _split_problems(split: Split, path: str) -> Iterator[Problem]:
    if not split.weights:
        yield Problem(f"{path}/serve/weights", "a split needs variants")
