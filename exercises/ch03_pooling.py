# %% [markdown]
# # Chapter 3: pooling and strided convolution
#
# Four questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# Images are NumPy arrays of shape (height, width, channels). Loops are welcome: clear comes before fast.

# %%
import numpy as np

# %% [markdown]
# ## 1. Max pooling (2 points)


# %%
def max_pool(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The largest number of each channel in every window × window pixels, `stride` pixels apart.

    The windows start at the top left and stay inside the image ("valid" padding).
    The answer has the shape (rows, columns, channels).

    >>> max_pool(np.arange(16).reshape(4, 4, 1), 2, 2)[:, :, 0].tolist()
    [[5, 7], [13, 15]]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. Average pooling (2 points)


# %%
def average_pool(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The mean of each channel in every window × window pixels, `stride` pixels apart.

    The windows are those of question 1. The image may hold whole numbers; the means are not rounded.

    >>> average_pool(np.arange(16).reshape(4, 4, 1), 2, 2)[:, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. Convolution (4 points)
#
# As in every deep-learning library, the kernel is not turned around: the top left weight meets the top left pixel of
# the window. With "same" padding there are ceil(size / stride) positions along an axis. The zeros that this takes are
# put half before and half after the image; an odd one goes after.


# %%
def convolve(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """The convolution of an image (height, width, channels), as Keras computes it.

    `kernel` has the shape (kernel height, kernel width, channels, filters), `bias` has one number for each filter, and
    `padding` is "valid" (windows stay inside) or "same". The answer has the shape (rows, columns, filters).

    >>> image = np.arange(9.0).reshape(3, 3, 1)
    >>> convolve(image, np.ones((2, 2, 1, 1)), np.array([0.5]), 1, "valid")[:, :, 0].tolist()
    [[8.5, 12.5], [20.5, 24.5]]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. Blur before you skip (2 points)
#
# Skipping pixels turns fine patterns into coarse ones that were never there (aliasing). A blur before it helps.


# %%
def blur_pool(image: np.ndarray, stride: int) -> np.ndarray:
    """Blur each channel, then keep every `stride`-th row and column, the first one included.

    The blur is the mean of a pixel and its neighbours with the weights 1, 2, 1, along the rows and along the columns:
    in all, 1 2 1 / 2 4 2 / 1 2 1 over 16. At the edge the outermost pixel is repeated, so that a picture of one colour
    stays as it is. The answer has ceil(height / stride) rows and ceil(width / stride) columns, and is not rounded.

    >>> blur_pool(np.array([[[0.0], [0.0], [16.0], [0.0], [0.0]]]), 2)[:, :, 0].tolist()
    [[0.0, 8.0, 0.0]]
    """
    raise NotImplementedError("write your answer here")
