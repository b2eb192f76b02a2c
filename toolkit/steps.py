"""What one step of a network asks an allocator for, in order: the rows read as a list of requests and returns.

The order is that of a graph executor such as TensorFlow's. Forward, an output lives until its last reader has run and
until the backward pass has used it; what works number by number writes over its input when nobody else holds that.
Backward, the layers come in reverse: a gradient of the output, the temporaries of the formula, a gradient of the input,
a gradient of each weight, which the optimizer uses up at once. Sizes are bytes. Nothing is imported but the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit import arithmetic
from toolkit.costs import Row, Rows, results
from toolkit.layers import (
    SMOOTH_ACTIVATIONS,
    Activated,
    Activation,
    BatchNormalization,
    Dropout,
    GlobalMaxPooling2D,
    GroupNormalization,
    InputLayer,
    LayerNormalization,
    LocalResponseNormalization,
    MaxPooling2D,
    Merge,
    MultiHeadAttention,
    Scaled,
    SeparableConv2D,
    Windowed,
)

# Kinds of bytes, as an estimate tells them.
KINDS = ("weights", "optimizer", "gradients", "activations", "temporaries", "input")
FLOAT = 4


@dataclass
class Tape:
    """Requests and returns in the order in which they come: (number, bytes), and (number, -1) for a return."""

    events: list[tuple[int, int]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    holders: list[int] = field(default_factory=list)

    def take(self, kind: str, size: int) -> int:
        """Ask for `size` bytes; the answer is the number of the buffer, held once."""
        number = len(self.sizes)
        self.events.append((number, size))
        self.kinds.append(kind)
        self.sizes.append(size)
        self.holders.append(1)
        return number

    def hold(self, number: int) -> int:
        """Hold a buffer once more."""
        self.holders[number] += 1
        return number

    def drop(self, number: int) -> None:
        """Hold a buffer once less; the last holder gives it back."""
        self.holders[number] -= 1
        if not self.holders[number]:
            self.events.append((number, -1))

    def pass_through(self, *sizes: int, kind: str = "temporaries") -> None:
        """Ask for several buffers and give them all back."""
        for number in [self.take(kind, size) for size in sizes]:
            self.drop(number)


# What one layer needs beside its input, its output and their gradients.


@dataclass(frozen=True)
class Footprint:
    """What a layer holds for the backward pass and what it needs for a moment, in bytes for one image.

    `keeps` comes beside input and output. `forward` and `backward` are temporaries that exist at once. `over` says
    whether the output may be written over the input, `gradient_over` whether the gradient of the input over that of the
    output.
    """

    keeps_input: bool = False
    keeps_output: bool = False
    keeps: tuple[int, ...] = ()
    forward: tuple[int, ...] = ()
    backward: tuple[int, ...] = ()
    over: bool = False
    gradient_over: bool = False


def variables(row: Row) -> tuple[list[int], list[int]]:
    """Elements of each trainable and each other variable of a layer, the large ones first.

    >>> from toolkit.costs import trace
    >>> from toolkit.layers import Architecture, Conv2D
    >>> variables(trace(Architecture("one", (28, 28, 1), (Conv2D(8, 3),)))[1])
    ([72, 8], [])
    """
    layer, channels = row.layer, row.output_shape[-1] if row.output_shape else 0
    trainable, others = row.trainable_params, row.non_trainable_params
    if isinstance(layer, BatchNormalization):
        learned = [channels] * (int(layer.center) + int(layer.scale))
        return (learned if trainable else []), [channels] * (2 if trainable else len(learned) + 2)
    sizes = _sizes(row, trainable or others)
    return (sizes, []) if trainable else ([], sizes)


def _sizes(row: Row, total: int) -> list[int]:
    """`total` parameters as they lie in variables: kernels, then the bias."""
    layer = row.layer
    if not total:
        return []
    if isinstance(layer, MultiHeadAttention):
        return _attention_sizes(layer, row.output_shape[-1])
    if isinstance(layer, Scaled):
        return [row.output_shape[-1]] * (int(layer.center) + int(layer.scale))
    if not isinstance(layer, Activated):
        return [total]
    bias = row.output_shape[-1] if layer.use_bias else 0
    kernels = [total - bias]
    if isinstance(layer, SeparableConv2D):
        depthwise = arithmetic.depthwise_params(*layer.window, row.input_shapes[0][-1], layer.depth_multiplier, False)
        kernels = [depthwise, total - bias - depthwise]
    return [*kernels, bias] if bias else kernels


def _attention_sizes(layer: MultiHeadAttention, channels: int) -> list[int]:
    inner = [layer.num_heads * size for size in (layer.key_dim, layer.key_dim, layer.value)]
    pairs = [(channels, size) for size in inner] + [(inner[-1], channels)]
    return [size for n, u in pairs for size in ((n * u, u) if layer.use_bias else (n * u,))]


def footprint(row: Row, kernels: str, size: int = FLOAT) -> Footprint:
    """The footprint of one row, as Keras writes the layer for TensorFlow; `kernels` is an execution of `runtimes`.

    `size` is the bytes of one number of a feature map.
    """
    for kind, answer in _FOOTPRINTS:
        if isinstance(row.layer, kind):
            return answer(row, kernels, size)
    layer = row.layer
    return Footprint(
        keeps_input=layer.keeps_input,
        keeps_output=layer.keeps_output,
        over=layer.buffer == "in_place",
        gradient_over=layer.buffer != "new",
    )


def _out(row: Row, size: int) -> int:
    return size * arithmetic.elements(row.output_shape)


def _of_activated(row: Row, kernels: str, size: int) -> Footprint:
    """A layer with weights; a smooth activation behind it needs what came before it."""
    layer, out = row.layer, _out(row, size)
    assert isinstance(layer, Activated)  # noqa: S101 - for the type checker
    smooth = _smooth(layer.activation, out)
    if not isinstance(layer, SeparableConv2D):
        return Footprint(True, layer.keeps_output, smooth, (), smooth[:1] * 2)
    channels = row.input_shapes[0][-1] * layer.depth_multiplier
    between = size * arithmetic.elements((*row.output_shape[:2], channels))
    return Footprint(True, layer.keeps_output, (*smooth, between), (), (*smooth[:1] * 2, between))


def _smooth(activation: str, out: int) -> tuple[int, ...]:
    """What a smooth activation keeps: its input; for gelu, which Keras writes with erf, two factors as well."""
    return (out,) * (3 if activation == "gelu" else int(activation in SMOOTH_ACTIVATIONS))


def _of_activation(row: Row, kernels: str, size: int) -> Footprint:
    layer, out = row.layer, _out(row, size)
    assert isinstance(layer, Activation)  # noqa: S101 - for the type checker
    if layer.activation == "gelu":
        return Footprint(keeps=_smooth("gelu", out), backward=(out, out))
    if layer.activation in SMOOTH_ACTIVATIONS:
        return Footprint(keeps_input=True, backward=(out, out))
    return Footprint(keeps_output=layer.keeps_output, over=True, gradient_over=True)


def _of_batch_normalization(row: Row, kernels: str, size: int) -> Footprint:
    """Squared differences forward; backward three maps beside the gradient, one of which becomes the input's."""
    whole = _out(row, FLOAT)
    if size < FLOAT:  # the statistics are computed in float32, from a copy that the backward pass reads again
        return Footprint(keeps=(whole,), forward=(whole, whole), backward=(whole, whole, whole))
    return Footprint(keeps_input=True, forward=(whole,), backward=(whole, whole))


