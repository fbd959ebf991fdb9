"""Make the body of a delivery from a template that its endpoint's owner wrote, in Liquid.

What stands between `{{` and `}}` is escaped for the kind of body: in JSON a text never ends the string that it stands
in. `| json` writes a whole value instead. A field that an event does not have is false in a condition and can be given
a default; to write it is an error, since a template that quietly writes nothing is found out by its reader. So a
template is tried on an example of every type of event that may come, where it is written.
"""

import html
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from webhooks import limits
from webhooks.errors import InvalidSetting, Problem, RenderFailed

if TYPE_CHECKING:
    from webhooks.liquid_rules import Template as Liquid

JSON_TYPE: Final = "application/json"
TYPES_SHOWN_MAX: Final = 3
_SHOWN_CHARS: Final = 80


def escape_json(text: str) -> str:
    """A text as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


ESCAPES: Final[Mapping[str, Callable[[str], str]]] = {
    JSON_TYPE: escape_json,
    "application/x-www-form-urlencoded": quote_plus,
    "application/xml": html.escape,
    "text/html": html.escape,
    "text/markdown": str,
    "text/plain": str,
}
"""Media type -> how a text is written in it. `+json` and `+xml` are as their families."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that is ready to be rendered."""

    text: str
    content_type: str
    liquid: "Liquid"

    def render(self, envelope: Mapping[str, Any]) -> bytes:
        """The body for an event, the same bytes each time.

        Errors: RenderFailed, which says the line and what helps: a field that is missing, a body that is no JSON where
        it should be, a bound that was passed.
        """
        text: str = _liquid().render_template(self.liquid, self.text, _plain(envelope))
        if _family(self.content_type) == JSON_TYPE:
            _check_json(text)
        return text.encode()


def compile_template(text: str, content_type: str = JSON_TYPE, path: str = "/template") -> Template:
    """Read a template. Errors: InvalidSetting, which says the line: for what is no Liquid, or too long or deep."""
    if _family(content_type) not in ESCAPES:
        known = ", ".join(ESCAPES)
        raise InvalidSetting.at("/content_type", f"{content_type[:_SHOWN_CHARS]!r} is none of {known}")
    if not 0 < len(text) <= limits.TEMPLATE_CHARS_MAX:
        most = limits.TEMPLATE_CHARS_MAX
        raise InvalidSetting.at(path, f"a template has 1 to {most} characters, not {len(text)}")
    return Template(text, content_type, _liquid().read_template(text, ESCAPES[_family(content_type)], path))


def check_template(template: Template, examples: Iterable[Mapping[str, Any]], path: str = "/template") -> None:
    """Render it for an example of each type of event that may come.

    Errors: InvalidSetting with each problem that shows, and for which types.
    """
    failed: dict[str, list[str]] = {}
    for envelope in examples:
        try:
            template.render(envelope)
        except RenderFailed as error:
            failed.setdefault(str(error), []).append(str(envelope["type"]))
    if failed:
        raise InvalidSetting([Problem(path, f"{_listed(types)}: {message}") for message, types in failed.items()])


def _family(content_type: str) -> str:
    """The media type without its parameters, or the one whose rules it follows."""
    media = content_type.partition(";")[0].strip().lower()
    for suffix, family in (("+json", JSON_TYPE), ("+xml", "application/xml")):
        if media.endswith(suffix):
            return family
    return media


def _plain(value: Any) -> Any:
    """The same JSON with texts that UTF-8 has; half of a surrogate pair becomes U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_plain(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            around = text[max(0, error.pos - 20) : error.pos + 20]
            where = f" at line {error.lineno} of what was made, near {around!r}"
        raise RenderFailed(f"the body is no JSON{where}; write {{{{ x | json }}}} for whole values") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _listed(types: list[str]) -> str:
    more = f" and {len(types) - TYPES_SHOWN_MAX} more" if len(types) > TYPES_SHOWN_MAX else ""
    return ", ".join(types[:TYPES_SHOWN_MAX]) + more


def _liquid() -> ModuleType:
    """What reads templates, loaded when there is one: its libraries take 18 MB and a while."""
    from webhooks import liquid_rules  # noqa: PLC0415

    return liquid_rules
