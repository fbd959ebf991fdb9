"""Say what an integration is: the settings that it takes, and the calls that it makes for an event.

An integration writes calls and makes none. It is a generator: it yields a call, is sent the answer of it, and ends when
there is nothing more to call; so one that must look before it writes is written like any other. It reads no clock and
draws no chance, so that every attempt makes the same calls.
"""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from webhooks.errors import InvalidSetting, Problem, RenderFailed
from webhooks.templates import JSON_TYPE, Template, check_template, compile_template
from webhooks.words import suggestion

TEXT_CHARS_MAX: Final = 500
TEXTS_MAX: Final = 50
TEXT_TYPE: Final = "text/plain"
TEMPLATES_KEPT: Final = 256
"""Compiled templates of one process; more are compiled anew."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an owner decides of an integration, as the API, the command line and the documents list it."""

    name: str
    help: str
    required: bool = False
    secret: bool = False
    """Whether it stands under secrets, where it is sealed, and not under settings."""

    many: bool = False
    """Whether it is a list of texts."""

    choices: tuple[str, ...] = ()
    pattern: str = ""
    """What it must match as a whole."""

    default: str | tuple[str, ...] = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One call: url_suffix is put behind the endpoint's URL.

    `secret_body` says that the body holds a secret: such a body is never kept or shown.
    """

    body: bytes = field(repr=False)
    method: str = "POST"
    url_suffix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content_type: str = JSON_TYPE
    secret_body: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a call that succeeded (2xx); the body may be cut."""

    status: int
    body: bytes = b""


Calls = Generator[Prepared, Answer, None]
"""No call at all: the event is nothing that this integration tells."""


@dataclass(frozen=True, slots=True)
class Job:
    """An event, and what an endpoint's owner has decided."""

    envelope: Mapping[str, Any]
    settings: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)
    template: str
    known: Mapping[str, Setting]

    def text(self, name: str) -> str:
        """A setting that is one text, or its default."""
        given = (self.secrets if self.known[name].secret else self.settings).get(name)
        return str(given) if given else str(self.known[name].default)

    def texts(self, name: str) -> tuple[str, ...]:
        """A setting that is a list; one that was given empty is empty."""
        given = self.settings.get(name)
        return tuple(self.known[name].default) if given is None else tuple(given)

    def said(self) -> str:
        """What the template makes as plain text; "" without one. Errors: RenderFailed."""
        return compiled(self.template, TEXT_TYPE).render(self.envelope).decode().strip() if self.template else ""


