# %% [markdown]
# # Chapter 8: transfer learning
#
# Five questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# Questions 1 to 3 need NumPy. Questions 4 and 5 need Keras: your function returns a model.

# %%
from typing import Any

import numpy as np

# %% [markdown]
# ## 1. Copies (1 point)
#
# A photo that is in the training set and in the validation set makes the score too good. Equal photos have equal
# fingerprints.


# %%
def leaked(training: list[str], validation: list[str]) -> int:
    """How many photos of the validation set are also in the training set?

    Each list has one fingerprint for each photo. A photo may be there more than once: every one is counted.

    >>> leaked(["a", "b", "b"], ["b", "c", "b"])
    2
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. A split without leaks (4 points)
#
# Every class has to be in both parts. Photos of one group show the same thing, a burst of ten shots perhaps. They are
# almost copies, so a group must not be torn apart.


# %%
def split_by_class(labels: list[int], groups: list[int], one_in: int) -> tuple[list[int], list[int]]:
    """Split photos into training and validation: the pair of two ascending lists of photo numbers.

    Photo i has the class labels[i] and belongs to the group groups[i]; all photos of a group have one class.
    For each class, list its groups in the order in which they first appear. The last groups // one_in of them, but at
    least one, go to the validation, and all others to the training. Each class has at least two groups.

    >>> split_by_class([0, 1, 0, 1, 0, 1], [5, 6, 5, 7, 8, 7], 2)
    ([0, 1, 2], [3, 4, 5])
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. The numbers that the network knows (1 point)


# %%
def preprocess(images: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to 255 as MobileNetV2 was trained with them: 0 becomes -1, 255 becomes 1, evenly between.

    `images` is uint8, of any shape; the answer has that shape and floating-point numbers.

    >>> preprocess(np.array([0, 51, 255], np.uint8)).round(4).tolist()
    [-1.0, -0.6, 1.0]
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. Phase one: the base is frozen (2 points, needs Keras)
#
# `make_base` stands for a large network that has learned already. Do not change it.


# %%
def make_base(height: int, width: int) -> Any:
    """Two blocks of Conv2D, BatchNormalization and ReLU: six layers, after the input."""
    from keras import Input, Sequential, layers

    base = [Input((height, width, 3))]
    for filters in (8, 16):
        base.append(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        base.append(layers.BatchNormalization())
        base.append(layers.ReLU())
    return Sequential(base)


# %%
def frozen_base(height: int, width: int, classes: int) -> Any:
    """A Keras model that recognizes `classes` classes in images of height × width × 3.

    The base of `make_base`, frozen so that none of its weights can be trained; then GlobalAveragePooling2D and Dense
    with `classes` units and activation="softmax", which can.
    """
    import keras
    from keras import layers

    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 5. Phase two: its last layers learn (2 points, needs Keras)
#
# Batch normalization stays frozen: a few photos of yours would spoil the means and variances of millions.


# %%
def thawed_base(height: int, width: int, classes: int, last: int) -> Any:
    """The model of question 4, but in the base, the last `last` layers can be trained (1 to 6, see `make_base`).

    Every BatchNormalization stays frozen, also where it is among them.
    """
    import keras
    from keras import layers

    raise NotImplementedError("write your answer here")
