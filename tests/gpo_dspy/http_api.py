"""An OpenAI-like API on loopback, with what goes wrong on real ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy

ENGINES = {"litellm": {"engine": "litellm"}, "own": {}}
"""Arguments of the LM for each of DSPy's ways to reach it."""


def lm_at(api_base: str, engine: str, *, cache: bool = False, **options: Any) -> dspy.LM:
    """Return an LM that is answered at an address, by one of :data:`ENGINES`."""
    return dspy.LM(
        "openai/x",
        api_base=api_base,
        api_key="none",
        cache=cache,
        num_retries=0,
        **ENGINES[engine],
        **options,
    )


@contextmanager
def serve(
    status_of: Callable[[int], int | None],
    *,
    text: str,
    finish_reason: str = "stop",
    tells_usage: bool = True,
    garbled: Callable[[int], bool] = lambda _: False,
    choices: int = 1,
) -> Iterator[str]:
    """Serve chat completions; yields the address for ``api_base``.

    Args:
        status_of: Status by the number of the request, from 1; None to hang up.
        text: What every reply says.
        finish_reason: Why it ends.
        tells_usage: Whether replies say how many tokens were read and written.
        garbled: Whether a reply breaks off in the middle of its JSON, by the request's number.
        choices: How many answers a reply holds.
    """
    count, lock = 0, threading.Lock()
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    completion: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "x",
        "choices": choices * [{**choice, "finish_reason": finish_reason}],
    }
    if tells_usage:
        completion["usage"] = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal count
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                count += 1
                number, status = count, status_of(count)
            if status is None:
                self.close_connection = True
                return
            body = json.dumps(completion if status == 200 else {"error": {"message": "no"}})
            body = body[: len(body) // 2] if garbled(number) else body
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
