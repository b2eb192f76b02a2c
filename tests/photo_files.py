"""Photos for tests, made on the spot: no two alike, every one told from its class's colour."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {"blue": (50, 60, 200), "green": (60, 190, 50), "red": (200, 60, 50)}


def picture(
    seed: int, colour: tuple[int, int, int] = (128, 128, 128), size: tuple[int, int] = (120, 90)
) -> Image.Image:
    """A photo-like picture: soft patches around one colour, the same for the same seed."""
    patches = np.random.default_rng(seed).normal(0, 45, (7, 9, 3)) + colour
    return Image.fromarray(patches.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def save_photos(folder: Path, classes: tuple[str, ...] = tuple(COLOURS), each: int = 12, first: int = 0) -> Path:
    """A folder of photos by class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            seed = first + 1000 * number + i
            picture(seed, COLOURS.get(name, (128, 128, 128))).save(folder / name / f"{seed:05}.jpg", quality=92)
    return folder


def noise(seed: int, size: int) -> NDArray[np.uint8]:
    """A picture of no meaning: uint8 (size, size, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def tiny_base(input_shape: tuple[int, int, int], alpha: float, include_top: bool, weights: str | None) -> Any:
    """What stands in for `keras.applications.MobileNet` where a test is about what is done to a base: three of its
    blocks, with its names, of few channels, and compiled in a fraction of the time.
    """
    import keras
    from keras import layers

    assert not include_top
    assert weights is None
    images = pixels = keras.Input(input_shape)
    for number in range(1, 4):
        for name, convolution in (
            ("dw", layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name=f"conv_dw_{number}")),
            ("pw", layers.Conv2D(round(4 * number / alpha), 1, use_bias=False, name=f"conv_pw_{number}")),
        ):
            pixels = layers.BatchNormalization(name=f"conv_{name}_{number}_bn")(convolution(pixels))
            pixels = layers.ReLU(6.0, name=f"conv_{name}_{number}_relu")(pixels)
    return keras.Model(images, pixels, name=f"mobilenet_{alpha:.2f}_{input_shape[0]}")