def _of_other_normalization(row: Row, kernels: str, size: int) -> Footprint:
    """The factor 1/σ times the scale is a whole map."""
    out = _out(row, size)
    return Footprint(keeps_input=True, keeps=(out,), forward=(out, out), backward=(out, out, out))


def _of_local_response(row: Row, kernels: str, size: int) -> Footprint:
    out = _out(row, size)
    return Footprint(keeps_input=True, keeps=(out, out, out), forward=(out,), backward=(out, out, out))


def _of_max_pooling(row: Row, kernels: str, size: int) -> Footprint:
    """OneDNN keeps a mark of one byte for each output; TensorFlow's own kernel finds its 8-byte places again."""
    count = arithmetic.elements(row.output_shape)
    if kernels == "onednn":
        return Footprint(keeps_input=True, keeps_output=True, keeps=(count,))
    return Footprint(keeps_input=True, keeps_output=True, backward=(8 * count,))


def _of_global_max(row: Row, kernels: str, size: int) -> Footprint:
    return Footprint(keeps_input=True, keeps_output=True, backward=(size * arithmetic.elements(row.input_shapes[0]),))


def _of_dropout(row: Row, kernels: str, size: int) -> Footprint:
    """Random numbers for a moment, and a mark of one byte for each."""
    layer = row.layer
    assert isinstance(layer, Dropout)  # noqa: S101 - for the type checker
    marks = layer.kept_mask_elements(row.output_shape)
    drawn = (_out(row, size),) if marks else ()
    return Footprint(keeps=(marks,) if marks else (), forward=drawn, over=True, gradient_over=True)


