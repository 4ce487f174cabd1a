"""What realrun does on a GPU, measured in a few minutes: ``make gpu OUT=folder``.

Training of one decoder by four methods, alone with NCCL and in several processes that share the
GPU by gloo; the kernels that quantize, compared with a copy in the GPU's memory; the step of
decoders of many sizes next to its floating-point operations; a trace next to torch's profiler;
the GPU's clock next to the host's; and the tests that need a GPU. Writes
gpu.md and gpu.json, again after every part, so that what was measured stays if a later part
fails. Without a GPU it says so and ends with status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from realrun.communication.packing import pack_into, packed_bytes, sum_into
from realrun.data import corpus
from realrun.data.batches import Data
from realrun.device import timed_on
from realrun.model.gpt import GPT, GPTConfig, loss
from realrun.model.replica import TorchModel
from realrun.runtime.shared import Limits, Shared
from realrun.runtime.worker import TorchWorker
from sim.program import Program
from sim.scenario.presets import accelerator, step_seconds_from_flops
from sim.trace.table import Row

GPU = torch.device("cuda", 0)
ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/realrun/test_cuda.py",
    "tests/realrun/test_quantize.py::test_a_gpu_gives_the_bits_of_a_cpu",
)
SCENARIO = """\
[run]
steps = 60

[model]
kind = "gpt"
hidden = 448
layers = 8
heads = 7
vocabulary = 256
context = 512
param_dtype = "bf16"

[method]
{method}

[[site]]
count = {workers}
step_time = "50 ms"
batch_tokens = "16Ki"
n_grad_accumulation = 2

[network]
bandwidth = "10 Gbit/s"
per = "pair"
rtt = "1 ms"

[train]
learning_rate = 0.001
warmup_steps = 10
clip_norm = 1.0

[data]
kind = "stdlib"
"""
METHODS = {
    "ddp": "",
    "diloco": "sync_every = 10",
    "streaming_diloco": (
        'sync_every = 10\nnum_fragments = 2\nfragment_sync_delay = 2\ncomm_dtype = "fp4"'
    ),
    "acco": "",
}
TRAININGS = [
    *((method, 1) for method in METHODS),
    *((method, 2) for method in METHODS),
    ("streaming_diloco", 4),
]
SIZES = {  # tokens of a step, and how many steps are measured
    "10M": (32768, 30),
    "50M": (32768, 30),
    "200M": (32768, 20),
    "500M": (16384, 15),
    "1B": (16384, 10),
    "2B": (16384, 6),
}
MEGABYTES = (64, 256, 1000)  # 10**6 bytes of fp32
BLOCK = 256


class Report:
    """What has been found: numbers for gpu.json, text for gpu.md and the terminal."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self.folder = folder
        self._until = perf_counter() + limit_s
        self.failed = False
        self._found: dict[str, Any] = {}
        self._sections: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def late(self) -> bool:
        """Whether nothing more is to be begun."""
        return perf_counter() > self._until

    def add(self, name: str, title: str, text: str, numbers: Any) -> None:
        """Tell, and write everything so far."""
        print(f"\n{title}\n\n{text}", flush=True)
        self._sections.append(f"## {title}\n\n{text}\n")
        self._found[name] = numbers
        (self.folder / "gpu.md").write_text("# realrun on a GPU\n\n" + "\n".join(self._sections))
        (self.folder / "gpu.json").write_text(json.dumps(self._found, indent=2) + "\n")


