"""Keep issues as GitHub does."""

import json
from collections.abc import Mapping
from typing import Any

from tests.webhooks.calling import GIVEN, SCHEMAS, TOKEN
from webhooks.integrations import render
from webhooks.integrations.shapes import Answer, Prepared


class Hub:
    """Issues of one repository, as GitHub lists and changes them."""

    def __init__(self) -> None:
        self.issues: list[dict[str, Any]] = []

    def answer(self, call: Prepared) -> bytes:
        """The body of its answer."""
        return self.asked(call.method, call.url_suffix, call.body, call.headers["Authorization"])

    def asked(self, method: str, path: str, sent: bytes, authorization: str) -> bytes:
        """The same of a request."""
        assert path.startswith("/repos/octo-org/shop/issues")
        assert authorization == f"Bearer {TOKEN}"
        if method == "GET":
            label = path.partition("labels=")[2].partition("&")[0]
            return json.dumps([each for each in self.issues if label in each["labels"]][:1]).encode()
        body = json.loads(sent)
        SCHEMAS["github_issue"].validate(body)
        if method == "POST":
            self.issues.append({"url": "https://x", "number": len(self.issues) + 7, "state": "open", **body})
            return json.dumps(self.issues[-1]).encode()
        number = int(path.rpartition("/")[2])
        next(each for each in self.issues if each["number"] == number).update(body)
        return b"{}"

    def tell(self, envelope: Mapping[str, Any], **settings: Any) -> None:
        """Deliver an event."""
        known, secrets, _ = GIVEN["github_issue"]
        making = render("github_issue", envelope, settings={**known, **settings}, secrets=secrets)
        call = next(making, None)
        while call is not None:
            try:
                call = making.send(Answer(200, self.answer(call)))
            except StopIteration:
                call = None
