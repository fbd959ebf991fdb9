"""Templates: what they make, what they refuse where they are written, and that none of them takes long."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.announcing.catalogue import CATALOGUE
from tests.webhooks.events import examples
from webhooks import limits
from webhooks.errors import InvalidSetting, RenderFailed
from webhooks.liquid_filters import FILTERS
from webhooks.templates import check_template, compile_template

EVENT: Final[dict[str, Any]] = {
    "id": "evt_1",
    "type": "flag.targeting_changed",
    "timestamp": "2026-11-25T09:00:00.000Z",
    "environment": "production",
    "hops": 0,
    "data": {
        "flag_key": "new-checkout",
        "owner": "",
        "rule_id": None,
        "to_percent": 25.0,
        "enabled": True,
        "tags": ["web", "checkout"],
        "changes": [{"path": "/share", "old": "10", "new": "25"}, {"path": "/owner", "old": "a", "new": 'b"'}],
    },
}


def made(text: str, content_type: str = "text/plain", **changed: Any) -> str:
    """What a template makes of the event, with other data."""
    event = {**EVENT, "data": {**EVENT["data"], **changed}}
    return compile_template(text, content_type).render(event).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ data.flag_key }} {{ data.to_percent }} % {{ data.enabled }}", "new-checkout 25 % true"),
        ("{{ data.rule_id }}{{ data.owner }}{{ hops }}", "0"),
        ("{% if data.enabled and data.to_percent > 20 %}wide{% else %}narrow{% endif %}", "wide"),
        ("{% if data.none %}a{% elsif data.none == nil %}b{% endif %}", "b"),
        ("{{ data.none | default: 'x' }}{{ data.owner | default: 'nobody' }}", "xnobody"),
        ("{% for c in data.changes limit: 1 %}{{ c.path }}={{ c.new }}{% endfor %}", "/share=25"),
        ("{{ data.tags | join: ', ' | upcase }} {{ data.tags.size }} {{ data.tags[0] }}", "WEB, CHECKOUT 2 web"),
        ("{{ data.changes | map: 'path' | json }}", '["/share", "/owner"]'),
        ("{{ timestamp | date: '%d.%m.%Y %H:%M' }} {{ timestamp | date }}", "25.11.2026 09:00 2026-11-25 09:00 UTC"),
        ("{{ data.rule_id | date }}", ""),
        ("{% assign n = data.to_percent | times: 2 | plus: 1 %}{{ n }}", "51"),
        ("{% capture c %}[{{ data.flag_key }}]{% endcapture %}{{ c }}{{ c | size }}", "[new-checkout]14"),
        ("{% case type %}{% when 'flag.targeting_changed' %}t{% else %}e{% endcase %}", "t"),
        ("{% for i in (1..3) %}{{ i }}{% unless forloop.last %}-{% endunless %}{% endfor %}", "1-2-3"),
        ("{% raw %}{{ x }}{% endraw %}{% comment %} {{ y }} {% endcomment %}{% # said %}", "{{ x }}"),
        ("{%- if true -%} a {%- endif -%} b", "ab"),
    ],
)
def test_a_template_is_liquid(text: str, expected: str) -> None:
    """With its conditions, loops and filters; numbers of whole figures have no point."""
    assert expected == made(text)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", '"<\\"\\\\\\n&é\\u0007>"'),
        ("application/vnd.api+json; charset=utf-8", '"<\\"\\\\\\n&é\\u0007>"'),
        ("text/plain", '"<"\\\n&é\x07>"'),
        ("application/x-www-form-urlencoded", '"%3C%22%5C%0A%26%C3%A9%07%3E"'),
        ("application/atom+xml", '"&lt;&quot;\\\n&amp;é\x07&gt;"'),
    ],
)
def test_texts_are_escaped_for_the_body(content_type: str, expected: str) -> None:
    """What an event says cannot end the string that it stands in."""
    assert expected == made('"{{ data.flag_key }}"', content_type, flag_key='<"\\\n&é\x07>')


def test_what_was_captured_is_not_escaped_twice() -> None:
    """It was escaped when it was written into it."""
    assert {"c": '"'} == json.loads(
        made('{% capture c %}{{ data.flag_key }}{% endcapture %}{"c": "{{ c }}"}', "application/json", flag_key='"')
    )


@pytest.mark.parametrize(
    ("text", "content_type", "message"),
    [
        ("\n{{ data.nope }}", "text/plain", "line 2: data.nope is undefined in this event; write .*default: ''"),
        ("{{ data.nope.x | upcase }}", "text/plain", "data.nope.x is undefined|data.nope is undefined"),
        ("{% for x in data.nope %}{% endfor %}", "text/plain", "data.nope is undefined"),
        ("{{ now }}", "text/plain", "'now' is undefined"),
        ("{{ 'now' | date }}", "text/plain", "'now' is no instant"),
        ("{{ data.tags }}", "text/plain", "line 1: this is a list: write `| json`"),
        ("{{ data }}", "application/json", "line 1: this is an object: write `| json`"),
        (
            "{{ data.flag_key }}",
            "application/json",
            "the body is no JSON at line 1 of what was made, near 'new-checkout'",
        ),
        ('{"a": {{ data.rule_id }}}', "application/json", "the body is no JSON"),
        ('{"a": NaN}', "application/json", "the body is no JSON"),
        ("[" * 9_000, "application/json", "the body is no JSON"),
        ("{{ 'x' | append }}", "text/plain", "missing 1 required"),
        ("{{ data.flag_key | round: 'x' | divided_by: 0 }}", "text/plain", "divide by 0"),
        ("{{ '9e9999' | ceil }}", "text/plain", "OverflowError"),
        ("{{ '9e999999' | modulo: 7 }}", "text/plain", "InvalidOperation"),
        ("{% break %}", "text/plain", "unexpected 'break'"),
    ],
)
def test_what_cannot_be_made_is_told(text: str, content_type: str, message: str) -> None:
    """With its line, and with what helps."""
    with pytest.raises(RenderFailed, match=message):
        made(text, content_type)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a template has 1 to 16000 characters, not 0"),
        ("x" * 16_001, "not 16001"),
        ("x{{ a | joyn }}", r"line 1: unknown filter 'joyn'; did you mean 'json'\?"),
        ("{% if false %}{{ a | quuxify }}{% endif %}", "unknown filter 'quuxify'; there are abs, append"),
        ("\n\n{% include 'x' %}", "line 3: unexpected tag 'include'"),
        ("{% render 'x' %}", "unexpected tag 'render'"),
        ("{% tablerow x in y %}{% endtablerow %}", "unexpected tag 'tablerow'"),
        ("{% if a %}", "if"),
        ("{{ a ", "there is {{ without }} behind it"),
        ("{{" * 8_000, "there is {{ without }} behind it"),
        ("{% raw %}" * 1_700, "there is raw without endraw"),
        ("{% doc %}" * 1_700, "there is doc without enddoc"),
        ("{{" + " " * 101 + "}}", "more than 100 blanks in a row"),
        ("{{ " + "a" * 1_001 + " }}", "more than 1000 characters in one pair of marks"),
        ("{{ a" + "[a" * 320 + "]" * 320 + "}}", "nested too deep"),
        ("{% if x %}" * 30 + "{% endif %}" * 30, "nesting limit"),
        ("{% for i in (1..999999999) reversed %}{% endfor %}", "a range has 1 to 1000 figures"),
        ("{% for i in (1..hops) %}{% endfor %}", r"the ends of a range are figures"),
        ("{{ (1..hops) | join }}", r"the ends of a range are figures"),
        ("{% assign a = (1..hops) %}", r"the ends of a range are figures"),
        ("{% if a contains (1..hops) %}{% endif %}", r"the ends of a range are figures"),
        ("{{ a | concat: (1..hops) }}", r"the ends of a range are figures"),
        ("{% case (1..hops) %}{% when 1 %}{% endcase %}", r"the ends of a range are figures"),
        ("{% cycle (1..hops) %}", r"the ends of a range are figures"),
        ("\ud800", "half of a surrogate pair"),
    ],
)
def test_a_wrong_template_is_refused_where_it_is_written(text: str, message: str) -> None:
    """Before anything happens that it would be needed for."""
    with pytest.raises(InvalidSetting, match=f"/template: .*{message}"):
        compile_template(text)


def test_an_unknown_kind_of_body_is_refused() -> None:
    """What stands in it could not be escaped."""
    with pytest.raises(InvalidSetting, match="/content_type: 'image/png' is none of application/json, "):
        compile_template("x", "image/png")


LONG: Final = "{% assign a = 'abcdefghij' %}" + "{% assign a = a | append: a %}" * 13
"""Keeps a text of 80 kB."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% for i in (1..999) %}{% for j in (1..999) %}{% endfor %}{% endfor %}", "too many steps"),
        ("{% for i in (1..999) %}{% endfor %}" * 400, "too many steps"),
        ("{% for i in (1..999) %}" + "{{ '' }}" * 500 + "{% endfor %}", "too many steps"),
        ("{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a %}" * 40, "becomes too large"),
        ("{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | replace: 'x', a %}" * 10, "becomes too large"),
        ("{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | split: '' | join: a %}" * 10, "becomes too large"),
        (
            "{% assign a = '" + "x " * 400 + "' | split: ' ' %}" + "{% assign a = a | concat: a %}" * 20,
            "becomes too large",
        ),
        (
            LONG + "{% for i in (1..99) %}" + "{% if a contains 'zz' %}{% endif %}" * 50 + "{% endfor %}",
            "too many steps",
        ),
        (LONG + "{% if a == b %}{% endif %}" * 300, "too many steps"),
        (LONG + "{% assign b = a %}{% assign c = a %}{% assign d = a %}", "kept become too large"),
        ("{% for i in (1..99) %}" + "{% assign a = i %}" * 400 + "{% endfor %}", "too many steps"),
        ("{% assign a = 9 %}" + "{% assign a = a | times: a %}" * 40, "a number is too large"),
        ("{% for i in (1..999) %}" + "x" * 1_000 + "{% endfor %}", "output stream limit"),
    ],
)
def test_what_would_take_for_ever_is_stopped(text: str, message: str) -> None:
    """By its steps and sizes: no clock is asked."""
    with pytest.raises(RenderFailed, match=message):
        made(text)


