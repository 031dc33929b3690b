"""From a checkpoint back to the network it holds."""

from __future__ import annotations

from torch import nn

from edge_unet.core.errors import ArtifactError
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint
from edge_unet.quantization.prepare import prepare

_SHOWN = 200
"""Characters of torch's own message: it lists every weight of the network."""


def restore(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint in eval mode: the float one, or (ptq, qat) the fx.GraphModule with fake-quant on.

    Raises ArtifactError where the weights do not fit the recipe in the header.
    """
    net = build(checkpoint.info.recipe)
    if checkpoint.info.kind != "fp32":
        net = prepare(net, checkpoint.info.recipe)
    try:
        net.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        found = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        found = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}…"
        raise ArtifactError(
            f"checkpoint {checkpoint.sha256[:12]} ({checkpoint.info.kind}) does not fit its own recipe: "
            f"{found}; it was written by another version, train again"
        ) from error
    return net.eval()
