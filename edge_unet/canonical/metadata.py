"""The metadata blob inside the canonical ONNX: what a runtime must know to use the graph, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import onnx
from pydantic import Field, ValidationError

from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import canonical_json
from edge_unet.core.spec import ClassSpec, Frozen, PreprocessSpec, QuantScheme

METADATA_KEY = "edge_unet"


class Metadata(Frozen):
    """metadata_props["edge_unet"], as JSON."""

    schema_version: Literal[1] = 1
    name: str
    model: str
    """Registry name of the network, for example mobile_unet."""
    level: str | None = None
    """The deep-supervision head that it was pruned to: L1 .. Ln or mean."""
    preprocess: PreprocessSpec
    classes: ClassSpec
    scheme: QuantScheme
    kind: Literal["ptq", "qat"]
    scene: Literal["endoscopy", "lanes"] = "endoscopy"
    """Which procedural scenes stand in for the model's pictures where there is no data: golden frames, demo."""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    seed: int = 0
    licence: str = "unspecified: the weights carry the licence of their training data"
    checkpoint_sha256: str | None = None
    calibration_sha256: str | None = None
    data_sha256: str | None = None
    islands: Mapping[str, str] = Field(default_factory=dict)
    """Module path -> why its nodes stay float. A node belongs to the island whose path its name begins with."""
    versions: Mapping[str, str] = Field(default_factory=dict)


def parse_metadata(text: str) -> Metadata:
    """The blob as an object. Raises ArtifactError where it is damaged."""
    try:
        return Metadata.model_validate_json(text)
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise ArtifactError(f"metadata_props[{METADATA_KEY!r}] is damaged ({reason}); export it again") from error


def write_metadata(model: onnx.ModelProto, metadata: Metadata) -> None:
    """Put the blob into `model`, replacing one that is there."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=canonical_json(metadata.model_dump(mode="json")))
