"""Recipes as data: what they refuse, and that they survive JSON."""

import json
from dataclasses import replace
from typing import Any

import pytest

from toolkit.errors import InputError
from toolkit.recipes import OPTIMIZERS, RECIPES, SCHEDULES, Recipe, recipe_named


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optimizer": "adamx"}, "optimizer must be one of sgd, adam, adamw, lion, muon; 'adamx' came"),
        ({"schedule": None}, "schedule must be one of constant, cosine, one_cycle, plateau; None came"),
        ({"padding": "wrap"}, "padding must be one of edge, reflect, zero; 'wrap' came"),
        ({"precision": "float8"}, "precision must be one of float32, mixed_bfloat16, mixed_float16"),
        ({"jit_compile": True}, "jit_compile must be one of auto, on, off; True came"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0 and below 100; 0 came"),
        ({"warmup": 1.0}, "warmup must be a number from 0 and below 1; 1.0 came; give one such as 0.2"),
        ({"cutmix": 1.5}, "cutmix must be a number from 0"),
        ({"weight_averaging": 1}, "weight_averaging must be a number from 0 and below 1; 1 came"),
        ({"label_smoothing": "a little"}, "label_smoothing must be a number"),
        ({"shift": -1}, "shift must be at least 0; -1 came"),
        ({"shift": 1.5}, "shift must be a whole number; 1.5 came"),
        ({"epochs": 0}, "epochs must be at least 1; 0 came"),
        ({"schedule": "plateau", "warmup": 0.1}, 'schedule="plateau" has no warm-up'),
        ({"epoch": 3}, "a recipe has no 'epoch'; it has name, optimizer, learning_rate"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_dict(settings)
    assert sentence in str(caught.value)


def test_recipes_survive_json_and_tell_each_other_apart() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert len({replace(recipe, name="") for recipe in RECIPES.values()}) == len(RECIPES)


def test_recipes_are_found_by_name() -> None:
    assert recipe_named("notes") is RECIPES["notes"]
    with pytest.raises(InputError, match=r"there is no recipe 'lean'; .*choose one of notes"):
        recipe_named("lean")


def test_the_notes_recipe_is_the_notes() -> None:
    notes = RECIPES["notes"]
    assert (notes.optimizer, notes.learning_rate, notes.schedule) == ("adam", 1e-3, "plateau")
    assert {"sgd", "adam"} < set(OPTIMIZERS)
    assert "plateau" in SCHEDULES


@pytest.mark.parametrize(("flip", "shift", "views"), [(False, 0, 1), (True, 0, 2), (False, 1, 3), (True, 1, 6)])
def test_views_are_counted(flip: bool, shift: int, views: int) -> None:
    assert Recipe(test_flip=flip, test_shift=shift).views == views
