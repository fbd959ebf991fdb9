"""The tree of errors that this library raises; none of their messages holds a secret.

WebhookError
  InvalidSetting     every problem of an endpoint's settings, each with its path
  SignatureRefused   a message whose signature does not hold
  AddressRefused     an address that nothing may be sent to; an OSError too: a client's failed connection
  SealBroken         a sealed text that none of the keys opens
  RenderFailed       a template or an integration that gave no body within its bounds
  EvaluationFailed   an expression that gave no answer for an event
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a setting, and where.

    Shapes: path is an RFC 6901 JSON pointer into the endpoint ("" is its root).
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '/'}: {self.message}"


class WebhookError(Exception):
    """Anything that this library refuses; the message says what, which thing, and what helps."""


class InvalidSetting(WebhookError):
    """Settings that were refused; carries every problem that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def at(cls, path: str, message: str) -> "InvalidSetting":
        """The error of one problem."""
        return cls([Problem(path, message)])


class SignatureRefused(WebhookError):
    """A message whose signature does not hold, or that is too old, too new or not signed at all."""


class AddressRefused(WebhookError, OSError):
    """An address that nothing may be sent to; raised where a socket would be opened."""


class SealBroken(WebhookError):
    """A sealed text that was changed, or that none of the keys opens."""


class RenderFailed(WebhookError):
    """A template or an integration that gave no body: it is wrong for this event, or passed a bound."""


class EvaluationFailed(WebhookError):
    """An expression that gave no answer: it does not fit this event, or passed a bound."""
