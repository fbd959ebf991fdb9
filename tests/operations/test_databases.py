"""A database is opened with as little as it needs."""

import subprocess
import sys
from pathlib import Path

from server.operations.databases import migrate

ASK = """
import sys
from server.operations.databases import open_to_read, open_to_write, read_state
with open_to_write(sys.argv[1]), open_to_read(sys.argv[1]):
    print(read_state(sys.argv[1]), "alembic" in sys.modules)
"""


def test_a_current_database_is_opened_without_alembic(tmp_path: Path) -> None:
    """It takes a tenth of a server's start, and tens of megabytes."""
    url = f"sqlite:///{tmp_path / 'flags.db'}"
    migrate(url)
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", ASK, url], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )

    assert "current False\n" == told.stdout
