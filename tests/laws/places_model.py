"""What the services of projects, environments and segments are to do, in plain dictionaries: slow and obvious.

A refused call changes nothing. The model says that a call is refused, not with which words.
"""

from copy import deepcopy
from dataclasses import dataclass, field

USUAL = ("development", "staging", "production")


class Refused(Exception):
    """The call must be refused."""


@dataclass
class Segment:
    """Units by a list of keys, or else by a condition that may refer to another segment."""

    keys: set[str] | None = None
    refers_to: str | None = None


@dataclass
class Place:
    """An environment."""

    name: str = ""
    critical: bool = False
    windows: int = 0
    """Freeze windows that are open now."""

    bucketing: int = 2
    segments: dict[str, Segment] = field(default_factory=dict)
    flags: dict[str, str | None] = field(default_factory=dict)
    """Flag -> the segment that its rule refers to, if it has one."""


@dataclass
class Model:
    """A server."""

    projects: dict[str, str] = field(default_factory=dict)
    """Key -> name."""

    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    """(project, environment) -> what it is."""

    def copy(self) -> "Model":
        """A model that can be changed by itself."""
        return deepcopy(self)

    def refuse_frozen(self, before: "Model") -> None:
        """Refuse what differs in a frozen environment, but for a further window and nothing else."""
        for key, place in before.places.items():
            after = self.places.get(key)
            if place.windows and after != place:
                further = after is not None and after.windows > place.windows
                same = deepcopy(place)
                same.windows = after.windows if after is not None else 0
                refuse_if(not further or same != after)

    # Projects.

    def create_project(self, key: str, environments: tuple[str, ...]) -> None:
        """With its environments."""
        refuse_if(key in self.projects)
        self.projects[key] = ""
        for name in environments:
            self.places[key, name] = Place()

    def rename_project(self, key: str, name: str) -> None:
        """Another name."""
        refuse_if(key not in self.projects)
        self.projects[key] = name

    def delete_project(self, key: str, confirm: str) -> None:
        """With all that it has, unless something in it is critical."""
        refuse_if(key not in self.projects or confirm != key)
        mine = [place for place in self.places if place[0] == key]
        refuse_if(any(self.places[place].critical for place in mine))
        del self.projects[key]
        for place in mine:
            del self.places[place]

    # Environments.

    def create(self, project: str, key: str, name: str) -> None:
        """Without anything in it."""
        refuse_if(project not in self.projects or (project, key) in self.places)
        self.places[project, key] = Place(name)

    def update(self, project: str, key: str, **settings: object) -> None:
        """Some settings."""
        place = self.place(project, key)
        for name, value in settings.items():
            setattr(place, name, value)

    def clone(self, project: str, key: str, source: str, name: str) -> None:
        """All that the other one has, but its name and its freeze windows."""
        copied = deepcopy(self.place(project, source))
        refuse_if((project, key) in self.places)
        copied.name, copied.windows = name, 0
        self.places[project, key] = copied

    def delete(self, project: str, key: str, confirm: str) -> None:
        """With all that it has, unless it is critical."""
        refuse_if(self.place(project, key).critical or confirm != key)
        del self.places[project, key]

    # Segments, and flags that refer to them.

    def put_segment(self, project: str, key: str, segment: str, members: Segment, *, new: bool) -> None:
        """Create one, or give one other members."""
        place = self.place(project, key)
        refuse_if((segment not in place.segments) != new)
        place.segments[segment] = members
        seen = segment
        for _ in range(len(place.segments)):
            refers_to = place.segments[seen].refers_to
            if refers_to is None:
                return
            refuse_if(refers_to not in place.segments)
            seen = refers_to
        raise Refused

    def delete_segment(self, project: str, key: str, segment: str) -> None:
        """Only when nobody refers to it."""
        place = self.place(project, key)
        refuse_if(segment not in place.segments or segment in place.flags.values())
        refuse_if(any(each.refers_to == segment for each in place.segments.values()))
        del place.segments[segment]

    def change_keys(self, project: str, key: str, segment: str, *, add: set[str], remove: set[str]) -> None:
        """Keys of one that lists keys."""
        place = self.place(project, key)
        keys = place.segments[segment].keys if segment in place.segments else None
        if keys is None:
            raise Refused
        place.segments[segment].keys = (keys | add) - remove

    def create_flag(self, project: str, flag: str, segment: str | None) -> None:
        """In all environments of a project, in all of which the segment that it refers to must be."""
        mine = {key: place for (of, key), place in self.places.items() if of == project}
        refuse_if(not mine or any(flag in place.flags for place in mine.values()))
        refuse_if(segment is not None and any(segment not in place.segments for place in mine.values()))
        for place in mine.values():
            place.flags[flag] = segment

    def place(self, project: str, key: str) -> Place:
        """An environment that must be there."""
        refuse_if((project, key) not in self.places)
        return self.places[project, key]


def refuse_if(condition: bool) -> None:
    """Refuse a call."""
    if condition:
        raise Refused
