# %% [markdown]
# # Chapter 1: why convolutional networks
#
# Five questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.

# %%
import numpy as np

# %% [markdown]
# ## 1. A dense layer on an image (2 points)
#
# A dense layer flattens the image first. Each of its units has one weight for every number in the image, and one bias.


# %%
def dense_parameters(height: int, width: int, channels: int, units: int) -> int:
    """How many parameters has a dense layer of `units` units on an image of height × width × channels?

    Weights and biases both count. The answer is a whole number.

    >>> dense_parameters(28, 28, 1, 10)
    7850
    """
    ### BEGIN SOLUTION
    return (height * width * channels + 1) * units
    ### END SOLUTION


# %% [markdown]
# ## 2. A convolution (2 points)
#
# Each filter sees a small window, but all channels of it. The same filter is used at every place of the image.


# %%
def conv_parameters(kernel_height: int, kernel_width: int, channels: int, filters: int) -> int:
    """How many parameters has a convolution of `filters` filters on an image of `channels` channels?

    Its windows are kernel_height × kernel_width pixels. Each filter has one bias.

    >>> conv_parameters(3, 3, 3, 100)
    2800
    """
    ### BEGIN SOLUTION
    return (kernel_height * kernel_width * channels + 1) * filters
    ### END SOLUTION


# %% [markdown]
# ## 3. What a budget buys (2 points)
#
# You may spend so many parameters on one convolution and not one more. How many filters can it have?


# %%
def filters_for_budget(budget: int, kernel_size: int, channels: int) -> int:
    """The most filters that a convolution can have with at most `budget` parameters.

    Its windows are kernel_size × kernel_size pixels on `channels` channels. Each filter has one bias.
    The answer is a whole number, 0 where the budget is too small for one filter.

    >>> filters_for_budget(1000, 3, 3)
    35
    """
    ### BEGIN SOLUTION
    return budget // (kernel_size * kernel_size * channels + 1)
    ### END SOLUTION


# %% [markdown]
# ## 4. Moving an image (2 points)
#
# A convolution answers the same at another place when the picture moves. To measure that, you need moved pictures.


# %%
def shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The image moved by `down` rows and `right` columns; negative numbers move it up and left.

    `image` has the shape (height, width, channels), and so has the answer. What moves out is lost, what comes in is 0.

    >>> shift(np.array([[[1], [2]], [[3], [4]]]), 0, 1)[:, :, 0].tolist()
    [[0, 1], [0, 3]]
    """
    ### BEGIN SOLUTION
    height, width = image.shape[:2]
    moved = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[row, column] = image[row - down, column - right]
    return moved
    ### END SOLUTION


# %% [markdown]
# ## 5. Shuffled pixels (2 points)
#
# A dense network does not care in which order the pixels come, as long as it is the same order for all images.
# A convolution does: it counts on neighbours.


# %%
def permute_pixels(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The image with its pixels in another order; a pixel keeps its channels together.

    `image` has the shape (height, width, channels), and so has the answer. Number the pixels row by row from 0.
    Pixel i of the answer is pixel order[i] of the image; `order` has height × width whole numbers.

    >>> permute_pixels(np.array([[[1], [2]], [[3], [4]]]), np.array([3, 0, 1, 2]))[:, :, 0].tolist()
    [[4, 1], [2, 3]]
    """
    ### BEGIN SOLUTION
    pixels = image.reshape(-1, image.shape[2])
    return pixels[order].reshape(image.shape)
    ### END SOLUTION
