"""Seconds that ``import gpo_dspy`` takes beyond ``import dspy``, and what it must not pull in.

python benchmarks/import_time.py --runs 9
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

PROBE = """
import time, dspy
began = time.perf_counter()
import gpo_dspy, sys
print(time.perf_counter() - began, *(m for m in ("torch", "litellm", "faiss") if m in sys.modules))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    outputs = [
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(runs + 1)
    ][1:]  # the first run warms the disk
    seconds = [float(output[0]) for output in outputs]
    print(
        f"median {median(seconds):.3f} s of {runs} runs ({min(seconds):.3f} to {max(seconds):.3f})"
    )
    print("heavy modules imported with it:", ", ".join(outputs[0][1:]) or "none")


if __name__ == "__main__":
    main()