def table(*rows: tuple[object, ...]) -> str:
    """Rows in Markdown, the first one their heads."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def seconds(call: Callable[[], object], times: int = 20) -> float:
    """Mean time of a call on the GPU, after three to warm up."""
    for _ in range(3):
        call()
    begin = recorded()
    for _ in range(times):
        call()
    end = recorded()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / times


def recorded() -> Any:
    """An event on the stream, now."""
    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def machine(report: Report) -> None:
    """Where it was measured, and when."""
    properties = torch.cuda.get_device_properties(GPU)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown, nvidia-smi cannot be run"
    try:
        import triton  # type: ignore[import-not-found, unused-ignore]

        kernels = str(triton.__version__)
    except ImportError:
        kernels = "not installed"
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "GPU": properties.name,
        "memory": f"{properties.total_memory / 1e9:.1f} GB",
        "multiprocessors": properties.multi_processor_count,
        "GPUs in the machine": torch.cuda.device_count(),
        "driver": driver,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        "Triton": kernels,
        "Python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    report.add("machine", "Machine", table(("what", "which"), *facts.items()), facts)


def quantizing(report: Report) -> None:
    """GB/s read and written, and what a copy moves."""
    found: list[dict[str, Any]] = []
    for megabytes in MEGABYTES:
        elements = megabytes * 10**6 // 4
        values = torch.randn(elements, device=GPU)
        other = torch.empty_like(values)
        copied = 8 * elements / seconds(lambda: other.copy_(values)) / 1e9  # noqa: B023
        for dtype in ("fp4", "int8"):
            wire = torch.empty(packed_bytes(elements, dtype, BLOCK), dtype=torch.uint8, device=GPU)
            moved = 4 * elements + len(wire)
            packed = seconds(lambda: pack_into(wire, values, dtype, BLOCK))  # noqa: B023
            read = seconds(lambda: sum_into(other, wire[None], dtype, BLOCK))  # noqa: B023
            found.append(
                {
                    "megabytes": megabytes,
                    "dtype": dtype,
                    "pack_gb_per_s": moved / packed / 1e9,
                    "unpack_gb_per_s": moved / read / 1e9,
                    "copy_gb_per_s": copied,
                }
            )
    rows = [
        (
            row["megabytes"],
            row["dtype"],
            *(
                f"{row[key]:.0f} ({row[key] / row['copy_gb_per_s']:.0%})"
                for key in ("pack_gb_per_s", "unpack_gb_per_s")
            ),
            f"{row['copy_gb_per_s']:.0f}",
        )
        for row in found
    ]
    heads = ("MB of fp32", "type", "pack, GB/s (of a copy)", "unpack, GB/s (of a copy)", "copy")
    report.add("quantize", "Quantizing kernels", table(heads, *rows), found)


class Decoder:
    """A decoder that trains alone on this GPU, on that many tokens in a step."""

    def __init__(self, name: str, tokens: int) -> None:
        config = GPTConfig.named(name)
        self.parameters = sum(config.layer_sizes)
        decoder = GPT(config, device=GPU)
        drawn = corpus.synthetic(64 * (16 * config.context + 1), config.vocabulary, seed=0)
        data = Data(drawn, vocabulary=config.vocabulary, context=config.context, workers=1)
        self._model = TorchModel(
            decoder.stages(),
            loss,
            data.batches(0, tokens // config.context, GPU),
            decoder.layer_parameters(),
            autocast=torch.bfloat16,
        )

    def steps(self, times: int) -> list[Row]:
        """Take steps and return their rows: gradients, optimizer."""
        shared = Shared(0, 1, self._model, Limits(), device=timed_on(GPU))

        def program(worker: Any) -> Program:
            yield worker.compute(self._model.inner_step, times=times)

        worker = TorchWorker(shared)
        worker.drive(program(worker))
        shared.close()
        return shared.rows


def stepped(name: str, tokens: int, times: int, peaks: dict[str, float]) -> dict[str, Any]:
    """A decoder's step; only its name and tokens if it does not fit."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(GPU)
    row: dict[str, Any] = {"size": name, "tokens": tokens}
    try:
        decoder = Decoder(name, tokens)
        decoder.steps(3)
        gradients, optimizer = decoder.steps(times)
    except torch.OutOfMemoryError:
        return row
    row["parameters"] = decoder.parameters
    row["step_s"] = (gradients.end_s - gradients.begin_s) / times
    row["optimizer_s"] = (optimizer.end_s - optimizer.begin_s) / times
    row["peak_bytes"] = torch.cuda.max_memory_allocated(GPU)
    for what, peak in peaks.items():
        ideal = step_seconds_from_flops(decoder.parameters, tokens, 1, peak, mfu=1.0)
        row[f"mfu_of_{what}"] = ideal / row["step_s"]
    return row


def of_a_product(width: int = 8192) -> float:
    """FLOP/s that a product of two bf16 matrices reaches."""
    square = torch.randn(width, width, device=GPU, dtype=torch.bfloat16)
    return 2 * width**3 / seconds(lambda: square @ square)


def sizes(report: Report) -> None:
    """Seconds of a step, and the share of the peak that 6 N D operations make of it."""
    chip = accelerator(torch.cuda.get_device_name(GPU))
    peaks = {"product": of_a_product()}
    if chip is not None:
        peaks["datasheet"] = chip.peak
    found = [stepped(name, tokens, times, peaks) for name, (tokens, times) in SIZES.items()]
    rows = [
        (row["size"], row["tokens"], "does not fit", *[""] * (len(peaks) + 2))
        if "step_s" not in row
        else (
            row["size"],
            row["tokens"],
            f"{row['step_s'] * 1e3:.1f}",
            f"{row['optimizer_s'] * 1e3:.1f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
            *(f"{row[f'mfu_of_{what}']:.1%}" for what in peaks),
        )
        for row in found
    ]
    heads = ("size", "tokens", "step, ms", "optimizer, ms", "GB at most")
    shares = tuple(f"MFU of {peak / 1e12:.0f} TFLOP/s ({what})" for what, peak in peaks.items())
    text = table((*heads, *shares), *rows) + (
        "\n\nMatrices in bf16, the rest in fp32. A step is its forward and backward passes. The "
        "peak of the datasheet is that of the presets; that of a product was reached here with "
        "8192 x 8192 matrices of bf16."
    )
    report.add("steps", "Steps by size", text, {"peaks": peaks, "sizes": found})


