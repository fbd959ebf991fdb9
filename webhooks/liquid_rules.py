"""Hold Liquid within bounds that are counted, never timed, so that a template does the same on every machine.

The library bounds nested loops, output and local names. It does not bound loops one after another, ranges
(`(1..999999999) reversed` fills the memory), filters that multiply, texts that are searched again and again, nor how
long its lexer takes. So every turn of a loop costs as many steps as the template has parts, what is read costs what it
weighs, filters pay for what they make, the ends of a range are figures in the template, and tags are short. Nothing is
included, and nothing asks for the time.

Source: https://jg-rp.github.io/liquid/, python-liquid 2.3.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import StringIO
from typing import Any, Final, TextIO, cast

from liquid import BoundTemplate, Environment, Mode, RenderContext
from liquid.ast import Node
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral
from liquid.builtin.tags import (
    assign_tag,
    capture_tag,
    case_tag,
    comment_tag,
    cycle_tag,
    decrement_tag,
    for_tag,
    if_tag,
    increment_tag,
    inline_comment_tag,
    unless_tag,
)
from liquid.exceptions import (
    LiquidError,
    LiquidSyntaxError,
    LiquidTypeError,
    ResourceLimitError,
    UndefinedError,
    UnknownFilterError,
)
from liquid.expression import Expression
from liquid.token import TOKEN_EXPRESSION, Token
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from webhooks import limits
from webhooks.errors import InvalidSetting, RenderFailed
from webhooks.expressions import CHARS_PER_STEP
from webhooks.liquid_filters import FILTERS, CountedFilter, Missing, Written
from webhooks.words import suggestion

TAGS: Final = (
    *(content.Literal, illegal.Illegal, if_tag.IfTag, unless_tag.UnlessTag, case_tag.CaseTag, for_tag.ForTag),
    *(for_tag.BreakTag, for_tag.ContinueTag, assign_tag.AssignTag, cycle_tag.CycleTag, increment_tag.IncrementTag),
    *(decrement_tag.DecrementTag, comment_tag.CommentTag, inline_comment_tag.InlineCommentTag),
)
"""The library's that stay; `raw` is its lexer's. Output and capture are ours."""

RANGE_MAX: Final = 1_000
_SHOWN_CHARS: Final = 80
_WHOLE: Final = tuple(
    (name, re.compile(rf"{{%-?\s*{name}\b"), re.compile(rf"{{%-?\s*end{name}\b")) for name in ("raw", "doc")
)
"""What the lexer looks for as a whole, from each start to the end of the text."""


class Context(RenderContext):
    """The state of one rendering, which counts its steps."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Without the library's own names, which are the time.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)
        self.steps = 0
        self._sizes: dict[str, int] = {}
        self._size = 0

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        """A value by its path; it is paid for, since whoever reads a long text also looks through it."""
        value = super().get(path, token=token, default=default)
        self.pay(_length(value))
        return value

    def assign(self, key: str, val: Any) -> None:
        """Keep a value under a name. The library adds up all that is kept at each time; this knows what changes."""
        size = _length(val)
        self._size += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        if self._size > limits.TEMPLATE_VALUES_WEIGHT_MAX:
            raise ResourceLimitError("the values that are kept become too large", token=None)
        self.locals[key] = val

    def raise_for_loop_limit(self, length: int = 1) -> None:
        """Pay for a loop before its first turn."""
        self.pay(length * cast(Template, self.template).part_count)

    def pay(self, steps: int) -> None:
        """Errors: ResourceLimitError when it was too much."""
        self.steps += steps
        if self.steps > limits.TEMPLATE_STEPS_MAX:
            raise ResourceLimitError("it takes too many steps; use shorter loops (`limit: 10`)", token=None)


class Template(BoundTemplate):
    """A template that knows how many parts it has."""

    context_class = Context
    part_count = 1


class OutputNode(output.OutputNode):
    """`{{ ... }}`: a text, a number or a truth, escaped for where it stands."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        """Write it. Errors: LiquidError for what is missing, a list or an object."""
        value = self.expression.evaluate(context)
        if not isinstance(value, Written):
            value = cast(Rules, context.env).escape(text_of(value, self))
        return buffer.write(value)


class Output(output.Output):
    """The library's, with our node."""

    node_class = OutputNode


class CaptureNode(capture_tag.CaptureNode):
    """`{% capture %}`: what it holds was escaped when it was written into it."""

    def _assign(self, context: RenderContext, buf: StringIO) -> None:
        context.assign(self.name, Written(buf.getvalue()))


class Capture(capture_tag.CaptureTag):
    """The library's, with our node."""

    node_class = CaptureNode


