# %% [markdown]
# # Chapter 11: looking inside
#
# Four questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.

# %%
import numpy as np

# %% [markdown]
# ## 1. Grad-CAM (3 points)
#
# Selvaraju and others (2017): which places of the last feature maps spoke for the class?


# %%
def grad_cam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Where the network looked: a map (height, width) of numbers from 0 to 1.

    `maps` are feature maps (height, width, channels), `gradients` those of the class's score with respect to them, of
    the same shape. The weight of a channel is the mean of its gradients. Add up the maps times their weights, put 0 in
    the place of what is negative, and divide by the largest number; a map of zeros stays a map of zeros.

    >>> maps = np.array([[[1.0, 0.0], [4.0, 1.0]]])
    >>> grad_cam(maps, np.array([[[1.0, -2.0], [3.0, -6.0]]])).tolist()
    [[0.5, 1.0]]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. An adversarial example (2 points)
#
# Goodfellow and others (2015): a step of the same size for every pixel, in the direction that makes the loss larger.


# %%
def adversarial(image: np.ndarray, gradient: np.ndarray, epsilon: float) -> np.ndarray:
    """The image, each number changed by `epsilon` with the sign of the loss's gradient, and kept from 0 to 1.

    `image` has numbers from 0 to 1, and `gradient` has its shape. Where the gradient is 0, nothing changes.

    >>> adversarial(np.array([0.5, 0.5, 0.95]), np.array([0.02, -7.0, 3.0]), 0.1).round(4).tolist()
    [0.6, 0.4, 1.0]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. Eight bits (3 points)
#
# A weight w is kept as a whole number q, and w is about q × scale. Each filter has a scale of its own.


# %%
def quantize(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair (q, scales): a kernel in whole numbers from -127 to 127, and one scale for each filter.

    `kernel` has the filters on its last axis, and q has its shape. The scale of a filter is its largest absolute weight
    divided by 127, or 1 where all its weights are 0. q is kernel / scale, rounded to the nearest whole number.

    >>> q, scales = quantize(np.array([[0.5, 2.54], [-1.27, 0.1]]))
    >>> q.tolist(), scales.round(4).tolist()
    ([[50, 127], [-127, 5]], [0.01, 0.02])
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. An ensemble (2 points)


# %%
def ensemble(probabilities: np.ndarray) -> np.ndarray:
    """The class that several networks choose together for each image: the one with the largest mean probability.

    `probabilities` has the shape (networks, images, classes). The answer has one class number for each image.

    >>> ensemble(np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])).tolist()
    [0]
    """
    raise NotImplementedError("write your answer here")