def against_profiler(report: Report) -> None:
    """The kernels' time, as torch's profiler has it, between the marks of a trace."""
    decoder = Decoder("200M", 32768)
    decoder.steps(3)
    cuda = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[cuda]) as profile:
        rows = decoder.steps(5)
    kernels = sum(
        event.time_range.elapsed_us() / 1e6
        for event in profile.events()
        if event.device_type.name == "CUDA"
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith("Optimizer.")
    )
    traced = sum(row.end_s - row.begin_s for row in rows)
    numbers = {"trace_s": traced, "kernels_s": kernels}
    text = (
        f"Five steps of a 200M decoder took {traced * 1e3:.2f} ms by the rows of the trace; their "
        f"kernels took {kernels * 1e3:.2f} ms by the profiler, {kernels / traced:.1%} of it."
    )
    report.add("profiler", "A trace next to the profiler", text, numbers)


def training(report: Report) -> None:
    """The tables that ``realrun train`` ends with."""
    tables: dict[str, Any] = {}
    file = report.folder / "gpu.toml"
    for method, workers in TRAININGS:
        name = f"{method}, 1 process" if workers == 1 else f"{method}, {workers} processes"
        if report.late():
            tables[name] = "left out: the time was over"
            continue
        keys = f'name = "{method}"\n{METHODS[method]}'
        file.write_text(SCENARIO.format(method=keys, workers=workers))
        done = on_one_gpu("-m", "realrun", "train", str(file), "--device", "cuda")
        if done.returncode:
            report.failed = True
            tables[name] = f"failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        else:
            tables[name] = done.stdout.partition("\nNot given")[0].strip()
        print(f"{name}: status {done.returncode}", flush=True)
    file.unlink(missing_ok=True)
    text = "\n\n".join(f"### {name}\n\n```text\n{shown}\n```" for name, shown in tables.items())
    report.add("training", "Training, as `realrun train` tells it", text, tables)


def tests(report: Report) -> None:
    """The tests that are skipped without a GPU."""
    done = on_one_gpu("-m", "pytest", "-p", "no:cacheprovider", *TESTS)
    report.failed |= done.returncode != 0
    said = done.stdout.strip()[-4000:]
    text = f"`{' '.join(TESTS)}` ended with status {done.returncode}.\n\n```text\n{said}\n```"
    report.add("tests", "Tests that need a GPU", text, {"status": done.returncode, "said": said})


def on_one_gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python, with one GPU that all its processes then share."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "COLUMNS": "100"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(arguments, 124, "", str(error))


class Clock:
    """The GPU's clock next to the host's, from the beginning to the end."""

    def __init__(self) -> None:
        self._begin = self._pair()

    def _pair(self) -> tuple[Any, float]:
        torch.cuda.synchronize(GPU)
        before = perf_counter()
        event = recorded()
        event.synchronize()
        return event, (before + perf_counter()) / 2

    def compared(self, report: Report) -> None:
        """What the GPU's clock gains on the host's."""
        (first, began), (last, ended) = self._begin, self._pair()
        host, card = ended - began, first.elapsed_time(last) / 1e3
        gains = (card - host) / host
        text = f"In {host:.0f} s the GPU's clock gained {gains * 1e6:+.1f} microseconds per second."
        report.add("clock", "Clocks", text, {"host_s": host, "gpu_s": card, "gains": gains})


PARTS: dict[str, Callable[[Report], None]] = {
    "machine": machine,
    "quantize": quantizing,
    "profiler": against_profiler,
    "steps": sizes,
    "tests": tests,
    "training": training,
}


def main() -> int:
    """Measure; 2 without a GPU, 1 if a part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for gpu.md and gpu.json")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="after which nothing more is begun"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            f"gpu: no GPU is visible to torch {torch.__version__}; run this where there is one",
            file=sys.stderr,
        )
        return 2
    torch.cuda.set_device(GPU)
    report, clock = Report(asked.out.resolve(), 60 * asked.minutes), Clock()
    for name, part in [*((name, PARTS[name]) for name in asked.only), ("clock", clock.compared)]:
        try:
            part(report)
        except Exception as error:
            report.failed = True
            why = f"{type(error).__name__}: {error}"
            report.add(name, f"{name}: failed", why, {"failed": why})
        torch.cuda.empty_cache()
    print(f"\nwritten to {report.folder / 'gpu.md'}")
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
