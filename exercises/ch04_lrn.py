# %% [markdown]
# # Chapter 4: local response normalization
#
# Four questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# Feature maps are NumPy arrays whose last axis is the channels: (height, width, channels), or more or fewer axes.

# %%
import numpy as np

# %% [markdown]
# ## 1. How active are the neighbours? (3 points)


# %%
def squared_sums(activations: np.ndarray, depth_radius: int) -> np.ndarray:
    """For each number, the sum of squares over the channels that lie at most `depth_radius` away, its own included.

    The sum stays at its pixel and goes along the last axis only. At the first and the last channels there are fewer
    neighbours: nothing is wrapped around. The answer has the shape of `activations`.

    >>> squared_sums(np.array([1.0, 2.0, 3.0, 4.0]), 1).tolist()
    [5.0, 14.0, 29.0, 25.0]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. The normalization (4 points)
#
# Krizhevsky and others (2012), section 3.3: divide each number by (bias + alpha × the squared sum) to the power beta.


# %%
def local_response_normalization(
    activations: np.ndarray, depth_radius: int, bias: float, alpha: float, beta: float
) -> np.ndarray:
    """Local response normalization across channels; `alpha` is not divided by the number of channels.

    The sums are those of question 1. The answer has the shape of `activations`.

    >>> local_response_normalization(np.array([1.0, 2.0, 3.0]), 1, 1.0, 1.0, 1.0).round(4).tolist()
    [0.1667, 0.1333, 0.2143]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. Two libraries, two meanings (1 point)
#
# PyTorch's `LocalResponseNorm(size, alpha)` takes the number of channels in the sum, and divides alpha by it.
# TensorFlow takes the radius, and alpha as it is.


# %%
def tensorflow_settings(size: int, alpha: float) -> tuple[int, float]:
    """The pair (depth_radius, alpha) with which TensorFlow computes what PyTorch does with this odd `size` and `alpha`.

    >>> tensorflow_settings(5, 0.001)
    (2, 0.0002)
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. What took its place (2 points)
#
# Batch normalization has its own mean and variance for each channel. After the training they are fixed numbers.


# %%
def batch_normalization(
    activations: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
) -> np.ndarray:
    """Batch normalization at prediction: subtract the mean, divide by the standard deviation, scale, add.

    gamma (scale), beta (offset), mean and variance have one number for each channel, the last axis of `activations`.
    `epsilon` is added to the variance before the root is taken.

    >>> one = np.array([1.0])
    >>> batch_normalization(np.array([[5.0]]), 2 * one, one, 3 * one, 4 * one, 0.0).tolist()
    [[3.0]]
    """
    raise NotImplementedError("write your answer here")
