"""Convolutions whose weights are fake-quantized per output channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.errors import GraphError
from edge_unet.graph.frozen import FrozenConv
from edge_unet.quantization.exact import snap_bias
from edge_unet.quantization.fake_quant import FakeQuant, weight_quant


class QuantConv(nn.Module):
    """A Conv2d or ConvTranspose2d with int8 weights. Parameters keep their names and shapes; a bias always exists.

    Raises GraphError for padding that ONNX Conv does not have (circular, reflect, 'same').
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, name: str) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise GraphError(
                f"convolution {name!r}: padding {conv.padding!r} in mode {conv.padding_mode!r} has no int8 lowering; "
                "expected explicit zero padding"
            )
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.output_padding, self.groups = conv.output_padding, conv.groups
        # A fixed kernel (models.blocks.fixed_conv) stays what it is: weights, bias and scale.
        learns = conv.weight.requires_grad
        self.weight = nn.Parameter(conv.weight.detach().clone(), requires_grad=learns)
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.bias = nn.Parameter(bias, requires_grad=learns)
        self.weight_quant = weight_quant(self.weight, axis=1 if self.transposed else 0).requires_grad_(learns)
        # The quantizer in front, which belongs to the graph: a tuple keeps it out of this module's own children.
        self.fed_by: tuple[FakeQuant, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H', W')."""
        return self.convolve(x, self.weight_quant(self.weight), self.grid_bias())

    def grid_bias(self) -> Tensor:
        """The bias on the int32 grid of the accumulator, input scale * weight scale, and in fp16; straight-through.

        Integer kernels hold the bias there, Core ML in fp16. Left in float, it differs from theirs by up to half a
        step, and about one activation in a thousand lands on another code.
        """
        bias: Tensor = self.bias
        source = self.fed_by[0] if self.fed_by else None
        if source is None or not source.active or not self.weight_quant.active:
            return bias
        with torch.no_grad():
            step = source.scale * self.weight_quant.scale
            if step.numel() < bias.numel():  # a grouped ConvTranspose: its groups share the scales
                step = step.repeat(self.groups)
            snapped = snap_bias(bias, step)
        return snapped + (bias - bias.detach())

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The float convolution with given weights."""
        if self.transposed:
            return functional.conv_transpose2d(
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )  # (N, cout, H * stride, W * stride)
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def frozen(self) -> nn.Module:
        """The constant twin for export."""
        quant = self.weight_quant
        codes, bias = quant.codes(self.weight.detach()), self.grid_bias().detach().clone()
        return FrozenConv(codes, quant.scale.clone(), bias, int(quant.axis or 0), self.convolve)
