# %% [markdown]
# # Chapter 2: parameters, operations and memory
#
# Six questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename the functions.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.
#
# From question 2 on, a network is a list of convolutions, each (filters, window, stride): `[(100, 3, 2), (200, 3, 2)]`
# has 100 filters with 3 × 3 windows and stride 2, then 200. All have "same" padding, biases and a ReLU at their end.

# %% [markdown]
# ## 1. How large is the output? (2 points)


# %%
def output_size(size: int, window: int, stride: int, padding: str) -> int:
    """Positions of a window along one axis of `size` pixels, as Keras counts them.

    With "valid" padding the window stays inside the image. With "same" padding, zeros are put around the image, so that
    a stride of 1 keeps the size, and a stride of s leaves one position for every s pixels or part of them.

    >>> output_size(227, 11, 4, "valid"), output_size(225, 3, 2, "same")
    (55, 113)
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 2. The parameters of a network (1 point)


# %%
def network_parameters(channels: int, layers: list[tuple[int, int, int]]) -> int:
    """How many parameters do these convolutions have together, weights and biases?

    The image has `channels` channels; each layer is (filters, window, stride).

    >>> network_parameters(3, [(100, 3, 2), (200, 3, 2), (400, 3, 2)])
    903400
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 3. Its operations (2 points)
#
# One MAC is one multiplication with its addition. The addition of a bias alone is not counted.


# %%
def network_macs(height: int, width: int, channels: int, layers: list[tuple[int, int, int]]) -> int:
    """How many multiply-accumulates does one image of height × width × channels take in all layers together?

    Each layer is (filters, window, stride) with "same" padding.

    >>> network_macs(28, 28, 1, [(8, 3, 1), (16, 3, 2)])
    282240
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 4. How far it sees (1 point)


# %%
def receptive_field(layers: list[tuple[int, int, int]]) -> int:
    """How many input pixels along one axis does one number of the last layer depend on?

    Each layer is (filters, window, stride). Forget the edges: the image is as large as you need.

    >>> receptive_field([(8, 3, 1), (8, 3, 1)]), receptive_field([(8, 3, 2), (8, 3, 2)])
    (5, 7)
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 5. Memory of a prediction (2 points)
#
# While a layer works, its input and its output are both in memory. What no later layer reads is freed at once.
# The weights stay in memory all the time, once, however many images there are.


# %%
def inference_bytes(
    height: int, width: int, channels: int, layers: list[tuple[int, int, int]], number_bytes: int, batch: int
) -> int:
    """The bytes that a prediction of `batch` images needs at its most: all weights, and the maps alive at once.

    The images have height × width × channels numbers and are the input of the first layer. Every number, weights too,
    takes `number_bytes` bytes: 4 in float32, 1 in 8 bit. The network has at least one layer.

    >>> inference_bytes(720, 1280, 3, [(100, 3, 2), (200, 3, 2), (400, 3, 2)], 4, 1)
    141853600
    """
    raise NotImplementedError("write your answer here")


# %% [markdown]
# ## 6. Memory of the training (2 points)
#
# Now the input and every layer's output have to wait for the way back. Each weight has a gradient, and the optimizer
# remembers some numbers for each weight: none for plain gradient descent, one with momentum, two for Adam.


# %%
def training_bytes(
    height: int,
    width: int,
    channels: int,
    layers: list[tuple[int, int, int]],
    number_bytes: int,
    batch: int,
    optimizer_numbers: int,
) -> int:
    """The bytes of one training step: weights, gradients, optimizer, the images, and the outputs of all layers.

    `optimizer_numbers` is what the optimizer remembers for each weight. Everything else is as in the last question.
    Each map is kept once: the ReLU at the end of a layer works in place.

    >>> training_bytes(720, 1280, 3, [(100, 3, 2), (200, 3, 2), (400, 3, 2)], 4, 20, 2)
    3461238400
    """
    raise NotImplementedError("write your answer here")
