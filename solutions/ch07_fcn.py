# %% [markdown]
# # Chapter 7: fully convolutional networks and segmentation
#
# Five questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# Feature maps are NumPy arrays of shape (height, width, channels).

# %%
import numpy as np

# %% [markdown]
# ## 1. A dense layer is a convolution (2 points)
#
# A dense head flattens a map row by row, channels last, and multiplies. A convolution whose window is as large as the
# map does the same sum.


# %%
def dense_to_convolution(kernel: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel of the convolution that does what a dense layer does on a flattened map of height × width.

    `kernel` has the shape (height × width × channels, units). The answer has the shape
    (height, width, channels, units).

    >>> dense_to_convolution(np.arange(12).reshape(12, 1), 2, 3)[1, 0, :, 0].tolist()
    [6, 7]
    """
    ### BEGIN SOLUTION
    return kernel.reshape(height, width, -1, kernel.shape[1])
    ### END SOLUTION


# %% [markdown]
# ## 2. A score map (3 points)
#
# On a larger map the same head answers at every place where its window fits, one step apart.


# %%
def score_map(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> np.ndarray:
    """What a dense head that was trained on maps of height × width says at every place of a map as large or larger.

    `features` has the shape (rows, columns, channels), `kernel` (height × width × channels, units) as in question 1,
    and `bias` (units,). The answer has the shape (rows - height + 1, columns - width + 1, units).

    >>> features, kernel = np.arange(6.0).reshape(2, 3, 1), np.ones((4, 1))
    >>> score_map(features, kernel, np.array([0.5]), 2, 2)[:, :, 0].tolist()
    [[8.5, 12.5]]
    """
    ### BEGIN SOLUTION
    rows, columns = features.shape[0] - height + 1, features.shape[1] - width + 1
    scores = np.empty((rows, columns, kernel.shape[1]))
    for row in range(rows):
        for column in range(columns):
            seen = features[row : row + height, column : column + width]
            scores[row, column] = seen.reshape(-1) @ kernel + bias
    return scores
    ### END SOLUTION


# %% [markdown]
# ## 3. Upsampling, the plain way (1 point)


# %%
def upsample_nearest(scores: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel becomes factor × factor equal pixels: (height, width, classes) grows by `factor` both ways.

    >>> upsample_nearest(np.array([[[1], [2]]]), 2)[:, :, 0].tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    ### BEGIN SOLUTION
    return scores.repeat(factor, axis=0).repeat(factor, axis=1)
    ### END SOLUTION


# %% [markdown]
# ## 4. Upsampling, the smooth way (2 points)
#
# A pixel is a little square and its number belongs to its middle. Pixel i of the large map has its middle at
# (i + 1/2) / factor - 1/2, counted in pixels of the small map.


# %%
def upsample_bilinear(scores: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear upsampling by a whole factor, as Keras's UpSampling2D(interpolation="bilinear") computes it.

    Between two middles the numbers change evenly, along the rows and along the columns. Beyond the outermost middles
    the outermost number is kept. (height, width, classes) grows by `factor` both ways.

    >>> upsample_bilinear(np.array([[[0.0], [4.0]]]), 2)[:, :, 0].tolist()
    [[0.0, 1.0, 3.0, 4.0], [0.0, 1.0, 3.0, 4.0]]
    """
    ### BEGIN SOLUTION
    large = np.asarray(scores, float)
    for axis in (0, 1):
        last = large.shape[axis] - 1
        places = np.clip((np.arange(large.shape[axis] * factor) + 0.5) / factor - 0.5, 0, last)
        before = np.floor(places).astype(int)
        after = np.minimum(before + 1, last)
        share = np.expand_dims(places - before, (1, 2) if axis == 0 else (0, 2))
        large = (1 - share) * large.take(before, axis) + share * large.take(after, axis)
    return large
    ### END SOLUTION


# %% [markdown]
# ## 5. Mean IoU (2 points)
#
# Intersection over union of a class: the pixels that truth and answer both give to it, over those that at least one
# of them does.


# %%
def mean_iou(truth: np.ndarray, answers: np.ndarray, classes: int) -> float:
    """The mean over the classes of intersection over union, for label maps (height, width) of class numbers.

    Pixels whose truth is 255 belong to no class: leave them out, whatever the answer says. Classes that are then
    neither in the truth nor in the answers are left out of the mean. At least one pixel counts.

    >>> truth, answers = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]])
    >>> mean_iou(truth, answers, 3)
    0.5
    """
    ### BEGIN SOLUTION
    known = truth != 255
    truth, answers = truth[known], answers[known]
    shares = []
    for number in range(classes):
        union = ((truth == number) | (answers == number)).sum()
        if union:
            shares.append(((truth == number) & (answers == number)).sum() / union)
    return float(np.mean(shares))
    ### END SOLUTION
