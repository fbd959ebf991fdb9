"""Parse YAML into the values that JSON has, event by event, so that neither nesting nor aliases can exhaust anything.

Scalars are read by YAML 1.2's core schema: `on`, `off`, `yes` and `no` are texts, so that variants may be called so;
a date is the text as written. A key is a text whatever it looks like.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml

from server.core.definitions.problems import Path, Problems, pointer_of, shown
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json

NESTING_MAX: Final = 200
"""Mappings and lists inside each other."""

ALIASED_NODES_MAX: Final = 100_000
"""Nodes that all aliases of a document stand for, together."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_COLLECTION_TAGS: Final = frozenset({None, "!", _TAG + "map", _TAG + "seq"})
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*|0[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DIGITS_MAX: Final = 400
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MERGE: Final = "<<"
_TOO_DEEP: Final = "maximum nesting depth"
"""What newer versions of libyaml say of a depth of a thousand."""


def parse_yaml(text: str) -> Json:
    """Read one YAML document.

    Errors: InvalidDefinition, with line and column.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise InvalidDefinition([Problem("", f"{where}{_problem(error)}")]) from None
    except yaml.YAMLError as error:
        raise InvalidDefinition([Problem("", f"{error}; this is not YAML".replace("\n", " "))]) from None
    builder.problems.raise_if_any()
    return builder.root


def _problem(error: yaml.MarkedYAMLError) -> str:
    if error.problem and _TOO_DEEP in error.problem:
        # It looks ahead for a key's colon, so its own bound may be met before ours.
        return f"nested more than {NESTING_MAX} deep"
    return f"{error.problem}; this is not YAML"


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been read."""

    value: Json
    path: Path
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    """The key whose value comes next; None when a key comes next."""

    merges: bool = False
    """Whether that key is a merge; a quoted `"<<"` is a key like any other."""

    merged: list[dict[str, Json]] = field(default_factory=list)


class _Builder:
    def __init__(self) -> None:
        self.problems = Problems()
        self.root: Json = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Json, int]] = {}
        self._aliased = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._start({}, event)
            case yaml.SequenceStartEvent():
                self._start([], event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._refuse(event, "a second document begins here; put each document into a file of its own")

    def _scalar(self, event: Any) -> None:
        if self._wants_key():
            self._key(event)
            return
        value = self._resolve(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(value, 1, event)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _key(self, event: Any) -> None:
        top = self._open[-1]
        key: str = event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1)
        if key == _MERGE and event.implicit[0]:
            top.key, top.merges = _MERGE, True
            return
        if key in top.value:
            self.problems.error((top.path, key), f"line {_line(event)}: this key stands twice in its mapping; keep one")
        top.key = key
        # Reserved at once: a merged mapping must not take the place of a key whose value is still to come.
        top.value[key] = None

    def _start(self, value: Json, event: Any) -> None:
        if self._wants_key():
            self._refuse(event, "a key is a mapping or a list; keys are texts")
        if len(self._open) >= NESTING_MAX:
            self._refuse(event, f"nested more than {NESTING_MAX} deep")
        if event.tag not in _COLLECTION_TAGS:
            self._refuse(event, f"the tag {shown(event.tag)} has no JSON form")
        self._open.append(_Open(value, self._path(), event.anchor))

    def _path(self) -> Path:
        if not self._open:
            return ""
        top = self._open[-1]
        return (top.path, len(top.value) if isinstance(top.value, list) else top.key or "")

    def _end(self) -> None:
        done = self._open.pop()
        for merged in done.merged:
            for key, value in merged.items():
                done.value.setdefault(key, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, done.nodes)
        self._put(done.value, done.nodes, None)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            self._refuse(event, f"the alias *{event.anchor} stands for nothing complete")
        value, nodes = self._anchors[event.anchor]
        if self._wants_key():
            self._refuse(event, "a key is an alias; write the key out")
        self._aliased += nodes
        if self._aliased > ALIASED_NODES_MAX:
            self._refuse(event, f"aliases stand for more than {ALIASED_NODES_MAX} values; write them out")
        self._put(value, nodes, event)

    def _put(self, value: Json, nodes: int, event: Any) -> None:
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        top.nodes += nodes
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.merges:
            self._merge(value, event)
            top.key, top.merges = None, False
        else:
            top.value[top.key] = value
            top.key = None

    def _merge(self, value: Json, event: Any) -> None:
        top = self._open[-1]
        sources = value if isinstance(value, list) else [value]
        if all(isinstance(source, dict) for source in sources):
            top.merged += sources
        else:
            self.problems.error((top.path, _MERGE), "what is merged must be a mapping, or a list of mappings")

    def _resolve(self, event: Any) -> Json:
        text: str = event.value
        tag: str | None = event.tag
        if tag is not None and tag != "!":
            return self._tagged(event, tag, text)
        if tag == "!" or not event.implicit[0]:
            return text
        return self._plain(event, text)

    def _tagged(self, event: Any, tag: str, text: str) -> Json:
        if tag in (_TAG + "str", _TAG + "timestamp"):
            return text
        value = self._plain(event, text)
        wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(tag.removeprefix(_TAG))
        if wanted is float and type(value) is int:
            return float(value)
        if wanted is None or type(value) is not wanted:
            self._refuse(event, f"{shown(text)} with the tag {shown(tag)} has no JSON form")
        return value

    def _plain(self, event: Any, text: str) -> Json:
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{text} is not a number in JSON")
        if len(text) <= _DIGITS_MAX and _INTEGER.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            value = float(text) if len(text) <= _DIGITS_MAX else math.inf
            if not math.isfinite(value):
                self._refuse(event, "a number is too large for a 64-bit float")
            return value
        return text

    def _refuse(self, event: Any, message: str) -> NoReturn:
        path = pointer_of(self._path())
        raise InvalidDefinition([Problem(path, f"line {_line(event)}: {message}")])


def _integer(text: str) -> int:
    unsigned = text.lstrip("+-")
    base = {"0o": 8, "0x": 16}.get(unsigned[:2], 10)
    value = int(unsigned[2:] if base != 10 else unsigned, base)
    return -value if text[0] == "-" else value


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