def _of_attention(row: Row, kernels: str, size: int) -> Footprint:
    layer, tokens = row.layer, row.output_shape[0]
    assert isinstance(layer, MultiHeadAttention)  # noqa: S101 - for the type checker
    heads = size * layer.num_heads * tokens
    key, value, scores = heads * layer.key_dim, heads * layer.value, heads * tokens
    return Footprint(True, False, (key, key, value, value, scores), (scores,), (key, key, value, scores, scores))


def _of_merge(row: Row, kernels: str, size: int) -> Footprint:
    layer = row.layer
    assert isinstance(layer, Merge)  # noqa: S101 - for the type checker
    if layer.mode in ("add", "subtract", "average"):
        return Footprint(over=True, gradient_over=True)
    if layer.mode == "concatenate":
        return Footprint()
    return Footprint(keeps_input=True, keeps_output=layer.mode != "multiply", backward=(_out(row, size),))


_FOOTPRINTS: tuple[tuple[type | tuple[type, ...], Callable[[Row, str, int], Footprint]], ...] = (
    (Activated, _of_activated),
    (Activation, _of_activation),
    (BatchNormalization, _of_batch_normalization),
    ((LayerNormalization, GroupNormalization), _of_other_normalization),
    (LocalResponseNormalization, _of_local_response),
    (MaxPooling2D, _of_max_pooling),
    (GlobalMaxPooling2D, _of_global_max),
    (Dropout, _of_dropout),
    (MultiHeadAttention, _of_attention),
    (Merge, _of_merge),
)


# The whole step.


