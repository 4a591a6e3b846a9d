"""Which run is carried on, what is refused, and what it costs."""

from __future__ import annotations

import itertools
import logging
import random
import re
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    CountingMetric,
    Prompted,
    rewriter_lm,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)

from gpo_dspy import (
    BackendUnavailable,
    Callback,
    GPOResult,
    MetricError,
    ResumeRefused,
    RunBusy,
    RunState,
    StopReason,
)
from gpo_dspy.ledger import Usage
from gpo_dspy.storage import open_storage
from gpo_dspy.storage.rows import RunStatus

TRAIN, VALIDATION = toy_examples(40), toy_examples(60, start=100)
KEY = "sk-planted-0123456789abcdef"


class Stopping(Callback):
    """Interrupts a run after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: RunState) -> None:
        if state.step == self.step:
            raise KeyboardInterrupt


class Shop:
    """A place where compile calls are made: one storage, LMs whose requests are counted."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/runs.db"
        self.solver, self.rewriter = scripted_lm(toy_solver), rewriter_lm(toy_rewriter)
        self.metric = CountingMetric()

    @property
    def requests(self) -> tuple[int, int, int]:
        """Metric calls, and requests to the two LMs, so far."""
        return (
            self.metric.calls.total(),
            len(self.solver.engine.prompts),
            len(self.rewriter.engine.prompts),
        )

    def run(
        self, student: dspy.Module | None = None, train: Any = TRAIN, **arguments: Any
    ) -> GPOResult:
        defaults = {"storage": self.url, "prompt_model": self.rewriter, "max_metric_calls": 300}
        arguments = defaults | arguments
        metric = arguments.pop("metric", self.metric)
        with dspy.context(lm=arguments.pop("lm", self.solver)):
            student = student or dspy.Predict("question -> answer")
            optimizer = toy_gpo(metric, **arguments)
            compiled = optimizer.compile(student, trainset=train, valset=VALIDATION)
        result: GPOResult = compiled.detailed_results
        return result


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def comparable(result: GPOResult) -> dict[str, Any]:
    values = result.to_dict()
    del values["seconds"]
    return values


def test_with_and_without_a_storage_the_run_is_the_same(shop: Shop) -> None:
    assert comparable(shop.run()) == comparable(shop.run(storage=None))


def test_a_finished_run_is_returned_at_once(shop: Shop) -> None:
    first = shop.run()
    before = shop.requests
    again = shop.run(num_threads=3, verbose=True)  # neither changes what a run does
    assert shop.requests == before
    assert again == first


