"""Checks of GPO's arguments, all before any call is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import dspy

from gpo_dspy.callbacks import Callback
from gpo_dspy.direction import is_carried_on
from gpo_dspy.settings import Settings

CHOICES = {
    "auto": ("light", "medium", "heavy"),
    "rewrite": ("generate", "edit"),
    "on_excess": ("clip", "drop", "accept"),
    "evaluation": ("race", "full"),
    "acceptance": ("improvement", "best_new"),
    "resume": (True, False, "force"),
    "memory": (True, False, "same_kind", "same_model"),
}
LEAST = {
    "max_metric_calls": 1,
    "max_tokens": 1,
    "epochs": 1,
    "stop_after": 1,
    "candidates_per_step": 1,
    "steps_at_once": 1,
    "rewrites_per_request": 1,
    "failures": 0,
    "task_examples": 0,
    "batch_size": 1,
    "max_bootstrapped_demos": 0,
    "max_labeled_demos": 0,
    "num_threads": 1,
    "seed": 0,
}
ABOVE_ZERO = ("max_cost", "max_seconds", "example_timeout")
OPTIONAL = (
    "auto",
    "candidates_per_step",
    "steps_at_once",
    "rewrites_per_request",
    "memory",
    "storage",
    "study",
    *ABOVE_ZERO,
    "max_metric_calls",
    "max_tokens",
    "epochs",
    "stop_after",
    "num_threads",
)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse values that are not allowed, and those that contradict each other.

    Raises:
        ValueError: Names the argument, the value found, and what is allowed.
    """
    given = {k: v for k, v in arguments.items() if not (k in OPTIONAL and v is None)}
    for name, allowed in CHOICES.items():
        if name in given and given[name] not in allowed:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, allowed))}; found {given[name]!r}."
            )
    for name, least in LEAST.items():
        value = given.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}; found {value!r}.")
    for name in ABOVE_ZERO:
        number = given.get(name, 1.0)
        if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
            raise ValueError(f"{name} must be a number above 0; found {number!r}.")
    for name in ("allow_examples", "holdout", "verbose"):
        if not isinstance(given[name], bool):
            raise ValueError(f"{name} must be True or False; found {given[name]!r}.")
    _check_storage(given)
    _check_prompt_model(given.get("prompt_model"))
    _check_executor(given.get("executor"))
    _check_callbacks(given["callbacks"])
    if "auto" in given and "max_metric_calls" in given:
        raise ValueError(
            f"auto={given['auto']!r} and max_metric_calls={given['max_metric_calls']} contradict "
            "each other: both set the number of metric calls; give one of them."
        )
    if given["acceptance"] == "best_new" and given["evaluation"] == "race":
        raise ValueError(
            "acceptance='best_new' contradicts evaluation='race': a race measures candidates only "
            "against the current prompt; use evaluation='full' with it, as GPO.paper does."
        )


def check_steps_at_once(settings: Settings) -> None:
    """Refuse steps side by side where each must know what the one before found.

    Raises:
        ValueError: Names what contradicts them.
    """
    found = settings.steps_at_once
    if found is None or found == 1:
        return
    for_one = {
        "acceptance='best_new'": settings.acceptance == "best_new",
        "a direction that is carried on from step to step": is_carried_on(settings.direction),
    }
    for name, is_so in for_one.items():
        if is_so:
            raise ValueError(
                f"steps_at_once={found} contradicts {name}: each step must know what the one "
                "before found; leave steps_at_once out."
            )


def _check_storage(given: Mapping[str, Any]) -> None:
    for name in ("storage", "study"):
        text = given.get(name, "name")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a text or None; found {text!r}.")
    if given["resume"] == "force" and "storage" in given and "study" not in given:
        raise ValueError(
            "resume='force' needs a study: without one a run is known by its settings, so that one "
            "with other settings is another run."
        )
    wanting = [name for name in ("study", "memory") if given.get(name)]
    wanting += ["resume"] if given["resume"] == "force" else []
    if "storage" not in given and wanting:
        raise ValueError(
            f"{wanting[0]}={given[wanting[0]]!r} needs a storage: give one, for example "
            "storage='sqlite:///runs.db'."
        )


def _check_prompt_model(prompt_model: Any) -> None:
    if prompt_model is not None and not isinstance(prompt_model, dspy.BaseLM):
        hint = f" Write dspy.LM({prompt_model!r})." if isinstance(prompt_model, str) else ""
        raise ValueError(
            f"prompt_model must be a dspy.LM or None; found {type(prompt_model).__name__} "
            f"{prompt_model!r}.{hint}"
        )


def _check_executor(executor: Any) -> None:
    if executor is not None and not isinstance(executor, Executor):
        hint = ", not the class" if isinstance(executor, type) else ""
        raise ValueError(
            "executor must be a concurrent.futures.Executor, such as ThreadPoolExecutor(16)"
            f"{hint}; found {executor!r}."
        )


def _check_callbacks(callbacks: Any) -> None:
    is_list = isinstance(callbacks, Sequence) and not isinstance(callbacks, str)
    if not is_list or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ValueError(
            f"callbacks must be a list of gpo_dspy.Callback objects; found {callbacks!r}."
        )