@dataclass
class Step:
    """Writes the requests of building a network and of its steps onto a tape.

    `batch` images a step; `kernels` as in `footprint`; `slots` numbers of the optimizer for each trainable parameter.
    """

    rows: Rows
    batch: int
    kernels: str
    slots: int
    size: int = FLOAT
    accumulates: bool = False
    tape: Tape = field(default_factory=Tape)

    def __post_init__(self) -> None:
        self._prints = [footprint(row, self.kernels, self.size) for row in self.rows]
        self.variables = [variables(row) for row in self.rows]
        self._readers = [0] * len(self.rows)
        for row in self.rows:
            for index in row.reads:
                self._readers[index] += 1
        self._learns = self._learning()
        self._stored: list[list[int]] = [[] for _ in self.rows]
        self._slots: list[list[int]] = [[] for _ in self.rows]
        self._steps = 0

    def _learning(self) -> list[bool]:
        """For each row whether a gradient of its output is needed."""
        learns: list[bool] = []
        for row, (trainable, _) in zip(self.rows, self.variables, strict=True):
            learns.append(bool(trainable) or any(learns[index] for index in row.reads))
        return learns

    def build(self) -> None:
        """The weights; those of kernels are drawn: a random tensor, scaled, moved."""
        for row, (trainable, others) in enumerate(self.variables):
            for index, count in enumerate([*trainable, *others]):
                drawn = [self.tape.take("temporaries", FLOAT * count) for _ in range(2)] if index == 0 else []
                self._stored[row].append(self.tape.take("weights", FLOAT * count))
                for number in drawn:
                    self.tape.drop(number)

    def slots_for_all(self) -> None:
        """The optimizer's numbers, and the sum of gradients where they are accumulated."""
        for row, (trainable, _) in enumerate(self.variables):
            for count in trainable:
                for _ in range(self.slots + int(self.accumulates)):
                    self._slots[row].append(self.tape.take("optimizer", FLOAT * count))

    def forward(self, training: bool) -> tuple[list[int], list[list[int]]]:
        """The forward pass; returns the outputs' buffers and what is held for the backward pass, row by row."""
        tape = self.tape
        home: list[int] = []
        held: list[list[int]] = []
        left = list(self._readers)
        for index, (row, print_) in enumerate(zip(self.rows, self._prints, strict=True)):
            held.append(kept := [])
            if isinstance(row.layer, InputLayer):
                home.append(tape.take("input", self._bytes(row)))
                continue
            keep = training and self._learns[index]
            buffer = self._output(row, print_, home, keep)
            temporaries = [tape.take("temporaries", self.batch * each) for each in print_.forward] if keep else []
            if keep:
                sources = row.reads if isinstance(row.layer, Merge) else row.reads[:1]
                kept += [tape.hold(home[source]) for source in sources if print_.keeps_input]
                kept += [tape.take("activations", self.batch * each) for each in print_.keeps]
                kept += [tape.hold(buffer)] if print_.keeps_output else []
            home.append(buffer)
            for number in temporaries:
                tape.drop(number)
            for source in row.reads:
                left[source] -= 1
                if not left[source]:
                    tape.drop(home[source])
        return home, held

    def _bytes(self, row: Row) -> int:
        return self.batch * self.size * arithmetic.elements(row.output_shape)

    def _output(self, row: Row, print_: Footprint, home: list[int], keep: bool) -> int:
        """The buffer of a row's output: its input's where the two may share, a new one otherwise."""
        if row.layer.buffer == "view":
            return self.tape.hold(home[row.reads[0]])
        over = print_.over if keep else row.layer.buffer == "in_place"
        if over and not (keep and print_.keeps_input):
            for source in row.reads:
                if self.tape.holders[home[source]] == 1 and self.tape.sizes[home[source]] >= self._bytes(row):
                    return self.tape.hold(home[source])
        return self.tape.take("activations", self._bytes(row))

    def train(self, targets: int, temporaries: int) -> None:
        """One training step: forward, loss (`targets` bytes of answers, `temporaries` of its formula), backward."""
        tape = self.tape
        answers = tape.take("input", max(targets, 1))
        home, held = self.forward(training=True)
        gradients: dict[int, int] = {}
        for index in results(self.rows):
            formula = [tape.take("temporaries", temporaries) for _ in range(3)]
            gradients[index] = tape.take("gradients", self._bytes(self.rows[index]))
            for number in (*formula, home[index]):
                tape.drop(number)
        for index in reversed(range(len(self.rows))):
            self._backward(index, gradients, held)
        tape.drop(answers)
        self._steps += 1

    def _backward(self, index: int, gradients: dict[int, int], held: list[list[int]]) -> None:
        """One layer backward: what it hands on, what its weights get, what is not needed any more."""
        tape, row, print_ = self.tape, self.rows[index], self._prints[index]
        given = gradients.pop(index, None)
        if given is not None and self._learns[index] and row.reads:
            temporaries = [tape.take("temporaries", self.batch * each) for each in print_.backward]
            trainable = self.variables[index][0]
            weights = [tape.take("gradients", FLOAT * count) for count in trainable]
            for source in dict.fromkeys(row.reads):
                if self._learns[source]:
                    self._hand_on(source, given, print_, row, gradients)
            for number in temporaries:
                tape.drop(number)
            for at, (number, count) in enumerate(zip(weights, trainable, strict=True)):
                self._update(number, FLOAT * count, index, at)
        if given is not None:
            tape.drop(given)
        for number in held[index]:
            tape.drop(number)

    def _hand_on(self, source: int, given: int, print_: Footprint, row: Row, gradients: dict[int, int]) -> None:
        """The gradient of one input; a second one is added to the first."""
        tape, size = self.tape, self._bytes(self.rows[source])
        shares = row.layer.buffer == "view" or (print_.gradient_over and tape.sizes[given] == size)
        mine = shares and (tape.holders[given] == 1 or isinstance(row.layer, Merge))
        if source in gradients:
            if not mine:
                tape.pass_through(size, kind="gradients")
        elif mine:
            gradients[source] = tape.hold(given)
        else:
            gradients[source] = tape.take("gradients", size)

    def _update(self, gradient: int, size: int, row: int, at: int) -> None:
        """The optimizer's formula for one weight: Adam squares the gradient, then divides by a root.

        What is written new while an operation still reads the old moves to another place.
        """
        tape = self.tape
        if self.slots >= 2:
            square = tape.take("temporaries", size)
            if self._steps == 0:
                self._move(self._slots[row], (self.slots + int(self.accumulates)) * at + 1)
            tape.drop(square)
            root = tape.take("temporaries", size)
            tape.drop(gradient)
            tape.pass_through(size)
            tape.drop(root)
        else:
            tape.pass_through(size, size)
            tape.drop(gradient)
        if isinstance(self.rows[row].layer, Windowed):
            self._move(self._stored[row], at)

    def _move(self, places: list[int], at: int) -> None:
        old = places[at]
        places[at] = self.tape.take(self.tape.kinds[old], self.tape.sizes[old])
        self.tape.drop(old)
