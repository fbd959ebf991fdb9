"""Feed documents of any shape to the readers: what they accept can be written, compiled and evaluated."""

from server.core.definitions.documents import read_document
from server.core.definitions.flagd import read_flagd
from server.core.errors import InvalidDefinition
from server.core.json import Json
from tests.fuzz.checks import check_accepted, check_refusal
from tests.fuzz.draw import Draw

FIELDS = (
    *("variants", "default", "offVariant", "enabled", "targets", "prerequisites", "rules", "targeting", "type"),
    *("metadata", "state", "defaultVariant", "tags", "kind", "archivedAt", "lenient", "expectedLifetimeDays", "odd"),
)
CONFIG_VALUES: tuple[Json, ...] = (
    *("on", "off", None, True, False, "ENABLED", "DISABLED", "boolean", "object", 7),
    *({"on": True, "off": False}, {"on": "1", "off": "2"}, {"on": 1, "off": 0.5}, {"on": {}, "off": {"a": [1]}}),
    *([{"flag": "f0", "variants": ["on"]}], [{"flag": "f1", "variants": ["on"]}], {"on": ["u1"]}),
    *([{"serve": "on"}], [{"serve": {"weights": {"on": 1}}, "share": {"percent": 12.5}}]),
    *([{"condition": {"$ref": "s0"}, "serve": "on", "outside": "default"}], {"weights": {"on": 1, "off": 2}}),
    *({"if": [{"$ref": "s0"}, "on"]}, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", ["a", "a"]),
)


def test_one(data: bytes) -> None:
    """The first byte chooses format and leniency; the rest becomes a document."""
    draw = Draw(data)
    kind = draw.byte()
    is_flagd, lenient = bool(kind & 1), bool(kind & 2)
    document = _document(draw, is_flagd) if kind & 0xF0 else draw.json()
    read = read_flagd if is_flagd else read_document
    try:
        accepted = read(document, project="shop", environment="live", lenient=lenient)
    except InvalidDefinition as refused:
        check_refusal(refused)
        return
    check_accepted(accepted.flag_set, contexts=[{}, draw.context(), draw.context()])


def _document(draw: Draw, is_flagd: bool) -> Json:
    flags = {f"f{number}": _flag(draw, is_flagd) for number in range(1 + draw.byte() % 3)}
    segments = {f"s{number}": _segment(draw, is_flagd) for number in range(draw.byte() % 3)}
    document = {"flags": flags, "$evaluators" if is_flagd else "segments": segments}
    if draw.byte() > 200:
        document[draw.text()] = draw.json()
    return document


def _flag(draw: Draw, is_flagd: bool) -> Json:
    good: dict[str, Json] = {"variants": draw.one_of(CONFIG_VALUES[10:14])}
    good |= {"state": "ENABLED", "defaultVariant": "on"} if is_flagd else {"default": "on", "offVariant": "off"}
    if draw.byte() < 128:
        good["targeting"] = draw.rule()
    for _ in range(draw.byte() % 4):
        good[draw.one_of(FIELDS)] = draw.one_of(CONFIG_VALUES) if draw.byte() < 160 else draw.json()
    return good


def _segment(draw: Draw, is_flagd: bool) -> Json:
    if is_flagd:
        return draw.rule()
    return draw.one_of(({"keys": ["u1"]}, {"condition": draw.rule()}, {"condition": {"$ref": "s0"}}, draw.json()))
