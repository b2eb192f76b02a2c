"""Optimizers and learning rates of recipes, against Keras's own and against their formulas."""

import keras
import numpy as np
import pytest

from toolkit.optimizing import ConvolutionMuon, OneCycle, learning_rate, optimizer, schedule_callbacks
from toolkit.recipes import Recipe


def rates(recipe: Recipe, updates: int) -> list[float]:
    rate = learning_rate(recipe, updates)
    return [float(rate(step)) for step in range(updates)]


def test_one_cycle_rises_and_falls_along_lines() -> None:
    found = rates(Recipe(learning_rate=2.0, schedule="one_cycle", warmup=0.2, final_rate=0.1), 100)
    assert found[19] == pytest.approx(2.0)
    assert np.allclose(np.diff(found[:20]), 0.1, atol=1e-6)
    falling = np.diff(found[20:])
    assert np.allclose(falling, (0.2 - 2.0) / 79, atol=1e-5)
    assert found[-1] == pytest.approx(0.2)
    assert max(found) == pytest.approx(2.0)


def test_a_constant_rate_may_warm_up() -> None:
    assert learning_rate(Recipe(learning_rate=0.5, schedule="constant"), 10) == 0.5
    assert rates(Recipe(learning_rate=0.5, schedule="constant", warmup=0.4), 10) == pytest.approx(
        [0.125, 0.25, 0.375, *[0.5] * 7]
    )


def test_the_cosine_is_keras_s_with_its_warm_up() -> None:
    found = rates(Recipe(learning_rate=1.0, schedule="cosine", warmup=0.2, final_rate=0.1), 50)
    assert found[:10] == pytest.approx([step / 10 for step in range(10)])
    half = [0.1 + 0.9 * (1 + np.cos(np.pi * step / 40)) / 2 for step in range(40)]
    assert found[10:] == pytest.approx(half, abs=1e-6)


def test_a_plateau_is_a_callback() -> None:
    (callback,) = schedule_callbacks(Recipe(schedule="plateau"))
    assert (callback.monitor, callback.factor, callback.patience) == ("val_loss", 0.5, 1)
    assert schedule_callbacks(Recipe(schedule="cosine")) == []


def test_schedules_and_optimizers_come_back_from_their_configuration() -> None:
    made = optimizer(Recipe(optimizer="muon", schedule="one_cycle", warmup=0.1), 20)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert isinstance(again, ConvolutionMuon)
    assert isinstance(again._learning_rate, OneCycle)
    assert again.get_config() == made.get_config()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW"), ("lion", "Lion"), ("muon", "ConvolutionMuon")],
)
def test_every_optimizer_is_keras_s_with_the_recipe_s_numbers(name: str, kind: str) -> None:
    recipe = Recipe(optimizer=name, schedule="constant", learning_rate=0.25, weight_decay=0.125, clip_norm=2.0)
    made = optimizer(recipe, 10, accumulation_steps=4)
    assert type(made).__name__ == kind
    assert float(made.learning_rate) == 0.25
    assert (made.weight_decay, made.global_clipnorm, made.gradient_accumulation_steps) == (0.125, 2.0, 4)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "muon"])
def test_weight_decay_shrinks_kernels_and_leaves_the_rest(name: str) -> None:
    """With a gradient of zero, what is left of an update is its decay: by learning rate × weight decay."""
    layers = [keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()]
    head = [keras.layers.Flatten(), keras.layers.Dense(2, name="predictions")]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, *head])
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape, np.float32))
    recipe = Recipe(optimizer=name, schedule="constant", learning_rate=0.5, weight_decay=0.1)
    made = optimizer(recipe, 10)
    made.build(model.trainable_weights)
    made.apply_gradients([(keras.ops.zeros(weight.shape), weight) for weight in model.trainable_weights])
    for weight in model.trainable_weights:
        expected = 0.95 if weight.name == "kernel" else 1.0
        assert np.allclose(keras.ops.convert_to_numpy(weight), expected, atol=1e-6), weight.path


def test_muon_orthogonalizes_kernels_as_keras_does_matrices() -> None:
    """A kernel (3, 3, 4, 6) moves as the matrix (36, 6) of the same numbers does in Keras's own Muon."""
    rng = np.random.default_rng(0)
    start, gradient = (rng.normal(size=(3, 3, 4, 6)).astype(np.float32) for _ in range(2))
    settings = {"learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.9}
    kernel, matrix = keras.Variable(start), keras.Variable(start.reshape(36, 6))
    ours, keras_s = ConvolutionMuon(**settings), keras.optimizers.Muon(**settings)
    ours.build([kernel])
    keras_s.build([matrix])
    for _ in range(3):
        ours.apply_gradients([(keras.ops.convert_to_tensor(gradient), kernel)])
        keras_s.apply_gradients([(keras.ops.convert_to_tensor(gradient.reshape(36, 6)), matrix)])
    assert np.allclose(np.asarray(kernel).reshape(36, 6), np.asarray(matrix), atol=1e-5)
    moved = np.asarray(matrix) - start.reshape(36, 6)
    values = np.linalg.svd(moved, compute_uv=False)
    assert values.max() / values.min() < 2.5  # Newton and Schulz come near the same length in all directions


def test_what_is_no_kernel_learns_by_adam_within_muon() -> None:
    made = optimizer(Recipe(optimizer="muon"), 10)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="hidden"),
            keras.layers.Dense(4, name="predictions"),
        ]
    )
    by_muon = {each.path for each in model.trainable_weights if not made._should_use_adamw(each)}
    assert {path.split("/")[-2] for path in by_muon} == {"conv", "hidden"}