def test_a_template_is_tried_on_every_type_that_may_come() -> None:
    """One problem is told once, with the types that have it."""
    template = compile_template('{"flag": "{{ data.flag_key }}"}')
    events = list(examples())
    check_template(template, [each for each in events if "flag_key" in each["data"]])

    with pytest.raises(InvalidSetting) as caught:
        check_template(template, events)

    (problem,) = caught.value.problems
    assert problem.path == "/template"
    assert problem.message.startswith("change_request.applied, change_request.approved, change_request.commented and ")


ALL_FIELDS: Final = (
    '{"text": "{{ type }} in {{ environment | default: project }} by {{ actor.name }}", "data": {{ data | json }}, '
    '"flag": "{{ data.flag_key | default: data.name | default: '
    ' }}"}'
)


@pytest.mark.parametrize("envelope", list(examples()), ids=lambda each: str(each["type"]))
def test_every_type_can_be_rendered(envelope: dict[str, Any]) -> None:
    """The same bytes each time, which are JSON."""
    template = compile_template(ALL_FIELDS)

    assert envelope["data"] == json.loads(template.render(envelope))["data"]
    assert template.render(envelope) == template.render(envelope)
    assert len(CATALOGUE) == len(list(examples()))


ANY_TEXT: Final = st.text(st.characters(exclude_categories=[]), max_size=30) | st.sampled_from(
    ['"', "\\", '"}', "{{ x }}", "{% if %}", "</script>", "\u2028", "\ud800", "`", "'"]
)


