"""What a network costs: the tree unfolded into rows, and everything that is read off the rows.

No framework is needed: Keras is the oracle of the tests, not the calculator.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from toolkit import arithmetic
from toolkit.arithmetic import InputError, require_whole
from toolkit.layers import Architecture, Branches, InputLayer, Layer, Merge, Other, Pair, Path, Shape


@dataclass(frozen=True)
class Row:
    """One layer in its place: what feeds it (`reads`, the numbers of earlier rows), what comes out and what it costs.

    `macs` are for one image. `receptive_field` is the (height, width) of input pixels that one output depends on, which
    may be more than the image has; `stride` the input pixels from one output to the next (Araujo et al. 2019).
    """

    name: str
    layer: Layer
    reads: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    trainable_params: int
    non_trainable_params: int
    macs: int
    receptive_field: Pair
    stride: tuple[float, float]

    @property
    def type(self) -> str:
        """Keras's name for this kind of layer."""
        return self.layer.type

    @property
    def params(self) -> int:
        """All numbers that the layer keeps."""
        return self.trainable_params + self.non_trainable_params

    def activation_bytes(self, batch: int = 1, dtype: str = "float32") -> int:
        """Bytes of the output for a batch."""
        return arithmetic.tensor_bytes(self.output_shape, batch, dtype)


Rows = tuple[Row, ...]
Network = Architecture | Sequence[Row]


# From the tree to the rows.


def make_row(name: str, layer: Layer, reads: tuple[int, ...], rows: Sequence[Row]) -> Row:
    """The row of `layer`, fed by the earlier rows numbered in `reads`; raises InputError where shapes do not fit."""
    shapes = tuple(rows[index].output_shape for index in reads)
    shape = shapes[0] if shapes else ()
    try:
        output = layer.merged_shape(shapes) if isinstance(layer, Merge) else layer.output_shape(shape)
        trainable, kept, macs = layer.trainable_params(shape), layer.non_trainable_params(shape), layer.macs(shape)
    except InputError as error:
        raise InputError(f"layer {name!r}: {error}") from None
    seen, stride = _view(layer, shape, reads, rows)
    return Row(name, layer, reads, shapes, output, trainable, kept, macs, seen, stride)


def _view(layer: Layer, shape: Shape, reads: tuple[int, ...], rows: Sequence[Row]) -> tuple[Pair, tuple[float, float]]:
    """Receptive field and stride behind `layer`: the widest of what feeds it, widened by its own window."""
    if not reads:
        return (1, 1), (1.0, 1.0)
    feeds = [rows[index] for index in reads]
    field = max(row.receptive_field[0] for row in feeds), max(row.receptive_field[1] for row in feeds)
    jump = max(row.stride[0] for row in feeds), max(row.stride[1] for row in feeds)
    extent, step = layer.extent(shape), layer.jump()
    if extent is None:
        image = (*rows[0].output_shape, 1)
        return (max(field[0], image[0]), max(field[1], image[1])), jump
    height, width = (math.ceil(arithmetic.receptive_field(*axis)) for axis in zip(field, jump, extent, strict=True))
    return (height, width), (jump[0] * step[0], jump[1] * step[1])


def snake_case(type_name: str) -> str:
    """A layer's type as the start of its automatic name, in Keras's manner.

    >>> snake_case("BatchNormalization"), snake_case("MaxPooling2D")
    ('batch_normalization', 'max_pooling2d')
    """
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


class Names:
    """Gives every row a name of its own.

    >>> names = Names()
    >>> names.take(Merge("add")), names.take(Merge("add")), names.take(Merge("add", name="join"))
    ('add', 'add_1', 'join')
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._counts: Counter[str] = Counter()

    def take(self, layer: Layer) -> str:
        """The layer's own name, or the next free one of its kind; raises InputError where a name comes twice."""
        if layer.name:
            if layer.name in self._used:
                raise InputError(f"two layers are called {layer.name!r}; give one of them another name")
            self._used.add(layer.name)
            return layer.name
        kind = snake_case(layer.type)
        for _ in range(len(self._used) + 1):
            number = self._counts[kind]
            self._counts[kind] += 1
            name = f"{kind}_{number}" if number else kind
            if name not in self._used:
                break
        self._used.add(name)
        return name


@lru_cache(maxsize=128)
def trace(architecture: Architecture) -> Rows:
    """The rows of a network, in an order in which they can be computed; row 0 is the input.

    Raises InputError where a layer cannot take what feeds it.

    >>> from toolkit.layers import Conv2D
    >>> [row.params for row in trace(Architecture("one", (28, 28, 1), (Conv2D(8, 3),)))]
    [0, 80]
    """
    names = Names()
    entry = InputLayer(shape=architecture.input_shape)
    rows = [make_row(names.take(entry), entry, (), ())]
    try:
        _follow(architecture.layers, 0, rows, names)
    except InputError as error:
        raise InputError(f"{architecture.name}: {error}") from None
    return tuple(rows)


