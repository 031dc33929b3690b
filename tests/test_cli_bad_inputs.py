"""Every mistake in an input file: one clear line, the right exit code, nothing lost or overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from command_line import Call, Outcome, fix_hashes
from small_road import Road

RUN_MAIN = "from edge_unet.cli import main\nmain()"
HEAVY = ("torch", "openvino", "coremltools", "ai_edge_litert", "onnxruntime", "tensorrt", "onnx", "cv2", "av")


class TestBadInputs:
    """Each: one clear line that names the file, the right exit code, nothing lost or overwritten."""

    def assert_refused(self, done: Outcome, code: int, *parts: str) -> None:
        assert done.code == code, done.err
        lines = [line for line in done.err.splitlines() if not line.startswith("INFO:")]
        assert lines[0].startswith("error: ")
        assert all(line.startswith("  ") for line in lines[1:])  # further lines only list offenders
        for part in parts:
            assert part in done.err

    @pytest.mark.parametrize("keep", [0, 7, 0.5, 0.99])
    @pytest.mark.parametrize("name", ["canonical.onnx", "ptq.safetensors"])
    def test_a_truncated_model(self, road: Road, bundles: dict[str, Path], call: Call, name: str, keep: float) -> None:
        whole = (road.ptq if name == "ptq.safetensors" else bundles["onnx"] / name).read_bytes()
        short = Path(name)
        short.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
        self.assert_refused(call("export", short, "--target", "onnx", "--out", "out"), 1, name)
        if name == "ptq.safetensors":
            self.assert_refused(call("evaluate", short, "--data", road.data), 1, name)
            self.assert_refused(call("quantize", short, "--out", "new.safetensors"), 1, name)
        assert [p.name for p in Path.cwd().iterdir() if any(p.rglob("*")) or p.is_file()] == [name]

    def test_a_foreign_onnx(self, call: Call) -> None:
        node = onnx.helper.make_node("Relu", ["x"], ["y"], "act")
        value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy"]
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), "foreign.onnx")
        done = call("export", "foreign.onnx", "--out", "out")
        assert done.code == 1
        assert "Traceback" not in done.err
        assert "error: " in done.err
        assert not Path("out").exists()

    @pytest.mark.parametrize("name", ["model.onnx", "canonical.onnx", "golden/00.png", "MODEL_CARD.md"])
    @pytest.mark.parametrize("damage", ["truncated", "missing"])
    def test_a_damaged_bundle(self, road: Road, bundles: dict[str, Path], call: Call, name: str, damage: str) -> None:
        shutil.copytree(bundles["onnx"], "bundle")
        file = Path("bundle") / name
        whole = file.read_bytes()
        file.unlink()
        if damage == "truncated":
            file.write_bytes(whole[: len(whole) // 2])
        listed = "golden" if name.startswith("golden") else name
        for arguments in (("verify", "bundle"), ("evaluate", "bundle", "--data", road.data), ("bench", "bundle")):
            self.assert_refused(call(*arguments), 1, listed, "export the bundle again")
        assert not Path("out").exists()

    @pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '{"schema_version": 2}'])
    def test_a_damaged_manifest(self, bundles: dict[str, Path], call: Call, text: str) -> None:
        shutil.copytree(bundles["onnx"], "bundle")
        Path("bundle/manifest.json").write_text(text)
        self.assert_refused(call("verify", "bundle"), 1, "manifest.json: damaged manifest")

    def test_a_wrong_sha256(self, bundles: dict[str, Path], call: Call) -> None:
        shutil.copytree(bundles["onnx"], "bundle")
        with Path("bundle/model.onnx").open("r+b") as stream:
            stream.seek(5000)
            byte = stream.read(1)
            stream.seek(5000)
            stream.write(bytes([byte[0] ^ 1]))
        self.assert_refused(call("verify", "bundle"), 1, "model.onnx: sha256 expected", "received")

    @pytest.mark.parametrize("name", ["kit.json", "model.onnx", "dropped.json"])
    def test_a_damaged_artifact_whose_hashes_were_made_to_fit(
        self, bundles: dict[str, Path], call: Call, name: str
    ) -> None:
        shutil.copytree(bundles["jetson"], "bundle")
        file = Path("bundle/jetson") / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        fix_hashes(Path("bundle"))
        self.assert_refused(call("verify", "bundle"), 1, name)

    PICTURES = {
        "RGBA": (np.zeros((64, 64, 4), np.uint8), "alpha"),
        "16-bit": (np.zeros((64, 64, 3), np.uint16), "8 bits"),
        "another size": (np.zeros((32, 64, 3), np.uint8), "32"),
    }
    MASKS = {
        "in colour": (np.zeros((64, 64, 3), np.uint8), "one 8-bit channel"),
        "16-bit": (np.zeros((64, 64), np.uint16), "one 8-bit channel"),
        "unknown labels": (np.full((64, 64), 7, np.uint8), "unknown labels"),
    }

    @pytest.mark.parametrize("what", PICTURES)
    def test_a_wrong_image(self, road: Road, bundles: dict[str, Path], call: Call, what: str) -> None:
        pixels, message = self.PICTURES[what]
        shutil.copytree(road.data, "data")
        for split in ("train", "val"):
            cv2.imwrite(f"data/{split}/images/003.png", pixels)
        self.assert_refused(call("evaluate", bundles["onnx"], "--data", "data"), 2, "val/", "003.png", message)
        self.assert_refused(
            call("train", "--recipe", road.recipe, "--data", "data", "--out", "run"), 2, "003.png", message
        )
        assert not Path("run").exists()

    @pytest.mark.parametrize("what", MASKS)
    def test_a_wrong_mask(self, road: Road, bundles: dict[str, Path], call: Call, what: str) -> None:
        pixels, message = self.MASKS[what]
        shutil.copytree(road.data, "data")
        for name in ("002.png", "005.png"):
            cv2.imwrite(f"data/val/masks/{name}", pixels)
        self.assert_refused(call("verify", bundles["onnx"], "--data", "data"), 2, "002.png", "005.png", message)

    def test_files_without_a_partner(self, road: Road, bundles: dict[str, Path], call: Call) -> None:
        shutil.copytree(road.data / "val", "data")
        Path("data/masks/001.png").unlink()
        Path("data/images/004.png").unlink()
        Path("data/images/006.png").write_bytes(b"")
        done = call("evaluate", bundles["onnx"], "--data", "data")
        self.assert_refused(
            done, 2, "001.png: image without a mask", "004.png: mask without an image", "006.png: not a read"
        )

    def test_empty_folders(self, bundles: dict[str, Path], call: Call) -> None:
        Path("data").mkdir()
        self.assert_refused(call("evaluate", bundles["onnx"], "--data", "data"), 2, "data", "images/")
        for name in ("images", "masks"):
            (Path("data") / name).mkdir()
        self.assert_refused(call("evaluate", bundles["onnx"], "--data", "data"), 2, "data", "empty")
        self.assert_refused(call("train", "--data", "data", "--out", "run"), 2, "data", "empty")
        Path("frames").mkdir()
        arguments = ("--source", f"file://{Path('frames').resolve()}", "--sink", "none")
        self.assert_refused(call("camera", bundles["onnx"], *arguments), 2, "frames")

    def test_a_place_that_cannot_be_written(self, road: Road, bundles: dict[str, Path], call: Call) -> None:
        Path("file").write_text("precious")
        bench = Path("bench.json")
        for arguments in (
            ("export", road.ptq, "--target", "onnx", "--out", "file"),
            ("bench", bundles["onnx"], "--out", "file/bench.json"),
            ("quantize", road.fp32, "--out", "file/q.safetensors"),
            ("train", "--recipe", road.recipe, "--data", road.data, "--out", "file"),
        ):
            self.refused_last(call(*arguments), "cannot write file")
        Path("results").mkdir()
        Path("results/old.json").write_text("precious")
        for arguments in (
            ("bench", bundles["onnx"], "--out", "results"),
            ("quantize", road.fp32, "--out", "results"),
        ):
            self.refused_last(call(*arguments), "cannot write results: it is a folder")
        assert Path("file").read_text() == Path("results/old.json").read_text() == "precious"
        assert not bench.exists()

    def refused_last(self, done: Outcome, message: str) -> None:
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith(f"error: {message}")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[train]\nlearning_rat = 1", "unknown key 'train.learning_rat'; did you mean 'learning_rate'?"),
            ("[quantize.qat]\nepoch = 1", "unknown key 'quantize.qat.epoch'; did you mean 'epochs'?"),
            ("[train]\nepochs = -1", "train.epochs: Input should be greater than 0"),
            ("[train\n", "cannot read the recipe"),
            ('[model]\nname = "mobile_unett"', "did you mean 'mobile_unet'?"),
            ("[preprocess]\nheight = 60\nwidth = 64", "multiples of 32, received 60x64"),
        ],
    )
    def test_a_recipe_with_a_mistake(self, road: Road, call: Call, text: str, message: str) -> None:
        Path("recipe.toml").write_text(text)
        done = call("train", "--recipe", "recipe.toml", "--data", road.data, "--out", "run")
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
        assert not Path("run").exists()

    @pytest.mark.parametrize("text", ["", "{}", "[]", "no json", '{"title": 3}'])
    def test_a_damaged_result_file(self, call: Call, text: str) -> None:
        Path("result.json").write_text(text)
        self.assert_refused(call("report", "result.json", "--out", "page"), 1, "result.json: damaged report")
        assert not Path("page").exists()