@dataclass(frozen=True, slots=True)
class Integration:
    """A format that an endpoint may have."""

    name: str
    about: str
    target: str
    """What the endpoint's URL is."""

    calls: Callable[[Job], Calls]
    settings: tuple[Setting, ...] = ()
    template: str = ""
    """What a template of its endpoint makes; "" when it takes none."""

    template_required: bool = False
    serial: bool = False
    """Whether its deliveries go one at a time: it looks before it writes."""

    def job(
        self, envelope: Mapping[str, Any], settings: Mapping[str, Any], secrets: Mapping[str, str], template: str
    ) -> Job:
        """What its calls are made of."""
        return Job(envelope, settings, secrets, template, {each.name: each for each in self.settings})

    def settings_schema(self) -> dict[str, Any]:
        """A JSON Schema of its settings, for those who show a form; `check` refuses the same, and says what helps."""
        shown = [each for each in self.settings if not each.secret]
        return {
            "type": "object",
            "properties": {each.name: _schema(each) for each in shown},
            "required": [each.name for each in shown if each.required],
            "additionalProperties": False,
        }

    def secret_names(self) -> tuple[str, ...]:
        """What stands under secrets."""
        return tuple(each.name for each in self.settings if each.secret)

    def template_type(self, settings: Mapping[str, Any]) -> str:
        """The media type of what a template makes."""
        named = {each.name: each for each in self.settings}
        return str(settings.get(CONTENT_TYPE) or named[CONTENT_TYPE].default) if CONTENT_TYPE in named else TEXT_TYPE

    def check(self, settings: Mapping[str, Any], secrets: Mapping[str, str], template: str) -> None:
        """Errors: InvalidSetting with every problem of settings, secrets and template. No message repeats a secret."""
        problems = [*self._setting_problems(settings, secrets)]
        if template and not self.template:
            problems.append(Problem("/template", f"{self.name} takes none"))
        elif template or self.template_required:
            try:
                compile_template(template, self.template_type(settings))
            except InvalidSetting as error:
                problems += [
                    Problem("/settings" + each.path if each.path == f"/{CONTENT_TYPE}" else each.path, each.message)
                    for each in error.problems
                ]
        if problems:
            raise InvalidSetting(problems)

    def try_on(
        self,
        settings: Mapping[str, Any],
        secrets: Mapping[str, str],
        template: str,
        *,
        examples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Make its first call for an example of each type that may come, or its body where there is a template.

        Errors: InvalidSetting, each problem once with its types.
        """
        if template:
            check_template(compile_template(template, self.template_type(settings)), examples)
        for each in examples:
            try:
                next(self.calls(self.job(each, settings, secrets, template)), None)
            except RenderFailed as error:
                raise InvalidSetting.at("/template", f"{each['type']}: {error}") from None

    def _setting_problems(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Iterator[Problem]:
        for place, given, secret in (("/settings", settings, False), ("/secrets", secrets, True)):
            known = {each.name: each for each in self.settings if each.secret == secret}
            other = {each.name for each in self.settings if each.secret != secret}
            for name in given:
                if name in other:
                    yield Problem(f"{place}/{name}", "stands under settings" if secret else "stands under secrets")
                elif name not in known:
                    help_ = suggestion(name, known) or f"; there are {', '.join(known) or 'none'}"
                    yield Problem(f"{place}/{name[:40]}", f"{self.name} has none of that name{help_}")
            for name, setting in known.items():
                problem = _value_problem(setting, given.get(name))
                if problem:
                    yield Problem(f"{place}/{name}", problem)


CONTENT_TYPE: Final = "content_type"


@lru_cache(TEMPLATES_KEPT)
def compiled(text: str, content_type: str) -> Template:
    """A template that is compiled once. Errors: RenderFailed, since it was checked where it was written."""
    try:
        return compile_template(text, content_type)
    except InvalidSetting as error:
        raise RenderFailed(str(error)) from None


def _schema(setting: Setting) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX}
    if setting.choices:
        text["enum"] = list(setting.choices)
    if setting.pattern:
        text["pattern"] = f"^(?:{setting.pattern})$"
    made = {"type": "array", "items": text, "maxItems": TEXTS_MAX} if setting.many else text
    more = {"description": setting.help, "default": setting.default, "examples": [setting.example]}
    if setting.many:
        more |= {"default": list(setting.default), "examples": []}
    return made | {name: each for name, each in more.items() if each and each != [""]}


def _value_problem(setting: Setting, given: Any) -> str:
    if given is None or given in ("", []):
        return f"is required: {setting.help}" if setting.required else ""
    if setting.many:
        if not isinstance(given, list | tuple) or len(given) > TEXTS_MAX or not all(map(_is_text, given)):
            return f"expected a list of at most {TEXTS_MAX} texts: {setting.help}"
        return "".join(filter(None, (_text_problem(setting, each) for each in given)))[:TEXT_CHARS_MAX]
    if not _is_text(given):
        return f"expected a text of at most {TEXT_CHARS_MAX} characters: {setting.help}"
    return _text_problem(setting, given)


def _is_text(given: Any) -> bool:
    return isinstance(given, str) and 0 < len(given) <= TEXT_CHARS_MAX and given.isprintable()


def _text_problem(setting: Setting, given: str) -> str:
    if setting.choices and given not in setting.choices:
        return f"expected one of {', '.join(setting.choices)}"
    if setting.pattern and not re.fullmatch(setting.pattern, given):
        return f"expected {setting.help}" + (f", such as {setting.example}" if setting.example else "")
    return ""
