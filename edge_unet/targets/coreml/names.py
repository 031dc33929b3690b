"""ONNX tensor names -> MIL identifiers, and back.

MIL allows [A-Za-z_][A-Za-z0-9_]*, and the fp16 pass appends `_cast_fp16` to what it retypes. The map from MIL names to
canonical names therefore travels inside the package (user-defined metadata), and `base_name` undoes the suffix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationError

from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import canonical_json
from edge_unet.core.spec import Frozen

NAMES_KEY = "edge_unet.names"
_SUFFIX = re.compile(r"_cast_fp16(_\d+)?$")
# Words of the MIL grammar (coremltools NameSanitizer.reserved_names); an identifier must be none of them.
_RESERVED = frozenset(
    {
        *("any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "state"),
        *("bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)


class WeightName(Frozen):
    """One quantized weight. `per_channel` keeps a scale vector of one channel apart from a scalar."""

    name: str
    per_channel: bool


class NameTable(Frozen):
    """MIL name -> canonical name, for every tensor that has a scale; MIL name -> path of the float island it is in."""

    schema_version: Literal[1] = 1
    activations: dict[str, str]
    weights: dict[str, WeightName]
    islands: dict[str, str] = Field(default_factory=dict)

    def island(self, op: Any) -> str | None:
        """The path of the float island that a MIL op is part of."""
        known = (base_name(name) for name in (op.name, *(output.name for output in op.outputs)))
        return next((self.islands[name] for name in known if name in self.islands), None)

    def dump(self) -> str:
        """The table as JSON, same table same text."""
        return canonical_json(self.model_dump(mode="json"))


def parse_names(text: str, *, source: str) -> NameTable:
    """The table back from its JSON. Raises ArtifactError naming `source` where it is damaged."""
    try:
        return NameTable.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"{source}: metadata {NAMES_KEY!r} is damaged; export the model again") from error


def base_name(mil: str) -> str:
    """A MIL variable name without the suffix of the fp16 pass."""
    return _SUFFIX.sub("", mil)


class Names:
    """Gives every ONNX tensor one MIL identifier, the same in every run. `kept` are named first (graph inputs and
    outputs, which an app addresses by name)."""

    def __init__(self, kept: Iterable[str]) -> None:
        self._mil: dict[str, str] = {}
        self._taken: set[str] = set()
        for name in kept:
            self.mil(name)

    def mil(self, onnx: str) -> str:
        """The MIL identifier of an ONNX tensor."""
        if onnx not in self._mil:
            wish = re.sub(r"[^A-Za-z0-9_]", "_", onnx)
            if not re.match(r"[A-Za-z]", wish) or wish in _RESERVED or _SUFFIX.search(wish):
                wish = f"t_{wish}_"  # also takes a name of ours that ends like the fp16 suffix out of its way
            name, number = wish, 2
            while name in self._taken:
                name, number = f"{wish}_v{number}", number + 1
            self._taken.add(name)
            self._mil[onnx] = name
        return self._mil[onnx]
