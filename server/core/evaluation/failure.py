"""The one exception of evaluation: a rule that cannot give an answer."""

from server.core.resolution import ErrorCode


class Failure(Exception):
    """Becomes a Resolution with this code and message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        super().__init__(message)
