"""A fine-tuning from the inside: what happens in the worker. Imports Keras.

Both phases are Keras's own `model.fit`: the first on features that were computed once, the second on the last blocks of
the base. Around it a thin callback reports, listens, keeps the best epoch, and writes a checkpoint after each.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray

from toolkit import system
from toolkit.bases import Classifier, make_classifier, standardize, unfreeze, weights_digest
from toolkit.batches import plan_batches
from toolkit.build import read_model
from toolkit.checkpoints import Learned, load_checkpoint, save_checkpoint
from toolkit.errors import InputError
from toolkit.finetuning import (
    ALPHAS,
    BASES,
    CHECKPOINT_FILE,
    CURVES,
    NOTHING_LEARNED,
    RUN_FILE,
    Event,
    FinetuneConfig,
    FinetuneResult,
    FinetuneTask,
    Finished,
    Looked,
    PhaseBegins,
    Progress,
)
from toolkit.fitting import MEMORY_SECONDS, REPORT_SECONDS, Diverged, ImageMeans, Stopped, limit_threads
from toolkit.outcomes import FILES, made_with, outcome, write_extras, write_outcome
from toolkit.photo_batches import (
    FORWARD_BATCH,
    Floats,
    Numbers,
    PhotoBatches,
    Pixels,
    Views,
    class_weights,
    compute_features,
    in_full_batches,
    read_pixels,
)
from toolkit.photos import PhotoReport, Split, check_photos, fetch_photos, split_photos
from toolkit.processes import Context
from toolkit.runtimes import predict_memory
from toolkit.streaming.locations import scheme
from toolkit.streaming.samples import read_source
from toolkit.training import RESULT_FILE, EpochEnd, Failed, Memory, Parts, Step, failure_sentence

# A stopped run tests for this long at most: the answer to a stop has to come soon.
STOPPED_TEST_SECONDS = 0.3


def transfer(task: FinetuneTask, context: Context) -> Event:
    """Fine-tune as `task` says and return the last event; whatever goes wrong becomes a sentence."""
    try:
        return Finished(_transfer(task, context))
    except KeyboardInterrupt:
        return Failed(NOTHING_LEARNED)
    except InputError as error:
        return Failed(str(error))
    except Exception as error:
        less = "choose a smaller batch_size or image_size"
        return Failed(failure_sentence(error, "the fine-tuning", less), traceback.format_exc())


def _transfer(task: FinetuneTask, context: Context) -> FinetuneResult:
    begun = time.monotonic()
    with context.stop.interrupting():
        limit_threads(context.threads)
        _open_folder(task, context.folder)
        run = _prepared(task, context)
        run.learned.seconds.setdefault("preparing", time.monotonic() - begun)
    try:
        _head_phase(run)
        _blocks_phase(run)
    except (Stopped, Diverged) as reason:
        run.note = str(reason)
        if not run.learned.history["phase"]:
            raise InputError(NOTHING_LEARNED if isinstance(reason, Stopped) else run.note) from None
    return _finished(run)


def _open_folder(task: FinetuneTask, folder: Path) -> None:
    """Clear away what a killed run left half done and, unless this one goes on from there, what an earlier one gave.

    Raises InputError where files lie that no run has written, and that ours would replace.
    """
    for half in (*folder.glob(".part-*"), folder / f"{CHECKPOINT_FILE}.part", *folder.glob("cache/*.part")):
        shutil.rmtree(half, ignore_errors=True) if half.is_dir() else half.unlink(missing_ok=True)
    if task.resume:
        return
    ours = [folder / name for name in (*FILES, CHECKPOINT_FILE) if (folder / name).exists()]
    if ours and not (folder / RUN_FILE).is_file():
        raise InputError(f"{folder} holds a {ours[0].name} that is of no fine-tuning; give the run a folder of its own")
    # The result first: as long as it is there, so is all that it tells of.
    for file in sorted(ours, key=lambda path: path.name != RESULT_FILE):
        file.unlink()
    told = {"photos": task.photos, "config": task.config.to_dict()}
    part = folder / ".part-run"
    part.write_text(json.dumps(told, indent=2), encoding="utf-8")
    part.replace(folder / RUN_FILE)


# The run.


@dataclass(eq=False)
class Run:
    """A run on its way: what it works with, and what it has come to."""

    task: FinetuneTask
    context: Context
    split: Split
    pixels: Pixels
    classifier: Classifier
    features: Floats
    rows: Numbers
    learned: Learned
    weights_sha256: str
    batch_size: int
    accumulation_steps: int
    note: str = ""

    @property
    def config(self) -> FinetuneConfig:
        """The settings."""
        return self.task.config

    @property
    def checkpoint(self) -> Path:
        """The file that a killed run goes on from."""
        return self.context.folder / CHECKPOINT_FILE


def _prepared(task: FinetuneTask, context: Context) -> Run:
    """Photos looked at, split and read; the classifier built; its features computed, where they are to be kept."""
    config = task.config
    report = check_photos(_local(task, context), progress=_teller(context, "looking at photos"))
    split = split_photos(report, config.fractions, config.seed)
    context.send(Looked(report.table(), report.class_names, len(split.train), len(split.validation), len(split.test)))
    tell = _teller(context, "loading the base")
    tell(0, 1)
    classifier = classifier_of(config, len(report.class_names))
    tell(1, 1)
    digest = weights_digest(classifier.base)
    learned = _learned(task, context, _key(config, report, digest))
    fitting = _fitting_batch(config, classifier)
    pixels, features, rows = _arrays(config, context, split, classifier, digest)
    standardize(classifier, features[rows[:, split.train].ravel()])
    # Compiled now for the test, so that a stop does not have to wait for it.
    in_full_batches(classifier.head, compute_features(classifier.pooled, pixels[:1]), FORWARD_BATCH)
    return Run(task, context, split, pixels, classifier, features, rows, learned, digest, *fitting)


def _learned(task: FinetuneTask, context: Context, key: str) -> Learned:
    """What the run goes on from; raises InputError where that is another run."""
    if not task.resume:
        return Learned(key)
    learned = load_checkpoint(context.folder / CHECKPOINT_FILE)
    if learned.key != key:
        raise InputError(f"{context.folder} is a run with other photos, settings or weights; resume it with the same")
    (context.folder / RESULT_FILE).unlink(missing_ok=True)
    return learned


def _arrays(
    config: FinetuneConfig, context: Context, split: Split, classifier: Classifier, digest: str
) -> tuple[Pixels, Floats, Numbers]:
    """The photos as pixels, the features of their views, and where these are; arrays come from the run's cache."""
    key, paths = _photos_key(config, split.report), [photo.path for photo in split.report.photos]

    def read() -> Pixels:
        return read_pixels(paths, config.image_size, config.fit, _teller(context, "reading photos"))

    pixels: Pixels = _cached(context, f"pixels-{key}", read)
    more = config.head_views - 1 if config.augmentation != "none" and config.cache_features else 0
    views = Views(pixels, split.train, more, config.augmentation, config.seed)

    def compute() -> Floats:
        return compute_features(classifier.pooled, views, _teller(context, "computing features"))

    seen = f"{more} {config.augmentation} {config.seed} {split.train.tolist()}"
    name = _hash(key, digest, config.base, str(config.depths), seen)
    return pixels, _cached(context, f"features-{name}", compute), views.rows