def _follow(path: Path, start: int, rows: list[Row], names: Names) -> int:
    """Append the rows of `path`, which begins at row `start`; return the number of the row at its end."""
    at = start
    for step in path:
        reads: tuple[int, ...] = (at,)
        layer: Layer | Branches = step
        if isinstance(step, Branches):
            reads = tuple(_follow(branch, at, rows, names) for branch in step.paths)
            layer = Merge(step.mode, name=step.name)
        assert isinstance(layer, Layer)  # noqa: S101 - `require_path` holds it; this tells the type checker
        rows.append(make_row(names.take(layer), layer, reads, rows))
        at = len(rows) - 1
    return at


def rows_of(net: Network) -> Rows:
    """The rows of an architecture, or the rows themselves; raises InputError where there are none."""
    rows = trace(net) if isinstance(net, Architecture) else tuple(net)
    if not rows:
        raise InputError("a network needs at least its input; no rows came")
    return rows


def results(rows: Sequence[Row]) -> list[int]:
    """The numbers of the rows that no other row reads: what the network gives.

    >>> from toolkit.layers import Dense
    >>> results(trace(Architecture("two", (4,), (Dense(3), Dense(2)))))
    [2]
    """
    read = {index for row in rows for index in row.reads}
    return [index for index in range(len(rows)) if index not in read]


# Memory.


def inference_elements(rows: Sequence[Row]) -> int:
    """The most numbers that are alive at once while one image passes through.

    The last-use rule: an output is kept until the last layer that reads it has run. A Flatten or Reshape is a view of
    its input; what works number by number (activations, batch normalization, dropout, addition) writes over its input
    when nobody else reads that.

    >>> from toolkit.layers import Conv2D
    >>> layers = tuple(Conv2D(filters, 3, strides=2, padding="same") for filters in (100, 200, 400))
    >>> inference_elements(trace(Architecture("three layers", (200, 300, 3), layers)))
    2250000
    """
    buffers = _buffers(rows)
    ends = _last_uses(rows, buffers)
    starts: dict[int, int] = {}
    for index, buffer in enumerate(buffers):
        starts.setdefault(buffer, index)
    change = [0] * (len(rows) + 1)
    for buffer, start in starts.items():
        size = arithmetic.elements(rows[buffer].output_shape)
        change[start] += size
        change[ends[buffer] + 1] -= size
    alive = most = 0
    for step in change:
        alive += step
        most = max(most, alive)
    return most


def _buffers(rows: Sequence[Row]) -> list[int]:
    """For each row the row in whose memory its output lies."""
    reads_left = Counter(index for row in rows for index in row.reads)
    buffers: list[int] = []
    for index, row in enumerate(rows):
        reads_left.subtract(row.reads)
        home = _overwritten(row, rows, buffers, reads_left)
        buffers.append(index if home is None else home)
    return buffers


def _overwritten(row: Row, rows: Sequence[Row], buffers: Sequence[int], reads_left: Mapping[int, int]) -> int | None:
    """The buffer that `row` may write into, if there is one."""
    if row.layer.buffer == "view":
        return buffers[row.reads[0]]
    if row.layer.buffer == "new":
        return None
    for index in row.reads:
        buffer = buffers[index]
        sharers = (other for other, home in enumerate(buffers) if home == buffer)
        if rows[index].output_shape == row.output_shape and not any(reads_left[other] for other in sharers):
            return buffer
    return None


def _last_uses(rows: Sequence[Row], buffers: Sequence[int]) -> dict[int, int]:
    """For each buffer the last row that needs it; what nobody reads is a result and stays."""
    ends = {buffer: index for index, buffer in enumerate(buffers)}
    for index, row in enumerate(rows):
        for source in row.reads:
            ends[buffers[source]] = max(ends[buffers[source]], index)
    for index in results(rows):
        ends[buffers[index]] = len(rows) - 1
    return ends


def _kept_rows(rows: Sequence[Row]) -> set[int]:
    """The rows whose outputs the backward pass needs again; a view stands for what it looks at."""
    home = list(range(len(rows)))
    for index, row in enumerate(rows):
        if row.layer.buffer == "view":
            home[index] = home[row.reads[0]]
    kept = {home[index] for index, row in enumerate(rows) if row.layer.keeps_output}
    for row in rows:
        if row.layer.keeps_input or (isinstance(row.layer, Merge) and row.layer.keeps_inputs):
            kept.update(home[index] for index in row.reads)
    return kept


