"""What ends a run with one line and an exit code that the other side understands."""

from __future__ import annotations

FAILED, DISAGREES, MISSING = 1, 3, 5
"""Exit codes: a failure, golden masks that disagree, something that is not installed on the device."""


class RunnerError(Exception):
    """One line for the user. `exit_code` is one of the codes above."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        self.exit_code = exit_code
        super().__init__(message)
