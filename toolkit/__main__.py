"""The command line: `python -m toolkit cost | plan | measure | train | finetune | segment | stream | grade | bench`.

A command loads only what it needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.arithmetic import DTYPE_BYTES, OPTIMIZER_SLOTS, InputError
from toolkit.costs import Network
from toolkit.layers import Shape
from toolkit.runtimes import EXECUTIONS, POLICIES
from toolkit.show import parse_bytes, parse_shape

if TYPE_CHECKING:
    from toolkit.streaming.distributed import Images

app = typer.Typer(
    help="What convolutional networks cost, and training them on the machine you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _commands() -> None:
    """Keeps `python -m toolkit NAME` the form of every command, however many there are."""


def network(name: str, input_shape: Shape | None) -> Network:
    """The rows of a `.keras` file or of a model of keras.applications, or the architecture of that name.

    Raises InputError where there is none.
    """
    if name.endswith(".keras") or Path(name).is_file():
        from toolkit.keras_files import read_keras_file

        return read_keras_file(name, input_shape)
    if name[:1].isupper():
        from toolkit.memory_command import application_rows, is_application

        if is_application(name):
            return application_rows(name, input_shape)
    from toolkit.architectures import architecture

    return architecture(name, input_shape)


NET = Annotated[
    str,
    typer.Argument(metavar="NAME|FILE.keras", help="An architecture's name, one of keras.applications, or a file."),
]
INPUT = Annotated[str, typer.Option("--input", metavar="HxWxC", help="Size of one image: 720x1280x3.")]
OPTIMIZER = Annotated[str, typer.Option(help=f"One of {', '.join(OPTIMIZER_SLOTS)}.")]
POLICY = Annotated[str, typer.Option(help=f"Keras's dtype policy: {', '.join(POLICIES)}.")]
EXECUTION = Annotated[str, typer.Option(help=f"This machine's, or one of {', '.join(EXECUTIONS)}.")]
LIMIT = Annotated[str, typer.Option(metavar="BYTES", help="Memory, such as 4GiB or 800MB; what is free otherwise.")]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object; bytes are integers.")]


@app.command()
def cost(
    net: NET,
    input_size: INPUT = "",
    batch: Annotated[int, typer.Option(help="Images that are computed together.")] = 1,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPE_BYTES)}.")] = "float32",
    optimizer: OPTIMIZER = "adam",
    as_json: JSON = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    as_diagram: Annotated[bool, typer.Option("--diagram", help="The network from top to bottom.")] = False,
) -> None:
    """Parameters, MACs and memory of a network, layer by layer, and the predicted peaks."""
    from toolkit import show
    from toolkit.costs import costs
    from toolkit.memory_reports import peaks

    if as_json + as_markdown + as_diagram > 1:
        raise InputError("--json, --markdown and --diagram exclude each other; give one of them")
    found = network(net, shape_of(input_size))
    if as_diagram:
        typer.echo(show.diagram(found))
        return
    priced = costs(found, batch, dtype, optimizer, name=Path(net).stem)
    written = show.to_json if as_json else show.markdown if as_markdown else show.table
    typer.echo(written(priced, *peaks(found, batch, dtype, optimizer, name=priced.name)))


def shape_of(text: str) -> Shape | None:
    """The size of one image, None where none was given."""
    return parse_shape(text) if text else None


@app.command()
def plan(
    net: NET,
    wanted: Annotated[int, typer.Option(help="Images that one update of the weights shall learn from.")] = 300,
    limit: LIMIT = "",
    share: Annotated[float, typer.Option(help="The share of the limit that training may take at its peak.")] = 0.7,
    input_size: INPUT = "",
    any_integer: Annotated[bool, typer.Option("--any-integer", help="Not only powers of two.")] = False,
    optimizer: OPTIMIZER = "adam",
    dtype_policy: POLICY = "float32",
    execution: EXECUTION = "",
    train_size: Annotated[int | None, typer.Option(help="No batch is larger than the training images.")] = None,
    test_size: Annotated[int | None, typer.Option(help="No batch is larger than the test images.")] = None,
    as_json: JSON = False,
) -> None:
    """The largest batch whose training fits into the memory, and the accumulation steps for the rest of the wish."""
    from toolkit.memory_command import name_of, plan_command
    from toolkit.system import available_memory

    limit_bytes = parse_bytes(limit) if limit else None
    if limit_bytes is None and execution != "gpu":
        limit_bytes = available_memory()  # before a network of Keras's own brings Keras, which will be gone by then
    plan_command(
        network(net, shape_of(input_size)),
        wanted,
        limit_bytes,
        share=share,
        any_integer=any_integer,
        optimizer=optimizer,
        dtype_policy=dtype_policy,
        execution=execution or None,
        train_size=train_size,
        test_size=test_size,
        name=name_of(net),
        as_json=as_json,
    )


@app.command()
def measure(
    net: NET,
    batch: Annotated[int, typer.Option(help="Images that are computed together.")] = 32,
    training: Annotated[bool, typer.Option("--train", help="A training step; a prediction otherwise.")] = False,
    input_size: INPUT = "",
    optimizer: OPTIMIZER = "adam",
    dtype_policy: POLICY = "float32",
    execution: EXECUTION = "",
    accumulation_steps: Annotated[int, typer.Option(help="Batches that the weights move once for.")] = 1,
    limit: LIMIT = "",
    as_json: JSON = False,
) -> None:
    """Measure the peak of memory in a fresh process, beside what was predicted. Ctrl-C ends it."""
    from toolkit.memory_command import application_and_rows, is_application, measure_command, name_of

    shape, limit_bytes = shape_of(input_size), parse_bytes(limit) if limit else None
    rows: Network
    if is_application(net):
        built, rows = application_and_rows(net, shape)
    else:
        built = rows = network(net, shape)
    status = measure_command(
        built,
        rows,
        batch,
        training=training,
        optimizer=optimizer,
        dtype_policy=dtype_policy,
        execution=execution or None,
        accumulation_steps=accumulation_steps,
        limit=limit_bytes,
        name=name_of(net),
        as_json=as_json,
    )
    raise typer.Exit(status)


@app.command()
def networks() -> None:
    """The architectures that `cost` and `train` know by name."""
    from toolkit.architectures import ARCHITECTURES
    from toolkit.costs import costs
    from toolkit.show import readable_count, readable_shape

    for name, make in ARCHITECTURES.items():
        priced = costs(make())
        size = readable_shape(priced.input_shape)
        typer.echo(f"{name:<16}{size:<16}{priced.params:>13,} parameters  {readable_count(priced.macs):>7} MACs")


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="A data set's name, or a folder of images by class.")] = "digits",
    architecture: Annotated[str, typer.Option(help="See `networks`.")] = "small_cnn",
    channels: Annotated[int, typer.Option(help="Width, where the architecture has one.")] = 16,
    compare: Annotated[
        list[int] | None, typer.Option(metavar="CHANNELS...", help="Train these widths beside it: --compare 8 32.")
    ] = None,
    more: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    dropout: Annotated[float, typer.Option(help="Share of activations set to 0, where it has one.")] = 0.25,
    recipe: Annotated[
        str | None, typer.Option(help="How it learns, whole: a name in toolkit.recipes, such as lean_mnist.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images that are computed at once; 64 without a recipe.")
    ] = None,
    accumulation_steps: Annotated[int, typer.Option(help="Batches whose gradients make one update.")] = 1,
    effective_batch: Annotated[
        int | None, typer.Option(help="Images an update learns from, where not all batches shall be full.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the optimizer; 0.002 without a recipe.")] = None,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images; 3 without a recipe.")] = None,
    schedule: Annotated[str, typer.Option(help="constant, cosine or plateau.")] = "cosine",
    augmentation: Annotated[str, typer.Option(help="none, shift, flip or shift_flip.")] = "none",
    validation_fraction: Annotated[float, typer.Option(help="Share of training images to validate with.")] = 0.1,
    train_limit: Annotated[int | None, typer.Option(help="Use no more training images than this.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; a new folder in runs/ otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Train a network, or several side by side. Ctrl-C stops and keeps what was learned."""
    from toolkit.train_command import train_command
    from toolkit.training import TrainConfig

    if more and not compare:
        raise InputError(f"{more[0]} came without an option; write --compare before it, or leave it out")
    given: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate, "epochs": epochs}
    config = TrainConfig(
        dataset=dataset,
        architecture=architecture,
        channels=channels,
        dropout=dropout,
        recipe=recipe,
        accumulation_steps=accumulation_steps,
        effective_batch=effective_batch,
        optimizer=optimizer,
        momentum=momentum,
        seed=seed,
        augmentation=augmentation,
        schedule=schedule,
        validation_fraction=validation_fraction,
        train_limit=train_limit,
        **{name: value for name, value in given.items() if value is not None},
    )
    raise typer.Exit(train_command(config, [*(compare or ()), *(more or ())], folder, as_json))


