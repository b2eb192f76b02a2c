"""The book's calculators: what they ask, and what they answer. Runs in the reader's browser, under MicroPython.

All arithmetic is that of the toolkit's own file. An answer is a list of (words, number, unit); the page writes the
numbers for people. Units: "count", "bytes", "pixels", "part" (bytes that belong to a sum above them) and "text".
"""

import json

try:
    from toolkit import arithmetic
except ImportError:
    import arithmetic

FILTERS = (100, 200, 400)
SIZES = {"200 × 300": (200, 300), "360 × 640": (360, 640), "720 × 1280": (720, 1280), "1080 × 1920": (1080, 1920)}
SHARE = 0.7
planned = {}


def slider(name, label, least, most, value, step=1):
    """A field for a whole number."""
    return {"name": name, "label": label, "kind": "slider", "least": least, "most": most, "value": value, "step": step}


def choice(name, label, options, value):
    """A field for one of some words."""
    return {"name": name, "label": label, "kind": "choice", "options": list(options), "value": value}


def fields(calculator):
    """What a calculator asks."""
    if calculator == "layer":
        return [
            slider("height", "height of the image", 8, 1080, 720),
            slider("width", "width of the image", 8, 1920, 1280),
            slider("channels", "channels", 1, 512, 3),
            slider("filters", "filters", 1, 1024, 100),
            slider("window", "window", 1, 11, 3),
            slider("stride", "stride", 1, 5, 2),
            slider("dilation", "dilation", 1, 4, 1),
            choice("padding", "padding", arithmetic.PADDINGS, "same"),
        ]
    if calculator == "field":
        return [
            slider("layers", "layers", 1, 12, 3),
            slider("window", "window", 1, 11, 3),
            slider("stride", "stride", 1, 3, 2),
            slider("dilation", "dilation", 1, 4, 1),
        ]
    if calculator == "memory":
        return [
            choice("size", "images", SIZES, "720 × 1280"),
            slider("batch", "batch", 1, 64, 20),
            choice("dtype", "numbers", ("float32", "float16", "int8"), "float32"),
            choice("optimizer", "optimizer", ("sgd", "momentum", "adam"), "adam"),
        ]
    return [
        choice("network", "network", planned["networks"], "resnet50"),
        slider("gigabytes", "memory in GB", 2, 64, 8),
        slider("wanted", "wanted batch", 1, 512, 300),
        choice("optimizer", "optimizer", ("sgd", "adam"), "adam"),
    ]


def layer(height, width, channels, filters, window, stride, dilation, padding):
    """One convolution."""
    height = arithmetic.output_size(height, window, stride, padding, dilation)
    width = arithmetic.output_size(width, window, stride, padding, dilation)
    return [
        ("output", f"{height} × {width} × {filters}", "text"),
        ("parameters", arithmetic.conv_params(window, window, channels, filters), "count"),
        ("MACs for one image", arithmetic.conv_macs(height, width, window, window, channels, filters), "count"),
        ("output in float32", arithmetic.tensor_bytes((height, width, filters)), "bytes"),
    ]


def field(layers, window, stride, dilation):
    """Equal layers on top of each other: what each sees."""
    seen, jump, answer = 1, 1, []
    for number in range(1, layers + 1):
        seen = arithmetic.receptive_field(seen, jump, arithmetic.window_extent(window, dilation))
        jump *= stride
        answer.append((f"layer {number} sees", seen, "pixels"))
    return answer


def memory(size, batch, dtype, optimizer):
    """The network of three layers: a prediction and a training step."""
    height, width = SIZES[size]
    maps, weights, channels = [(height, width, 3)], 0, 3
    for filters in FILTERS:
        weights += arithmetic.conv_params(3, 3, channels, filters)
        height = arithmetic.output_size(height, 3, 2, "same")
        width = arithmetic.output_size(width, 3, 2, "same")
        maps.append((height, width, filters))
        channels = filters
    held = [arithmetic.tensor_bytes(shape, batch, dtype) for shape in maps]
    alive = max(held[place] + held[place + 1] for place in range(len(FILTERS)))
    stored = weights * arithmetic.dtype_bytes(dtype)
    parts = [
        ("weights", stored, "part"),
        ("gradients", stored, "part"),
        ("optimizer", stored * arithmetic.optimizer_slots(optimizer), "part"),
        ("feature maps", sum(held[1:]), "part"),
        ("images", held[0], "part"),
    ]
    total = sum(part[1] for part in parts)
    totals = [
        ("parameters", weights, "count"),
        ("a prediction needs", stored + alive, "bytes"),
        ("a training step needs", total, "bytes"),
    ]
    return totals + parts


def planner(network, gigabytes, wanted, optimizer):
    """The batch that fits 70 % of the memory by the predicted peak, and the naive answer."""
    net, limit = planned["networks"][network], gigabytes * 10**9
    found = None
    for index, batch in enumerate(planned["batches"]):
        steps = -(-wanted // batch)
        peak = net[optimizer]["once" if steps == 1 else "accumulated"][index]
        if batch < 2 * wanted and peak <= SHARE * limit:
            found = (batch, steps, peak)
    naive = int(SHARE * limit) // arithmetic.tensor_bytes(net["shape"])
    first = ("the naive formula says", naive, "images")
    if found is None:
        return [first, ("the planner says", "not even one image fits", "text")]
    return [
        first,
        ("batch that fits", found[0], "images"),
        ("batches for one update", found[1], "count"),
        ("images for one update", found[0] * found[1], "images"),
        ("predicted peak of the process", found[2], "bytes"),
    ]


ANSWERS = {"layer": layer, "field": field, "memory": memory, "planner": planner}


def load(text):
    """Take the planner's data."""
    planned.update(json.loads(text))


def ask(calculator):
    """The fields of a calculator as JSON."""
    return json.dumps(fields(calculator))


def answer(calculator, values):
    """The answer to some values, both as JSON; what cannot be computed is answered with a sentence."""
    try:
        return json.dumps(ANSWERS[calculator](**json.loads(values)))
    except arithmetic.InputError as error:
        return json.dumps([("this does not work", str(error), "text")])