class Rules(Environment):
    """Tags, filters and bounds of our templates, for one kind of text."""

    block_nesting_limit = limits.TEMPLATE_DEPTH_MAX
    output_stream_limit = limits.RENDERED_BYTES_MAX
    template_class = Template

    def __init__(self, escape: Callable[[str], str]) -> None:
        super().__init__(undefined=Missing, tolerance=Mode.STRICT)
        self.escape = escape

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        """The allowed ones."""
        for tag in (*TAGS, Output, Capture):
            self.add_tag(tag)
        for name, function in FILTERS.items():
            self.add_filter(name, CountedFilter(name, function))

    def read(self, text: str) -> Template:
        """A template that was read and counted. Errors: LiquidError."""
        self._check_marks(text)
        template = cast(Template, self.from_string(text))
        count = 0
        for part, depth in _parts(template):
            count += 1
            if depth > limits.TEMPLATE_PARTS_DEPTH_MAX:
                raise LiquidSyntaxError("it is nested too deep", token=part.token)
            if isinstance(part, RangeLiteral):
                _check_range(part)
            elif isinstance(part, FilteredExpression):
                _check_filters(part)
        template.part_count = count
        return template

    def _check_marks(self, text: str) -> None:
        for start, end in (("{{", "}}"), ("{%", "%}")):
            if text.rfind(start) > text.rfind(end):
                raise LiquidSyntaxError(f"there is {start} without {end} behind it", token=None)
        for name, opened, closed in _WHOLE:
            starts = [found.start() for found in opened.finditer(text)]
            ends = [found.start() for found in closed.finditer(text)]
            if starts and (not ends or starts[-1] > ends[-1]):
                raise LiquidSyntaxError(f"there is {name} without end{name} behind it", token=None)
        blanks = 0
        for char in text:
            blanks = blanks + 1 if char.isspace() else 0
            if blanks > limits.TEMPLATE_BLANKS_MAX:
                raise LiquidSyntaxError(f"more than {limits.TEMPLATE_BLANKS_MAX} blanks in a row", token=None)
        for token in self.tokenizer()(text):
            if token.kind == TOKEN_EXPRESSION and len(token.value) > limits.TEMPLATE_TAG_CHARS_MAX:
                most = limits.TEMPLATE_TAG_CHARS_MAX
                raise LiquidSyntaxError(f"more than {most} characters in one pair of marks", token=token)


def _length(value: object) -> int:
    """What reading a value costs: 1, and more for a long text or a list."""
    if isinstance(value, str):
        return 1 + len(value) // CHARS_PER_STEP
    return 1 + len(value) if isinstance(value, list | dict) else 1


@lru_cache
def rules_of(escape: Callable[[str], str]) -> Rules:
    """The rules of a kind of text, made once."""
    return Rules(escape)


def read_template(text: str, escape: Callable[[str], str], path: str) -> Template:
    """A template of a kind of text. Errors: InvalidSetting, which says the line."""
    try:
        text.encode()
        return rules_of(escape).read(text)
    except UnicodeEncodeError:
        raise InvalidSetting.at(path, "it holds half of a surrogate pair, which is no text") from None
    except LiquidError as error:
        raise InvalidSetting.at(path, _message(error, text)) from None
    except RecursionError:
        raise InvalidSetting.at(path, "it is nested too deep") from None


def render_template(template: Template, text: str, data: Mapping[str, Any]) -> str:
    """What a template, whose text is given for its lines, makes of data. Errors: RenderFailed."""
    try:
        return template.render(**data)
    except LiquidError as error:
        raise RenderFailed(_message(error, text)) from None
    except Exception as error:
        # Filters let Python's own errors through, for figures that are too long or too large; one by one.
        raise RenderFailed(f"{type(error).__name__}: {str(error)[:_SHOWN_CHARS]}") from None


def _message(error: LiquidError, text: str) -> str:
    """What the library says, with the line and what helps."""
    message = str(error.message or type(error).__name__)[: 2 * _SHOWN_CHARS]
    token = error.token
    line = f"line {text.count(chr(10), 0, token.start_index) + 1}: " if token and token.start_index >= 0 else ""
    if isinstance(error, UndefinedError):
        message += "; write {{ x | default: '' }} or {% if x %}, or want fewer types of events"
    elif isinstance(error, UnknownFilterError):
        word = message.partition("'")[2].partition("'")[0]
        message += suggestion(word, FILTERS) or f"; there are {', '.join(sorted(FILTERS))}"
    return line + message


def text_of(value: object, node: Node) -> str:
    """A value as text: a number of whole figures without its `.0`, nil as nothing."""
    if isinstance(value, Missing):
        value.refuse()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int | float):
        return str(value)
    kind = "an object" if isinstance(value, Mapping) else "a list"
    raise LiquidTypeError(f"this is {kind}: write `| json` behind it, or `| join: ', '` for a list", token=node.token)


def _parts(template: Template) -> Iterator[tuple[Node | Expression, int]]:
    """Every node and expression, with how deep it stands."""
    context = RenderContext(template)
    rest: list[tuple[Node | Expression, int]] = [(node, 1) for node in template.nodes]
    while rest:
        part, depth = rest.pop()
        yield part, depth
        inner: list[Node | Expression] = []
        if isinstance(part, Node):
            inner += part.children(context, include_partials=False)
            inner += part.expressions()
        else:
            inner += part.children()
        rest += [(each, depth + 1) for each in inner]


def _check_range(part: RangeLiteral) -> None:
    """A range's ends are figures in the template: what an event holds could make it of any length."""
    start, stop = part.start, part.stop
    if not isinstance(start, IntegerLiteral) or not isinstance(stop, IntegerLiteral):
        raise LiquidSyntaxError("the ends of a range are figures, as in (1..5)", token=part.token)
    if not 0 <= stop.value - start.value < RANGE_MAX:
        raise LiquidSyntaxError(f"a range has 1 to {RANGE_MAX} figures", token=part.token)


def _check_filters(part: FilteredExpression) -> None:
    """A filter that there is not is found where it is written, also where no example comes."""
    for each in part.filters or ():
        if each.name not in FILTERS:
            raise UnknownFilterError(f"unknown filter '{each.name}'", token=each.token)