def memory_parts(net: Network, batch: int = 1, dtype: str = "float32", optimizer: str = "adam") -> dict[str, int]:
    """Where the bytes of one training step go: weights, gradients, optimizer, activations and input.

    `activations` is everything that the backward pass reads again: inputs of layers with weights, outputs of
    activations and poolings, one byte for each number that dropout saw. Every number has `dtype`. What a framework adds
    (workspace, fragmentation, itself) is not in it. Raises InputError for a batch below 1 and unknown names.

    >>> from toolkit.layers import Conv2D
    >>> memory_parts(Architecture("one", (28, 28, 1), (Conv2D(8, 3, activation="relu"),)), batch=2)
    {'weights': 320, 'gradients': 320, 'optimizer': 640, 'activations': 43264, 'input': 6272}
    """
    rows, size = rows_of(net), arithmetic.dtype_bytes(dtype)
    require_whole("batch", batch)
    trainable = sum(row.trainable_params for row in rows)
    entries = {index for index, row in enumerate(rows) if isinstance(row.layer, InputLayer)}
    return {
        "weights": size * sum(row.params for row in rows),
        "gradients": size * trainable,
        "optimizer": size * trainable * arithmetic.optimizer_slots(optimizer),
        "activations": batch * _kept_bytes(rows, entries, size),
        "input": batch * size * sum(arithmetic.elements(rows[index].output_shape) for index in entries),
    }


def _kept_bytes(rows: Sequence[Row], entries: set[int], size: int) -> int:
    """Bytes kept for the backward pass of one image, the input apart."""
    kept = sum(arithmetic.elements(rows[index].output_shape) for index in _kept_rows(rows) - entries)
    inner = sum(row.layer.kept_elements(row.input_shapes[0]) for row in rows if row.reads)
    return size * (kept + inner) + sum(row.layer.kept_mask_elements(row.input_shapes[0]) for row in rows if row.reads)


# All of it at once.


@dataclass(frozen=True)
class Costs:
    """What a network costs. MACs are for one image; bytes for the whole batch, every number in `dtype`.

    `inference_bytes` are weights and the activations alive at once (see `inference_elements`); `training_bytes` the sum
    of `memory_parts`. `uncounted` names the types of layers whose MACs are not known.
    """

    name: str
    input_shape: Shape
    batch: int
    dtype: str
    optimizer: str
    params: int
    trainable_params: int
    macs: int
    weights_bytes: int
    inference_bytes: int
    training_bytes: int
    training_parts: dict[str, int]
    uncounted: tuple[str, ...]
    rows: Rows

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON: the fields, and of each row what people compare."""
        told = {key: value for key, value in self.__dict__.items() if key != "rows"}
        return told | {"rows": list(self.row_dicts())}

    def row_dicts(self) -> Iterator[dict[str, object]]:
        """The rows as plain data, activation bytes for the batch."""
        for row in self.rows:
            yield {
                "name": row.name,
                "type": row.type,
                "output_shape": row.output_shape,
                "params": row.params,
                "trainable_params": row.trainable_params,
                "macs": row.macs,
                "activation_bytes": row.activation_bytes(self.batch, self.dtype),
                "receptive_field": row.receptive_field,
                "stride": row.stride,
                "reads": [self.rows[index].name for index in row.reads],
            }


def costs(
    net: Network, batch: int = 1, dtype: str = "float32", optimizer: str = "adam", *, name: str = "model"
) -> Costs:
    """Price a network: parameters, MACs and bytes; `name` is for rows, an architecture brings its own.

    Raises InputError for a batch below 1, an unknown dtype or optimizer, and layers that do not fit together.

    >>> from toolkit.architectures import vgg16
    >>> costs(vgg16()).params
    138357544
    """
    rows = rows_of(net)
    parts = memory_parts(rows, batch, dtype, optimizer)
    return Costs(
        name=net.name if isinstance(net, Architecture) else name,
        input_shape=rows[0].output_shape,
        batch=batch,
        dtype=dtype,
        optimizer=optimizer,
        params=sum(row.params for row in rows),
        trainable_params=sum(row.trainable_params for row in rows),
        macs=sum(row.macs for row in rows),
        weights_bytes=parts["weights"],
        inference_bytes=parts["weights"] + batch * arithmetic.dtype_bytes(dtype) * inference_elements(rows),
        training_bytes=sum(parts.values()),
        training_parts=parts,
        uncounted=tuple(sorted({row.type for row in rows if isinstance(row.layer, Other) and not row.layer.counted})),
        rows=rows,
    )
