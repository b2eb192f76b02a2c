# %% [markdown]
# # Chapter 6: training
#
# Five questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.

# %%
import math

import numpy as np

# %% [markdown]
# ## 1. The loss (2 points)
#
# The network gives one number for each class (logits). Softmax turns them into probabilities. The loss of an image is
# the negative natural logarithm of the probability of its true class.


# %%
def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean loss of a batch: `logits` has the shape (images, classes), `labels` the number of each true class.

    Logits may be as large as 1000 and as small as -1000. Then e to that power is too large for a computer;
    the largest logit of an image can be taken off all of them first, and the probabilities stay what they are.

    >>> round(cross_entropy(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1])), 4)
    0.41
    """
    ### BEGIN SOLUTION
    small = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = small - np.log(np.exp(small).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
    ### END SOLUTION


# %% [markdown]
# ## 2. Augmentation (2 points)
#
# A cut-out at another place, and a mirror image, are new pictures with the same label.


# %%
def crop_and_flip(
    images: np.ndarray, size: int, tops: np.ndarray, lefts: np.ndarray, flipped: np.ndarray
) -> np.ndarray:
    """Cut size × size pixels out of each image, then mirror some of the cut-outs, left to right.

    `images` has the shape (images, height, width, channels). The cut-out of image i begins at row tops[i] and column
    lefts[i], and is mirrored where flipped[i] is true. The answer has the shape (images, size, size, channels).

    >>> image = np.arange(9).reshape(1, 3, 3, 1)
    >>> crop_and_flip(image, 2, np.array([1]), np.array([0]), np.array([True]))[0, :, :, 0].tolist()
    [[4, 3], [7, 6]]
    """
    ### BEGIN SOLUTION
    parts = []
    for image, top, left, mirrored in zip(images, tops, lefts, flipped, strict=True):
        part = image[top : top + size, left : left + size]
        parts.append(part[:, ::-1] if mirrored else part)
    return np.stack(parts)
    ### END SOLUTION


# %% [markdown]
# ## 3. The learning rate (2 points)
#
# It climbs in equal steps, and then falls along half a wave of the cosine.


# %%
def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate at `step`, counted from 0, of a training of `steps` steps.

    In the first `warmup` steps (there may be none) it climbs by peak / warmup each: it is peak / warmup at step 0 and
    `peak` at step warmup - 1. From step `warmup` on it is peak × (1 + cos(π p)) / 2, where p grows from 0 at step
    `warmup` to 1 at step `steps`.

    >>> learning_rate(0, 100, 10, 0.5), learning_rate(10, 100, 10, 0.5), round(learning_rate(55, 100, 10, 0.5), 6)
    (0.05, 0.5, 0.25)
    """
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
    ### END SOLUTION


# %% [markdown]
# ## 4. The confusion matrix (2 points)


# %%
def confusion_matrix(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each true class (row) were taken for each class (column).

    `truth` and `answers` hold class numbers from 0 to classes - 1. The answer has the shape (classes, classes).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    ### BEGIN SOLUTION
    matrix = np.zeros((classes, classes), int)
    for true, answer in zip(truth, answers, strict=True):
        matrix[true, answer] += 1
    return matrix
    ### END SOLUTION


# %% [markdown]
# ## 5. Accuracy of each class (2 points)
#
# A network that is right for 95 of 100 images may be wrong for every image of a rare class. Look at each class.


# %%
def per_class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """The share of each true class that was recognized, out of a confusion matrix (rows are true classes).

    A class without images gets 0.

    >>> per_class_accuracy(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])).tolist()
    [0.75, 1.0, 0.0]
    """
    ### BEGIN SOLUTION
    return np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    ### END SOLUTION
