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
    ### BEGIN SOLUTION
    rows = (image.shape[0] - window) // stride + 1
    columns = (image.shape[1] - window) // stride + 1
    pooled = np.empty((rows, columns, image.shape[2]), image.dtype)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            pooled[row, column] = image[top : top + window, left : left + window].max(axis=(0, 1))
    return pooled
    ### END SOLUTION


# %% [markdown]
# ## 2. Average pooling (2 points)


# %%
def average_pool(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The mean of each channel in every window × window pixels, `stride` pixels apart.

    The windows are those of question 1. The image may hold whole numbers; the means are not rounded.

    >>> average_pool(np.arange(16).reshape(4, 4, 1), 2, 2)[:, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    ### BEGIN SOLUTION
    rows = (image.shape[0] - window) // stride + 1
    columns = (image.shape[1] - window) // stride + 1
    pooled = np.empty((rows, columns, image.shape[2]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            pooled[row, column] = image[top : top + window, left : left + window].mean(axis=(0, 1))
    return pooled
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    window = kernel.shape[:2]
    if padding == "same":
        zeros = [(0, 0)] * 3
        for axis in (0, 1):
            positions = -(-image.shape[axis] // stride)
            missing = max((positions - 1) * stride + window[axis] - image.shape[axis], 0)
            zeros[axis] = (missing // 2, missing - missing // 2)
        image = np.pad(image, zeros)
    rows = (image.shape[0] - window[0]) // stride + 1
    columns = (image.shape[1] - window[1]) // stride + 1
    result = np.empty((rows, columns, kernel.shape[3]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            seen = image[top : top + window[0], left : left + window[1]]
            result[row, column] = np.tensordot(seen, kernel, axes=3) + bias
    return result
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    wide = np.pad(np.asarray(image, float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    both = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
    return both[::stride, ::stride]
    ### END SOLUTION
