"""The processes that train together: one, or as many as torchrun started."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Peers:
    """This process's place among `world` processes, and its device. Rank 0 validates and writes."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.world > 1:
            distributed.barrier()

    def place(self, net: nn.Module) -> nn.Module:
        """The network on this process's device, channels last, its BN ready to be shared."""
        if self.device.type == "cuda" and self.world > 1:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        placed: nn.Module = net.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def share(self, net: nn.Module) -> nn.Module:
        """The network whose backward averages the gradients of all processes.

        On GPUs BN becomes SyncBatchNorm (statistics of the global batch). PyTorch has none on a CPU: there each
        process normalises its own share, and rank 0's running statistics are everybody's.
        """
        if self.world == 1:
            return net
        if self.device.type == "cuda":
            return DistributedDataParallel(net, device_ids=[self.device.index])
        return DistributedDataParallel(net)


def default_device() -> torch.device:
    """CUDA device LOCAL_RANK where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def join_peers(device: torch.device | None = None) -> Peers:
    """Join the process group torchrun announces in the environment (nccl on CUDA, gloo on CPU); alone without one.

    The group lives as long as the process: one that is left and joined again waits for ever.
    """
    device = device or default_device()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Peers(0, 1, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Peers(distributed.get_rank(), world, device)
