"""Which version of the package this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version that is installed; "unknown" if it is run from a folder."""
    try:
        return version("gpo-dspy")
    except PackageNotFoundError:
        return "unknown"
