"""Whose fault is an LM error? A backend that is away is nobody's: wait, then say so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from dspy.utils.exceptions import (
    LMError,
    LMInvalidRequestError,
    LMProviderError,
    LMUnsupportedModelError,
    is_retryable_lm_error,
)

from gpo_dspy.errors import BackendUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


def is_backend_error(error: BaseException) -> bool:
    """Tell an error of the backend from one of the request.

    A request may be refused for what is in it (a content filter) or its length; that says nothing
    of the next one. A model that does not exist is a matter of the backend.
    """
    if isinstance(error, LMInvalidRequestError):
        return isinstance(error, LMUnsupportedModelError)
    return isinstance(error, LMError)


def _is_garbled(error: BaseException) -> bool:
    """Tell a reply that was no reply: cut short on its way, or a page of a proxy's own."""
    if type(error) is not LMProviderError:
        return False
    status: int | None = error.status  # type: ignore[attr-defined]
    return status is None or status < 400


def _waiting_helps(error: BaseException) -> bool:
    if not isinstance(error, LMError):
        return False
    return bool(is_retryable_lm_error(error)) or _is_garbled(error)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call waits for a backend that is away; DSPy's own retries come before.

    Attributes:
        attempts: Tries of one call in all.
        first_wait: Seconds before the second try; each further wait is twice as long (jittered),
            or as long as the backend asks for, if that is longer.
        longest_wait: Upper bound in seconds of one wait.
        hide: Takes keys out of what an error says.
        again: Which call carries the run on when the backend is back; empty if none can.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    hide: Callable[[str], str] = str
    again: str = ""

    def call(self, function: Callable[[], T]) -> T:
        """Call ``function`` until its backend answers.

        Raises:
            BackendUnavailable: It stayed away, or refused for a reason that waiting does not cure.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_waiting_helps),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=self._wait,
            before_sleep=self._log_wait,
            reraise=True,
        )
        try:
            return retrying(function)
        except LMError as error:
            if not is_backend_error(error):
                raise
            # The cause is shown in a traceback: not with a key in it.
            cause = error if self.hide(str(error)) == str(error) else None
            raise self._unavailable(error) from cause

    def _wait(self, state: tenacity.RetryCallState) -> float:
        backoff = tenacity.wait_random_exponential(self.first_wait, self.longest_wait)(state)
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        return min(max(backoff, asked), self.longest_wait)

    def _unavailable(self, error: LMError) -> BackendUnavailable:
        model = error.model or "the configured LM"
        if _waiting_helps(error):
            answered = "gave no usable reply" if _is_garbled(error) else "did not answer"
            return BackendUnavailable(
                f"The backend of {model} {answered} in {self.attempts} tries "
                f"({self._said(error)}). Nothing was scored for it; {self._advice}."
            )
        return BackendUnavailable(
            f"The backend of {model} refused the request ({self._said(error)}). Check the model's "
            "name, the key and the settings of its dspy.LM; nothing was scored for it."
        )

    @property
    def _advice(self) -> str:
        if self.again:
            return f"to carry on, make {self.again} when it is back"
        return "the error's program is the best so far (only with a storage= is a run carried on)"

    def _log_wait(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, LMError):
            logger.warning(
                "%s %s (%s); try %d follows in %.1f s.",
                error.model or "The configured LM",
                "gave no usable reply" if _is_garbled(error) else "is away",
                self._said(error),
                state.attempt_number + 1,
                state.upcoming_sleep,
            )

    def _said(self, error: LMError) -> str:
        """Return the first line; further ones advise users of the request layer, not of DSPy."""
        first, *_ = [*str(error.message).splitlines(), ""]
        return self.hide(f"{type(error).__name__}: {first}")
