"""Keras's optimizers and learning rates, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from toolkit.recipes import Recipe

# What is not shrunk by weight decay: it scales or shifts, and does not tell patterns apart.
_NOT_DECAYED = ("bias", "gamma", "beta", "embedding")


@keras.saving.register_keras_serializable(package="cnn_toolkit")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that rises from 0 to `peak` in `warmup_steps` and then falls along a line to `last` at `steps`.

    With `last` as high as `peak` it stays after the warm-up (Smith and Topin 2019 have the two lines of the first).

    >>> [float(OneCycle(1.0, 4, 2, 0.0)(step)) for step in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int, last: float) -> None:
        super().__init__()
        self.peak, self.steps, self.warmup_steps, self.last = peak, steps, warmup_steps, last

    def __call__(self, step: Any) -> Any:
        at = ops.cast(step, "float32")
        rising = (at + 1) / max(self.warmup_steps, 1)
        falling = ops.clip((at - self.warmup_steps) / max(self.steps - self.warmup_steps, 1), 0.0, 1.0)
        return ops.where(at < self.warmup_steps, self.peak * rising, self.peak + (self.last - self.peak) * falling)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps, "last": self.last}


@keras.saving.register_keras_serializable(package="cnn_toolkit")
class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[misc]
    """Keras's Muon, for the kernels of convolutions, too.

    Keras's own leaves everything but matrices to Adam. A kernel (height, width, in, out) is a matrix of
    height · width · in rows and out columns, which is orthogonalized as such (Jordan et al. 2024, "Muon").
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        if len(variable.shape) != 4 or any(name in variable.path for name in ("depthwise", *self.exclude_layers)):
            return bool(super()._should_use_adamw(variable))
        return False

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        direction = ops.add(gradient, self.momentum * m) if self.nesterov else m
        matrix = ops.reshape(direction, (-1, variable.shape[-1]))
        update = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.cast(lr, variable.dtype) * ops.reshape(update, variable.shape))


def learning_rate(recipe: Recipe, updates: int, accumulation_steps: int = 1) -> Any:
    """The learning rate over a run of so many updates: a number where it stays, else Keras's schedule.

    Keras's schedules count batches and not updates, and an update comes with the last of its batches. So the schedule
    waits for as many batches as come before that one, and every update has the rate that it has without accumulation.

    >>> float(learning_rate(Recipe(learning_rate=0.5, schedule="cosine"), updates=10)(10))
    0.0
    """
    rate, batches, waiting = recipe.learning_rate, updates * accumulation_steps, accumulation_steps - 1
    warmup = round(recipe.warmup * batches)
    if recipe.schedule == "cosine":
        warm = {"warmup_target": rate, "warmup_steps": warmup + waiting} if warmup + waiting else {}
        # With a warm-up, Keras begins at the first argument and has the highest rate as its target.
        begin = 0.0 if warmup else rate
        return keras.optimizers.schedules.CosineDecay(begin, batches - warmup, alpha=recipe.final_rate, **warm)
    if recipe.schedule == "one_cycle":
        return OneCycle(rate, batches - 1, warmup, rate * recipe.final_rate)
    return OneCycle(rate, batches, warmup, rate) if warmup else rate


def schedule_callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    """The part of the schedule that acts between epochs."""
    if recipe.schedule != "plateau":
        return []
    return [keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)]


def optimizer(recipe: Recipe, updates: int, accumulation_steps: int = 1) -> keras.optimizers.Optimizer:
    """Keras's optimizer for a run of so many updates, each from so many batches.

    >>> optimizer(Recipe(optimizer="sgd", momentum=0.9), updates=10).nesterov
    True
    """
    options: dict[str, Any] = {
        "learning_rate": learning_rate(recipe, updates, accumulation_steps),
        # Keras refuses 1
        "gradient_accumulation_steps": accumulation_steps if accumulation_steps > 1 else None,
        "global_clipnorm": recipe.clip_norm or None,
    }
    if recipe.weight_averaging:
        options |= {"use_ema": True, "ema_momentum": recipe.weight_averaging}
    made: keras.optimizers.Optimizer = _KINDS[recipe.optimizer](recipe, options)
    if recipe.weight_decay:
        made.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
    return made


def _sgd(recipe: Recipe, options: dict[str, Any]) -> keras.optimizers.Optimizer:
    nesterov, decay = recipe.nesterov and recipe.momentum > 0, recipe.weight_decay or None
    return keras.optimizers.SGD(**options, momentum=recipe.momentum, nesterov=nesterov, weight_decay=decay)


def _muon(recipe: Recipe, options: dict[str, Any]) -> keras.optimizers.Optimizer:
    # The classes' layer learns by Adam, as the method's authors have it.
    names = ["predictions", "output", "fc8", "loss3_classifier"]
    decay = {"weight_decay": recipe.weight_decay, "adam_weight_decay": recipe.weight_decay}
    return ConvolutionMuon(**options, **decay, momentum=recipe.momentum, nesterov=recipe.nesterov, exclude_layers=names)


_KINDS: dict[str, Callable[[Recipe, dict[str, Any]], keras.optimizers.Optimizer]] = {
    "sgd": _sgd,
    "muon": _muon,
    "adam": lambda recipe, options: keras.optimizers.Adam(**options, weight_decay=recipe.weight_decay or None),
    "adamw": lambda recipe, options: keras.optimizers.AdamW(**options, weight_decay=recipe.weight_decay),
    "lion": lambda recipe, options: keras.optimizers.Lion(**options, weight_decay=recipe.weight_decay or None),
}
