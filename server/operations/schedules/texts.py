"""Write out the thing that an event is about, before and after it."""

from server.core.environments import Environment, Project
from server.core.events import Event
from server.core.flags import FlagDefinition
from server.core.segments import Segment
from server.store.mapping import environment_text, flag_text, project_text, segment_text


def texts_of(event: Event) -> tuple[str, str]:
    """(before, after) as JSON; "" for what is not there."""
    return _text(event.before), _text(event.after)


def _text(thing: FlagDefinition | Segment | Environment | Project | None) -> str:
    match thing:
        case FlagDefinition():
            return flag_text(thing).merged
        case Segment():
            return segment_text(thing)
        case Environment():
            return environment_text(thing)
        case Project():
            return project_text(thing)
    return ""
