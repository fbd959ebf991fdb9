"""What flag management is to do, in plain dictionaries: a slow, obvious model to hold the real one against.

A refused call changes nothing. The model says that a call is refused, not with which words.
"""

from copy import deepcopy
from dataclasses import dataclass, field


class Refused(Exception):
    """The call must be refused."""


@dataclass
class Config:
    """A flag in one environment."""

    enabled: bool = False
    off: str | None = None
    default: str | None = None
    targets: dict[str, str] = field(default_factory=dict)
    """Unit -> variant."""

    rules: list[tuple[str, str, int]] = field(default_factory=list)
    """(id, variant, parts of its share) in order."""

    requires: dict[str, str] = field(default_factory=dict)
    """Flag -> the variant that it must serve."""

    segments: dict[str, str] = field(default_factory=dict)
    """Rule id -> the segment in its condition."""

    def mentions(self, variant: str) -> bool:
        """Whether something here serves a variant."""
        served = {self.off, self.default, *self.targets.values(), *(serve for _, serve, _ in self.rules)}
        return variant in served


@dataclass
class Shared:
    """What a flag is in all environments."""

    variants: dict[str, bool]
    owner: str = ""
    archived: bool = False


@dataclass
class Model:
    """One project."""

    environments: list[str]
    flags: dict[str, Shared] = field(default_factory=dict)
    configs: dict[tuple[str, str], Config] = field(default_factory=dict)
    """(environment, flag) -> configuration."""

    segments: set[tuple[str, str]] = field(default_factory=set)
    """(environment, segment)."""

    def copy(self) -> "Model":
        """A model that can be changed by itself."""
        return deepcopy(self)

    def create(self, key: str, enabled_in: list[str]) -> None:
        """A boolean flag in all environments."""
        self._refuse_if(key in self.flags)
        self.flags[key] = Shared({"on": True, "off": False})
        for name in self.environments:
            self.configs[name, key] = Config(name in enabled_in, "off", "on")

    def delete(self, key: str) -> None:
        """From all environments."""
        self._flag(key)
        self._refuse_if(bool(self.requiring(key)))
        del self.flags[key]
        for name in self.environments:
            self.configs.pop((name, key), None)

    def archive(self, key: str) -> None:
        """Off everywhere, and nobody edits it."""
        flag = self._flag(key)
        self._refuse_if(any(not self.flags[name].archived for name in self.requiring(key)))
        flag.archived = True

    def restore(self, key: str) -> None:
        """As it was."""
        self._flag(key).archived = False

    def set_owner(self, key: str, owner: str) -> None:
        """A shared field."""
        self._editable(key).owner = owner

    def put_variant(self, key: str, variant: str, value: bool) -> None:
        """Other environments serve it too, so it cannot get another value."""
        variants = self._editable(key).variants
        self._refuse_if(variant in variants and variants[variant] != value)
        variants[variant] = value

    def remove_variant(self, key: str, variant: str) -> None:
        """Only when nothing serves it."""
        variants = self._editable(key).variants
        self._refuse_if(variant not in variants)
        mine = [config for (_, flag), config in self.configs.items() if flag == key]
        needed = [config.requires.get(key) for config in self.configs.values()]
        self._refuse_if(any(config.mentions(variant) for config in mine) or variant in needed or len(variants) == 1)
        del variants[variant]

    def set_enabled(self, environment: str, key: str, enabled: bool) -> None:
        """On or off. One that is archived can only be turned off, for when it comes back."""
        self._refuse_if(self._flag(key).archived and enabled)
        self.config(environment, key).enabled = enabled

    def set_target(self, environment: str, key: str, unit: str, variant: str) -> None:
        """A unit has one variant."""
        self._needs_variant(key, variant)
        self.config(environment, key).targets[unit] = variant

    def remove_target(self, environment: str, key: str, unit: str) -> None:
        """Nothing happens where it is none."""
        self._editable(key)
        self.config(environment, key).targets.pop(unit, None)

    def add_rule(self, environment: str, key: str, rule: tuple[str, str, int], segment: str | None) -> None:
        """At the end."""
        self._needs_variant(key, rule[1])
        config = self.config(environment, key)
        self._refuse_if(any(name == rule[0] for name, _, _ in config.rules))
        self._refuse_if(segment is not None and (environment, segment) not in self.segments)
        config.rules.append(rule)
        if segment is not None:
            config.segments[rule[0]] = segment

    def replace_rule(self, environment: str, key: str, rule: tuple[str, str, int]) -> None:
        """Where it stands; its condition goes."""
        self._needs_variant(key, rule[1])
        config = self.config(environment, key)
        places = [place for place, (name, _, _) in enumerate(config.rules) if name == rule[0]]
        self._refuse_if(not places)
        config.rules[places[0]] = rule
        config.segments.pop(rule[0], None)

    def remove_rule(self, environment: str, key: str, rule_id: str) -> None:
        """Others stay."""
        self._editable(key)
        config = self.config(environment, key)
        self._refuse_if(all(name != rule_id for name, _, _ in config.rules))
        config.rules = [rule for rule in config.rules if rule[0] != rule_id]
        config.segments.pop(rule_id, None)

    def require(self, environment: str, key: str, needed: str | None, variant: str) -> None:
        """At most one prerequisite, and never in a circle."""
        self._editable(key)
        config = self.config(environment, key)
        if needed is None:
            config.requires = {}
            return
        flag = self.flags.get(needed)
        self._refuse_if(flag is None or flag.archived or variant not in flag.variants)
        config.requires = {needed: variant}
        seen = key
        for _ in range(len(self.flags) + 1):
            following = list(self.configs[environment, seen].requires) if (environment, seen) in self.configs else []
            if not following:
                return
            (seen,) = following
        raise Refused

    def copy_config(self, origin: str, environment: str, key: str) -> None:
        """All but whether it is on; what the rules refer to must be there."""
        self._editable(key)
        copied = deepcopy(self.config(origin, key))
        copied.enabled = self.config(environment, key).enabled
        self._refuse_if(any((environment, segment) not in self.segments for segment in copied.segments.values()))
        self.configs[environment, key] = copied
        for needed, variant in copied.requires.items():
            self.require(environment, key, needed, variant)

    def put_segment(self, environment: str, segment: str) -> None:
        """Created, or there already."""
        self.segments.add((environment, segment))

    def remove_segment(self, environment: str, segment: str) -> None:
        """Only when no rule refers to it."""
        self._refuse_if((environment, segment) not in self.segments)
        users = [config for (name, _), config in self.configs.items() if name == environment]
        self._refuse_if(any(segment in config.segments.values() for config in users))
        self.segments.discard((environment, segment))

    def requiring(self, key: str) -> list[str]:
        """Flags that require one."""
        return [flag for (_, flag), config in self.configs.items() if key in config.requires]

    def config(self, environment: str, key: str) -> Config:
        """A flag's configuration."""
        self._refuse_if((environment, key) not in self.configs)
        return self.configs[environment, key]

    def _flag(self, key: str) -> Shared:
        self._refuse_if(key not in self.flags)
        return self.flags[key]

    def _editable(self, key: str) -> Shared:
        flag = self._flag(key)
        self._refuse_if(flag.archived)
        return flag

    def _needs_variant(self, key: str, variant: str) -> None:
        self._refuse_if(variant not in self._editable(key).variants)

    @staticmethod
    def _refuse_if(condition: bool) -> None:
        if condition:
            raise Refused
