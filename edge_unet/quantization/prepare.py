"""From a float network to one with fake-quant at every place where the exported graph has Q/DQ."""

from __future__ import annotations

from torch import fx, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.quantization.fake_quant import INPUT_SCALE, LOGIT_SCALE, FakeQuant, activation_quant
from edge_unet.quantization.fold import trace_folded
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.sharing import Group, plan_groups


def prepare(net: nn.Module, recipe: Recipe) -> fx.GraphModule:
    """A quantized copy of the float network `net`: eval trace, BN folded, int8 weights, one quantizer per shared grid.

    Weight scales are set from the weights; activation scales are NaN until `calibrate` or a checkpoint sets them,
    except the input's 1/64 and the logits' 1/16. Raises GraphError for an op without a rule, UsageError where the
    recipe's normalisation does not put u8 pixels on the int8 grid.
    """
    frame = recipe.preprocess
    if frame.mean != 128 or frame.scale != INPUT_SCALE:
        raise UsageError(
            f"preprocess.mean={frame.mean}, scale={frame.scale}: quantization needs mean=128, scale={INPUT_SCALE}, "
            "so that a u8 pixel is an int8 code; train with these"
        )
    traced = trace_folded(net)
    groups = plan_groups(traced)
    for name, module in list(traced.named_modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            traced.add_submodule(name, QuantConv(module, name))
    for group in groups:
        _insert(traced, group, recipe)
    _tell_convolutions_their_input(traced)
    traced.recompile()
    # New buffers are made on the CPU; a network that is already on its device stays there.
    device = next((p.device for p in net.parameters()), None)
    return traced if device is None else traced.to(device)


def _tell_convolutions_their_input(net: fx.GraphModule) -> None:
    """Give each convolution the quantizer it reads from: the bias lies on the grid of the two scales' product.

    One that reads a float tensor, or is called on several grids, keeps its bias in float.
    """
    modules = dict(net.named_modules())
    sources: dict[str, set[FakeQuant | None]] = {}
    for node in net.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], QuantConv):
            made = node.args[0]
            found = modules.get(str(made.target)) if made.op == "call_module" else None
            sources.setdefault(node.target, set()).add(found if isinstance(found, FakeQuant) else None)
    for name, found_set in sources.items():
        (source, *others) = found_set
        convolution = modules[name]
        if source is not None and not others and isinstance(convolution, QuantConv):
            convolution.fed_by = (source,)


def _insert(net: fx.GraphModule, group: Group, recipe: Recipe) -> None:
    """One quantizer module, called after every site of the group and on every edge that enters it."""
    fixed = {"input": INPUT_SCALE, "logits": LOGIT_SCALE, "learned": None}[group.kind]
    path = f"quant.{group.key}"
    net.add_submodule(path, activation_quant(recipe.quantize.scheme, fixed))
    for site in group.sites:
        with net.graph.inserting_after(site):
            quantized = net.graph.call_module(path, (site,))
        site.replace_all_uses_with(quantized)
        quantized.args = (site,)  # the line above turned this input on itself
    for concat, source in group.entries:
        # By now the frame's own quantizer may stand between the two: quantize what the Concat reads.
        made = next(n for n in concat.all_input_nodes if n is source or source in n.all_input_nodes)
        with net.graph.inserting_before(concat):
            again = net.graph.call_module(path, (made,))
        concat.replace_input_with(made, again)
