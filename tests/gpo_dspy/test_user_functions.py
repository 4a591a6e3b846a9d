"""Functions that are given as arguments, and raise: in which argument, and nothing is lost."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from email.message import Message
from typing import Any
from urllib.error import HTTPError

import dspy
import httpx
import openai
import pytest
import requests
from fakes import rewriter_lm, scripted_lm, toy_examples, toy_gpo, toy_rewriter, toy_solver

from gpo_dspy import GPO, ArgumentFailed, StopReason
from gpo_dspy.embedding import CachedEmbedder, HashedNgrams

TRAIN, VAL = toy_examples(24), toy_examples(24, start=100)
KEY = "sk-proj-" + "a1B2" * 10


def _compile(lm: dspy.LM | None = None, **arguments: Any) -> dspy.Module:
    with dspy.context(lm=lm or scripted_lm(toy_solver)):
        optimizer = toy_gpo(prompt_model=rewriter_lm(toy_rewriter), **arguments)
        return optimizer.compile(dspy.Predict("question -> answer"), trainset=TRAIN, valset=VAL)


def _fails_at(call: int, function: Callable[..., Any], message: str = "gone") -> Any:
    """Let a function raise from a call on."""
    calls = iter(range(1, 1_000))

    def failing(*arguments: Any) -> Any:
        if next(calls) >= call:
            raise OSError(message)
        return function(*arguments)

    return failing


@pytest.mark.parametrize(
    ("argument", "function", "calls"),
    [
        ("selector", lambda state, failing: list(failing), 2),
        ("schedule", lambda step, steps, scores: 40, 3),  # once for the plan
        ("direction", lambda trajectory, current: [], 2),
        ("embedder", HashedNgrams(), 3),
    ],
)
def test_what_was_found_before_a_function_raised_is_kept(
    argument: str, function: Any, calls: int
) -> None:
    failing = _fails_at(calls, function)
    with pytest.raises(ArgumentFailed, match=f"{argument}.* raised OSError: gone") as caught:
        _compile(**{argument: failing})
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.result is not None
    assert error.program is not None
    assert error.result.stop_reason is StopReason.ARGUMENT
    assert len(error.result.records) == 1
    assert error.program.detailed_results is error.result
    assert isinstance(error.__cause__, OSError)


def test_an_embedder_that_does_not_work_is_known_before_a_metric_call_is_paid() -> None:
    lm = scripted_lm(toy_solver)
    with pytest.raises(ArgumentFailed, match=r"embedder .* raised OSError"):
        _compile(lm, embedder=_fails_at(1, HashedNgrams()))
    assert not lm.engine.prompts


def test_keys_are_not_shown() -> None:
    with pytest.raises(ArgumentFailed) as caught:
        _compile(embedder=_fails_at(3, HashedNgrams(), f"wrong key {KEY}"))
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_keys_are_not_shown_of_any_cause() -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("no words") from OSError(f"https://there/?key={KEY}")

    for argument in ("schedule", "selector"):
        with pytest.raises(ArgumentFailed, match="raised RuntimeError: no words") as caught:
            _compile(**{argument: failing})
        assert KEY not in "".join(traceback.format_exception(caught.value))


def test_keys_are_not_shown_before_the_run_begins() -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError(f"wrong key {KEY}")

    with pytest.raises(ArgumentFailed) as caught:
        _compile(schedule=failing)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_vectors_that_cannot_be_used_lose_nothing() -> None:
    ngrams, calls = HashedNgrams(), []

    def embed(texts: list[str]) -> Any:
        calls.append(texts)
        return ngrams(texts) * (float("nan") if len(calls) > 2 else 1.0)

    with pytest.raises(ArgumentFailed, match="finite numbers, found NaN") as caught:
        _compile(embedder=embed)
    assert caught.value.result is not None


class _Away(Exception):
    """As HTTP clients raise."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


REQUEST = httpx.Request("POST", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    "error",
    [
        _Away(429),
        _Away(503),
        TimeoutError(),
        ConnectionError(),
        httpx.ConnectError("no"),
        httpx.ReadTimeout("no"),
        httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(503)),
        requests.ConnectionError(),
        requests.Timeout(),
        openai.APIConnectionError(request=REQUEST),
        HTTPError("http://127.0.0.1:9", 503, "no", Message(), None),
    ],
    ids=repr,
)
def test_an_embedder_that_is_away_is_waited_for(error: Exception) -> None:
    asked: list[int] = []

    class Busy(HashedNgrams):
        def __call__(self, texts: Any) -> Any:
            asked.append(len(texts))
            if len(asked) < 3:
                raise error
            return super().__call__(texts)

    assert CachedEmbedder(Busy(), first_wait=0.0)(["a text"]).shape[0] == 1
    assert asked == [1, 1, 1]


def test_an_embedder_that_refuses_is_asked_once() -> None:
    asked: list[int] = []

    class Refusing(HashedNgrams):
        def __call__(self, texts: Any) -> Any:
            asked.append(len(texts))
            raise _Away(401)

    with pytest.raises(
        ArgumentFailed, match=r"embedder 'hashed-ngrams.*' raised _Away: status 401"
    ):
        CachedEmbedder(Refusing(), first_wait=0.0)(["a text"])
    assert asked == [1]


@pytest.mark.parametrize(
    ("argument", "takes"),
    [
        ("selector", r"\(state, failing\)"),
        ("schedule", r"\(step, steps, scores\)"),
        ("direction", r"\(trajectory, current\)"),
    ],
)
def test_a_function_that_takes_other_arguments_is_refused_at_once(
    argument: str, takes: str
) -> None:
    function: Any = lambda: 3  # noqa: E731
    with pytest.raises(TypeError, match=f"{argument} is called with {takes}.*takes \\(\\)"):
        GPO(lambda *_: True, **{argument: function})


@pytest.mark.parametrize("student", [dspy.Predict, dspy.ChainOfThought])
def test_examples_without_a_field_of_the_student_are_refused_at_once(student: Any) -> None:
    lm = scripted_lm(toy_solver)
    with dspy.context(lm=lm), pytest.raises(ValueError, match="trainset has the input fields 'qu"):
        toy_gpo().compile(student("passage -> answer"), trainset=TRAIN, valset=VAL)
    assert not lm.engine.prompts
