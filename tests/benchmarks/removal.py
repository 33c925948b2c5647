"""What a classifier's margin loses without the steps that each method ranks first.

python tests/benchmarks/removal.py [--count 200]

On two trained networks of the benchmark: hourly power demand and spoken vowels. The data are
fetched and the networks fitted the first time, in the cache folder of ``ig bench``.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import platformdirs
import torch

from ig_sequences import faithfulness
from ig_sequences.cases.classified import POWER, VOWELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="sequences of the test set")
    count = parser.parse_args().count
    cache = os.environ.get("IG_CACHE_DIR") or platformdirs.user_cache_dir("ig_core")
    for data in (POWER, VOWELS):
        folder = Path(cache) / "benchmarks" / data.name
        folder.mkdir(parents=True, exist_ok=True)
        loaded = replace(data, count=count)(folder)
        found = faithfulness(
            loaded.model,
            list(loaded.inputs),
            loaded.targets,
            baseline=loaded.baseline,
            **loaded.options,
        )
        print(f"{data.name}: {loaded.facts['model']}, {loaded.facts['test accuracy']}")
        print(found.to_text())
        print(found.differences("recency").to_text(), "\n", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
