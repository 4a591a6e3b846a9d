"""What becomes of the prompt model's answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import NO_WAITING, Gauge, Prompted, Reply, scripted_lm
from http_api import ENGINES, lm_at, serve
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.edits import words_changed
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.guards import Guard
from gpo_dspy.meta_prompt import MetaPrompt
from gpo_dspy.prompt_model import PromptModel, unwrap
from gpo_dspy.rewriter import Rewriter
from gpo_dspy.state import Fate, Rewrite, ScoredPrompt

START = "Sort the words."
GUARD = Guard(START)
LONG = "Sort the words one by one. Compare whole words. Keep every copy. Answer in one line."


def _request(words: int = 5, number: int = 1, rewrites: int = 1) -> MetaPrompt:
    current = ScoredPrompt(START, 0.5, 8, 0)
    return MetaPrompt("Input fields: `words`", (), current, (), (), words, rewrites, (number, 4))


def _model(reply: Reply, **options: Any) -> PromptModel:
    return PromptModel(scripted_lm(reply), patience=NO_WAITING, **options)


def _rewriter(*answers: str | Mapping[str, str], **options: Any) -> Rewriter:
    """Return a rewriter whose prompt model gives these answers in turn, the last for ever."""
    left = list(answers)

    def reply(prompted: Prompted) -> str | Mapping[str, str]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Mapping) else {"improved_prompt": answer}

    return Rewriter(_model(reply, num_threads=1), **options)


def _write(*answers: str | Mapping[str, str], words: int = 5, **options: Any) -> Rewrite:
    return _rewriter(*answers, **options).write([(_request(words), GUARD)])[0][0]


def _asked(rewriter: Rewriter) -> Sequence[Prompted]:
    prompts: Sequence[Prompted] = rewriter.prompt_model.lm.engine.prompts
    return prompts


def test_within_the_budget_it_is_kept() -> None:
    rewrite = _write("Sort the words by letter.")
    assert rewrite == Rewrite("Sort the words by letter.", Fate.KEPT, 5, 2, 2)


def test_over_the_budget_it_is_sent_back_once_with_its_count() -> None:
    rewriter = _rewriter(LONG, "Sort all words.")
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate is Fate.SHORTENED
    assert rewrite.text == "Sort all words."
    assert rewrite.words_proposed == words_changed(START, LONG) > 5
    assert rewrite.words_changed == 1
    first, second = _asked(rewriter)
    assert "too_long" not in first.fields
    assert LONG in second.fields["too_long"]
    assert f"changed {rewrite.words_proposed} words" in second.fields["too_long"]


def test_still_over_it_is_clipped_to_the_budget() -> None:
    rewriter = _rewriter(LONG)
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate is Fate.CLIPPED
    assert 0 < words_changed(START, rewrite.text) == rewrite.words_changed <= 5
    assert len(_asked(rewriter)) == 2


def test_what_cannot_be_clipped_to_anything_new_is_dropped() -> None:
    unsplittable = "One very long sentence about many other things without any stop"
    rewrite = _write(unsplittable, words=1)
    assert rewrite.fate is Fate.DROPPED
    assert rewrite.text == unsplittable, "what was dropped, not what it would have replaced"
    assert rewrite.words_changed == rewrite.words_proposed == words_changed(START, unsplittable)


def test_a_change_of_punctuation_alone_is_kept_and_costs_no_words() -> None:
    rewrite = _write("Sort the words!")
    assert rewrite == Rewrite("Sort the words!", Fate.KEPT, 5, 0, 0)


def test_still_over_it_is_dropped_on_request() -> None:
    rewriter = _rewriter(LONG, on_excess="drop")
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate is Fate.DROPPED
    assert not rewrite.fate.usable
    assert len(_asked(rewriter)) == 2


def test_the_paper_requests_the_budget_and_takes_what_comes() -> None:
    rewriter = _rewriter(LONG, on_excess="accept")
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert (rewrite.text, rewrite.fate) == (LONG, Fate.OVER_BUDGET)
    assert rewrite.fate.usable
    assert len(_asked(rewriter)) == 1


def test_a_useless_second_answer_falls_back_to_clipping_the_first() -> None:
    for second in ("", "[[ ## answer ## ]] x", START):
        assert _write(LONG, second).fate is Fate.CLIPPED


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        ("", Fate.EMPTY),
        ("---", Fate.EMPTY),
        ("``````", Fate.EMPTY),
        (START, Fate.REPEATED),
        ("Sort by [[ ## answer ## ]].", Fate.MARKER),
        ("word " * 10_000, Fate.TOO_LONG),
    ],
)
def test_unusable_answers_are_named_and_not_asked_for_again(answer: str, fate: Fate) -> None:
    rewriter = _rewriter({"improved_prompt": answer})
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate is fate
    assert not rewrite.fate.usable
    # DSPy itself asks again, in JSON, where a marker cuts the answer short.
    assert len(_asked(rewriter)) <= 2
    assert len(rewrite.text) <= GUARD.length_limit


def test_a_lost_placeholder_is_refused() -> None:
    rewriter = _rewriter("Answer briefly.")
    ((rewrite,),) = rewriter.write([(_request(), Guard("Answer {question}."))])
    assert rewrite.fate is Fate.NAME_LOST


def test_an_unparsable_reply_is_counted_not_guessed_at() -> None:
    rewriter = Rewriter(_model(lambda _: "Here is my idea: sort."))
    ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate is Fate.UNPARSABLE
    assert rewrite.text == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lm15.ContextLengthError("8192 tokens at most"), "8192 tokens at most"),
        (lm15.InvalidRequestError("flagged by the filter", status=400), "flagged by the filter"),
    ],
)
def test_a_request_the_prompt_model_refuses_costs_the_rewrite_not_the_run(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(prompted: Prompted) -> Mapping[str, str]:
        if "variation 2 of" in prompted.fields["variation"]:
            raise error
        return {"improved_prompt": "Sort all words."}

    rewriter = Rewriter(_model(reply))
    rewrites = [r for (r,) in rewriter.write([(_request(number=n), GUARD) for n in (1, 2, 3)])]
    assert [rewrite.fate for rewrite in rewrites] == [Fate.KEPT, Fate.UNANSWERED, Fate.KEPT]
    assert rewrites[1] == Rewrite("", Fate.UNANSWERED, 5)
    assert not Fate.UNANSWERED.usable
    assert "No improved prompt: " in caplog.text
    assert said in caplog.text


def test_a_second_request_that_is_refused_falls_back_to_clipping() -> None:
    def reply(prompted: Prompted) -> Mapping[str, str]:
        if "too_long" in prompted.fields:
            raise lm15.ContextLengthError("8192 tokens at most")
        return {"improved_prompt": LONG}

    rewriter = Rewriter(_model(reply))
    assert rewriter.write([(_request(), GUARD)])[0][0].fate is Fate.CLIPPED


def test_a_prompt_model_that_stays_away_stops_the_run() -> None:
    calls = []

    def reply(_: Prompted) -> str:
        calls.append(1)
        raise lm15.ServerError("down", status=503)

    rewriter = Rewriter(_model(reply))
    with pytest.raises(BackendUnavailable, match="did not answer in 3 tries"):
        rewriter.write([(_request(), GUARD)])
    assert len(calls) == NO_WAITING.attempts


@pytest.mark.parametrize("threads", [1, 8])
def test_rewrites_come_in_the_order_of_the_requests(threads: int) -> None:
    def reply(prompted: Prompted) -> Mapping[str, str]:
        return {"improved_prompt": f"{START} {prompted.fields['variation'].split()[3]}"}

    rewriter = Rewriter(_model(reply, num_threads=threads))
    rewrites = rewriter.write([(_request(number=n), GUARD) for n in range(1, 5)])
    assert [rewrite.text for (rewrite,) in rewrites] == [f"{START} {n}" for n in range(1, 5)]
    assert rewriter.prompt_model.ledger.usage.lm_calls == 4


# --- several in one reply ------------------------------------------------------------------------

FOUR = ("Sort all words.", "Sort the given words.", "Sort the words well.", "Now sort the words.")


def _reply(*texts: str) -> dict[str, str]:
    names = ["improved_prompt", *(f"improved_prompt_{i}" for i in range(2, len(texts) + 1))]
    return dict(zip(names, texts, strict=True))


def _several(rewriter: Rewriter, words: int = 5) -> list[Rewrite]:
    (rewrites,) = rewriter.write([(_request(words, rewrites=4), GUARD)])
    return rewrites


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_one_reply_holds_several(adapter: dspy.Adapter) -> None:
    said = {
        dspy.ChatAdapter: "\n".join(f"[[ ## {k} ## ]]\n{v}" for k, v in _reply(*FOUR).items()),
        dspy.JSONAdapter: json.dumps(_reply(*FOUR)),
        dspy.XMLAdapter: "\n".join(f"<{k}>{v}</{k}>" for k, v in _reply(*FOUR).items()),
    }
    rewriter = Rewriter(_model(lambda _: said[type(adapter)]))
    with dspy.context(adapter=adapter):
        rewrites = _several(rewriter)
    assert tuple(r.text for r in rewrites) == FOUR
    assert {r.fate for r in rewrites} == {Fate.KEPT}
    assert not any(r.asked_alone for r in rewrites)
    assert rewriter.prompt_model.ledger.usage.lm_calls == 1
    (asked,) = _asked(rewriter)
    assert "Write 4 such prompts" in asked.instruction
    assert "variation" not in asked.fields


@pytest.mark.parametrize(
    ("reply", "lacking"),
    [
        (_reply(*FOUR[:2]), [2, 3]),
        (_reply(FOUR[0]), [1, 2, 3]),
        (_reply("", *FOUR[1:]), [0]),
        (dict(list(_reply(*FOUR).items())[1:]), [0]),
        (_reply(FOUR[0], FOUR[1], FOUR[0], FOUR[3]), [2]),
        (_reply(*4 * FOUR[:1]), [1, 2, 3]),
        ("I have no idea.", [0, 1, 2, 3]),
        (_reply(*FOUR[:3], "---"), [3]),
    ],
    ids=[
        "cut short",
        "one",
        "empty",
        "no first",
        "twice",
        "always the same",
        "unparsable",
        "no word",
    ],
)
@pytest.mark.parametrize("threads", [1, 8])
def test_what_a_reply_lacks_is_asked_for_by_itself(
    reply: str | Mapping[str, str], lacking: list[int], threads: int
) -> None:
    def answer(prompted: Prompted) -> str | Mapping[str, str]:
        if "improved_prompt_2" in prompted.system:
            return reply
        return _reply(FOUR[int(prompted.fields["variation"].split()[3]) - 1])

    rewriter = Rewriter(_model(answer, num_threads=threads))
    rewrites = _several(rewriter)
    assert tuple(r.text for r in rewrites) == FOUR
    assert [i for i, r in enumerate(rewrites) if r.asked_alone] == lacking
    alone = [p for p in _asked(rewriter) if "improved_prompt_2" not in p.system]
    assert sorted(p.fields["variation"].split()[3:6] for p in alone) == [
        [str(i + 1), "of", "4:"] for i in lacking
    ]


@given(limit=st.integers(0, 400), cache=st.booleans())
def test_of_a_reply_that_is_cut_off_the_last_text_is_asked_for_again(
    limit: int, cache: bool
) -> None:
    lm = scripted_lm(lambda _: _reply(*FOUR), cache=cache, reply_limit=limit)
    whole = "\n\n".join(f"[[ ## {k} ## ]]\n{v}" for k, v in _reply(*FOUR).items())
    for _ in range(2):  # the second time perhaps from the cache
        rewriter = Rewriter(PromptModel(lm, num_threads=1, patience=NO_WAITING))
        rewrites = _several(rewriter)
        begun = sum(whole.index(text) < limit for text in FOUR)
        there = list(FOUR if limit >= len(whole) else FOUR[: max(begun - 1, 0)])
        assert [r.text for r in rewrites[: len(there)]] == there
        alone = [r for r in rewrites if r.asked_alone]
        assert alone == rewrites[len(there) :]
        # Asked for alone the answer has the same limit, which only the first text may fit into.
        assert {r.text for r in alone} <= {"", FOUR[0]}
        assert all(r.fate is Fate.CUT_OFF for r in alone if not r.text)


@pytest.mark.parametrize("engine", ENGINES)
def test_over_http_a_reply_that_is_cut_off_is_known_as_that(engine: str) -> None:
    text = "[[ ## improved_prompt ## ]]\nSort the words by"
    for reason, fate in (("stop", Fate.KEPT), ("length", Fate.CUT_OFF)):
        with serve(lambda _: 200, text=text, finish_reason=reason) as api_base:
            rewriter = Rewriter(PromptModel(lm_at(api_base, engine), patience=NO_WAITING))
            ((rewrite,),) = rewriter.write([(_request(), GUARD)])
        assert rewrite.fate is fate


@pytest.mark.parametrize("engine", ENGINES)
def test_over_http_a_reply_without_an_answer_is_no_rewrite(engine: str) -> None:
    with serve(lambda _: 200, text="", choices=0) as api_base:
        rewriter = Rewriter(PromptModel(lm_at(api_base, engine), patience=NO_WAITING))
        ((rewrite,),) = rewriter.write([(_request(), GUARD)])
    assert rewrite.fate in (Fate.EMPTY, Fate.UNPARSABLE)


def test_all_that_are_too_long_are_sent_back_together() -> None:
    also_long = LONG + " Mind capital letters."
    answers = [_reply(FOUR[0], LONG, FOUR[2], also_long), _reply(FOUR[1], FOUR[3])]
    rewriter = _rewriter(*answers)
    rewrites = _several(rewriter)
    assert tuple(r.text for r in rewrites) == FOUR
    assert [r.fate for r in rewrites] == 2 * [Fate.KEPT, Fate.SHORTENED]
    _, second = _asked(rewriter)
    assert second.outputs == ["improved_prompt", "improved_prompt_2"]
    for text, rewrite in ((LONG, rewrites[1]), (also_long, rewrites[3])):
        assert f"<prompt>\n{text}\n</prompt>" in second.fields["too_long"]
        assert f"changed {rewrite.words_proposed} words" in second.fields["too_long"]


def test_one_that_does_not_come_back_is_clipped() -> None:
    also_long = LONG + " Mind capital letters."
    rewriter = _rewriter(_reply(*FOUR[:2], LONG, also_long), _reply(FOUR[2]))
    assert [r.fate for r in _several(rewriter)][2:] == [Fate.SHORTENED, Fate.CLIPPED]


def test_one_answer_to_several_sent_back_counts_once() -> None:
    long = [f"{LONG} Mind {what}." for what in ("capitals", "digits", "signs", "order")]
    rewriter = _rewriter(_reply(*long), _reply(*4 * FOUR[:1]))
    assert [r.fate for r in _several(rewriter)] == [Fate.SHORTENED, *3 * [Fate.CLIPPED]]


def test_those_asked_for_alone_are_sent_back_alone() -> None:

    def answer(prompted: Prompted) -> Mapping[str, str]:
        number = int(prompted.fields.get("variation", "This is variation 1").split()[3])
        return _reply(FOUR[number - 1] if "too_long" in prompted.fields else f"{LONG} {number}.")

    rewriter = Rewriter(_model(answer, num_threads=1))
    rewrites = _several(rewriter)
    assert tuple(r.text for r in rewrites) == FOUR
    assert {r.fate for r in rewrites} == {Fate.SHORTENED}
    assert [len(p.outputs) for p in _asked(rewriter)] == [4, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("rewrites", [1, 4])
def test_a_refused_request_is_made_again_without_most_of_the_failures(rewrites: int) -> None:
    def answer(prompted: Prompted) -> Mapping[str, str]:
        if "poison" in prompted.fields["failures"]:
            raise lm15.InvalidRequestError("flagged by the filter", status=400)
        return _reply(FOUR[int(prompted.fields["variation"].split()[3]) - 1])

    trials = ((0, 1), (2, 1), (0, 3), (3, 0))[:rewrites]
    request = replace(
        _request(rewrites=rewrites), failures=("a", "b", "poison", "d"), trials=trials
    )
    rewriter = Rewriter(_model(answer, num_threads=1))
    (written,) = rewriter.write([(request, GUARD)])
    kept = [Fate.KEPT, Fate.UNANSWERED, Fate.KEPT, Fate.KEPT][:rewrites]
    assert [r.fate for r in written] == kept
    assert not any(r.asked_alone for r in written), "a reply was not had, and so did not lack any"
    again = _asked(rewriter)[1:]
    assert [p.fields["failures"].count("Failure") for p in again] == [2] * rewrites
    assert [len(p.outputs) for p in again] == [1] * rewrites


def test_what_was_written_with_fewer_failures_is_sent_back_with_them() -> None:
    def answer(prompted: Prompted) -> Mapping[str, str]:
        if "poison" in prompted.fields["failures"]:
            raise lm15.InvalidRequestError("flagged by the filter", status=400)
        return _reply(FOUR[0] if "too_long" in prompted.fields else LONG)

    request = replace(_request(), failures=("a", "poison"), trials=((0,),))
    assert Rewriter(_model(answer)).write([(request, GUARD)])[0][0].fate is Fate.SHORTENED


def test_a_request_that_cannot_be_smaller_is_not_made_again() -> None:
    def refuse(_: Prompted) -> str:
        raise lm15.ContextLengthError("8192 tokens at most")

    rewriter = Rewriter(_model(refuse))
    request = replace(_request(), failures=("a",), trials=((0,),))
    assert [r.fate for r in rewriter.write([(request, GUARD)])[0]] == [Fate.UNANSWERED]
    assert len(_asked(rewriter)) == 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_no_more_requests_at_a_time_than_threads(threads: int) -> None:
    gauge = Gauge()

    def answer(prompted: Prompted) -> Mapping[str, str]:
        with gauge:
            time.sleep(0.01)
        return _reply(f"{START} {prompted.fields.get('variation', '')[18:19]}")

    rewriter = Rewriter(_model(answer, num_threads=threads))
    rewriter.write([(_request(rewrites=4), GUARD)] * 3)
    assert 1 <= gauge.most <= threads


def test_nothing_in_json_is_no_prompt() -> None:
    rewriter = Rewriter(_model(lambda _: json.dumps({"improved_prompt": None})))
    with dspy.context(adapter=dspy.JSONAdapter()):
        assert {r.fate for r in _several(rewriter)} <= {Fate.EMPTY, Fate.UNPARSABLE}


@given(texts=st.lists(st.sampled_from(["", "---", *FOUR]), max_size=4), alone=st.booleans())
def test_there_are_always_as_many_as_asked_for(texts: list[str], alone: bool) -> None:
    def answer(prompted: Prompted) -> Mapping[str, str]:
        several = "improved_prompt_2" in prompted.system
        return _reply(*texts or [""]) if several else _reply("Sort them." if alone else "")

    rewrites = _several(Rewriter(_model(answer, num_threads=1)))
    assert len(rewrites) == 4
    usable = [r.text for r in rewrites if r.fate.usable and not r.asked_alone]
    assert sorted(usable) == sorted(set(texts) & set(FOUR))


def test_the_callers_trace_does_not_see_the_rewrites() -> None:
    with dspy.context(trace=[]):
        _write("Sort all words.")
        assert dspy.settings.trace == []


@given(
    answer=st.text(alphabet="ab. ,{}\n\"'`", max_size=60),
    words=st.integers(1, 8),
    on_excess=st.sampled_from(["clip", "drop"]),
)
def test_what_is_usable_keeps_the_budget(answer: str, words: int, on_excess: str) -> None:
    rewrite = _write({"improved_prompt": f"Sort {answer}"}, words=words, on_excess=on_excess)
    assert rewrite.words_allowed == words
    if rewrite.fate.usable:
        assert words_changed(START, rewrite.text) == rewrite.words_changed <= words
        assert rewrite.text != START


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("  Sort.  ", "Sort."),
        ("```\nSort.\n```", "Sort."),
        ("```text\nSort.\nTwice.\n```", "Sort.\nTwice."),
        ("<prompt>\nSort.\n</prompt>", "Sort."),
        ("```\n<prompt>Sort.</prompt>\n```", "Sort."),
        ('"Sort."', "Sort."),
        ("“Sort.”", "Sort."),
        ("'Sort.'", "Sort."),
        ('Say "yes" or "no"', 'Say "yes" or "no"'),
        ('"yes" and "no"', '"yes" and "no"'),
        ("Use ```code``` here", "Use ```code``` here"),
        ('"', ""),
    ],
)
def test_wrapping_is_taken_off(text: str, inner: str) -> None:
    assert unwrap(text) == inner
