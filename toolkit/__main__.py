"""The command line: `python -m toolkit cost | train | bench`. Each command loads only what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from toolkit.arithmetic import DTYPE_BYTES, OPTIMIZER_SLOTS, InputError
from toolkit.costs import Network
from toolkit.layers import Shape
from toolkit.show import parse_shape

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
    """The rows of a `.keras` file, or the architecture of that name; raises InputError where there is neither."""
    if name.endswith(".keras") or Path(name).is_file():
        from toolkit.keras_files import read_keras_file

        return read_keras_file(name, input_shape)
    from toolkit.architectures import architecture

    return architecture(name, input_shape)


@app.command()
def cost(
    net: Annotated[str, typer.Argument(metavar="NAME|FILE.keras", help="An architecture's name, or a saved model.")],
    input_size: Annotated[str, typer.Option("--input", metavar="HxWxC", help="Size of one image: 720x1280x3.")] = "",
    batch: Annotated[int, typer.Option(help="Images that are computed together.")] = 1,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPE_BYTES)}.")] = "float32",
    optimizer: Annotated[str, typer.Option(help=f"One of {', '.join(OPTIMIZER_SLOTS)}.")] = "adam",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; bytes are integers.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    as_diagram: Annotated[bool, typer.Option("--diagram", help="The network from top to bottom.")] = False,
) -> None:
    """Parameters, MACs and memory of a network, layer by layer."""
    from toolkit import show
    from toolkit.costs import costs

    if as_json + as_markdown + as_diagram > 1:
        raise InputError("--json, --markdown and --diagram exclude each other; give one of them")
    found = network(net, parse_shape(input_size) if input_size else None)
    priced = costs(found, batch, dtype, optimizer, name=Path(net).stem)
    if as_json:
        typer.echo(show.to_json(priced))
    elif as_markdown:
        typer.echo(show.markdown(priced))
    else:
        typer.echo(show.diagram(found) if as_diagram else show.table(priced))


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
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of the optimizer.")] = 2e-3,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 3,
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
    config = TrainConfig(
        dataset=dataset,
        architecture=architecture,
        channels=channels,
        dropout=dropout,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        epochs=epochs,
        seed=seed,
        augmentation=augmentation,
        schedule=schedule,
        validation_fraction=validation_fraction,
        train_limit=train_limit,
    )
    raise typer.Exit(train_command(config, [*(compare or ()), *(more or ())], folder, as_json))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="What to measure: training.")],
    quick: Annotated[bool, typer.Option(help="Smaller work, the same promises; within 50 s.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Measure one promise; exit status 1 when it is not kept. The full run writes book/results/NAME.json."""
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
