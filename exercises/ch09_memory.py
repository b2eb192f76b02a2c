# %% [markdown]
# # Chapter 9: out of memory
#
# Five questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.

# %%
import numpy as np

# %% [markdown]
# ## 1. The batch that fits (2 points)
#
# Weights, gradients and optimizer take the same memory whatever the batch. Activations take it for every image.


# %%
def largest_batch(limit: int, fixed: int, per_image: int) -> int:
    """The most images that can be trained at once in `limit` bytes.

    `fixed` bytes are taken whatever the batch, and `per_image` bytes come with each image. The answer is 0 where not
    even one image fits.

    >>> largest_batch(1_000_000, 300_000, 80_000)
    8
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. Accumulation (2 points)
#
# A batch that is too large is cut into equal parts. Their gradients are added up before the weights change.


# %%
def accumulation(wanted: int, largest: int) -> tuple[int, int]:
    """The pair (batch, steps): the least number of equal parts of `wanted` images, each of at most `largest` images.

    batch × steps is exactly `wanted`.

    >>> accumulation(300, 64)
    (60, 5)
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. The gradient of all parts (2 points)
#
# Each part gives the mean gradient of its images. The last part of a data set is often smaller than the others.


# %%
def accumulated_gradient(gradients: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The mean gradient of all images together, out of the mean gradients of parts.

    `gradients` has the shape (parts, weights), and part i has sizes[i] images. The answer has the shape (weights,).

    >>> accumulated_gradient(np.array([[1.0, 0.0], [4.0, 6.0]]), np.array([2, 1])).tolist()
    [2.0, 2.0]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. Where accumulation is not the same (2 points)
#
# Batch normalization knows only the images that go through it together.


# %%
def normalize_in_parts(activations: np.ndarray, parts: int, epsilon: float) -> np.ndarray:
    """What batch normalization does in a training whose batch is cut into `parts` equal parts, in their order.

    `activations` has the shape (images, channels), and so has the answer; `parts` divides the number of images. In each
    part and for each channel: subtract the mean, and divide by the root of (variance + epsilon). The variance is the
    mean of the squared distances from the mean. There is no scale and no offset.

    >>> normalize_in_parts(np.array([[1.0], [3.0], [10.0], [30.0]]), 2, 0.0)[:, 0].tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 5. Mixed precision (2 points)
#
# With Keras's policy "mixed_float16", layers compute and keep their activations in 2 bytes. Weights, gradients and
# what the optimizer remembers stay in 4 bytes.


# %%
def mixed_precision_saving(parameters: int, activations: int, batch: int) -> float:
    """What share of the bytes of a training step does mixed precision save, against float32 for everything?

    The step keeps the weights, one gradient and two numbers of Adam for each of `parameters` weights, and
    `activations` numbers for each of `batch` images. Copies that a framework makes on the way are not counted.

    >>> mixed_precision_saving(1000, 4000, 1), mixed_precision_saving(1000, 4000, 4)
    (0.25, 0.4)
    """
    raise NotImplementedError("write your answer here")
