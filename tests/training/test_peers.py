"""Two processes over gloo against one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge_unet.core.recipe import AugmentSpec, DataSpec, DistillSpec, LossSpec, LossTerms, Recipe, TrainSpec
from edge_unet.models import build
from edge_unet.models.checkpoint import CheckpointInfo, save_checkpoint
from edge_unet.training.peers import join_peers
from edge_unet.training.state import load_state, state_path

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from edge_unet.core.recipe import Recipe
from edge_unet.data.open import open_data
from edge_unet.training import phases, loop, train_both

class Watched(loop.Loop):
    def run(self):
        result = super().run()
        rank = os.environ.get("RANK", "0")
        weights = {k: v.clone().contiguous() for k, v in self.net.named_parameters()}
        save_file(weights, f"{sys.argv[2]}-{self.job.phase}-{rank}.safetensors")
        return result

torch.set_num_threads(1)
phases.Loop = Watched
recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_text())
data = {f"{split}_data": open_data(recipe, split) for split in ("train", "val")}
data["teacher"] = Path(sys.argv[4]) if len(sys.argv) > 4 else None
fp32 = Path(sys.argv[3])
if fp32.is_file():
    phases.train(recipe, Path(sys.argv[2]), phase="qat", init=fp32, **data)
else:
    train_both(recipe, Path(sys.argv[2]), **data)
"""

NEUTRAL = AugmentSpec.model_validate(dict.fromkeys(AugmentSpec.model_fields, 0.0) | {"scale": (1.0, 1.0), "patch": 1.0})


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def run(script: Path, config: Path, out: Path, fp32: Path, processes: int, *teacher: Path) -> None:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={free_port()}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), str(config), str(out), str(fp32)]
    command += [str(path) for path in teacher]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun with gloo over localhost")
@pytest.mark.parametrize("taught", [False, True])
def test_two_processes_train_as_one(tmp_path: Path, recipe: Recipe, taught: bool) -> None:
    """FP32: both ranks end with the same bits. BN normalises each half of a batch by itself on a CPU, so one process
    differs there. QAT has no BN left: from the same FP32 weights, two processes end where one does, up to the order
    of summation (and the grid steps it flips). So too with a teacher, an adapter and every term of the loss."""
    qat = TrainSpec(epochs=1, batch=8, learning_rate=1e-4, warmup_epochs=0, clip_norm=100.0)
    recipe = recipe.model_copy(
        update={
            "augment": NEUTRAL,  # its random numbers are per process, so that no process augments another's share
            "data": DataSpec(scene_count=32),
            "train": recipe.train.model_copy(update={"stages": (), "epochs": 1}),
            "quantize": recipe.quantize.model_copy(update={"qat": qat}),
        }
    )
    teacher: list[Path] = []
    if taught:
        loss = LossSpec(terms=LossTerms.model_validate(dict.fromkeys(LossTerms.model_fields, 0.3)))
        recipe = recipe.model_copy(update={"loss": loss, "distill": DistillSpec(features=1.0)})
        teacher = [tmp_path / "teacher.safetensors"]
        save_checkpoint(teacher[0], CheckpointInfo(kind="fp32", recipe=recipe), build(recipe).state_dict())
    script, config = tmp_path / "script.py", tmp_path / "recipe.json"
    script.write_text(SCRIPT, encoding="utf-8")
    config.write_text(recipe.model_dump_json(), encoding="utf-8")
    run(script, config, tmp_path / "two", tmp_path / "absent", 2, *teacher)
    run(script, config, tmp_path / "one", tmp_path / "two" / "fp32.safetensors", 1, *teacher)
    for phase in ("fp32", "qat"):
        first, second = (load_file(tmp_path / f"two-{phase}-{rank}.safetensors") for rank in (0, 1))
        for name, weight in first.items():
            assert torch.equal(weight, second[name]), f"{phase} {name} differs between the ranks"
    two, one = (load_file(tmp_path / f"{run_name}-qat-0.safetensors") for run_name in ("two", "one"))
    moments = [load_state(state_path(tmp_path / name, "qat")).part("optimizer") for name in ("two", "one")]
    apart = torch.cat([(two[name] - one[name]).abs().flatten() for name in one])
    assert float(apart.mean()) < 2e-5  # 4 steps of AdamW at 1e-4 move a weight by up to 4e-4
    for name in (name for name in moments[0] if name.endswith("exp_avg")):
        a, b = (m[name].flatten() for m in moments)
        if b.norm() > 1e-4:
            assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.98, name


def test_alone_there_is_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    net = torch.nn.Linear(1, 1)
    peers = join_peers(torch.device("cpu"))
    assert (peers.rank, peers.world, peers.leads) == (0, 1, True)
    assert peers.share(net) is net
    peers.wait()
    assert not torch.distributed.is_initialized()
