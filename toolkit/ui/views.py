"""What the calculator shows: figures, tables and bars as markup."""

from collections.abc import Callable, Sequence

from toolkit import show
from toolkit.costs import Costs, Row
from toolkit.runtimes import MemoryEstimate
from toolkit.ui.drawing import FAMILIES, family
from toolkit.ui.markup import Html, cards, join, table, tag
from toolkit.ui.memory_views import estimate_bar, parts_bar

TITLES = {
    "three_layers": "Three layers",
    "lenet5": "LeNet-5",
    "alexnet": "AlexNet",
    "alexnet_28": "AlexNet for 28 × 28",
    "alexnet_32": "AlexNet for 32 × 32",
    "vgg11": "VGG-11",
    "vgg16": "VGG-16",
    "googlenet": "GoogLeNet",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "se_resnet50": "SE-ResNet-50",
    "xception": "Xception",
    "mobilenet_v2": "MobileNetV2",
    "fcn8s": "FCN-8s",
    "vit_tiny": "ViT-Tiny",
    "small_cnn": "Small CNN",
    "dense_baseline": "Dense baseline",
}
PARTS = {"optimizer": "optimizer's memory", "activations": "activations kept for the backward pass"}


def title(name: str) -> str:
    """A network's name as people write it.

    >>> title("resnet50"), title("my_net")
    ('ResNet-50', 'my net')
    """
    return TITLES.get(name, name.replace("_", " "))


# The calculator.


def totals(price: Costs, peaks: Sequence[MemoryEstimate] = ()) -> Html:
    """The figures with their conventions, and where parameters and memory go; `peaks` are the predicted ones."""
    strips = tag(
        "div",
        _strip("Parameters", "from input to output", price.rows, lambda row: row.params, show.readable_count),
        _strip("Activations", "output of each layer", price.rows, _activation_bytes(price), show.readable_bytes),
        class_="pair",
    )
    bars = [estimate_bar(each) for each in peaks if each.training]
    return join([cards(figures(price, peaks)), strips, _families(price.rows), *bars, memory_bar(price)])


def figures(price: Costs, peaks: Sequence[MemoryEstimate] = ()) -> list[tuple[str, str, str]]:
    """What a network costs, as (what, how much, convention)."""
    unknown = f"; not those of {', '.join(price.uncounted)}" if price.uncounted else ""
    return [
        ("Parameters", f"{price.params:,}", "all numbers that the network keeps"),
        ("Trainable", f"{price.trainable_params:,}", "those that training changes"),
        ("MACs", show.readable_count(price.macs), f"for one image; 1 MAC = 2 FLOPs{unknown}"),
        ("Weights", show.readable_bytes(price.weights_bytes), f"parameters in {price.dtype}; 1 MB = 10⁶ bytes"),
        *(_peak(each) for each in peaks),
        *([] if peaks else _by_the_book(price)),
    ]


def _peak(estimate: MemoryEstimate) -> tuple[str, str, str]:
    what = "Peak to train" if estimate.training else "Peak to predict"
    step = f"one step with {estimate.optimizer}, " if estimate.training else ""
    return (
        what,
        show.readable_bytes(estimate.peak_bytes),
        f"predicted, above the framework; {step}{_images(estimate.batch_size)}",
    )


def _by_the_book(price: Costs) -> list[tuple[str, str, str]]:
    """The sums of textbooks, where no framework's peak is known."""
    images = _images(price.batch)
    return [
        ("Memory to predict", show.readable_bytes(price.inference_bytes), f"weights and live activations, {images}"),
        ("Memory to train", show.readable_bytes(price.training_bytes), f"one step with {price.optimizer}, {images}"),
    ]


def _images(batch: int) -> str:
    return f"{batch} image" + "s" * (batch > 1)


def _activation_bytes(price: Costs) -> Callable[[Row], int]:
    return lambda row: row.activation_bytes(price.batch, price.dtype)


def _strip(
    name: str, small: str, rows: Sequence[Row], value: Callable[[Row], int], readable: Callable[[int], str]
) -> Html:
    """A bar for each layer, in order, as tall as its share of the largest."""
    values = [value(row) for row in rows]
    largest, total = max([*values, 1]), sum(values) or 1
    bars = (_strip_bar(row, count / largest, readable(count)) for row, count in zip(rows, values, strict=True))
    top = rows[values.index(max(values))]
    spoken = f"{name} of each layer; most in {top.name}: {readable(max(values))}"
    caption = tag("figcaption", name, tag("small", f"{small}; most in {top.name}, {max(values) / total:.0%} of all"))
    return tag("figure", caption, tag("div", *bars, class_="strip", role="img", aria_label=spoken))


def _strip_bar(row: Row, share: float, text: str) -> Html:
    return tag("i", class_=family(row.type), style=f"height:{100 * share:.1f}%", title=f"{row.name}: {text}")


def _families(rows: Sequence[Row]) -> Html:
    used = {family(row.type) for row in rows}
    known = [(key, text) for key, text, _ in FAMILIES if key in used]
    return tag(
        "ul", *(tag("li", text, class_=f"key {key}") for key, text in [*known, ("other", "other")]), class_="legend"
    )


def memory_bar(price: Costs) -> Html:
    """The bytes of one training step as textbooks add them up."""
    caption = f"By the book: {show.readable_bytes(price.training_bytes)}"
    small = "the sum that textbooks teach for one training step; a framework's peak is another"
    return parts_bar(caption, small, price.training_parts, PARTS)


def layer_table(price: Costs) -> Html:
    """One line a layer and the totals."""
    head, *body = show.table_cells(price)
    return table(head, body, caption=f"Layers of {title(price.name)}", class_="layers")
