"""List every type of event that others may ask for, and make the data that each of them carries."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from server.core.announcing.acting import acting_types
from server.core.announcing.delivered import delivered_types
from server.core.announcing.fields import EventType
from server.core.announcing.ruled import ruled_types
from server.core.announcing.stale import stale_types
from server.core.announcing.subjects import subject_types
from server.core.announcing.told import told_types
from server.core.json import Json

API_VERSION: Final = "2026-11-01"
"""Of the data's shapes. Fields may be added under it; none goes, and none changes its meaning."""

_TOLD: Final = (*told_types(), *delivered_types(), *stale_types(), *acting_types(), *ruled_types())
_SUBJECTS: Final = tuple(subject_types())

CATALOGUE: Final[Mapping[str, EventType]] = {
    type_.name: type_ for type_, _ in sorted((*_SUBJECTS, *_TOLD), key=lambda each: each[0].name)
}
"""Name -> type."""

_DATA: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Json]]]] = {
    **{type_.name: data for type_, data in _SUBJECTS},
    **{type_.name: group.data for type_, group in _TOLD},
}


def data_of(type_: str, payload: Mapping[str, Any]) -> dict[str, Json]:
    """The data of an event from what was kept of it. {} for a type that this program does not know.

    It is made when it is told and not when it happens: no commit waits for it, and it is the same at each time.
    """
    make = _DATA.get(type_)
    return {} if make is None else make(payload)
