"""Give tests of guards a shop with a flag and a metric."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.core.access import Action
from server.core.changes import PutFlag
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.metrics import Metrics
from server.operations.writes import Write
from tests.announced import check_announced
from tests.operations.guarding import EDITOR, RULED, House
from tests.store.definitions import NOW, flag, new_shop, put


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A shop with a flag and a metric."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(RULED), PutFlag(flag("banner", tags=["sale"])), PutFlag(flag("footer")))
    Metrics(engine).create("shop", Metric("errors", MetricKind.RATIO), Write(EDITOR, Action.EDIT, NOW))
    yield House(engine)
    check_announced(engine)
    engine.dispose()
