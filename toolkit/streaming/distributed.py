"""The same images for more than one process or machine: a tf.data service, and training in several workers.

Both rest on what TensorFlow has for it, and nothing here is a cluster of our own:

    tf.data service   a dispatcher deals out the parts of an epoch to workers, each of which streams the part that it
                      got; whoever trains reads the batches of all workers as one `tf.data.Dataset`
    training          one process a worker, each with its part of every epoch; the gradients of a step are summed over
                      all (`MultiWorkerMirroredStrategy`), so that the weights stay equal

A service's workers must run the same Python: a graph names Python functions by a number, and only a process that made
the same datasets in the same order has them under the same numbers. That is why the datasets are made and registered
here, and whoever trains asks for them by name. TensorFlow is imported when a function runs.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError
from toolkit.streaming.groups import Batch
from toolkit.streaming.outputs import batch_spec
from toolkit.streaming.pipeline import ImageStream, open_stream
from toolkit.streaming.samples import Source
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import ShardSource, open_source

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Weighted = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]

BATCHES_IN_A_PART = 16
MOST_PARTS = 256
LOOK_SECONDS = 0.1
# How long processes that start together wait for each other; each imports TensorFlow first.
START_SECONDS = 60.0
SAVED = "epochs-{:04}.keras"
# A worker that starts again within the first two takes its place; the dispatcher looks for lost ones this often.
HEARTBEAT_MS, LOST_MS, LOOK_MS = 500, 3_000, 500


class Flag(Protocol):
    """What tells a worker to end."""

    def is_set(self) -> bool:
        """Whether it should."""


class Context(Protocol):
    """The surroundings of a worker, as `toolkit.processes` gives them."""

    @property
    def stop(self) -> Flag:
        """Raised when the worker should end."""

    @property
    def send(self) -> Callable[[object], None]:
        """Tells the parent something."""


@dataclass(frozen=True)
class Images:
    """What is streamed and how, in a form that travels to other processes.

    source: a path or URL that `stream_images` takes. class_names: of tar shards whose labels are names.
    """

    source: str
    settings: StreamSettings
    class_names: tuple[str, ...] = ()

    def open(self, index: int = 0, count: int = 1) -> ImageStream:
        """The stream of one part of the images; the caller closes it."""
        return open_stream(self.source, self.settings, class_names=self.class_names or None, part=(index, count))

    def found(self) -> Source | ShardSource:
        """The images. Raises InputError where they cannot be found."""
        stores = self.settings.limits.allow_private
        return open_source(self.source, class_names=self.class_names or None, stores=stores)

    def parts(self, workers: int) -> int:
        """Into how many parts a service cuts an epoch: tar shards are not cut."""
        found = self.found()
        if isinstance(found, ShardSource):
            return min(len(found.locations), MOST_PARTS)
        return parts_for(len(found), self.settings.batch_size, workers)

    def classes(self, count: int | None = None) -> int:
        """How many classes the labels name, at least `count`. Raises InputError for tar shards that do not say."""
        found = self.found()
        if not isinstance(found, ShardSource):
            return max(len(found.class_names), int(found.labels.max(initial=0)) + 1, count or 0)
        if not (found.class_names or count):
            raise InputError(
                "how many classes tar shards hold is known when they end; say it with --classes 10, or name them with "
                "--class-names cat,dog"
            )
        return max(len(found.class_names), count or 0)


def parts_for(images: int, batch_size: int, workers: int) -> int:
    """Into how many parts an epoch is cut: some batches each, and enough that no worker waits long for the last.

    >>> parts_for(100_000, 32, 2), parts_for(500, 32, 2)
    (195, 8)
    """
    return min(max(images // (batch_size * BATCHES_IN_A_PART), 4 * workers, 1), MOST_PARTS, max(images, 1))


# The tf.data service: what its processes run.


@dataclass(frozen=True)
class ServiceEpochs:
    """What a service offers: so many epochs, each cut into so many parts."""

    images: Images
    parts: int
    epochs: int

    def batches(self, epoch: int, part: int, parts: int) -> Iterator[Batch]:
        """The batches of one part of an epoch; the numbers come from the graph of the worker that registered it."""
        with closing(self.images.open(int(part), int(parts))) as stream:
            yield from stream.batches(int(epoch))

    def dataset(self, epoch: int) -> tf.data.Dataset:
        """An epoch as a dataset whose elements, the parts, the dispatcher deals out."""
        import tensorflow as tf

        spec = batch_spec(self.images.settings.shape)

        def part(number: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_generator(self.batches, args=(epoch, number, self.parts), output_signature=spec)

        return tf.data.Dataset.range(self.parts).flat_map(part)


def dataset_id(epoch: int) -> str:
    """What a service calls an epoch.

    >>> dataset_id(0)
    'epoch-0'
    """
    return f"epoch-{epoch}"


def run_dispatcher(port: int, context: Context) -> None:
    """Deal out work until the parent stops it; tells the parent when it is ready."""
    from tensorflow.data.experimental import service

    server = service.DispatchServer(
        service.DispatcherConfig(port=port, worker_timeout_ms=LOST_MS, job_gc_check_interval_ms=LOOK_MS)
    )
    context.send("ready")
    _wait(context.stop)
    del server  # it serves as long as it is there


def run_service_worker(epochs: ServiceEpochs, dispatcher: str, address: str, register: bool, context: Context) -> None:
    """Stream the parts that the dispatcher deals to us until the parent stops us; tells the parent when it is ready.

    `address` is "host:port", where readers find this worker; one that is started again under the address of one that
    was lost takes its place. Exactly one worker registers the datasets, which all make in the same order.
    """
    from tensorflow.data.experimental import service

    datasets = [epochs.dataset(number) for number in range(epochs.epochs)]
    _await_dispatcher(dispatcher, context.stop)
    if register:
        for number, dataset in enumerate(datasets):
            service.register_dataset(dispatcher, dataset, dataset_id=dataset_id(number))
    server = service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=dispatcher.removeprefix("grpc://"),
            worker_address=address,
            port=int(address.rpartition(":")[2]),
            heartbeat_interval_ms=HEARTBEAT_MS,
        )
    )
    context.send("ready")
    _wait(context.stop)
    del server


def _await_dispatcher(address: str, stop: Flag) -> None:
    """Wait until the dispatcher, which may be starting as we are, answers; raises InputError where it does not."""
    end = time.monotonic() + START_SECONDS
    while not stop.is_set():
        try:
            _require_answer(address)
        except InputError:
            if time.monotonic() > end:
                raise
            time.sleep(LOOK_SECONDS)
        else:
            return


def _wait(stop: Flag) -> None:
    while not stop.is_set():
        time.sleep(LOOK_SECONDS)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at now.

    >>> len(set(free_ports(3)))
    3
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


# The tf.data service: reading from it.

# How HTTP/2, which gRPC speaks, begins on both sides (RFC 9113, 3.4): a preface, and an empty frame of settings.
_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS


def service_dataset(address: str, epoch: int = 0, *, share: str | None = None) -> tf.data.Dataset:
    """One epoch of a running service as a `tf.data.Dataset` of (images uint8 (n, h, w, 3), labels int64 (n,)).

    Every image comes once in all, in an order that depends on the workers. Readers that give the same name to `share`
    divide the epoch between them. Raises InputError where there is no service at "grpc://host:port", or it has no
    such epoch. The dataset waits for a service that has gone silent for ever; `read_service` does not.
    """
    require_whole("epoch", epoch, 0)
    _require_answer(address)
    import tensorflow as tf
    from tensorflow.data.experimental import service

    try:
        return service.from_dataset_id(service.ShardingPolicy.DYNAMIC, address, dataset_id(epoch), job_name=share)
    except (tf.errors.NotFoundError, ValueError):
        raise InputError(f"the service at {address} has no epoch {epoch}; start it with more --epochs") from None


def _require_answer(address: str, seconds: float = 5.0) -> None:
    """Raise InputError where nobody speaks gRPC within so many seconds: TensorFlow would go on asking for ever."""
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    if not address.startswith("grpc://") or not host or not port.isdigit():
        raise InputError(f"a tf.data service has an address such as grpc://localhost:5050; {address!r} came")
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as line, line.makefile("rb") as answers:
            line.sendall(_HELLO)
            reason = "" if answers.read(len(_SETTINGS))[3:4] == _SETTINGS[3:4] else "something else listens there"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise InputError(
            f"nobody answers at {address} ({reason}); start a service with: python -m toolkit stream-service"
        )


def read_service(
    address: str, epoch: int = 0, *, share: str | None = None, silence_seconds: float = 60.0
) -> Iterator[Batch]:
    """The batches of one epoch of a running service as NumPy arrays.

    Raises InputError where the service cannot be found, ends with an error, or sends nothing for `silence_seconds`:
    then it, or a worker that was not started again, is gone. Nothing goes on reading afterwards.
    """
    _require_answer(address, silence_seconds)
    import tensorflow as tf

    arrived: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=2)
    over = threading.Event()
    # What reads from a service that has died waits for ever; that a session is closed is the one word that reaches it.
    session = tf.compat.v1.Session(graph=tf.Graph(), config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}))
    batches = _batches(session, address, epoch, share)
    threading.Thread(target=_pump, args=(batches, arrived, over), daemon=True, name="tf.data service").start()
    try:
        while (batch := _next(arrived, silence_seconds, address)) is not None:
            yield batch
    finally:
        over.set()
        session.close()


def _batches(session: tf.compat.v1.Session, address: str, epoch: int, share: str | None) -> Iterator[Batch]:
    """The batches of an epoch, until they end or the session is closed."""
    import tensorflow as tf
    from tensorflow.data.experimental import service

    spec = service_dataset(address, epoch).element_spec
    with session.graph.as_default():
        policy, name = service.ShardingPolicy.DYNAMIC, dataset_id(epoch)
        dataset = service.from_dataset_id(policy, address, name, element_spec=spec, job_name=share)
        batches = tf.compat.v1.data.make_initializable_iterator(dataset)
        following = batches.get_next()
    session.run(batches.initializer)
    with suppress(tf.errors.OutOfRangeError):
        while True:
            yield session.run(following)


def _pump(batches: Iterator[Batch], arrived: queue.Queue[Batch | BaseException | None], over: threading.Event) -> None:
    """Put batches into the queue until the reader has enough."""
    last: BaseException | None = None
    try:
        for batch in batches:
            if not _put(arrived, batch, over):
                return
    except Exception as error:  # the reader's thread says it
        last = error
    _put(arrived, last, over)


def _put(arrived: queue.Queue[Any], item: object, over: threading.Event) -> bool:
    """Whether the item found a place before the reader had enough."""
    while not over.is_set():
        try:
            arrived.put(item, timeout=LOOK_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def _next(arrived: queue.Queue[Batch | BaseException | None], silence_seconds: float, address: str) -> Batch | None:
    try:
        item = arrived.get(timeout=silence_seconds)
    except queue.Empty:
        raise InputError(
            f"the service at {address} sent nothing for {silence_seconds:g} s: it or one of its workers is gone; "
            "start it again"
        ) from None
    if isinstance(item, InputError):
        raise item
    if isinstance(item, BaseException):
        raise InputError(f"the service at {address} ended: {str(item).strip().splitlines()[0]}") from None
    return item


# Training in several workers.


@dataclass(frozen=True)
class PartResult:
    """One epoch of one worker: its own images and failures; images, loss and accuracy over all workers.

    `weights` is a number that is the same in two workers whose weights are: the sum of their absolute values.
    """

    epoch: int
    images: int
    failures: int
    all_images: int
    loss: float
    accuracy: float
    weights: float
    seconds: float


@dataclass(frozen=True)
class WorkerPlan:
    """What one worker trains: a network of the toolkit on its part of the images.

    classes: labels are below it. The first `done` epochs were trained before: the weights come from
    `saved_model(folder, done)`.
    """

    images: Images
    network: str
    classes: int
    epochs: int
    learning_rate: float
    index: int
    workers: int
    folder: Path
    done: int = 0


def train_part(plan: WorkerPlan, context: Context) -> int:
    """Train with the other workers that the environment's TF_CONFIG names; tells the parent each epoch's PartResult.

    Returns the number of epochs that all workers have finished. The first worker saves the model after each. Raises
    InputError when another worker is gone.
    """
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model, optimizer = _model(plan)
    update = _update(strategy, model, optimizer)
    with closing(plan.images.open(plan.index, plan.workers)) as stream:
        for epoch in range(plan.done, plan.epochs):
            if context.stop.is_set():
                return epoch
            try:
                result = _train_epoch(stream, epoch, update, plan.classes)
            except tf.errors.OpError as error:
                raise InputError(
                    f"a step of epoch {epoch + 1} failed, as it does when another worker is gone: "
                    f"{error.message.strip().splitlines()[-1]}"
                ) from None
            if plan.index == 0:
                _save(model, plan.folder, epoch + 1)
            context.send(replace(result, weights=weight_sum(model)))
    return plan.epochs


def _model(plan: WorkerPlan) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The network, its pixels scaled to 0 to 1, with equal weights in every worker; and its optimizer."""
    import keras

    from toolkit.architectures import architecture
    from toolkit.build import build

    shape, seed = plan.images.settings.shape, plan.images.settings.seed
    keras.utils.set_random_seed(seed)
    if plan.done:
        model = keras.models.load_model(saved_model(plan.folder, plan.done))
        return model, model.optimizer
    inner = build(architecture(plan.network, shape, plan.classes), seed=seed)
    model = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(1 / 255), inner])
    model.compile(keras.optimizers.Adam(plan.learning_rate), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model, model.optimizer


Update = Callable[[Weighted, bool], tuple[float, float, float, bool]]


def _update(strategy: Any, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Update:
    """A function that moves the weights by one batch of every worker, each image counting the same.

    Keras's own `fit` fails under this strategy (Keras 3.15), a loop of one's own runs. The function takes a batch, with
    a weight of 0 for what only fills it up, and whether this worker has another one. It returns loss, right answers
    and images over all workers, and whether any of them has another batch: so all end their epochs together, however
    many images each could use.
    """
    import keras
    import tensorflow as tf

    loss_of = keras.losses.SparseCategoricalCrossentropy(reduction="none")
    total = tf.distribute.ReduceOp.SUM

    def step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, more: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            answers = model(images, training=True)
            loss = tf.reduce_sum(loss_of(labels, answers) * weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        hits = tf.cast(tf.equal(tf.argmax(answers, axis=-1), labels), tf.float32)
        # An argument has no device of its own, and what has none cannot be summed over devices.
        own = [loss, tf.reduce_sum(hits * weights), tf.reduce_sum(weights), tf.identity(more)]
        *gradients, loss, right, count, more = tf.distribute.get_replica_context().all_reduce(total, [*gradients, *own])
        share = tf.math.divide_no_nan(1.0, count)
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients([(gradient * share, variable) for gradient, variable in pairs])
        return [loss, right, count, more]

    compiled = tf.function(lambda *batch: strategy.run(step, args=batch))

    def update(batch: Weighted, more: bool) -> tuple[float, float, float, bool]:
        loss, right, count, others = compiled(*map(tf.constant, batch), tf.constant(float(more)))
        return float(loss), float(right), float(count), bool(others > 0)

    return update


def _train_epoch(stream: ImageStream, epoch: int, update: Update, classes: int) -> PartResult:
    """Train one epoch in step with the other workers; the weights' sum is for the caller to add."""
    begun, failed, own, sums = time.monotonic(), stream.report.failed, 0, np.zeros(3)
    with closing(stream.batches(epoch)) as found:
        batches = padded(_known(found, classes), stream.settings.batch_size, stream.settings.shape)
        batch, more = next(batches), True
        while more:
            following = next(batches)
            *told, more = update(batch, bool(following[2].any()))
            own += int(batch[2].sum())
            sums += told
            batch = following
    loss, right, images = sums.tolist()
    seconds, seen = round(time.monotonic() - begun, 3), max(images, 1.0)
    failures = stream.report.failed - failed
    return PartResult(epoch, own, failures, int(images), loss / seen, right / seen, 0.0, seconds)


def _known(batches: Iterable[Batch], classes: int) -> Iterator[Batch]:
    """The batches; raises InputError for a label that no class has, which tar shards may bring."""
    for images, labels in batches:
        if labels.max(initial=0) >= classes:
            raise InputError(
                f"labels should be below {classes}, the number of classes; {labels.max()} came; say how many there are "
                "with --classes"
            )
        yield images, labels


def padded(batches: Iterable[Batch], size: int, shape: tuple[int, int, int]) -> Iterator[Weighted]:
    """Full batches with a weight for each image: 1 for those that came, 0 for what fills up; in the end all are 0.

    >>> one = (np.ones((1, 2, 2, 3), np.uint8), np.array([7]))
    >>> filled = padded([one], 2, (2, 2, 3))
    >>> [weights.tolist() for _, _, weights in (next(filled), next(filled))]
    [[1.0, 0.0], [0.0, 0.0]]
    """
    for images, labels in batches:
        yield _filled(images, labels, size)
    empty = _filled(np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64), size)
    while True:
        yield empty


def _filled(images: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> Weighted:
    missing = size - len(labels)
    weights = (np.arange(size) < len(labels)).astype(np.float32)
    return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))), np.pad(labels, (0, missing)), weights


def weight_sum(model: keras.Model) -> float:
    """The sum of the absolute values of all weights."""
    return float(sum(np.abs(weight).sum(dtype=np.float64) for weight in model.get_weights()))


def saved_model(folder: Path, epochs: int) -> Path:
    """The file of the model after so many epochs.

    >>> saved_model(Path("runs/two"), 3).name
    'epochs-0003.keras'
    """
    return folder / SAVED.format(epochs)


def epochs_done(folder: Path) -> int:
    """The epochs after which the newest model in a folder was saved; 0 where there is none.

    >>> epochs_done(Path("no-such-folder"))
    0
    """
    numbers = [path.stem.rpartition("-")[2] for path in folder.glob("epochs-*.keras")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _save(model: keras.Model, folder: Path, epochs: int) -> None:
    """Write the model and let go of the one before; at every moment one of them is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "unfinished.keras"
    model.save(part)
    part.replace(saved_model(folder, epochs))
    saved_model(folder, epochs - 1).unlink(missing_ok=True)
