"""Whose fault is a failure? The metric's, the prompt's, the program's, or nobody's."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import NO_WAITING, Prompted, run_jobs, scripted_lm, toy_examples, toy_metric, toy_solver
from http_api import ENGINES, lm_at, serve

from gpo_dspy.backend_errors import Patience
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.evaluation.runner import Evaluation, Job, Outcome, Runner
from gpo_dspy.ledger import Ledger

EXAMPLE = toy_examples(1)[0]
QA = dspy.Predict("question -> answer")


def _run(
    program: dspy.Module = QA,
    metric: Callable[..., Any] = toy_metric,
    *,
    reply: Callable[[Prompted], Any] = toy_solver,
    examples: list[dspy.Example] | None = None,
    threads: int = 1,
    patience: Patience = NO_WAITING,
) -> list[Evaluation]:
    runner = Runner(Metric(metric), threads, patience)
    with dspy.context(lm=scripted_lm(reply)):
        found = dict(run_jobs(runner, [Job(program, example) for example in examples or [EXAMPLE]]))
    return [found[position] for position in range(len(found))]


def _raising(error: Exception) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


class _Program(dspy.Module):
    """Runs a function in place of a program."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.function = forward

    def forward(self, question: str) -> Any:
        return self.function(self.ask, question)


# --- what counts against the prompt or the program ---------------------------------------------


@pytest.mark.parametrize(
    ("case", "outcome", "score", "feedback"),
    [
        ({}, Outcome.SCORED, 0.0, ""),
        ({"metric": lambda e, p, t=None: 0.5}, Outcome.SCORED, 0.5, ""),
        (
            {"metric": lambda e, p, t=None: dspy.Prediction(score=0.25, feedback="so so")},
            Outcome.SCORED,
            0.25,
            "so so",
        ),
        ({"metric": _raising(KeyError("gold"))}, Outcome.METRIC_ERROR, 0.0, "KeyError: 'gold'"),
        ({"metric": lambda e, p: None}, Outcome.METRIC_INVALID, 0.0, "Is a `return` missing"),
        ({"metric": lambda e, p: math.nan}, Outcome.METRIC_INVALID, 0.0, "nan"),
        ({"metric": lambda e, p: "1"}, Outcome.METRIC_INVALID, 0.0, "'1' (str)"),
        ({"metric": lambda e, p: 2.0}, Outcome.METRIC_INVALID, 0.0, "2.0"),
        ({"reply": lambda _: "I'd rather not."}, Outcome.UNPARSABLE, 0.0, "could not be parsed"),
        (
            {"program": _Program(_raising(ZeroDivisionError("by 0")))},
            Outcome.PROGRAM_ERROR,
            0.0,
            "ZeroDivisionError: by 0",
        ),
        (
            {"reply": _raising(lm15.ContextLengthError("8192 tokens at most"))},
            Outcome.REFUSED,
            0.0,
            "The LM refused the request: 8192 tokens at most",
        ),
        (
            {"reply": _raising(lm15.InvalidRequestError("content filter", status=400))},
            Outcome.REFUSED,
            0.0,
            "The LM refused the request: content filter",
        ),
    ],
)
def test_failures_of_one_example_are_counted_by_kind(
    case: dict[str, Any], outcome: Outcome, score: float, feedback: str
) -> None:
    (evaluation,) = _run(**case)
    assert evaluation.outcome is outcome
    assert evaluation.score == score
    assert feedback in evaluation.feedback


def test_one_bad_example_does_not_disturb_the_others() -> None:
    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        if example.question.startswith("item 2 "):
            raise RuntimeError("odd one")
        return 1.0

    outcomes = [e.outcome for e in _run(metric=metric, examples=toy_examples(5), threads=3)]
    assert outcomes == [Outcome.SCORED] * 2 + [Outcome.METRIC_ERROR] + [Outcome.SCORED] * 2


def test_the_unparsable_reply_is_shown() -> None:
    (evaluation,) = _run(reply=lambda _: "I'd rather not.")
    (call,) = evaluation.trace
    assert call.inputs == {"question": EXAMPLE.question}
    assert list(call.outputs.values()) == ["I'd rather not."]


