"""Give templates the filters of Liquid that are safe, each paid for.

Left out are those that read the clock (`date: "now"`), take the square of a text's length (`strip_html`, `uniq`), or
mark something as safe. `date` and `json` are ours. A filter that could multiply a text, `replace` and `join`, is
reckoned before it is done; all others make at most some times what they are given, which is weighed before and after.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from liquid.builtin.filters import array, math, misc, string
from liquid.exceptions import FilterArgumentError, ResourceLimitError, UndefinedError
from liquid.undefined import Undefined, is_undefined

from webhooks import limits
from webhooks.expressions import CHARS_PER_STEP, weight

DATE_FORMAT_CHARS_MAX: Final = 100


class Written(str):
    """Text that is written as it is: what it holds was escaped before."""

    __slots__ = ()


class Missing(Undefined):
    """What an event does not have: false, equal to nil, taken by `default`, and an error wherever it would be used."""

    force_liquid_default = True

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or is_undefined(other)

    __hash__ = None  # type: ignore[assignment]  # As for any value that is equal to others.

    def refuse(self, *_: object) -> Any:
        """Errors: UndefinedError, always."""
        raise UndefinedError(f"{self.name if self.hint is None else self.hint} in this event", token=self.token)

    __str__ = __len__ = __iter__ = __getitem__ = __contains__ = __int__ = __reversed__ = refuse


def to_json(value: object) -> Written:
    """The `json` filter: any value as JSON, written as it is."""
    return Written(json.dumps(value, ensure_ascii=False, allow_nan=False))


def date(value: object, form: object = "%Y-%m-%d %H:%M UTC") -> str:
    """The `date` filter: an instant of RFC 3339 by a format of strftime, in UTC; what is empty stays empty."""
    if value in (None, ""):
        return ""
    if not (isinstance(value, str) and isinstance(form, str)) or len(form) > DATE_FORMAT_CHARS_MAX:
        raise FilterArgumentError("date takes an instant as a text, and a format such as '%Y-%m-%d'", token=None)
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC).strftime(form)
    except (ValueError, OverflowError):
        raise FilterArgumentError(f"{value[:40]!r} is no instant such as 2026-11-25T09:00:00Z", token=None) from None


_STRING: Final = (
    *("append", "capitalize", "downcase", "escape", "lstrip", "newline_to_br", "prepend", "remove", "remove_first"),
    *(
        "remove_last",
        "replace",
        "replace_first",
        "replace_last",
        "rstrip",
        "split",
        "squish",
        "strip",
        "strip_newlines",
    ),
    *("truncate", "truncatewords", "upcase", "url_encode", "base64_encode"),
)
_ARRAY: Final = ("compact", "concat", "find", "first", "has", "join", "last", "reject", "reverse", "sort", "where")
_MATH: Final = ("at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "times")

FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: getattr(string, name) for name in _STRING},
    **{name: getattr(array, name) for name in _ARRAY},
    **{name: getattr(math, name) for name in _MATH},
    **{"slice": string.slice_, "map": array.map_, "sum": array.sum_, "abs": math.abs_, "round": math.round_},
    **{"default": misc.default, "size": misc.size, "date": date, "json": to_json},
}
"""Name -> function, uncounted."""


class CountedFilter:
    """A filter that pays for what it is given and what it makes."""

    with_context = True
    """The library's word for a filter that gets the context, as `context`."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.with_environment = getattr(function, "with_environment", False)

    def __call__(self, *values: Any, context: Any, **named: Any) -> Any:
        """The function's value. Errors: the library's; for values that are missing, too large, or would become so."""
        given = [*values, *(each for name, each in named.items() if name != "environment")]
        for each in given:
            if isinstance(each, Missing) and self.name != "default":
                each.refuse()
            context.pay(self._weight(each))
        if self.name in _GROWTH and _GROWTH[self.name](*values) > limits.TEMPLATE_VALUE_WEIGHT_MAX * CHARS_PER_STEP:
            raise self._too_large()
        made = self.function(*values, **named)
        context.pay(self._weight(made))
        return made

    def _weight(self, value: Any) -> int:
        if isinstance(value, int) and value.bit_length() > limits.TEMPLATE_NUMBER_BITS_MAX:
            raise ResourceLimitError(f"{self.name}: a number is too large", token=None)
        if isinstance(value, range):
            value = list(value)
        found = weight(value, limits.TEMPLATE_VALUE_WEIGHT_MAX)
        if found > limits.TEMPLATE_VALUE_WEIGHT_MAX:
            raise self._too_large()
        return found

    def _too_large(self) -> ResourceLimitError:
        return ResourceLimitError(f"{self.name}: a value becomes too large", token=None)


def _replaced_chars(text: Any = "", old: Any = "", new: Any = "", *_: Any) -> int:
    whole = str(text)
    return len(whole) + whole.count(str(old)) * len(str(new))


def _joined_chars(values: Any = (), separator: Any = " ", *_: Any) -> int:
    each = values if isinstance(values, list | tuple | range) else [values]
    chars: int = sum(len(str(value)) for value in each)
    return chars + len(each) * len(str(separator))


_GROWTH: Final[Mapping[str, Callable[..., int]]] = {"replace": _replaced_chars, "join": _joined_chars}
