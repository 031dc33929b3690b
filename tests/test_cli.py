"""The command line as a user meets it: help, JSON, exit codes, and one clear line for every mistake."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blocked import run_without
from command_line import VERBS, Call, Outcome, edge_unet, wrong_scale
from small_road import Road
from typer.main import get_command

from edge_unet import __version__
from edge_unet.cli import app
from edge_unet.core.files import sha256_of
from edge_unet.core.report import BenchReport, Schedule, write_report
from edge_unet.measure.environment import read_environment
from edge_unet.pipeline import bench as bench_module
from edge_unet.pipeline import reference

RUN_MAIN = "from edge_unet.cli import main\nmain()"
HEAVY = ("torch", "openvino", "coremltools", "ai_edge_litert", "onnxruntime", "tensorrt", "onnx", "cv2", "av")


class TestHelp:
    def test_help_is_quick_and_light(self) -> None:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            done = edge_unet("--help")
            seconds.append(time.perf_counter() - started)
            assert done.code == 0
        assert statistics.median(seconds) < 0.5
        assert all(verb in done.out for verb in VERBS)

    def test_help_loads_neither_torch_nor_a_toolchain(self) -> None:
        code = "import atexit, sys\natexit.register(lambda: print('MODULES', *sorted(sys.modules)))\n" + RUN_MAIN
        done = run_without([], code, "--help")
        loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()[1:]}
        assert done.returncode == 0
        assert "typer" in loaded
        assert not loaded & {*HEAVY, "numpy"}

    def test_every_verb_and_option_is_documented(self) -> None:
        commands = get_command(app).commands  # type: ignore[attr-defined]
        assert tuple(sorted(commands)) == tuple(sorted(VERBS))
        for name, command in commands.items():
            assert command.help, name
            options = {option: p for p in command.params for option in p.opts}
            assert "--json" in options, name
            undocumented = [o for o, p in options.items() if p.param_type_name == "option" and not p.help]
            assert undocumented == [], name

    @pytest.mark.parametrize("verb", VERBS)
    def test_each_verb_prints_its_help(self, call: Call, verb: str) -> None:
        done = call(verb, "--help")
        assert (done.code, done.err) == (0, "")
        assert "Usage:" in done.out
        assert "--json" in done.out

    def test_version(self) -> None:
        assert edge_unet("--version") == Outcome(0, __version__ + "\n", "")

    def test_no_verb_shows_the_help(self, call: Call) -> None:
        done = call()
        assert done.code == 2
        assert "Commands:" in done.out + done.err


class TestJson:
    @pytest.mark.slow
    def test_export_in_a_process_of_its_own(self, road: Road, tmp_path: Path) -> None:
        done = edge_unet("export", road.ptq, "--target", "android", "--out", tmp_path, "--json")
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 1
        row = done.value
        assert set(row) == {"bundle", "artifact", "target", "precision", "sha256", "bytes"}
        assert (row["target"], row["precision"]) == ("android", "int8")
        assert row["sha256"] == sha256_of(Path(row["artifact"]))
        assert row["bytes"] == Path(row["artifact"]).stat().st_size
        assert "android" in done.err

    def test_without_json_progress_is_on_stdout(self, road: Road, call: Call) -> None:
        done = call("export", road.ptq, "--target", "onnx")
        assert done.code == 0
        assert "onnx: " in done.out
        assert (Path("out/export/discs-onnx-int8") / "manifest.json").is_file()

    def test_verify(self, road: Road, bundles: dict[str, Path], call: Call) -> None:
        keys = {"agreement", "max_lsb", "scales_equal", "payloads_equal", "int8_layers", "float_layers", "passed"}
        done = call("verify", bundles["cpu"], "--data", road.data, "--json")
        assert (done.code, set(done.value)) == (0, keys)
        assert done.value["passed"] is True
        assert len(done.out.splitlines()) == 1
        both = call("verify", bundles["cpu"], bundles["onnx"], "--data", road.data, "--json")
        assert [set(row) for row in both.value] == [keys, keys]

    def test_evaluate(self, road: Road, bundles: dict[str, Path], call: Call) -> None:
        for model in (bundles["android"], road.ptq):
            done = call("evaluate", model, "--data", road.data, "--json")
            assert done.code == 0
            assert set(done.value) == {"dice", "iou", "per_class", "images"}
            assert set(done.value["per_class"]) == {"background", "foreground"}
            assert done.value["images"] == 8
            assert done.value["dice"] > 0.9

    def test_bench_then_report(self, bundles: dict[str, Path], call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bench_module, "RAPID", Schedule(warmup_runs=1, warmup_ns=0, runs=3, burst=3))
        done = call("bench", bundles["onnx"], "--rapid", "--json")
        assert done.code == 0
        keys = {"runtime", "precision", "scope", "p50_ns", "p90_ns", "p99_ns", "runs", "peak_rss_bytes"}
        assert [set(row) for row in done.value] == [keys] * 4
        assert {(row["precision"], row["scope"]) for row in done.value} == {
            (precision, scope) for precision in ("int8", "fp32") for scope in ("model", "end_to_end")
        }
        for row in done.value:
            assert 0 < row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"]
        page = call("report", "out/bench.json", "--json")
        assert page.code == 0
        assert {key: Path(path).is_file() for key, path in page.value.items()} == {
            "html": True, "markdown": True, "junit": True, "csv": True, "smaller": True, "bigger": True, "json": True,
        }  # fmt: skip

    def test_quantize(self, road: Road, call: Call) -> None:
        for flag in ((), ("--ptq",)):
            done = call("quantize", road.fp32, *flag, "--json")
            assert done.code == 0
            assert set(done.value) == {"checkpoint", "sha256", "observer", "images", "data"}
            assert done.value["sha256"] == sha256_of(Path("ptq.safetensors"))

    def test_train(self, road: Road, call: Call) -> None:
        arguments = ("--recipe", road.recipe, "--data", road.data, "--out", "run", "--phase", "fp32", "--epochs", "1")
        done = call("train", *arguments, "--json")
        assert done.code == 0
        assert set(done.value) == {"fp32"}
        assert Path(done.value["fp32"]["checkpoint"]).is_file()
        assert "val_dice" in done.value["fp32"]["metrics"]

    def test_camera(self, road: Road, bundles: dict[str, Path], call: Call) -> None:
        pytest.importorskip("av", reason="the camera extra is not installed")
        source = f"file://{road.data / 'val/images'}"
        done = call("camera", bundles["onnx"], "--source", source, "--sink", "none", "--frames", "3", "--json")
        assert done.code == 0
        assert done.value["frames"] == 3
        assert set(done.value["stages"]) == {"wait", "decode", "preprocess", "infer", "postprocess", "draw", "sink"}

    def test_models_and_doctor(self, call: Call) -> None:
        models = call("models", "--json")
        assert {row["name"] for row in models.value} >= {"mobile_unet-0.5", "unet-32"}
        assert all(
            set(row) >= {"name", "parameters", "macs", "activation_bytes", "levels", "int8"} for row in models.value
        )
        doctor = call("doctor", "--json")
        assert {row["name"] for row in doctor.value} >= {"python", "torch", "target cpu", "target jetson"}
        assert all(set(row) == {"name", "state", "detail"} for row in doctor.value)

    def test_doctor_tells_a_missing_reference_model(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(reference, "files", lambda package: tmp_path)
        done = call("doctor", "--json")
        assert done.code == 0
        assert done.value[-1]["name"] == "reference model"
        assert done.value[-1]["state"] == "missing"
        assert f"{tmp_path}/reference/endoscopy.safetensors" in done.value[-1]["detail"]


class TestExitCodes:
    def test_3_where_verify_fails(self, road: Road, bundles: dict[str, Path], tmp_path: Path) -> None:
        planted = wrong_scale(bundles["onnx"], tmp_path / "planted")
        done = edge_unet("verify", planted, "--data", road.data, "--json")
        assert done.code == 3
        assert (done.value["passed"], done.value["scales_equal"]) == (False, False)
        assert done.err.splitlines()[-1].startswith("error: verify failed: ")
        assert "scale not as in the canonical graph: activation" in done.err
        assert "Traceback" not in done.err

    def test_one_failure_does_not_hide_the_other_results(
        self, road: Road, bundles: dict[str, Path], call: Call
    ) -> None:
        planted = wrong_scale(bundles["onnx"], Path("planted"))
        done = call("verify", planted, bundles["onnx"], "--data", road.data, "--json")
        assert done.code == 3
        assert [row["passed"] for row in done.value] == [False, True]

    def test_5_where_a_runtime_is_missing(self, bundles: dict[str, Path], road: Road, tmp_path: Path) -> None:
        done = run_without(["openvino"], RUN_MAIN, "evaluate", str(bundles["cpu"]), "--data", str(road.data))
        assert done.returncode == 5
        assert done.stderr.strip().endswith("install it with: pip install 'edge-unet[openvino]'")
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("packages", "extra", "arguments"),
        [
            (["torch"], "train", ["export", "{ptq}", "--target", "onnx", "--out", "{out}"]),
            (["torch"], "train", ["train", "--out", "{out}"]),
            (["torch"], "train", ["quantize", "{fp32}", "--out", "{out}"]),
            (["coremltools"], "coreml", ["export", "{onnx}", "--target", "ios", "--out", "{out}"]),
            (["jinja2"], "report", ["report", "{bench}", "--out", "{out}"]),
        ],
        ids=lambda value: "-".join(value[:1]) if isinstance(value, list) else value,
    )
    def test_5_names_the_extra_and_leaves_nothing(
        self, packages: list[str], extra: str, arguments: list[str], bundles: dict[str, Path], road: Road,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        bench = tmp_path / "bench.json"
        write_report(bench, BenchReport(title="nothing yet", environment=read_environment(threads=1)))
        places = {
            "ptq": road.ptq, "fp32": road.fp32, "onnx": bundles["onnx"] / "canonical.onnx", "out": tmp_path / "out",
            "bench": bench,
        }  # fmt: skip
        done = run_without(packages, RUN_MAIN, *(argument.format(**places) for argument in arguments))
        assert done.returncode == 5, done.stderr
        assert f"pip install 'edge-unet[{extra}]'" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert not any((tmp_path / "out").rglob("*"))

    @pytest.mark.slow
    def test_bundles_need_no_torch(self, bundles: dict[str, Path], road: Road, tmp_path: Path) -> None:
        """What a Jetson or a Pi installs: export from ONNX, verify and evaluate without the torch wing."""
        canonical = str(bundles["onnx"] / "canonical.onnx")
        for arguments in (
            ("export", canonical, "--target", "cpu", "--out", str(tmp_path)),
            ("verify", str(bundles["cpu"])),
            ("evaluate", str(bundles["android"]), "--data", str(road.data)),
            ("doctor",),
        ):
            done = run_without(["torch", "safetensors", "scipy"], RUN_MAIN, *arguments)
            assert done.returncode == 0, done.stderr

    @pytest.mark.slow
    def test_130_on_ctrl_c(self, road: Road, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "edge_unet.cli", "train", "--recipe", str(road.recipe), "--data",
                   str(road.data), "--out", str(tmp_path), "--epochs", "500", "--phase", "fp32"]  # fmt: skip
        # A shell starts its background jobs with SIGINT ignored, and children inherit that; a terminal's do not.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
            signal.signal(signal.SIGINT, before)
            assert child.stdout is not None
            said = next(line for line in child.stdout if "epoch " in line)
            child.send_signal(signal.SIGINT)
            rest, _ = child.communicate(timeout=60)
        assert child.returncode == 130
        assert rest.splitlines()[-1] == "interrupted"
        assert "Traceback" not in said + rest
        assert not (tmp_path / "fp32.safetensors").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["export", "--nope"], "No such option: --nope"),
            (["verify"], "Missing argument"),
            (["bench", "x", "--threads", "0"], "--threads"),
            (["camera", "x", "--alpha", "two"], "--alpha"),
            (["quantize", "x", "--no-ptq"], "edge-unet train --phase qat"),
        ],
    )
    def test_2_for_arguments_typer_refuses(self, arguments: list[str], message: str) -> None:
        done = edge_unet(*arguments)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert "Usage:" in done.err
        assert "Traceback" not in done.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["export", "--target", "jetsn"], "unknown target 'jetsn'; did you mean 'jetson'?"),
            (["export", "--precision", "int4"], "unknown precision 'int4'; did you mean 'int8'?"),
            (
                ["export", "--target", "jetson", "--precision", "fp32"],
                "target jetson has no fp32; it offers int8, fp16",
            ),
            (["export", "nowhere.safetensors"], "nowhere.safetensors: no such checkpoint"),
            (["export", "nowhere.onnx"], "nowhere.onnx: no such ONNX file"),
            (["verify", "nowhere"], "nowhere: not a bundle"),
            (["evaluate", "nowhere", "--data", "."], "nowhere: not a bundle"),
            (["train", "--data", "nowhere"], "nowhere: no such folder"),
            (["train", "--phase", "int8"], "unknown phase 'int8'; expected one of both, pretrain, fp32, qat"),
            (["train", "--recipe", "nowhere.toml"], "nowhere.toml: cannot read the recipe"),
            (["train", "--model", "unet-9"], "unknown model preset 'unet-9'; did you mean 'unet-8'?"),
            (["train", "--teacher", "nowhere.safetensors"], "nowhere.safetensors: no such checkpoint"),
            (["quantize", "nowhere.safetensors"], "nowhere.safetensors: no such checkpoint"),
            (["quantize", "x", "--observer", "entropie"], "unknown observer 'entropie'; did you mean 'entropy'?"),
            (["report", "nowhere.json"], "nowhere.json: cannot read the report"),
            (["camera", "x", "--source", "file:///nowhere.mp4", "--sink", "none"], "/nowhere.mp4: no such video"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_2_for_a_wrong_wish(self, call: Call, arguments: list[str], message: str) -> None:
        done = call(*arguments)
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
        assert done.err.startswith(f"error: {message}")
        assert list(Path.cwd().iterdir()) == []