def test_a_typed_answer_of_the_wrong_type_is_unparsable() -> None:
    program = dspy.Predict("question -> answer: int")
    assert _run(program, reply=lambda _: {"answer": "many"})[0].outcome is Outcome.UNPARSABLE
    assert _run(program, reply=lambda _: {"answer": "7"})[0].outcome is Outcome.SCORED


# --- whose predictor it was ----------------------------------------------------------------------


class _Twins(dspy.Module):
    """Two predictors with equal signatures; the second speaks after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict(dspy.Signature("question -> answer", "ONE"))
        self.second = dspy.Predict(dspy.Signature("question -> answer", "TWO"))
        self.first.signature = self.second.signature = dspy.Signature("question -> answer", "SAME")

    def forward(self, question: str) -> dspy.Prediction:
        return self.second(question=f"then {self.first(question=question).answer}")


def test_the_trace_names_predictors_by_object() -> None:
    (evaluation,) = _run(_Twins(), reply=lambda p: {"answer": f"<{p.fields['question']}>"})
    question = EXAMPLE.question
    assert [(call.predictor, call.inputs, call.outputs) for call in evaluation.trace] == [
        ("first", {"question": question}, {"answer": f"<{question}>"}),
        ("second", {"question": f"then <{question}>"}, {"answer": f"<then <{question}>>"}),
    ]


@pytest.mark.parametrize("broken", ["first", "second"])
def test_an_unparsable_reply_is_held_against_the_predictor_that_asked(broken: str) -> None:
    def reply(prompted: Prompted) -> Any:
        asked = "second" if prompted.fields["question"].startswith("then") else "first"
        return "no fields here" if asked == broken else {"answer": "fine"}

    (evaluation,) = _run(_Twins(), reply=reply)
    assert evaluation.outcome is Outcome.UNPARSABLE
    assert evaluation.trace[-1].predictor == broken
    assert len(evaluation.trace) == (1 if broken == "first" else 2)


def test_an_error_the_program_survived_is_not_held_against_its_predictor() -> None:
    class Careful(_Twins):
        def forward(self, question: str) -> dspy.Prediction:
            with suppress(dspy.utils.exceptions.AdapterParseError):
                self.first(question=question)
            return self.second(question=question)

    (evaluation,) = _run(Careful(), reply=lambda _: "no fields here")
    assert evaluation.outcome is Outcome.UNPARSABLE
    assert [call.predictor for call in evaluation.trace] == ["second"]


def test_the_callers_own_trace_and_callbacks_are_left_alone() -> None:
    seen: list[Any] = []

    class Listener(dspy.utils.callback.BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append(instance)

    with dspy.context(trace=[], callbacks=[Listener()]):
        _run(examples=toy_examples(2))
        assert dspy.settings.trace == []
        assert len(dspy.settings.callbacks) == 1
    assert len(seen) == 2


# --- what is nobody's fault ----------------------------------------------------------------------

AWAY = [
    lm15.TimeoutError("60 s"),
    lm15.RateLimitError("slow down", status=429),
    lm15.ServerError("overloaded", status=503),
    lm15.TransportError("connection refused"),
    lm15.LockTimeoutError("credentials are locked"),
]
REFUSED = [
    lm15.AuthError("bad key", status=401),
    lm15.BillingError("no credit", status=402),
    lm15.UnsupportedModelError("no such model", status=404),
    RuntimeError("a bug in the engine"),
]


def _name(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", AWAY, ids=_name)
def test_a_backend_that_is_away_for_a_while_costs_waiting_not_score(error: Exception) -> None:
    failures = iter([error, error])

    def reply(prompted: Prompted) -> Any:
        for failure in failures:
            raise failure
        return {"answer": "right 0"}

    (evaluation,) = _run(reply=reply)
    assert (evaluation.score, evaluation.outcome) == (1.0, Outcome.SCORED)


@pytest.mark.parametrize("error", AWAY, ids=_name)
def test_a_backend_that_stays_away_ends_the_run(error: Exception) -> None:
    tries = []

    def reply(_: Prompted) -> Any:
        tries.append(1)
        raise error

    with pytest.raises(BackendUnavailable, match=r"3 tries.*Nothing was scored"):
        _run(reply=reply)
    assert len(tries) == NO_WAITING.attempts


@pytest.mark.parametrize("error", REFUSED, ids=_name)
def test_a_refusal_ends_the_run_at_once(error: Exception) -> None:
    tries = []

    def reply(_: Prompted) -> Any:
        tries.append(1)
        raise error

    with pytest.raises(BackendUnavailable, match="refused the request") as raised:
        _run(reply=reply)
    assert str(error).splitlines()[0].split(" (HTTP")[0] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(tries) == 1


def test_a_request_refused_on_one_example_does_not_disturb_the_others() -> None:
    def reply(prompted: Prompted) -> Any:
        if prompted.fields["question"].startswith("item 3 "):
            raise lm15.InvalidRequestError("content filter: violence", status=400)
        return {"answer": prompted.fields["question"].replace("item", "right")[:7]}

    tries: list[str] = []

    def counted(prompted: Prompted) -> Any:
        tries.append(prompted.fields["question"])
        return reply(prompted)

    found = _run(reply=counted, examples=toy_examples(6), threads=3)
    assert [e.outcome for e in found] == [
        Outcome.REFUSED if i == 3 else Outcome.SCORED for i in range(6)
    ]
    assert [e.score for e in found] == [0.0 if i == 3 else 1.0 for i in range(6)]
    assert "content filter: violence" in found[3].feedback
    assert len(tries) == len(set(tries)) == 6, "a refused request is not asked again"


def test_a_judge_that_refuses_is_the_metrics_failure() -> None:
    judge = scripted_lm(_raising(lm15.InvalidRequestError("content filter", status=400)))

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        with dspy.context(lm=judge):
            return float(QA(question="Is it right?").answer)

    (evaluation,) = _run(metric=metric)
    assert evaluation.outcome is Outcome.METRIC_ERROR
    assert "content filter" in evaluation.feedback
    assert evaluation.prediction.answer == "wrong", "the prompt model sees what was answered"


@pytest.mark.parametrize("threads", [1, 8])
def test_while_a_judge_is_away_the_program_does_not_pay_again(threads: int) -> None:
    program = scripted_lm(toy_solver)
    away: Counter[str] = Counter()
    lock = threading.Lock()

    def flaky(prompted: Prompted) -> Any:
        with lock:
            away[prompted.fields["question"]] += 1
            if away[prompted.fields["question"]] < 3:
                raise lm15.ServerError("busy", status=503)
        return {"answer": "0.5"}

    judge = scripted_lm(flaky)

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        with dspy.context(lm=judge):
            return float(QA(question=example.question).answer)

    jobs = [Job(QA, example) for example in toy_examples(10)]
    with dspy.context(lm=program):
        found = dict(run_jobs(Runner(Metric(metric), threads, NO_WAITING), jobs))
    assert [found[i].score for i in range(10)] == [0.5] * 10
    assert len(program.engine.prompts) == 10
    assert len(judge.engine.prompts) == 30


@pytest.mark.parametrize("error", [AWAY[1], REFUSED[0]], ids=_name)
def test_a_judge_inside_the_metric_is_a_backend_too(error: Exception) -> None:
    judge = scripted_lm(_raising(error))

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        with dspy.context(lm=judge):
            return float(QA(question="Is it right?").answer)

    with pytest.raises(BackendUnavailable):
        _run(metric=metric)


def test_a_backend_away_for_a_third_of_the_calls_changes_no_score() -> None:
    rng, lock = random.Random(0), threading.Lock()

    def flaky(prompted: Prompted) -> Any:
        with lock:
            away = rng.random() < 0.3
        if away:
            raise lm15.ServerError("busy", status=503)
        return toy_solver(prompted)

    program = dspy.Predict(dspy.Signature("question -> answer", "alpha gamma"))
    patience = Patience(attempts=12, first_wait=0.0, longest_wait=0.0)
    examples = toy_examples(60)
    undisturbed = [e.score for e in _run(program, examples=examples)]
    disturbed = _run(program, reply=flaky, examples=examples, threads=8, patience=patience)
    assert [e.score for e in disturbed] == undisturbed
    assert sum(undisturbed) == 30


@pytest.mark.parametrize(("asked", "waited"), [(None, (0.0, 0.01)), (0.05, (0.05, 0.05))])
def test_the_backends_wish_to_wait_is_heard_up_to_a_bound(
    asked: float | None, waited: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", naps.append)
    patience = Patience(attempts=2, first_wait=0.01, longest_wait=0.2)
    for wish in (asked, 1_000.0):
        with pytest.raises(BackendUnavailable):
            _run(
                reply=_raising(lm15.RateLimitError("slow down", retry_after=wish)),
                patience=patience,
            )
    assert waited[0] <= naps[0] <= waited[1]
    assert naps[1] == patience.longest_wait


@pytest.mark.parametrize("threads", [1, 16])
def test_results_are_told_with_their_position(threads: int) -> None:
    rng = random.Random(1)
    naps = {e.question: rng.random() / 100 for e in toy_examples(30)}

    def slow(prompted: Prompted) -> Any:
        time.sleep(naps[prompted.fields["question"]])
        return {"answer": prompted.fields["question"]}

    found = _run(reply=slow, examples=toy_examples(30), threads=threads)
    assert [e.prediction.answer for e in found] == [e.question for e in toy_examples(30)]


# --- examples that take too long -----------------------------------------------------------------


def _timed(
    reply: Callable[[Prompted], Any],
    seconds: float,
    *,
    examples: int = 1,
    threads: int = 1,
    metric: Callable[..., Any] = toy_metric,
    patience: Patience = NO_WAITING,
    executor: Executor | None = None,
) -> list[Evaluation]:
    runner = Runner(Metric(metric), threads, patience, executor=executor, example_timeout=seconds)
    with dspy.context(lm=scripted_lm(reply)):
        found = dict(run_jobs(runner, [Job(QA, example) for example in toy_examples(examples)]))
    return [found[position] for position in range(len(found))]


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What hangs, hangs until the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("with_executor", [False, True])
def test_an_example_that_hangs_is_given_up_and_holds_nobody_up(
    hang: threading.Event, threads: int, with_executor: bool
) -> None:
    asked: Counter[str] = Counter()

    def reply(prompted: Prompted) -> Any:
        number = prompted.fields["question"].split()[1]
        asked[number] += 1
        if number in ("1", "2", "3"):  # as many as there are threads
            hang.wait(20)
        return {"answer": f"right {number}"}

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        executor = pool if with_executor else None
        found = _timed(reply, 0.2, examples=12, threads=threads, executor=executor)
        took = time.monotonic() - began
    late = {1, 2, 3}
    assert [e.outcome for e in found] == [
        Outcome.TIMED_OUT if i in late else Outcome.SCORED for i in range(12)
    ]
    assert [e.score for e in found] == [float(i not in late) for i in range(12)]
    assert "within 0.2 seconds" in found[1].feedback
    assert set(asked.values()) == {1}, "no second run of it"
    assert took < 3


def test_a_metric_that_hangs_is_given_up_too(hang: threading.Event) -> None:
    def metric(example: dspy.Example, prediction: dspy.Prediction) -> float:
        hang.wait(20)
        return 1.0

    assert _timed(toy_solver, 0.1, metric=metric)[0].outcome is Outcome.TIMED_OUT


def test_program_and_metric_share_the_time() -> None:
    def reply(prompted: Prompted) -> Any:
        time.sleep(0.15)
        return {"answer": "right 0"}

    def metric(example: dspy.Example, prediction: dspy.Prediction) -> float:
        time.sleep(0.15)
        return 1.0

    assert _timed(reply, 0.25, metric=metric)[0].outcome is Outcome.TIMED_OUT
    assert _timed(reply, 5.0, metric=metric)[0].score == 1.0


def test_lm_calls_of_an_abandoned_example_are_counted(hang: threading.Event) -> None:
    finished = threading.Event()

    class TwoCalls(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            self.ask(question=question)
            hang.wait(20)
            answer = self.ask(question=question)
            finished.set()
            return answer

    ledger = Ledger()
    runner = Runner(Metric(toy_metric), 1, NO_WAITING, ledger=ledger, example_timeout=0.1)
    with dspy.context(lm=scripted_lm(toy_solver)):
        ((_, evaluation),) = run_jobs(runner, [Job(TwoCalls(), EXAMPLE)])
    assert evaluation.outcome is Outcome.TIMED_OUT
    assert ledger.usage.lm_calls == 1
    hang.set()
    assert finished.wait(10)
    assert ledger.usage.lm_calls == 2, "it was paid for"


def test_waiting_for_a_backend_is_not_the_examples_time() -> None:
    away = iter([1, 2, 3])

    def reply(prompted: Prompted) -> Any:
        for _ in away:
            time.sleep(0.1)  # what a refused connection takes
            raise lm15.ServerError("busy", status=503, retry_after=0.1)
        return {"answer": "right 0"}

    patience = Patience(attempts=4, first_wait=0.1, longest_wait=0.1)
    began = time.monotonic()
    (evaluation,) = _timed(reply, 0.3, patience=patience)
    assert time.monotonic() - began > 0.5
    assert (evaluation.score, evaluation.outcome) == (1.0, Outcome.SCORED)


def test_a_backend_that_stays_away_is_not_a_late_answer() -> None:
    patience = Patience(attempts=3, first_wait=0.2, longest_wait=0.2)
    with pytest.raises(BackendUnavailable):
        _timed(_raising(lm15.RateLimitError("slow down", retry_after=0.2)), 0.1, patience=patience)


# --- the same over HTTP --------------------------------------------------------------------------


REPLY = "[[ ## answer ## ]]\nright 0"


def _run_over_http(api_base: str, engine: str = "litellm") -> Evaluation:
    options = {"max_retries": 0, "timeout": 10} if engine == "litellm" else {}
    lm = lm_at(api_base, engine, **options)
    with dspy.context(lm=lm):
        runner = Runner(Metric(toy_metric), 1, NO_WAITING)
        ((_, evaluation),) = run_jobs(runner, [Job(QA, EXAMPLE)])
    return evaluation


@pytest.mark.parametrize("status", [500, 503, 429, None])
def test_over_http_a_short_outage_is_waited_for(status: int | None) -> None:
    with serve(lambda n: status if n == 1 else 200, text=REPLY) as api_base:
        assert _run_over_http(api_base).score == 1.0


@pytest.mark.parametrize("status", [500, 503, 429, None])
def test_over_http_a_long_outage_ends_the_run(status: int | None) -> None:
    with (
        serve(lambda _: status, text=REPLY) as api_base,
        pytest.raises(BackendUnavailable, match="3 tries"),
    ):
        _run_over_http(api_base)


@pytest.mark.parametrize("engine", ENGINES)
def test_over_http_a_reply_that_breaks_off_is_asked_for_again(engine: str) -> None:
    with serve(lambda _: 200, text=REPLY, garbled=lambda n: n == 1) as api_base:
        assert _run_over_http(api_base, engine).score == 1.0
    ended = pytest.raises(BackendUnavailable, match="3 tries")
    with serve(lambda _: 200, text=REPLY, garbled=lambda _: True) as api_base, ended:
        _run_over_http(api_base, engine)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_over_http_a_refusal_ends_the_run_at_once(status: int) -> None:
    requests: list[int] = []

    def answer(number: int) -> int:
        requests.append(number)
        return status

    with serve(answer, text=REPLY) as api_base, pytest.raises(BackendUnavailable, match="refused"):
        _run_over_http(api_base)
    assert requests == [1]


def test_over_http_nobody_listens() -> None:
    with serve(lambda _: 200, text=REPLY) as api_base:
        pass
    with pytest.raises(BackendUnavailable, match="did not answer in 3 tries"):
        _run_over_http(api_base)
