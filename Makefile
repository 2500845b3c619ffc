# Two commands matter: `make demo` and `make test`. Both set up .venv first, from requirements.lock.
SHELL := /bin/bash
export OMP_WAIT_POLICY ?= PASSIVE
export OMP_NUM_THREADS ?= 1
DEMO ?= demo-world
# The tests of the demo use its checkpoints where they are trained already, and train them there where not.
export FORGETBENCH_DEMO ?= $(abspath $(DEMO))

.PHONY: demo test check lock clean proof-demo bench-report bench-engines bench-compare published sequential calibration \
	proof-causes bench-drift bench-study proof-arms bench-trainer

demo: ## make the toy checkpoints, compare them, show the blocked candidate
	@scripts/setup.sh demo
	@scripts/demo.sh "$(DEMO)"

test: ## all tests
	@scripts/setup.sh dev
	@scripts/browser.sh
	@scripts/sandbox.sh
	@scripts/vllm.sh
	.venv/bin/python -m pytest --durations=15 $(ARGS)

check: ## lint and types
	@scripts/setup.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

proof-demo: ## the demo's chain over five seeds, trained anew (about 20 minutes); writes docs/demo.md
	@scripts/setup.sh demo
	.venv/bin/python benchmarks/demo_seeds.py --work proof-demo --out docs/demo.md

sequential: ## errors and savings of sequential decisions, on made streams and real models; writes docs/sequential.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.sequential --data "$${FORGETBENCH_DATA:-../shared/data}" --out docs/sequential.md

bench-report: ## size, build and first paint of a report of 14,042 items; prints the table of docs/benchmarks.md
	@scripts/setup.sh dev
	@scripts/browser.sh
	.venv/bin/python -m benchmarks.report --data "$${FORGETBENCH_DATA:-../shared/data}"

bench-engines: ## our engines against lm-eval on this machine (about an hour); prints the table of docs/benchmarks.md
	@scripts/setup.sh dev
	@scripts/vllm.sh
	.venv/bin/python -m benchmarks.engines --data "$${FORGETBENCH_DATA:-../shared/data}" --demo "$(DEMO)" $(ARGS)

bench-compare: ## seconds that comparing two runs of 14,042 items takes; prints the table of docs/benchmarks.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.compare_speed

proof-causes: ## causes of planted flips against an oracle's truth, seeds 0 to 2 of proof-demo (long); writes docs/causes.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.mixed_world --demos proof-demo --work proof-causes
	.venv/bin/python -m benchmarks.causes --work proof-causes --out docs/causes.md

bench-drift: ## drift of the weights at the shapes of 8 billion parameters (32 GB of disk); writes docs/drift.md's table
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.drift --out docs/drift.md

bench-study: ## tokens and time of the distribution beside the comparison; prints a row for docs/benchmarks.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.study_cost --demo "$(DEMO)"

proof-arms: ## 14 ways to fine-tune, 2 targets, 3 seeds, against what each forgets (under 40 minutes); writes docs/arms.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.arms --demo "$(DEMO)" --work proof-arms --out docs/arms.md $(ARGS)

bench-trainer: ## tokens a second of the trainer and TRL's, with and without KL, runs in turn; prints a table
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.trainer_speed --base "$(DEMO)/models/sft_v1" $(ARGS)

calibration: ## coverage, false blocks and power by simulation (about 10 minutes); writes docs/calibration.md
	@scripts/setup.sh dev
	.venv/bin/python -m benchmarks.calibration --out docs/calibration.md

published: ## score published outputs of real models again; writes docs/published.md (some minutes)
	@scripts/setup.sh dev
	@scripts/sandbox.sh
	.venv/bin/python -m benchmarks.published --data "$${FORGETBENCH_DATA:-../shared/data}" --out docs/published.md

lock: ## write requirements.lock anew from what .venv has
	@{ head -2 requirements.lock; .venv/bin/python -m pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/'; } >requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv $(DEMO) .forgetbench