def test_it_is_said_that_a_run_is_carried_on_or_finished(
    shop: Shop, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stopped = shop.run(study="toy", verbose=True, callbacks=[Stopping(1)])
    assert "carrying on" not in capsys.readouterr().err
    assert "To carry on, make the same compile call again." in caplog.text
    shop.run(study="toy", verbose=True)
    said = capsys.readouterr().err
    assert re.search(r"carrying on run 1 of \d{4}-\d\d-\d\d \d\d:\d\d: ", said)
    assert f": {stopped.metric_calls} metric calls are made already\n" in said
    assert said.index("carrying on") < said.index("plan:")
    shop.run(study="toy", verbose=True)
    said = capsys.readouterr().err
    assert "run 1 is finished: this is its result; resume=False begins anew\n" in said
    shop.run(study="toy", verbose=False)
    assert not capsys.readouterr().err


def test_it_is_said_how_an_interrupted_run_is_carried_on(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.run(resume=False, callbacks=[Stopping(1)])
    assert "make the same compile call again without resume=False." in caplog.text
    caplog.clear()
    shop.run(storage=None, callbacks=[Stopping(1)])
    assert "Interrupted" in caplog.text
    assert "carry on" not in caplog.text


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupted_run_is_carried_on(shop: Shop, step: int) -> None:
    undisturbed = shop.run(storage=None)
    first = shop.run(callbacks=[Stopping(step)])
    assert first.stop_reason is StopReason.INTERRUPTED
    before = shop.requests
    again = shop.run()
    assert comparable(again) == comparable(undisturbed)
    assert shop.requests[0] - before[0] == undisturbed.metric_calls - first.metric_calls
    assert again.task_usage == undisturbed.task_usage
    assert again.prompt_usage == undisturbed.prompt_usage


def test_seconds_before_count(shop: Shop) -> None:
    first = shop.run(callbacks=[Stopping(1)], metric=_Slow(shop.metric, 0.005))
    again = shop.run(metric=_Slow(shop.metric, 0.005))
    assert again.seconds > first.seconds


class _Slow:
    def __init__(self, metric: Callable[..., Any], seconds: float) -> None:
        self.metric, self.seconds = metric, seconds

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> Any:
        time.sleep(self.seconds)
        return self.metric(example, prediction)


def test_a_backend_that_went_away_is_waited_for_by_the_next_session(shop: Shop) -> None:
    undisturbed = shop.run(storage=None)
    number, broken = itertools.count(), threading.Event()
    broken.set()

    def fails_in_the_middle(prompted: Prompted) -> Any:
        if broken.is_set() and next(number) >= 100:
            raise lm15.ServerError("away")
        return toy_solver(prompted)

    lm = scripted_lm(fails_in_the_middle)
    with pytest.raises(BackendUnavailable) as away:
        shop.run(lm=lm)
    assert "make the same compile call again when it is back" in str(away.value)
    with pytest.raises(BackendUnavailable) as without:
        shop.run(lm=lm, storage=None)
    assert "again" not in str(without.value)
    lm.engine.prompts.clear()
    broken.clear()
    result = shop.run(lm=lm)
    assert result.metric_calls == undisturbed.metric_calls
    assert away.value.result is not None
    assert away.value.result.metric_calls == 100
    assert len(lm.engine.prompts) == undisturbed.metric_calls - 100
    assert [record.candidates for record in result.records] == [
        record.candidates for record in undisturbed.records
    ]


def test_a_limit_on_tokens_counts_those_of_earlier_sessions(shop: Shop) -> None:
    limit: dict[str, Any] = {"max_metric_calls": None, "max_tokens": 12_000}
    undisturbed = shop.run(storage=None, **limit)
    assert undisturbed.stop_reason is StopReason.TOKENS
    shop.run(callbacks=[Stopping(1)], **limit)
    assert comparable(shop.run(**limit)) == comparable(undisturbed)


CHANGES: dict[str, dict[str, Any]] = {
    "metric": {
        "metric": lambda example, prediction, trace=None: example.answer in prediction.answer
    },
    "max_metric_calls (300 -> 310)": {"max_metric_calls": 310},
    "seed (0 -> 1)": {"seed": 1},
    "trainset": {"train": TRAIN[:-1]},
    "predictors": {"student": dspy.Predict("question -> answer: int")},
    "instructions": {"student": dspy.Predict(dspy.Signature("question -> answer", "Answer!"))},
    "lm": {"lm": scripted_lm(toy_solver)},
    "prompt_model": {"prompt_model": rewriter_lm(toy_rewriter)},
    "program": {"student": dspy.ChainOfThought("question -> answer")},
}


@pytest.mark.parametrize("named", CHANGES)
def test_a_study_that_changed_is_refused_and_the_change_named(shop: Shop, named: str) -> None:
    shop.run(study="toy", callbacks=[Stopping(1)])
    before = shop.requests
    with pytest.raises(ResumeRefused, match="study 'toy'") as refused:
        shop.run(study="toy", **CHANGES[named])
    assert named in str(refused.value)
    assert shop.requests == before


@pytest.mark.parametrize("named", CHANGES)
def test_without_a_study_a_changed_call_is_another_run(shop: Shop, named: str) -> None:
    shop.run(callbacks=[Stopping(1)])
    shop.run(**CHANGES[named], callbacks=[Stopping(1)])
    with open_storage(shop.url) as storage:
        assert len(storage.runs()) == 2


def test_force_carries_on_with_what_was_paid_for(shop: Shop) -> None:
    first = shop.run(study="toy", max_metric_calls=200)
    before = shop.requests
    more = shop.run(study="toy", max_metric_calls=300, resume="force")
    made = shop.requests[0] - before[0]
    assert more.metric_calls == first.metric_calls + made <= 300
    assert more.reused > 50
    assert more.task_usage.lm_calls == shop.requests[1]
    assert more.prompt_usage.lm_calls == shop.requests[2]
    assert shop.run(study="toy", max_metric_calls=300) == more  # it is the study's run now


def test_force_that_is_interrupted_counts_the_first_run_once(shop: Shop) -> None:
    shop.run(study="toy", max_metric_calls=200)
    shop.run(study="toy", resume="force", callbacks=[Stopping(1)])
    last = shop.run(study="toy")
    assert last.metric_calls == shop.requests[0] <= 300
    assert last.task_usage.lm_calls == shop.requests[1]
    assert last.prompt_usage.lm_calls == shop.requests[2]


@pytest.mark.parametrize("memory", [True, False])
def test_force_goes_on_from_the_best_that_was_found(shop: Shop, memory: bool) -> None:
    first = shop.run(study="toy", max_metric_calls=150, memory=memory)
    assert first.best != first.start
    before = shop.requests
    more = shop.run(study="toy", max_metric_calls=200, memory=memory, resume="force")
    assert more.records
    assert more.records[0].parent.instructions == first.best
    assert more.plan.holdout == first.plan.holdout  # what the first did not see is still unseen
    assert more.best_score >= first.best_score - 0.1
    assert before[0] < shop.requests[0] <= 200
    last = shop.run(study="toy", max_metric_calls=260, seed=5, memory=memory, resume="force")
    assert last.records[0].parent.instructions == more.best
    assert last.plan.holdout == first.plan.holdout
    asked = shop.rewriter.engine.prompts
    assert len(asked) == last.prompt_usage.lm_calls


def test_what_is_kept_for_the_claim_stays_kept(shop: Shop) -> None:
    kept: list[set[str]] = []
    for calls, more in ((150, {}), (220, {"resume": "force"}), (400, {"resume": "force"})):
        result = shop.run(study="toy", max_metric_calls=calls, memory=False, seed=calls, **more)
        questions = {e.question for e in VALIDATION}
        seen = " ".join(p.user for p in shop.rewriter.engine.prompts)
        kept.append({q for q in questions if q not in seen})
        assert result.claim is not None
        assert result.claim.difference.n == 15
    assert all(len(unseen) >= 15 for unseen in kept)


def test_force_that_is_interrupted_goes_on_the_same_way(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    for one in (shop, other):
        one.run(study="toy", max_metric_calls=150)
    undisturbed = other.run(study="toy", max_metric_calls=260, resume="force")
    shop.run(study="toy", max_metric_calls=260, resume="force", callbacks=[Stopping(1)])
    again = shop.run(study="toy", max_metric_calls=260)
    assert comparable(again) == comparable(undisturbed)


def test_force_refuses_a_budget_that_is_spent_and_names_one_that_does(shop: Shop) -> None:
    first = shop.run(study="toy", max_metric_calls=150)
    before = shop.requests
    for calls in (60, 160):
        with pytest.raises(ResumeRefused, match=f"made {first.metric_calls} metric calls") as spent:
            shop.run(study="toy", max_metric_calls=calls, resume="force")
        assert "resume=False" in str(spent.value)
        assert shop.requests == before
    found = re.search(r"max_metric_calls=(\d+) or more", str(spent.value))
    assert found is not None
    with pytest.raises(ResumeRefused):
        shop.run(study="toy", max_metric_calls=int(found[1]) - 1, resume="force")
    assert shop.run(study="toy", max_metric_calls=int(found[1]), resume="force").records
    assert shop.run(study="toy", max_metric_calls=150, resume=False).records


def test_force_tries_what_was_found_first_where_its_scores_are_not_valid(shop: Shop) -> None:
    first = shop.run(study="toy", max_metric_calls=150, memory=False)

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(toy_metric(example, prediction))

    again: dict[str, Any] = {"metric": metric, "max_metric_calls": 300, "resume": "force"}
    more = shop.run(study="toy", memory=False, **again)
    assert more.records[0].parent.instructions == first.start
    recalled = more.records[0].candidates[0].rewrites[0]
    assert recalled.text == dict(first.best)["self"]
    assert "run 1 of the same study" in recalled.origin
    assert more.records[0].accepted is not None


def test_force_without_a_change_carries_on_as_usual(shop: Shop) -> None:
    undisturbed = shop.run(storage=None)
    shop.run(study="toy", callbacks=[Stopping(1)])
    assert comparable(shop.run(study="toy", resume="force")) == comparable(undisturbed)


def test_resume_false_begins_anew_and_shares_results(shop: Shop) -> None:
    first = shop.run()
    before = shop.requests
    again = shop.run(resume=False, memory=False)
    assert again.reused > 0.8 * first.metric_calls
    assert shop.requests[0] - before[0] == again.metric_calls <= 300
    with open_storage(shop.url) as storage:
        assert [row.status for row in storage.runs()] == [RunStatus.FINISHED] * 2


def test_two_calls_do_not_work_on_one_run(shop: Shop) -> None:
    refused: list[BaseException] = []

    class Second(Callback):
        def on_step(self, state: RunState) -> None:
            if not refused:
                try:
                    shop.run()
                except RunBusy as error:
                    refused.append(error)

    shop.run(callbacks=[Second()])
    assert "works on run 1" in str(refused[0])


def test_a_raising_metric_is_tried_again_by_other_runs(shop: Shop) -> None:
    calls: list[str] = []

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        calls.append(example.question)
        if example.question == VALIDATION[0].question:
            raise OSError("a file that is there tomorrow")
        return toy_metric(example, prediction)

    shop.run(metric=metric)
    shop.run(metric=metric, resume=False, memory=False)
    assert calls.count(VALIDATION[0].question) >= 2


# --- secrets --------------------------------------------------------------------------------------


def test_no_key_reaches_the_storage_the_log_or_an_error(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, logger="gpo_dspy")
    monkeypatch.setenv("OTHER_SERVICE_TOKEN", "token-planted-fedcba9876543210")
    solver = scripted_lm(lambda p: toy_solver(p) | {"answer": f"my key is {KEY}"})
    solver.kwargs["api_key"] = KEY

    def metric(example: Any, prediction: Any, trace: Any = None) -> dspy.Prediction:
        if int(example.question.split()[1]) % 7 == 0:
            raise OSError("token-planted-fedcba9876543210 was refused")
        return dspy.Prediction(score=0.5, feedback=f"called with {KEY}")

    result = shop.run(lm=solver, metric=metric)
    shown = [prompted.user for prompted in shop.rewriter.engine.prompts]
    assert any("[secret]" in text for text in shown)
    solver.engine.reply = _refusing
    with pytest.raises(BackendUnavailable) as refused:
        shop.run(lm=solver, metric=metric, study="other")
    error = refused.value
    texts = [caplog.text, str(error), "".join(traceback.format_exception(error)), *shown]
    texts += [str(result), repr(error.result)]
    with open_storage(shop.url, read_only=True):
        files = [path.read_bytes() for path in tmp_path.iterdir()]
    for planted in (KEY, "token-planted-fedcba9876543210"):
        assert not any(planted in text for text in texts)
        assert not any(planted.encode() in content for content in files)


def _refusing(prompted: Prompted) -> Any:
    raise lm15.AuthError(f"Incorrect API key provided: {KEY}")


def test_a_password_is_not_among_the_parameters() -> None:
    optimizer = toy_gpo(storage="postgresql+psycopg://me:very-secret-word@host/runs")
    assert "very-secret-word" not in repr(optimizer.get_params())


def test_a_key_in_the_student_is_not_written_when_a_run_is_forced(
    shop: Shop, tmp_path: Path
) -> None:
    solver = scripted_lm(toy_solver)
    solver.kwargs["api_key"] = KEY
    student = dspy.Predict(dspy.Signature("question -> answer", f"Answer. The key is {KEY}."))
    shop.run(student, lm=solver, study="toy", max_metric_calls=150)
    more = shop.run(student, lm=solver, study="toy", max_metric_calls=260, resume="force")
    assert more.records
    with open_storage(shop.url) as storage:
        assert len(storage.runs()) == 2
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"study": "toy"}, "study='toy' needs a storage"),
        ({"memory": True}, "memory=True needs a storage"),
        ({"resume": "force"}, "resume='force' needs a storage"),
        ({"storage": "sqlite:///x.db", "resume": "force"}, "resume='force' needs a study"),
        ({"storage": "sqlite:///x.db", "resume": "always"}, "resume must be one of"),
        ({"storage": "sqlite:///x.db", "study": ""}, "study must be a text"),
        ({"storage": 3}, "storage must be a text"),
        ({"storage": "sqlite:///x.db", "memory": "all"}, "memory must be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        toy_gpo(**arguments)


def test_nothing_is_spent_on_a_storage_that_cannot_be_used(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_text("this is a letter to my aunt, not a database" * 100)
    with pytest.raises(Exception, match="not an SQLite database"):
        shop.run()
    assert shop.requests == (0, 0, 0)


def test_usage_of_a_resumed_run_adds_up() -> None:
    assert Usage(1, 2, 3, 0.5, 1) + Usage() == Usage(1, 2, 3, 0.5, 1)


# --- what went wrong once ------------------------------------------------------------------------


class Dawdling:
    """A solver whose answers come in an order of their own in every session."""

    def __init__(self, seed: int) -> None:
        self.random, self.lock = random.Random(seed), threading.Lock()

    def __call__(self, prompted: Prompted) -> Any:
        with self.lock:
            seconds = self.random.uniform(0.0, 0.01)
        time.sleep(seconds)
        return toy_solver(prompted)


@pytest.mark.parametrize("step", [1, 2])
def test_demos_do_not_depend_on_what_finished_first(shop: Shop, step: int) -> None:
    arguments: dict[str, Any] = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}
    start = dspy.Predict(dspy.Signature("question -> answer", "alpha beta"))
    undisturbed = shop.run(start, storage=None, **arguments)
    shop.solver.engine.reply = Dawdling(1)
    shop.run(start, num_threads=8, callbacks=[Stopping(step)], **arguments)
    shop.solver.engine.reply = Dawdling(2)
    again = shop.run(start, num_threads=8, **arguments)
    assert comparable(again) == comparable(undisturbed)


def test_a_run_that_failed_begins_anew_once_the_cause_is_mended(shop: Shop, tmp_path: Path) -> None:
    needed = tmp_path / "labels.txt"

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        needed.read_text()
        return toy_metric(example, prediction)

    with pytest.raises(MetricError):
        shop.run(metric=metric)
    needed.touch()
    assert shop.run(metric=metric).metric_calls > 100


def test_the_key_of_a_judge_inside_the_metric_is_hidden(shop: Shop, tmp_path: Path) -> None:
    judge = dspy.LM("judge/x", api_key="Zx81prv-q9-7hTTk2")

    class Judging:
        def __init__(self) -> None:
            self.lms = {"judge": judge}

        def __call__(self, example: Any, prediction: Any, trace: Any = None) -> dspy.Prediction:
            key = self.lms["judge"].kwargs["api_key"]
            return dspy.Prediction(score=0.5, feedback=f"asked with {key}")

    shop.run(metric=Judging())
    assert "asked with [secret]" in shop.rewriter.engine.prompts[0].user
    assert not any(b"Zx81prv" in path.read_bytes() for path in tmp_path.iterdir())


def test_an_interrupt_at_any_moment_leaves_a_run_to_carry_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Callback):
        def on_start(self, plan: Any) -> None:
            raise KeyboardInterrupt

    undisturbed = shop.run(storage=None)
    with pytest.raises(KeyboardInterrupt):
        shop.run(callbacks=[Impatient()])
    with monkeypatch.context() as patch:
        patch.setattr("gpo_dspy.run.Run._finish", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    assert comparable(shop.run()) == comparable(undisturbed)


def _interrupted(*arguments: Any) -> Any:
    raise KeyboardInterrupt


def test_force_asks_a_changed_prompt_model_anew(shop: Shop) -> None:
    shop.run(study="toy", memory=False, callbacks=[Stopping(1)])
    other = rewriter_lm(toy_rewriter)
    other.model = shop.rewriter.model
    other.kwargs["temperature"] = 0.9
    again = {"resume": "force", "prompt_model": other, "memory": False}
    shop.run(study="toy", callbacks=[Stopping(1)], **again)
    assert len(other.engine.prompts) >= len(shop.rewriter.engine.prompts) > 0


def test_an_error_logged_for_want_of_feedback_holds_no_key(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SERVICE_TOKEN", "token-planted-fedcba9876543210")

    def metric(
        example: Any, prediction: Any, trace: Any, pred_name: str | None, pred_trace: Any
    ) -> float:
        if pred_name is not None:
            raise OSError("token-planted-fedcba9876543210 was refused")
        return 0.5

    class Raising(Callback):
        def on_step(self, state: RunState) -> None:
            raise OSError("token-planted-fedcba9876543210")

    shop.run(metric=metric, callbacks=[Raising()], max_metric_calls=100)
    assert "raised when asked for feedback" in caplog.text
    assert "Raising.on_step failed" in caplog.text
    assert "token-planted" not in caplog.text
