"""The JSON schema of report.json, generated: `python -m edge_unet.measure.report.schema > docs/report.schema.json`."""

from __future__ import annotations

import sys
from typing import Any

from edge_unet.core.files import canonical_json
from edge_unet.core.report import BenchReport

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DERIVED = ("p50_ns", "p90_ns", "p99_ns", "mean_ns")
"""Written beside the samples they come from, and checked on reading."""
_INFINITE = {"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity", "NaN"]}], "title": "Sqnr Db"}


def report_schema() -> dict[str, Any]:
    """What report.json may hold. The model's own schema does not know of quantiles that are derived, nor of the
    words that stand for an infinite SQNR."""
    schema = BenchReport.model_json_schema(mode="validation")
    measurement = schema["$defs"]["Measurement"]
    for name in DERIVED:
        measurement["properties"][name] = {
            "type": "integer", "title": name, "description": "Derived from samples_ns, and must agree with them."
        }  # fmt: skip
    sqnr = schema["$defs"]["LayerRow"]["properties"]["sqnr_db"]
    schema["$defs"]["LayerRow"]["properties"]["sqnr_db"] = {**sqnr, **_INFINITE}
    schema["$defs"]["LayerRow"]["properties"]["sqnr_db"].pop("type", None)
    return {"$schema": DIALECT, "title": "edge_unet report.json", **{k: v for k, v in schema.items() if k != "title"}}


def main() -> None:
    """Print the schema."""
    sys.stdout.write(canonical_json(report_schema()))


if __name__ == "__main__":
    main()
