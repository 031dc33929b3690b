"""Which tests share a worker of pytest-xdist, and in which order they are begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ONE_WORKER = ("web",)
"""Folders of tests that install packages in the source tree: two workers at once would tear each other's files."""
FIRST = (
    "test_presets.py", "test_contract.py", "test_ssh_bench.py", "test_phone.py", "test_coreml_interpreter.py",
    "test_search_table.py", "test_reference.py", "test_prune.py", "test_packaging.py",
)  # fmt: skip
"""Files that take minutes: begun last, one of them would keep a single worker busy while the others are done."""
PER_CASE = ("test_presets.py", "test_contract.py")
"""Files whose module fixture is one network: their tests share a worker by network, not by file."""


def group_of(nodeid: str) -> str:
    """What runs on one worker, so that a module's fixtures are made once: its file, its folder or its network."""
    path, _, test = nodeid.partition("::")
    file = Path(path)
    if file.parent.name in ONE_WORKER:
        return file.parent.as_posix()
    case = test.partition("[")[2].removesuffix("]")
    return f"{path}[{case}]" if file.name in PER_CASE and case else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` by our groups, in our order. xdist 3.8 writes its own marks into the tests' ids, which pytest
    9.2 no longer reads: it then groups nothing, without a word (pytest-xdist issue 1386)."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # else the groups of the most tests come first, the longest last
    return ByGroup(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    items.sort(key=lambda item: item.path.name not in FIRST)
