"""Start a module as a process of its own, talk to it by lines, and end it one way or the other."""

import contextlib
import os
import signal
import subprocess
import sys

from tests.crash.timed import PATIENCE_S, ROOT


class Process:
    """`python -m MODULE ARGUMENT...` from the project's root; it ends with its input, if not before."""

    def __init__(self, module: str, *arguments: str, failpoint: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLAGSTAFF_FAILPOINT": failpoint}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def line(self) -> str:
        """The next line that it prints; "" when it is gone."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Send it a line, if it is there."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def end(self) -> int:
        """Ask it to end; its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it as a power cut would, also when it sleeps."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
