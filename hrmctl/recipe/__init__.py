"""Recipes: what a user asks for (`parse`), what it means here (`plan`), and why a stage runs (`status`)."""

from hrmctl.recipe.draft import FromPath
from hrmctl.recipe.parse import Recipe, load_recipe, read_recipe
from hrmctl.recipe.plan import FromStage, Plan, PlannedStage, make_plan

__all__ = ["FromPath", "FromStage", "Plan", "PlannedStage", "Recipe", "load_recipe", "make_plan", "read_recipe"]