def classifier_of(config: FinetuneConfig, classes: int) -> Classifier:
    """The classifier that a run with these settings begins with."""
    return make_classifier(
        config.base,
        classes,
        scaling=BASES[config.base],
        alpha=config.alpha if config.base in ALPHAS else None,
        image_size=config.image_size,
        fit=config.fit,
        weights=config.weights,
        depths=config.depths,
        head_units=config.head_units,
        dropout=config.dropout,
        seed=config.seed,
    )


def _local(task: FinetuneTask, context: Context) -> str:
    """The photos' place; a list of those on the internet is fetched into the run's folder first."""
    if Path(task.photos).is_dir():
        return task.photos
    source, config = read_source(task.photos), task.config
    if not any(scheme(location) for location in source.locations):
        return task.photos
    key = _hash(str(config.image_size), config.fit, *source.locations, source.labels.tobytes().hex())
    folder = context.folder / f"photos-{key}"
    if not folder.is_dir():
        tell = _teller(context, "fetching photos")
        fetch_photos(source, folder, image_size=config.image_size, fit=config.fit, progress=tell)
    return str(folder)


def _teller(context: Context, what: str) -> Callable[[int, int], None]:
    """Reports progress five times a second."""
    due = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or done == total:
            due = now + REPORT_SECONDS
            context.send(Progress(what, done, total))

    return tell


