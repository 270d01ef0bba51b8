"""`make bench`: every figure that the product promises, measured in one run. Ratios are what counts.

``make bench ARGS="clone"`` (or memory, lanes, dimse, dicomweb, window) runs a part; what follows the name goes to it.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

PARTS = {
    "clone": "tests.bench.clone",
    "memory": "tests.bench.memory",
    "lanes": "tests.bench.lanes",
    "dimse": "tests.bench.dimse_send",
    "dicomweb": "tests.bench.dicomweb",
    "window": "tests.bench.window_stall",
    "receive": "tests.bench.dimse_receive",
}


def main() -> None:
    names, rest = sys.argv[1:2], sys.argv[2:]
    if names and names[0] not in PARTS:
        raise SystemExit(f"There is no part “{names[0]}”; the parts are {', '.join(PARTS)}.")
    for name in names or PARTS:
        importlib.import_module(PARTS[name])  # a part that can't be loaded says so before the others take their time
    for name in names or PARTS:
        # A process for each part: what one leaves in memory must not count against the next.
        subprocess.run([sys.executable, "-m", PARTS[name], *rest], check=True)


if __name__ == "__main__":
    main()
