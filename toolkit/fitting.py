"""A training run from the inside: what happens in the worker. Only workers and benchmarks import this, and Keras with it.

Training is Keras's own `model.fit`. Around it: images stay uint8 in RAM, a thin callback reports and listens, and what
was learned is written into a folder, now and then and at the end.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn import metrics

from toolkit import system
from toolkit.build import build
from toolkit.costs import costs
from toolkit.errors import InputError
from toolkit.forward import save_weights, weights_of
from toolkit.layers import Architecture
from toolkit.loading import Dataset, Pixels, load_dataset, take, train_validation_split
from toolkit.processes import Context
from toolkit.training import (
    CURVES,
    NEED_LESS_MEMORY,
    NOTHING_LEARNED,
    RESULT_FILE,
    Done,
    EpochEnd,
    Event,
    Failed,
    Memory,
    Started,
    Step,
    TrainConfig,
    TrainResult,
    network_of,
    require_fitting_batch,
)

# Five reports a second look alive, and cost nothing that can be measured.
REPORT_SECONDS = 0.2
MEMORY_SECONDS = 1.0
# A stopped run tests for this long at most: the answer to Stop has to come within a second.
STOPPED_TEST_SECONDS = 0.3
# What was learned is written down between two epochs when that takes less than this share of the time since last time.
CHECKPOINT_SHARE = 0.02
# Images shift by up to this share of their size: 2 pixels of 28.
SHIFT_SHARE = 1 / 14
# A batch for computing without training needs less memory than one for training, and is faster when it is not tiny.
LEAST_TEST_BATCH, MOST_TEST_BATCH = 32, 256

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


class Stopped(Exception):  # noqa: N818 - it is no error
    """Leaves `model.fit` at once, where `stop_training` would validate first."""


class Diverged(Exception):  # noqa: N818 - it is told to people as a result
    """The loss is no number any more."""


def fit(config: TrainConfig, context: Context) -> Event:
    """Train as `config` says and return the last event; whatever goes wrong becomes a sentence."""
    try:
        return Done(_fit(config, context))
    except KeyboardInterrupt:
        return Failed(NOTHING_LEARNED)
    except InputError as error:
        return Failed(str(error))
    except Exception as error:
        if context.stop.is_set():
            return Failed(NOTHING_LEARNED, traceback.format_exc())
        if isinstance(error, MemoryError) or "ResourceExhausted" in type(error).__name__:
            return Failed(f"the training ran out of memory; {NEED_LESS_MEMORY}", traceback.format_exc())
        first_line = next(iter(str(error).splitlines()), "")
        return Failed(f"the training failed: {type(error).__name__}: {first_line}", traceback.format_exc())


def _fit(config: TrainConfig, context: Context) -> TrainResult:
    with ExitStack() as until_first_step:
        until_first_step.enter_context(context.stop.interrupting())
        (context.folder / RESULT_FILE).unlink(missing_ok=True)
        limit_threads(context.threads)
        data = prepare(config)
        net = network_of(config, data.info)
        _require_memory(net, config, data)
        model = compiled(net, config, steps_per_epoch(config, data))
        run = Run(config, context, data, model)
        run.announce()
        until_first_step_only = until_first_step.pop_all()
    return run.go(until_first_step_only)


def limit_threads(threads: int | None) -> None:
    """Give one operation at most so many threads. Has to come before the backend computes anything; JAX reads its
    limit from the environment, which `processes` has set.
    """
    if threads is None:
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
