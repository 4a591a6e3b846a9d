"""Every wrong or contradictory argument is refused in the constructor."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from fakes import scripted_lm, toy_metric, toy_solver

from gpo_dspy import GPO
from gpo_dspy.direction import Relevance
from gpo_dspy.schedule import Cosine


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("auto", "huge", "'light', 'medium', 'heavy'"),
        ("auto", 400, "'light', 'medium', 'heavy'"),
        ("rewrite", "invent", "'generate', 'edit'"),
        ("on_excess", None, "'clip', 'drop', 'accept'"),
        ("evaluation", "fast", "'race', 'full'"),
        ("acceptance", "always", "'improvement', 'best_new'"),
        ("direction", "north", "'relevance'"),
        ("direction", 3, "'relevance'"),
        ("schedule", "consine", "'cosine'"),
        ("schedule", 50, "'cosine'"),
        ("max_metric_calls", 0, "at least 1"),
        ("max_metric_calls", -5, "at least 1"),
        ("max_metric_calls", 10.5, "integer"),
        ("max_metric_calls", True, "integer"),
        ("max_metric_calls", "100", "integer"),
        ("epochs", 0, "at least 1"),
        ("stop_after", 0, "at least 1"),
        ("candidates_per_step", 0, "at least 1"),
        ("steps_at_once", 0, "at least 1"),
        ("candidates_per_step", 2.5, "integer"),
        ("failures", -1, "at least 0"),
        ("task_examples", -1, "at least 0"),
        ("batch_size", 0, "at least 1"),
        ("num_threads", 0, "at least 1"),
        ("selector", "best", "'effect', 'round_robin', 'all'"),
        ("selector", 3, "state, failing -> names"),
        ("max_bootstrapped_demos", -1, "at least 0"),
        ("max_labeled_demos", None, "integer"),
        ("seed", -1, "at least 0"),
        ("seed", None, "integer"),
        ("holdout", "yes", "True or False"),
        ("verbose", 1, "True or False"),
        ("embedder", 3, "embedder"),
        ("embedder", "", "embedder"),
        ("prompt_model", "openai/gpt-5", "dspy.LM('openai/gpt-5')"),
        ("prompt_model", dspy.Predict("a -> b"), "dspy.LM"),
        ("language", "Klingon", "'German' or 'de'"),
        ("language", 7, "English name"),
        ("allow_examples", "yes", "True or False"),
        ("executor", 4, "ThreadPoolExecutor(16)"),
        ("executor", ThreadPoolExecutor, "not the class"),
        ("example_timeout", 0, "above 0"),
        ("example_timeout", "1 min", "above 0"),
        ("callbacks", None, "gpo_dspy.Callback"),
        ("callbacks", [print], "gpo_dspy.Callback"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any, allowed: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        GPO(toy_metric, **{name: value})
    message = str(raised.value)
    assert name in message
    assert allowed in message
    assert str(value) in message


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        ({"auto": "light", "max_metric_calls": 100}, ("auto='light'", "max_metric_calls=100")),
        (
            {"acceptance": "best_new", "evaluation": "race"},
            ("acceptance='best_new'", "evaluation='race'"),
        ),
    ],
)
def test_contradictions_name_both_arguments(
    arguments: dict[str, Any], both: tuple[str, str]
) -> None:
    with pytest.raises(ValueError, match="contradict") as raised:
        GPO(toy_metric, **arguments)
    assert all(name in str(raised.value) for name in both)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="max_metric_cals"):
        GPO(toy_metric, max_metric_cals=100)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="canddates"):
        GPO.paper(toy_metric, canddates=4)
    with pytest.raises(TypeError):
        GPO(toy_metric, scripted_lm(toy_solver))  # type: ignore[misc]  # keywords only


def test_every_documented_default_is_accepted() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(GPO).parameters.items()
        if name != "metric"
    }
    GPO(toy_metric, **defaults)
    GPO(
        toy_metric,
        direction=Relevance(k=5),
        schedule=Cosine(80, 20),
        embedder=lambda texts: [[1.0] for _ in texts],
    )
    GPO(toy_metric, schedule=lambda step, steps, scores: 20)


@pytest.mark.parametrize(
    ("name", "last"),
    [("cosine", 25), ("linear", 25), ("warm_restarts", 25), ("plateau", 25), ("constant", 50)],
)
def test_a_schedule_by_name_runs_from_50_to_25_words(name: str, last: int) -> None:
    schedule = GPO(toy_metric, schedule=name).settings.schedule
    assert (schedule(1, 12), schedule(12, 12), schedule(99, 12)) == (50, last, last)
    assert GPO(toy_metric).settings.schedule == GPO(toy_metric, schedule="cosine").settings.schedule


def test_get_params_returns_what_was_given() -> None:
    lm = scripted_lm(toy_solver)
    params = GPO(toy_metric, prompt_model=lm, max_metric_calls=99, schedule="linear").get_params()
    assert params["metric"] is toy_metric
    assert params["prompt_model"] is lm
    assert (params["max_metric_calls"], params["schedule"]) == (99, "linear")
    assert set(params) == set(inspect.signature(GPO).parameters)
    params["seed"] = 5
    assert GPO(toy_metric).get_params()["seed"] == 0