SOURCE = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A file with a URL or path a line (.txt, .csv, .tsv, .jsonl, .parquet), a folder of images by class, "
        "here or in an object store, or tar shards such as birds-{000..099}.tar.",
    ),
]
SIZE = Annotated[str, typer.Option("--size", metavar="N|HxW", help="Height and width that all images get.")]
BATCH = Annotated[int, typer.Option("--batch", help="Images in a batch.")]
SEED = Annotated[int, typer.Option(help="Of the order of the images.")]
CLASS_NAMES = Annotated[
    str, typer.Option("--class-names", metavar="NAME,...", help="Of tar shards, in the order of their numbers.")
]
PRIVATE = Annotated[
    bool, typer.Option("--allow-private", help="Fetch from this machine and its network too, and from object stores.")
]


@app.command()
def finetune(
    photos: Annotated[
        Path | None, typer.Argument(help="A folder of photos by class, or a list such as photos.csv.")
    ] = None,
    base: Annotated[str, typer.Option(help="A network of keras.applications.")] = "MobileNetV2",
    alpha: Annotated[float, typer.Option(help="Its width, where it has several.")] = 1.0,
    image_size: Annotated[int, typer.Option(help="Height and width that the base sees, in pixels.")] = 224,
    fit: Annotated[str, typer.Option(help="stretch, crop or pad photos of another shape.")] = "stretch",
    depths: Annotated[int, typer.Option(help="Sizes of feature map that the head reads; 1 for the last only.")] = 3,
    head_units: Annotated[int, typer.Option(help="Width of the head's hidden layer; 0 for none.")] = 256,
    head_views: Annotated[int, typer.Option(help="Views of each training photo that features are kept of.")] = 4,
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file that fits the base.")] = "imagenet",
    batch_size: Annotated[int, typer.Option(help="Photos that are computed at once.")] = 16,
    accumulation_steps: Annotated[int, typer.Option(help="Batches whose gradients make one update.")] = 1,
    head_epochs: Annotated[int, typer.Option(help="Epochs in which only the new head learns.")] = 60,
    epochs: Annotated[int, typer.Option(help="Epochs in which the last blocks learn, too; 0 for none.")] = 12,
    unfrozen_blocks: Annotated[int, typer.Option(help="Blocks of the base that learn then.")] = 10,
    head_learning_rate: Annotated[float, typer.Option(help="Of the first phase.")] = 1e-3,
    learning_rate: Annotated[float, typer.Option(help="Of the second phase.")] = 1e-4,
    patience: Annotated[int, typer.Option(help="Epochs without progress that end a phase; 0 for never.")] = 8,
    augmentation: Annotated[str, typer.Option(help="none, flip, light, strong or round; when training.")] = "light",
    class_weights: Annotated[bool, typer.Option("--class-weights", help="Let all classes count the same.")] = False,
    dropout: Annotated[float, typer.Option(help="Share of what each dense layer reads that a step leaves out.")] = 0.5,
    copies: Annotated[bool, typer.Option(help="Save int8, TFLite and ONNX copies, too.")] = True,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; a new folder in runs/ otherwise.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with the run in this folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look at the photos.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="With --check: a file for pictures of what is wrong.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Fine-tune a network that knows ImageNet on your photos. Ctrl-C stops and keeps the best epoch."""
    from toolkit.finetune_command import check_command, finetune_command
    from toolkit.finetuning import FinetuneConfig

    if check:
        if photos is None:
            raise InputError("--check needs a folder of photos by class, or a list such as photos.csv")
        raise typer.Exit(check_command(photos, as_json, pictures))
    config = (
        None
        if resume
        else FinetuneConfig(
            base=base,
            alpha=alpha,
            image_size=image_size,
            fit=fit,
            depths=depths,
            head_units=head_units,
            head_views=head_views,
            weights=None if weights == "none" else weights,
            batch_size=batch_size,
            accumulation_steps=accumulation_steps,
            head_epochs=head_epochs,
            epochs=epochs,
            unfrozen_blocks=unfrozen_blocks,
            head_learning_rate=head_learning_rate,
            learning_rate=learning_rate,
            patience=patience,
            augmentation=augmentation,
            class_weights=class_weights,
            dropout=dropout,
            copies=copies,
            seed=seed,
        )
    )
    raise typer.Exit(finetune_command(photos, config, folder, resume=resume, as_json=as_json))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The folder of a fine-tuning, or its model.keras.")],
    files: Annotated[list[Path], typer.Argument(help="Photos, or folders of them.")],
    top: Annotated[int, typer.Option(help="Classes that are told of each.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """What a fine-tuned network says of photos."""
    from toolkit.finetune_command import predict_command

    raise typer.Exit(predict_command(model, files, top, as_json))


@app.command()
def segment(
    files: Annotated[list[Path] | None, typer.Argument(metavar="IMAGE...", help="To label, with --model.")] = None,
    model: Annotated[Path | None, typer.Option(help="A finished training's folder: label images with it.")] = None,
    source: Annotated[
        str, typer.Option(help="digits_on_photos, or a folder of images and masks.")
    ] = "digits_on_photos",
    network: Annotated[str, typer.Option(help="fcn32s, fcn16s, fcn8s, fcn4s, dilated or unet.")] = "fcn8s",
    compare: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Train this one, too; may be given several times.")
    ] = None,
    base: Annotated[str, typer.Option(help="small_base, or one of `networks`.")] = "small_base",
    channels: Annotated[int, typer.Option(help="Of the first stage of small_base and unet.")] = 16,
    alpha: Annotated[float, typer.Option(help="Width of mobilenet_v2.")] = 0.35,
    weights: Annotated[str | None, typer.Option(help="imagenet (mobilenet_v2), or weights.npz of another run.")] = None,
    digits: Annotated[str, typer.Option(help="The digits of digits_on_photos: digits or mnist.")] = "digits",
    photos: Annotated[str | None, typer.Option(help="A folder of photos to scatter digits over.")] = None,
    image_size: Annotated[int, typer.Option(help="Pixels of a side.")] = 128,
    train_images: Annotated[int, typer.Option(help="Pictures to learn from.")] = 3000,
    validation_images: Annotated[int, typer.Option(help="Pictures to be tested with after every epoch.")] = 60,
    test_images: Annotated[int, typer.Option(help="Pictures to be tested with.")] = 200,
    difficulty: Annotated[str, typer.Option(help="easy, normal or hard digits on photos.")] = "normal",
    loss: Annotated[str, typer.Option(help="cross_entropy, focal, dice or cross_entropy_dice.")] = "cross_entropy_dice",
    batch_size: Annotated[int, typer.Option(help="Pictures in one step.")] = 8,
    epochs: Annotated[int, typer.Option(help="Passes over the training pictures.")] = 6,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at its highest.")] = 4e-3,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror training pictures at random (not for digits).")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with the run in this folder.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; a new folder in runs/ otherwise.")] = None,
    as_json: JSON = False,
) -> None:
    """Train a network that labels every pixel, or label images with one. Ctrl-C stops and keeps what was learned."""
    from toolkit.arithmetic import require_choice
    from toolkit.scenes import DIFFICULTIES
    from toolkit.segment_command import label_command, resume_command, segment_command
    from toolkit.segmentation import SegmentConfig

    if files or model:
        if not (files and model):
            raise InputError("images are labelled with a finished training; give IMAGE... and --model FOLDER")
        raise typer.Exit(label_command(files, model, folder, as_json))
    if resume:
        raise typer.Exit(resume_command(resume, as_json))
    config = SegmentConfig(
        source=source,
        network=network,
        base=base,
        channels=channels,
        alpha=alpha,
        weights=weights,
        digits=digits,
        photos=photos,
        image_size=image_size,
        train_images=train_images,
        validation_images=validation_images,
        test_images=test_images,
        difficulty=DIFFICULTIES[require_choice("difficulty", difficulty, tuple(DIFFICULTIES))],
        loss=loss,
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=learning_rate,
        flip=flip,
        seed=seed,
    )
    raise typer.Exit(segment_command(config, compare or (), folder, as_json))


@app.command()
def stream(
    source: SOURCE,
    size: SIZE = "96",
    batch: BATCH = 32,
    epochs: Annotated[int, typer.Option(min=1, help="How often all images are read.")] = 1,
    shuffle: Annotated[bool, typer.Option(help="In an order of its own in each epoch.")] = True,
    seed: SEED = 0,
    order: Annotated[str, typer.Option(help="source (repeatable), or completion: whatever is ready.")] = "source",
    on_error: Annotated[str, typer.Option(help="A bad image: skip, replace or fail.")] = "skip",
    max_failed_share: Annotated[float, typer.Option(help="More bad images than this share stop the stream.")] = 0.5,
    fit: Annotated[str, typer.Option(help="Another shape: crop, pad or stretch.")] = "crop",
    cache: Annotated[str, typer.Option(help="For later epochs: none, bytes or tensors.")] = "none",
    cache_folder: Annotated[Path | None, typer.Option(help="Where the cache is.")] = None,
    cache_bytes: Annotated[str, typer.Option(metavar="BYTES", help="The cache's size at most.")] = "10GB",
    part: Annotated[str, typer.Option(metavar="I/N", help="Only part I of N, from 0: each image is in one.")] = "0/1",
    report: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all failures here.")] = None,
    connections: Annotated[int, typer.Option(help="Downloads at once at most.")] = 128,
    per_host: Annotated[int, typer.Option(help="Of these, from one host.")] = 128,
    politeness_delay: Annotated[float, typer.Option(help="Seconds between two requests to one host.")] = 0.0,
    allow_private: PRIVATE = False,
    class_names: CLASS_NAMES = "",
    as_json: JSON = False,
) -> None:
    """Read images from anywhere, and say how fast it went and which ones could not be used. Ctrl-C stops."""
    from toolkit.stream_command import parse_part, parse_size, stream_command
    from toolkit.streaming.limits import FetchLimits
    from toolkit.streaming.settings import StreamSettings

    limits = FetchLimits(
        connections=connections, per_host=per_host, politeness_delay=politeness_delay, allow_private=allow_private
    )
    # What these may be is the settings' to say: a person's word becomes a sentence there.
    chosen: dict[str, Any] = {"order": order, "on_error": on_error, "fit": fit, "cache": cache}
    settings = StreamSettings(
        image_size=parse_size(size),
        batch_size=batch,
        shuffle=shuffle,
        seed=seed,
        max_failed_share=max_failed_share,
        cache_folder=cache_folder,
        cache_bytes=parse_bytes(cache_bytes),
        limits=limits,
        **chosen,
    )
    raise typer.Exit(stream_command(source, settings, epochs, parse_part(part), report, as_json, _names(class_names)))


@app.command("stream-service")
def stream_service(
    source: SOURCE,
    size: SIZE = "96",
    batch: BATCH = 32,
    epochs: Annotated[int, typer.Option(min=1, help="How many epochs it offers, each in an order of its own.")] = 10,
    seed: SEED = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that fetch and decode.")] = 2,
    port: Annotated[int, typer.Option(help="Of the dispatcher; 0 takes a free one.")] = 5050,
    host: Annotated[str, typer.Option(help="The name under which readers reach this machine.")] = "localhost",
    join: Annotated[str, typer.Option(metavar="grpc://HOST:PORT", help="Work for a dispatcher elsewhere.")] = "",
    class_names: CLASS_NAMES = "",
    allow_private: PRIVATE = False,
) -> None:
    """Feed training elsewhere: a tf.data service that streams the images in several processes. Ctrl-C ends it."""
    from toolkit.distributed_command import service_command

    images = _images(source, size, batch, seed, allow_private, class_names)
    raise typer.Exit(service_command(images, workers, epochs, port, host, join))


@app.command("train-workers")
def train_workers(
    source: SOURCE,
    size: SIZE = "96",
    batch: Annotated[int, typer.Option("--batch", help="Images in a batch of each worker.")] = 32,
    architecture: Annotated[str, typer.Option(help="See `networks`.")] = "small_cnn",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    seed: SEED = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that train together on this machine.")] = 2,
    folder: Annotated[Path, typer.Option(help="Where the model goes; one that is there is trained on.")] = Path(
        "runs/workers"
    ),
    cluster: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="All workers, on several machines.")] = "",
    index: Annotated[int | None, typer.Option(help="Which of the cluster's workers this one is, from 0.")] = None,
    class_names: CLASS_NAMES = "",
    classes: Annotated[
        int | None, typer.Option(min=1, help="How many there are, where tar shards cannot tell.")
    ] = None,
    allow_private: PRIVATE = False,
    as_json: JSON = False,
) -> None:
    """Train one network in several processes, each with its part of the images. Ctrl-C keeps the last full epoch."""
    from toolkit.distributed_command import train_workers_command

    images = _images(source, size, batch, seed, allow_private, class_names)
    addresses = [address.strip() for address in cluster.split(",") if address.strip()]
    raise typer.Exit(
        train_workers_command(
            images, architecture, epochs, learning_rate, workers, folder, addresses, index, as_json, classes
        )
    )


def _names(text: str) -> tuple[str, ...] | None:
    """Names that are written with commas; None where there are none."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) or None


def _images(source: str, size: str, batch: int, seed: int, allow_private: bool, class_names: str) -> Images:
    """What several workers stream."""
    from toolkit.stream_command import parse_size
    from toolkit.streaming.distributed import Images
    from toolkit.streaming.limits import FetchLimits
    from toolkit.streaming.settings import StreamSettings

    limits = FetchLimits(allow_private=allow_private)
    return Images(source, StreamSettings(parse_size(size), batch, seed=seed, limits=limits), _names(class_names) or ())


@app.command()
def grade(
    submission: Annotated[
        Path, typer.Argument(help="A .py or .ipynb file, or a folder with a file, folder or zip for each student.")
    ],
    exercise: Annotated[
        str, typer.Option(help="The exercise's name, or a file of checks; the file's name otherwise.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Where results go; needed for a folder of submissions.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes that grade; 0 for one a processor.")] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Of the hidden cases: the same seed repeats a grading exactly.")
    ] = None,
    student: Annotated[str, typer.Option(help="Whose file it is: every student has cases of their own.")] = "",
    isolation: Annotated[
        str, typer.Option(help="process, rlimits, landlock or bubblewrap; the best there is otherwise.")
    ] = "",
    require: Annotated[str, typer.Option(help="The least isolation that will do; an error where there is less.")] = "",
    public_only: Annotated[bool, typer.Option("--public", help="Only the cases that the exercise shows.")] = False,
    pack: Annotated[
        Path | None, typer.Option(help="A Python file with more cases: PACK = {question: function}.")
    ] = None,
) -> None:
    """Grade an exercise, or a folder of submissions. Whatever a file does, it is graded; Ctrl-C keeps what is done."""
    from toolkit.grade_command import grade_command

    raise typer.Exit(
        grade_command(
            submission,
            exercise,
            out=out,
            jobs=jobs,
            seed=seed,
            student=student,
            isolation=isolation,
            require=require,
            public_only=public_only,
            pack=pack,
        )
    )


exercises = typer.Typer(help="The exercises of the course.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(exercises, name="exercises")


@exercises.callback()
def _exercises() -> None:
    """Keeps `exercises build` the form of the command."""


@exercises.command()
def build() -> None:
    """Write exercises/ out of solutions/: a .py and a notebook of each."""
    from toolkit.grade_command import build_command

    raise typer.Exit(build_command())


@app.command()
def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="training, memory, streaming, finetuning, segmentation, grading, zoo, speed, analysis, why, pooling, "
            "lrn or architectures."
        ),
    ],
    quick: Annotated[bool, typer.Option(help="Smaller work, the same promises; within 50 s.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random; the first of the zoo's.")] = 0,
    dataset: Annotated[
        list[str] | None, typer.Option(help="zoo: only experiments on this data set; may come again.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="zoo: only experiments whose name begins so, or with this network; may come again."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="zoo: runs of each experiment.")] = 3,
    budget_minutes: Annotated[float | None, typer.Option(help="zoo: begin no run that would take longer.")] = None,
    backend: Annotated[str | None, typer.Option(help="zoo: tensorflow, jax or torch, where it is installed.")] = None,
) -> None:
    """Measure one promise; exit status 1 when it is not kept. The full run writes book/results/NAME.json."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    if name == "zoo":
        from toolkit.benchmarks.zoo import zoo_command

        raise typer.Exit(zoo_command(dataset or (), models or (), seeds, budget_minutes, quick, as_json, seed))
    from toolkit.benchmarks import bench_command

    raise typer.Exit(bench_command(name, quick, as_json, seed))


def main() -> None:
    """Run the command line; what a person got wrong is one sentence and exit status 2."""
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
