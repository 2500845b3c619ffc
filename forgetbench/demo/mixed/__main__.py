"""`python -m forgetbench.demo.mixed --demo FOLDER --out FOLDER --seed N [--oracle]`: make the mixed world."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m forgetbench.demo.mixed", description=__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a demo that is made already")
    parser.add_argument("--out", type=Path, required=True, help="folder to write models/, sets/ and train/ to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the plan and of the training")
    parser.add_argument("--oracle", action="store_true", help="tell what took, item by item (truth.jsonl; minutes)")
    args = parser.parse_args()
    # Waiting OpenMP threads must sleep, not spin: spinning cost a factor of 20 on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from forgetbench.demo.mixed.build import build_mixed

    mixed = build_mixed(args.demo, args.out, args.seed)
    if args.oracle:
        from forgetbench.demo.mixed.oracle import summary, write_truth

        print(summary(write_truth(mixed)))


if __name__ == "__main__":
    main()