@given(ANY_TEXT, st.sampled_from(["", " | upcase", " | append: '\"'", " | truncate: 5", " | escape", " | strip"]))
def test_no_text_of_an_event_breaks_the_json(text: str, filters: str) -> None:
    """Whatever a name or a reason holds, the body has the strings that its template has."""
    template = '{"a": "{{ data.flag_key' + filters + ' }}", "b": {{ data.flag_key | json }}}'
    body = json.loads(made(template, "application/json", flag_key=text))

    assert {"a", "b"} == set(body)
    assert all(isinstance(each, str) for each in body.values())
    if not filters:
        assert body["a"] == body["b"]


WORDS: Final = (
    *(
        "data.tags",
        "data.changes",
        "data.flag_key",
        "data.nope",
        "data",
        "hops",
        "'x'",
        '"',
        "'",
        "1",
        "-9",
        "(1..3)",
        "a",
    ),
    *(
        "nil",
        "true",
        "empty",
        "(1..hops)",
        "[0]",
        ".size",
        ".first",
        "['",
        "9999999999999999999",
        "1.5",
        "0",
        "é",
        "\ud800",
    ),
)
PARTS: Final = st.lists(
    st.sampled_from(
        [
            *("{{ ", " }}", "{% ", " %}", "{%- ", "-%}", "{", "}", " | ", ": ", ", ", " ", "\n"),
            *(
                "if ",
                "endif",
                "for i in ",
                "endfor",
                "assign a = ",
                "capture a",
                "endcapture",
                "case ",
                "when ",
                "endcase",
            ),
            *(
                "unless ",
                "endunless",
                "else",
                "raw",
                "endraw",
                "comment",
                "endcomment",
                "cycle ",
                "increment a",
                "break",
            ),
            *(" == ", " contains ", " and ", " reversed", " limit: ", " offset: continue", "render 'x'", "# x", "doc"),
            *WORDS,
            *(f" | {name}" for name in FILTERS),
        ]
    ),
    max_size=25,
).map("".join)
FILTERED: Final = st.tuples(
    st.sampled_from(WORDS),
    st.lists(st.tuples(st.sampled_from(sorted(FILTERS)), st.lists(st.sampled_from(WORDS), max_size=3))),
).map(
    lambda each: (
        "{{ " + each[0] + "".join(f" | {name}: {', '.join(args)}".rstrip(": ") for name, args in each[1]) + " }}"
    )
)


@given(PARTS | FILTERED | st.text(max_size=40), st.sampled_from(["application/json", "text/plain"]))
def test_no_template_raises_anything_else(text: str, content_type: str) -> None:
    """It is refused, fails for this event, or makes a body within its bound."""
    try:
        body = compile_template(text, content_type).render(EVENT)
    except (InvalidSetting, RenderFailed):
        return

    assert len(body) <= limits.RENDERED_BYTES_MAX
