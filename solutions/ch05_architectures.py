# %% [markdown]
# # Chapter 5: architectures
#
# Six questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# Questions 1 to 3 need plain Python. Questions 4 to 6 need Keras: your function returns a model, made with
# `keras.Input` and `keras.Model`. Its layers, its shapes and what it computes count; names do not.

# %%
from typing import Any

# %% [markdown]
# ## 1. VGG: many small windows (1 point)
#
# Two 3 × 3 convolutions on top of each other see 5 × 5 pixels. Three see 7 × 7.


# %%
def stacked(window: int, channels: int) -> tuple[int, int]:
    """How many 3 × 3 convolutions see as much as one of window × window, and how many weights do they have together?

    `window` is odd and at least 3. All layers take and give `channels` channels, with stride 1 and without biases.
    The answer is the pair (layers, weights).

    >>> stacked(5, 64)
    (2, 73728)
    """
    ### BEGIN SOLUTION
    layers = (window - 1) // 2
    return layers, layers * 9 * channels * channels
    ### END SOLUTION


# %% [markdown]
# ## 2. ResNet: the bottleneck (1 point)
#
# A 1 × 1 convolution makes the channels few, a 3 × 3 convolution works on the few, a 1 × 1 makes them many again.


# %%
def bottleneck_weights(channels: int, reduced: int) -> int:
    """The weights of 1 × 1, 3 × 3 and 1 × 1 convolutions: from `channels` to `reduced`, there, and back.

    There are no biases, and batch normalization is not counted.

    >>> bottleneck_weights(256, 64)
    69632
    """
    ### BEGIN SOLUTION
    return channels * reduced + 9 * reduced * reduced + reduced * channels
    ### END SOLUTION


# %% [markdown]
# ## 3. MobileNet: depthwise separable (2 points)
#
# A depthwise convolution has one window for each channel. A 1 × 1 convolution then mixes the channels.


# %%
def separable_saving(window: int, channels: int, filters: int) -> float:
    """How many times more MACs does an ordinary convolution take than a depthwise and a 1 × 1 convolution together?

    Windows are window × window pixels, stride 1, "same" padding, from `channels` channels to `filters`.

    >>> round(separable_saving(3, 32, 64), 4)
    7.8904
    """
    ### BEGIN SOLUTION
    ordinary = window * window * channels * filters
    return ordinary / (window * window * channels + channels * filters)
    ### END SOLUTION


# %% [markdown]
# ## 4. ResNet: a residual block (2 points, needs Keras)
#
# The block learns what to add to its input. Its input takes a short cut around it.


# %%
def residual_block(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """A Keras model with one residual block, for images of height × width × channels.

    The long way: Conv2D (3 × 3, `strides`), BatchNormalization, ReLU, Conv2D (3 × 3, stride 1), BatchNormalization.
    The short way: nothing, where strides is 1 and channels equals filters; otherwise Conv2D (1 × 1, `strides`) and
    BatchNormalization. Then both are added (Add), and ReLU comes last.
    All convolutions have `filters` filters, "same" padding and no bias.
    """
    import keras
    from keras import layers

    ### BEGIN SOLUTION
    image = keras.Input((height, width, channels))
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    short = image
    if strides != 1 or channels != filters:
        short = layers.Conv2D(filters, 1, strides=strides, padding="same", use_bias=False)(image)
        short = layers.BatchNormalization()(short)
    return keras.Model(image, layers.ReLU()(layers.Add()([x, short])))
    ### END SOLUTION


# %% [markdown]
# ## 5. GoogLeNet: an Inception block (2 points, needs Keras)
#
# Windows of several sizes look at the same image, and their answers are put side by side.


# %%
def inception_block(
    height: int, width: int, channels: int, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int
) -> Any:
    """A Keras model with one Inception block, for images of height × width × channels.

    Four branches, concatenated in this order along the channels:
    a 1 × 1 convolution of `ones` filters;
    a 1 × 1 convolution of threes[0] filters, then a 3 × 3 convolution of threes[1];
    a 1 × 1 convolution of fives[0] filters, then a 5 × 5 convolution of fives[1];
    3 × 3 max pooling with stride 1, then a 1 × 1 convolution of `pooled` filters.
    Everything has stride 1 and "same" padding; each convolution has a bias and activation="relu".
    """
    import keras
    from keras import layers

    ### BEGIN SOLUTION
    def conv(filters: int, window: int, x: Any) -> Any:
        return layers.Conv2D(filters, window, padding="same", activation="relu")(x)

    image = keras.Input((height, width, channels))
    branches = [
        conv(ones, 1, image),
        conv(threes[1], 3, conv(threes[0], 1, image)),
        conv(fives[1], 5, conv(fives[0], 1, image)),
        conv(pooled, 1, layers.MaxPooling2D(3, strides=1, padding="same")(image)),
    ]
    return keras.Model(image, layers.Concatenate()(branches))
    ### END SOLUTION


# %% [markdown]
# ## 6. SENet: squeeze and excitation (2 points, needs Keras)
#
# The block looks at the mean of each channel and decides how loud each channel may be.


# %%
def squeeze_excite(height: int, width: int, channels: int, ratio: int) -> Any:
    """A Keras model with one squeeze-and-excitation block, for images of height × width × channels.

    GlobalAveragePooling2D with keepdims=True; Dense with channels // ratio units and activation="relu"; Dense with as
    many units as there are channels and activation="sigmoid"; then Multiply by the image. Both Dense have a bias.
    """
    import keras
    from keras import layers

    ### BEGIN SOLUTION
    image = keras.Input((height, width, channels))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(image)
    gate = layers.Dense(channels // ratio, activation="relu")(gate)
    gate = layers.Dense(channels, activation="sigmoid")(gate)
    return keras.Model(image, layers.Multiply()([image, gate]))
    ### END SOLUTION
