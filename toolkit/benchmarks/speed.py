"""Images per second of the lean network: our training, a bare `model.fit`, and the same network in PyTorch.

All learn the same pixels in turn, on all processors, with the same optimizer and batches, compiled before. What makes
Keras slow on few cores is its convolutions and batch normalizations in float32, not its input: so ours takes bfloat16
where the processor multiplies it (weights stay float32), and the same in float32 is told beside it. PyTorch is used
where CNN_TOOLKIT_TORCH names a Python that has it: `python -m venv torch; torch/bin/pip install torch numpy;
CNN_TOOLKIT_TORCH=$PWD/torch/bin/python python -m toolkit bench speed`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from toolkit import system
from toolkit.benchmarks import Check, Measured, Row, median_ratio
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.layers import Architecture, BatchNormalization, Branches, Conv2D, Dense, MaxPooling2D, ReLU
from toolkit.layers import Path as Layers
from toolkit.processes import Ending, start_worker

NETWORK = "lean_cnn_32"
BATCH, LEARNING_RATE, MOMENTUM = 128, 0.01, 0.9
FLAGS = {"avx512_bf16", "amx_bf16"}
PYTHON = "CNN_TOOLKIT_TORCH"
NAMES = {"ours": "ours", "float32": "ours in float32", "bare": "a bare model.fit", "torch": "PyTorch"}


@dataclass(frozen=True)
class Race:
    """A task for a worker: so many rounds in which each learns so many images; returns seconds by who it was."""

    images: int
    rounds: int
    seed: int
    precision: str
    torch: str | None = None
    network: str = NETWORK

    work: ClassVar[str] = "toolkit.benchmarks.fits:race"

    def ended(self, ending: Ending) -> object:
        raise RuntimeError(f"the benchmark's process ended: {ending}")


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` does the same on fewer images."""
    race = Race(2 * BATCH if quick else 16 * BATCH, 3 if quick else 9, seed, fast_precision(), torch_python())
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as folder:
        worker = start_worker(race, Path(folder))
        *_, seconds = (event for event in worker.events() if isinstance(event, dict))
    return summarized(race, seconds)


def summarized(race: Race, seconds: dict[str, list[float]]) -> Measured:
    """Rows and checks from the seconds that each took in each round.

    >>> race = Race(100, 2, 0, "float32")
    >>> summarized(race, {"ours": [1.0, 2.0], "bare": [2.0, 3.0]}).checks[0].value
    1.75
    """
    speeds = {who: [race.images / each for each in found] for who, found in seconds.items()}
    rows = [Row.of(f"{race.network}, {_told(who, race)}", "images/s", found) for who, found in speeds.items()]
    ratios = {who: median_ratio(speeds["ours"], found) for who, found in speeds.items() if who in ("bare", "torch")}
    checks = [Check.at_least(f"speed, ours / {NAMES[who]}", ratio, 1.0) for who, ratio in ratios.items()]
    return Measured(tuple(rows), tuple(checks))


def _told(who: str, race: Race) -> str:
    return f"{NAMES[who]} ({race.precision})" if who == "ours" else NAMES[who]


def fast_precision(cpuinfo: Path = system.CPUINFO) -> str:
    """The precision in which this machine computes fastest without losing accuracy: bfloat16 where it multiplies it."""
    try:
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    return "mixed_bfloat16" if flags & FLAGS else "float32"


def torch_python() -> str | None:
    """The Python that the environment names for PyTorch. Raises InputError where it has none."""
    python = os.environ.get(PYTHON)
    if python and subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:  # noqa: S603
        raise InputError(f"{PYTHON} names {python}, which cannot import torch; install it there, or unset {PYTHON}")
    return python


# PyTorch, in a process of its own.

_TORCH = """
import json, sys, time, torch
from torch import nn
class Add(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.path = path
    def forward(self, x):
        return x + self.path(x)
class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
def layer(kind, *numbers):
    if kind == "conv":
        return nn.Conv2d(numbers[0], numbers[1], numbers[2], padding="same", bias=False)
    if kind == "add":
        return Add(nn.Sequential(*(layer(*each) for each in numbers)))
    kinds = {"pool": nn.MaxPool2d, "norm": nn.BatchNorm2d, "dense": nn.Linear, "relu": nn.ReLU, "mean": Mean}
    return kinds[kind](*numbers)
layers, shape, images, batch, rate, momentum, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
net = nn.Sequential(*(layer(*each) for each in layers)).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), rate, momentum=momentum, nesterov=True)
x = torch.randint(0, 256, (images, *shape)).float().div(255).contiguous(memory_format=torch.channels_last)
y = torch.randint(0, 10, (images,))
def epoch():
    net.train()
    order = torch.randperm(images)
    for chosen in order.split(batch):
        loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
epoch()
print(sum(each.numel() for each in net.parameters()), flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    epoch()
    print(time.perf_counter() - begun, flush=True)
"""


class TorchPeer:
    """The same network in PyTorch, with channels last, which is its faster way on processors; use it in a `with`.

    `params` are its trained parameters, and `epoch()` the seconds of learning all images once.
    """

    def __init__(self, python: str, net: Architecture, images: int, threads: int) -> None:
        height, width, channels = net.input_shape
        layers, _ = _torch_layers(net.layers, channels)
        settings = json.dumps([layers, (channels, height, width), images, BATCH, LEARNING_RATE, MOMENTUM, threads])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(  # noqa: S603
            [python, "-W", "ignore", "-c", _TORCH, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.params = int(self._answer())

    def epoch(self) -> float:
        """Seconds of one pass over the images."""
        if self._process.stdin is None:
            raise RuntimeError("PyTorch's process has no input")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> float:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.strip():
            raise RuntimeError(f"PyTorch's process gave no answer; its status is {self._process.wait()}")
        return float(line)

    def __enter__(self) -> TorchPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _torch_layers(layers: Layers, channels: int) -> tuple[list[list[object]], int]:
    """The layers as the peer's script builds them, and the channels that come out."""
    found: list[list[object]] = []
    for layer in layers:
        match layer:
            case Conv2D():
                found.append(["conv", channels, layer.filters, layer.window[0]])
                channels = layer.filters
            case MaxPooling2D():
                found.append(["pool", layer.window[0]])
            case BatchNormalization():
                found.append(["norm", channels])
            case ReLU():
                found.append(["relu"])
            case Dense():
                found.append(["dense", channels, layer.units])
            case Branches(mode="add", paths=(path, ())):
                inner, channels = _torch_layers(path, channels)
                found.append(["add", *inner])
            case _ if layer.name == "avg_pool":
                found.append(["mean"])
            case _:
                raise InputError(f"PyTorch's peer has no {type(layer).__name__}; it knows the lean networks only")
    return found, channels


def trained_params(net: Architecture) -> int:
    """What of the network is trained, to compare with the peer."""
    return sum(row.trainable_params for row in trace(net))
