"""`python -m forgetbench.demo --out DIR --seed N`: make the demo's world and checkpoints."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from forgetbench import resources


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m forgetbench.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write models/ and sets/ to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training; the world stays the same")
    parser.add_argument("--until", help="the last checkpoint to make (base, sft_v1, sft_v2, sft_null)")
    args = parser.parse_args()
    # Waiting OpenMP threads must sleep, not spin: spinning cost a factor of 20 on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from forgetbench.demo.build import PARENTS, build

    if args.until is not None and args.until not in PARENTS:
        parser.error(f"--until: is '{args.until}'; use one of {', '.join(PARENTS)}")
    build(args.out, args.seed, until=args.until)
    # The config, suite and policy that compare them; written each time, so that they fit the package.
    for file in resources.path("configs", "demo").glob("*.yaml"):
        shutil.copyfile(file, args.out / file.name)


if __name__ == "__main__":
    main()
