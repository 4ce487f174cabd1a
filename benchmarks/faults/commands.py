"""The commands that are disturbed, small enough to be run hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass, field

STUDY = """\
name = "faults"
[run]
rounds = 40
replications = 1
[model]
parameters = "1B"
layers = 12
[method]
name = "streaming_diloco"
[[site]]
count = 4
step_time = "1 s"
batch_tokens = "64Ki"
jitter = "lognormal:0.1"
[network]
bandwidth = "1 Gbit/s"
rtt = "50 ms"
[study]
ask = "simulate"
[study.axis]
"method.sync_every" = [20, 40, 60]
"network.rtt" = ["10 ms", "50 ms", "100 ms"]
"network.bandwidth" = ["100 Mbit/s", "300 Mbit/s", "1 Gbit/s", "3 Gbit/s"]
"""
SCENARIO = STUDY.partition("[study]")[0]
PLAN = SCENARIO.replace('jitter = "lognormal:0.1"\n', "")
TRAIN = """\
[run]
steps = 150
[model]
kind = "gpt"
hidden = 16
layers = 3
heads = 2
vocabulary = 256
context = 16
param_dtype = "fp32"
[method]
name = "diloco"
sync_every = 2
comm_dtype = "fp32"
[[site]]
count = 2
step_time = "1 ms"
batch_tokens = 32
[network]
bandwidth = "50 Mbit/s"
rtt = "5 ms"
[train]
learning_rate = 0.01
[data]
kind = "synthetic"
tokens = "64Ki"
"""
VALIDATE = """\
name = "faults"
[run]
rounds = 5
[model]
kind = "gpt"
hidden = 32
layers = 4
heads = 2
vocabulary = 256
context = 32
param_dtype = "bf16"
[method]
name = "ddp"
overlap = "bucket"
comm_dtype = "bf16"
[[site]]
count = 2
step_time = "20 ms"
batch_tokens = 32
[network]
bandwidth = "50 Mbit/s"
rtt = "20 ms"
[study]
ask = "validate"
repeats = 2
duration = "1 s"
compute = ["paced"]
[study.calibrate]
same_launch = true
bandwidth = ["100 Mbit/s"]
rtt = ["0 ms"]
[study.axis.method]
"ddp" = {}
"diloco" = { method = { name = "diloco", sync_every = 5 } }
"""
INPUTS = {
    "study.toml": STUDY,
    "scenario.toml": SCENARIO,
    "plan.toml": PLAN,
    "train.toml": TRAIN,
    "validate.toml": VALIDATE,
    "other.toml": VALIDATE.replace("sync_every = 5", "sync_every = 7"),
}

_TRAINING = (
    *("--checkpoints", "out/checkpoints", "--checkpoint-every", "5"),
    *("--save", "out/model.safetensors", "--losses", "out/losses.csv"),
    *("--trace", "out/trace.parquet"),
)
_TRAINED = ("model.safetensors", "losses.csv")


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder "out" of the folder it is run in.

    Parameters
    ----------
    words
        What is typed.
    same
        Files of "out" that are byte for byte those of an undisturbed run, whatever happened.
    folder
        Whether "out" itself is what the command is given, or files in it are.
    before
        A command whose files in "out" this one reads, run once.
    state
        Patterns of files in "out" that only programs write, which are damaged; and what is typed
        to read them then, where that is not the command itself.
    other
        Another command, or what makes it one when added, whose results must not take the place of
        the first one's.
    kills
        Of each signal.
    """

    words: tuple[str, ...]
    same: tuple[str, ...]
    folder: bool = False
    before: tuple[str, ...] = ()
    state: dict[str, tuple[str, ...]] = field(default_factory=dict)
    other: tuple[str, ...] = ()
    kills: int = 5


_RESULTS = ("results.csv", "results.parquet", "utilization.png", "utilization.svg")
_PLOT = ("bandwise", "plot", "out/results.parquet", "--out", "out/picture.svg")
_REPLAY = ("bandwise", "plot", "out/trace.parquet", "--kind", "timeline", "--out", "out/line.svg")
_RESUMED = {"checkpoints/*": ()}

COMMANDS: dict[str, Command] = {
    "study": Command(
        ("bandwise", "study", "study.toml", "--out", "out", "--jobs", "2"),
        _RESULTS,
        folder=True,
        state={"progress.jsonl": (), "results.parquet": ()},
        other=("--set", "run.seed=7"),
        kills=20,
    ),
    "sweep": Command(
        (
            *("bandwise", "sweep", "scenario.toml", "--jobs", "2", "--out", "out"),
            *("--over", "bandwidth=0.1..10Gbit/s:20", "--over", "sync_every=20,60"),
        ),
        _RESULTS,
        folder=True,
        state={"progress.jsonl": (), "results.parquet": ()},
        other=("--set", "run.seed=7"),
    ),
    "plan": Command(
        (
            *("bandwise", "plan", "plan.toml", "--methods", "streaming_diloco"),
            *("--max-sync-every", "20", "--out", "out"),
        ),
        ("plan.json", "settings.csv", "changes.csv", "front.png", "front.svg"),
        folder=True,
        state={"plan.json": ()},
        other=("--set", "run.seed=7"),
    ),
    "plot": Command(
        _PLOT,
        ("picture.svg",),
        before=("bandwise", "study", "study.toml", "--out", "out"),
        state={"results.parquet": (), "results.csv": ("bandwise", "plot", "out/results.csv")},
    ),
    "simulate": Command(
        ("bandwise", "simulate", "scenario.toml", "--trace", "out/trace.parquet"),
        ("trace.parquet",),
        state={"trace.parquet": _REPLAY},
    ),
    "train": Command(
        ("realrun", "train", "train.toml", *_TRAINING),
        _TRAINED,
        state=_RESUMED,
        other=("--set", "train.seed=7"),
        kills=20,
    ),
    "lab": Command(
        ("realrun", "lab", "train.toml", *_TRAINING),
        _TRAINED,
        state=_RESUMED,
        other=("--set", "train.seed=7"),
    ),
    "calibrate": Command(
        ("realrun", "calibrate", "train.toml", "--out", "out/hardware.toml"),
        (),
        state={
            "hardware.toml": (
                *("bandwise", "simulate", "scenario.toml", "--hardware", "out/hardware.toml"),
                *("--steps", "100"),
            )
        },
    ),
    "validate": Command(
        ("realrun", "validate", "validate.toml", "--out", "out"),
        (),
        folder=True,
        state={"runs.jsonl": ()},
        other=("realrun", "validate", "other.toml", "--out", "out"),
    ),
}
