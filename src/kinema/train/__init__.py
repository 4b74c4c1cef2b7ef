"""Training: recipes, the loop, and runs that can be resumed."""

from kinema.train.loop import train
from kinema.train.recipe import Recipe, load_recipe, recipe_from
from kinema.train.result import BestResult, EpochResult, TrainResult

__all__ = [
    "BestResult",
    "EpochResult",
    "Recipe",
    "TrainResult",
    "load_recipe",
    "recipe_from",
    "train",
]
