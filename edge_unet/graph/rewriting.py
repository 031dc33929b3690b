"""One rewrite rule of the exporter's optimizer, asked only where it can match.

The rule that joins two Slices into a Split has two results, and onnxscript looks for such a pattern by brute force:
at every node of the graph it collects all nodes anew and tries every Slice, before it sees that the node is none.
That is quadratic, and more than half of the export of a network with thousands of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def slices_at_slices() -> Iterator[None]:
    """Within, the rule is tried at Slice nodes alone: the result is the same."""
    from onnxscript.rewriter.rules.common import slice_split_rule as rule

    tried = rule.try_rewrite

    def at_a_slice(model: Any, graph: Any, node: Any, **options: Any) -> Any:
        return tried(model, graph, node, **options) if node.op_type == "Slice" else None

    rule.try_rewrite = at_a_slice
    try:
        yield
    finally:
        del rule.try_rewrite  # the instance's: the class has its own