def _hash(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _photos_key(config: FinetuneConfig, report: PhotoReport) -> str:
    """Eight bytes that stand for the photos as the base sees them."""
    return _hash(config.fit, str(config.image_size), *(photo.digest for photo in report.photos))


def _key(config: FinetuneConfig, report: PhotoReport, base: str) -> str:
    """Eight bytes that stand for everything that a run's weights depend on."""
    labels = ",".join(f"{photo.label}{photo.part}" for photo in report.photos)
    return _hash(json.dumps(config.to_dict()), _photos_key(config, report), labels, base)


def _cached(context: Context, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """An array from the run's cache, which the first call fills: a file that is there is whole."""
    folder = context.folder / "cache"
    path, part = folder / f"{name}.npy", folder / f"{name}.part"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, make())
        part.replace(path)
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _fitting_batch(config: FinetuneConfig, classifier: Classifier) -> tuple[int, int]:
    """Photos that are computed at once, and batches that make an update: as wished where that fits into memory.

    Where it does not, the same update comes in smaller parts. The prediction is that of a base all of which learns: an
    upper bound where its first blocks are frozen. Raises InputError where not even one photo fits.
    """
    wish = config.batch_size, config.accumulation_steps
    if not (config.epochs and config.unfrozen_blocks):
        return wish
    room, execution = _room(), system.default_execution()
    rows = read_model(classifier.base, (config.image_size, config.image_size, 3))
    if predict_memory(rows, wish[0], execution=execution, accumulation_steps=wish[1]).process_bytes <= room:
        return wish
    plan = plan_batches(rows, config.update_images, room, share=1.0, execution=execution, name=config.base)
    return plan.batch_size, plan.accumulation_steps


def _room() -> int:
    """The bytes that this process may come to have: those that it has, and those that are free."""
    return int(psutil.Process().memory_info().rss) + system.available_memory()


# The phases.


@dataclass(frozen=True)
class Phase:
    """One phase: what learns, from which arrays, for how long, and at which rate."""

    name: str
    model: keras.Model
    arrays: NDArray[Any]
    rows: Numbers | None
    epochs: int
    learning_rate: float
    warmup: float
    steps: int
    augmentation: str


def _head_phase(run: Run) -> None:
    """Only the head learns: from the features that were kept, or with the base computed for every photo again."""
    if run.learned.phase != "head":
        return
    config, cached = run.config, run.config.cache_features
    _fit(
        run,
        Phase(
            "head",
            run.classifier.head if cached else run.classifier.core,
            run.features if cached else run.pixels,
            run.rows if cached else None,
            config.head_epochs,
            config.head_learning_rate,
            0.0,
            1 if cached else run.accumulation_steps,
            "none" if cached else config.augmentation,
        ),
    )


def _blocks_phase(run: Run) -> None:
    """The last blocks of the base learn as well, from where the head has come to."""
    config, learned = run.config, run.learned
    if not (config.epochs and config.unfrozen_blocks):
        return
    unfreeze(run.classifier.base, config.unfrozen_blocks)
    if learned.phase == "head":
        # What the head has come to is what the second phase has to beat.
        best = _values(run.classifier.core.trainable_variables)
        run.learned = Learned(learned.key, "blocks", learned.history, learned.seconds, learned.best_loss, best=best)
    _fit(
        run,
        Phase(
            "blocks",
            run.classifier.core,
            run.pixels,
            None,
            config.epochs,
            config.learning_rate,
            config.warmup,
            run.accumulation_steps,
            config.augmentation,
        ),
    )


def _fit(run: Run, phase: Phase) -> None:
    """Run one phase to its end, or from its checkpoint on; the model then has the weights of its best epoch."""
    train, validation = _batches(run, phase)
    _compile(run.config, phase, train.parts.batches)
    _restore(run.learned, phase.model)
    done = run.learned.epochs_done
    params, learning = run.classifier.core.count_params(), _count(phase.model.trainable_variables)
    run.context.send(PhaseBegins(phase.name, params, learning, train.parts.batches, phase.epochs, done))
    with ExitStack() as until_first_step:
        keeper = Keeper(run, phase, train.parts, until_first_step.close)
        callbacks = [ImageMeans(train), keeper] if phase.steps > 1 else [keeper]
        options = {"validation_data": validation, "callbacks": callbacks, "shuffle": False, "verbose": 0}
        try:
            until_first_step.enter_context(run.context.stop.interrupting())
            if done < phase.epochs and not _is_enough(run):
                phase.model.fit(train, epochs=phase.epochs, initial_epoch=done, **options)
        except KeyboardInterrupt:  # while the backend compiled, which takes longer than anybody wants to wait
            raise keeper.stopped("before its first step") from None
        finally:
            keeper.finish()


def _batches(run: Run, phase: Phase) -> tuple[PhotoBatches, PhotoBatches]:
    """What the phase learns from and what validates it."""
    config, labels = run.config, run.split.report.labels
    classes = len(run.split.report.class_names)
    counts = class_weights(labels[run.split.train], classes) if config.class_weights else np.ones(classes, np.float32)
    train = PhotoBatches(
        phase.arrays,
        run.split.train,
        labels,
        counts,
        effective=min(config.update_images, len(run.split.train)),
        steps=phase.steps,
        augmentation=phase.augmentation,
        rows=phase.rows,
        seed=config.seed,
        epoch=run.learned.epochs_done,
    )
    plain = np.ones(classes, np.float32)
    return train, PhotoBatches(phase.arrays, run.split.validation, labels, plain, effective=run.batch_size)


def _compile(config: FinetuneConfig, phase: Phase, batches: int) -> None:
    """Adam with a rate that rises, where it is asked to, then falls along a cosine; schedules count batches."""
    total = phase.epochs * batches
    rising = round(phase.warmup * total)
    rate = (
        keras.optimizers.schedules.CosineDecay(
            0.0, total - rising, warmup_target=phase.learning_rate, warmup_steps=rising
        )
        if rising
        else keras.optimizers.schedules.CosineDecay(phase.learning_rate, total)
    )
    steps = phase.steps if phase.steps > 1 else None  # Keras refuses 1
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    optimizer = keras.optimizers.Adam(rate, gradient_accumulation_steps=steps)
    phase.model.compile(optimizer, loss=loss, metrics=["accuracy"])
    optimizer.build(phase.model.trainable_variables)


def _restore(learned: Learned, model: keras.Model) -> None:
    """Put back what a checkpoint holds, where there is one."""
    for variables, arrays in (
        (model.trainable_variables, learned.weights),
        (model.optimizer.variables, learned.optimizer),
    ):
        for variable, array in zip(variables, arrays, strict=bool(arrays)):
            variable.assign(array)


def _count(variables: Sequence[Any]) -> int:
    """How many numbers variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)


def _values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Copies of what variables hold."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _is_enough(run: Run) -> bool:
    """Whether the validation loss has not fallen for long enough."""
    return 0 < run.config.patience <= run.learned.waited


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the progress of a phase, ends it at the stop flag, keeps its best epoch, and writes checkpoints."""

    def __init__(self, run: Run, phase: Phase, parts: Parts, first_step_done: Callable[[], object]) -> None:
        super().__init__()
        self._run, self._phase, self._parts, self._first_step_done = run, phase, parts, first_step_done
        self._process = psutil.Process()
        self._epoch, self._begun = run.learned.epochs_done + 1, time.monotonic()
        self._phase_begun = self._reported = self._begun
        self._seconds_before = run.learned.seconds.get(phase.name, 0.0)
        self._images = self._images_reported = 0
        self._memory_due = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._begun = epoch + 1, time.monotonic()
        self._reseed()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._first_step_done()
        self._images += self._parts[batch].size
        if not math.isfinite(logs["loss"]):
            raise self._diverged()
        if self._run.context.stop.is_set():
            raise self.stopped(f"after step {batch + 1} of {self._parts.batches}")
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            speed = (self._images - self._images_reported) / (now - self._reported)
            self._reported, self._images_reported = now, self._images
            step = Step(
                self._epoch, batch + 1, self._parts.batches, float(logs["loss"]), float(logs["accuracy"]), speed
            )
            self._run.context.send(step)
            self._report_memory(now)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._run.context.stop.is_set():
            raise self.stopped("in its validation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {curve: float(logs[curve]) for curve in CURVES}
        if not all(map(math.isfinite, values.values())):
            raise self._diverged()
        learned = self._run.learned
        for name, value in {"phase": self._phase.name, **values}.items():
            learned.history[name].append(value)
        self._keep(values["val_loss"])
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = time.monotonic() - self._begun
        self._run.context.send(EpochEnd(self._epoch, **values, seconds=seconds, learning_rate=rate))
        if _is_enough(self._run):
            self.model.stop_training = True

    def finish(self) -> None:
        """Give the model the weights of the best epoch, where there is one, and note the phase's time."""
        self._run.learned.seconds[self._phase.name] = self._seconds()
        for variable, array in zip(self._phase.model.trainable_variables, self._run.learned.best, strict=False):
            variable.assign(array)
        self._report_memory(math.inf)

    def _keep(self, loss: float) -> None:
        """Note the state of this epoch, and write it down: a kill then loses one epoch at most."""
        self._synchronize()
        learned = self._run.learned
        learned.weights = _values(self.model.trainable_variables)
        learned.optimizer = _values(self.model.optimizer.variables)
        learned.waited += 1
        if loss < learned.best_loss:
            learned.best_loss, learned.waited, learned.best = loss, 0, learned.weights
        learned.seconds[self._phase.name] = self._seconds()
        save_checkpoint(learned, self._run.checkpoint)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._phase_begun

    def _reseed(self) -> None:
        """Dropout's draws depend on the epoch, so that a resumed run makes those that it would have made."""
        for number, layer in enumerate(self.model.layers):
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                state = np.array([self._run.config.seed, self._epoch * 2**16 + number], np.uint32)
                layer.seed_generator.state.assign(state)

    def stopped(self, where: str) -> Stopped:
        """What ends the phase at a stop, with the sentence for it."""
        self._synchronize()
        phase = "the first phase" if self._phase.name == "head" else "the second phase"
        return Stopped(f"stopped in epoch {self._epoch} of {phase}, {where}; the best epoch before that is kept")

    def _diverged(self) -> Diverged:
        self._synchronize()
        rate = self._phase.learning_rate
        return Diverged(
            f"the loss was no longer a number in epoch {self._epoch}, so the run ended and the best epoch before that "
            f"is kept; the learning rate {rate:g} is too high here, try {rate / 10:g}"
        )

    def _synchronize(self) -> None:
        """With JAX, `fit` keeps the weights to itself until it is asked for them."""
        if hasattr(self._phase.model, "jax_state_sync"):
            self._phase.model.jax_state_sync()

    def _report_memory(self, now: float) -> None:
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_SECONDS
            self._run.context.send(Memory(self._process.memory_info().rss, system.peak_memory()))


# The result.


def _finished(run: Run) -> FinetuneResult:
    """Test the classifier and write everything down: first what a run has to give, then copies and pictures.

    A run that was stopped is to answer at once and has none of these; neither has one that is stopped meanwhile.
    """
    places, probabilities = _tested(run)
    result = outcome(
        run.config,
        run.split,
        places,
        probabilities,
        photos=run.task.photos,
        classifier=run.classifier,
        history=run.learned.history,
        seconds=run.learned.seconds,
        note=run.note,
        folder=run.context.folder,
        made_with=made_with(run.context.threads, run.batch_size),
        weights_sha256=run.weights_sha256,
    )
    write_outcome(result, run.classifier, run.split, places, probabilities)
    if not run.note:
        with suppress(KeyboardInterrupt), run.context.stop.interrupting():
            result = (
                write_extras(result, run.classifier, run.split, run.pixels, places) if run.config.copies else result
            )
        shutil.rmtree(run.context.folder / "cache", ignore_errors=True)
    return result


def _tested(run: Run) -> tuple[Numbers, Floats]:
    """Numbers of the tested photos in rising order, and their probabilities (n, classes).

    The order is random, so that a test that a stop cuts short has met all classes alike. As long as only the head has
    learned, the kept features say all.
    """
    order = np.random.default_rng(run.config.seed).permutation(run.split.test)
    kept = run.features if run.learned.phase == "head" else None
    found: list[Floats] = []
    end = math.inf if not run.note else time.monotonic() + STOPPED_TEST_SECONDS
    for begin in range(0, len(order), FORWARD_BATCH):
        if found and time.monotonic() >= end:
            break
        some = order[begin : begin + FORWARD_BATCH]
        features = compute_features(run.classifier.pooled, run.pixels[some]) if kept is None else kept[some]
        found.append(in_full_batches(run.classifier.head, features, FORWARD_BATCH))
        if run.context.stop.is_set():
            end = min(end, time.monotonic() + STOPPED_TEST_SECONDS)
    probabilities = np.concatenate(found)
    tested = order[: len(probabilities)]
    ascending = np.argsort(tested)
    return tested[ascending], probabilities[ascending]
