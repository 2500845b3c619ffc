"""The flags and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="forgetbench.yaml (default: here or above)")]
SuiteOption = Annotated[str | None, typer.Option("--suite", "-s", help="quick, standard, full, or a suite file")]
PolicyOption = Annotated[str | None, typer.Option("--policy", "-p", help="default, strict, smoke, or a policy file")]
DataOption = Annotated[Path | None, typer.Option("--data-dir", help="folder with mmlu/, gsm8k/, ... in original files")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="never look anything up on the network")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="first n items (MMLU: of each subject)")]
SamplesOption = Annotated[
    int | None,
    typer.Option("--samples", min=0, help="answers to each item at a temperature, beside the greedy one; 0: none"),
]
TemperatureOption = Annotated[
    list[float] | None, typer.Option("--temperature", help="of the samples (default 0.7); repeat it for several")
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="what else to find out: distribution,causes,belief,drift; all; none"),
]
ResolveOption = Annotated[
    int | None,
    typer.Option("--resolve", min=1, help="work on undecided rules: tokens that may be spent beyond the suite"),
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="transformers, vllm, openai, ray or scripted; default: as configured")
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="ask also what the response cache can answer")]
DevicesOption = Annotated[
    str, typer.Option("--devices", help="GPUs to run checkpoints on side by side: 0,1; auto: all there are")
]
UnsafeOption = Annotated[
    bool, typer.Option("--unsafe-exec", help="run generated programs without a sandbox; results say so")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="where to write the HTML report")]
EmbedOption = Annotated[str, typer.Option("--embed", help="answers in the report: flips, all or none")]
LangOption = Annotated[str, typer.Option("--lang", help="language of the report's fixed text: en or zh")]
TrainDataOption = Annotated[
    list[Path] | None,
    typer.Option("--train-data", help="the candidate's training data; repeat it: shows changes without leaked items"),
]
WaiversOption = Annotated[
    Path | None, typer.Option("--waivers", help="file of waivers; default: `waivers:` of the config")
]
BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", help="baseline.lock.json that the base has to match, else exit 12")
]
VerdictJsonOption = Annotated[
    Path | None, typer.Option("--verdict-json", help="write the verdict as JSON (docs/ci.md), also where there is none")
]
JunitOption = Annotated[Path | None, typer.Option("--junit", help="write JUnit XML, a case for each rule")]
CommentOption = Annotated[Path | None, typer.Option("--comment", help="write Markdown for a pull request's comment")]
GitlabOption = Annotated[Path | None, typer.Option("--gitlab", help="write GitLab's Code Quality JSON")]
GithubOption = Annotated[
    bool | None,
    typer.Option("--github/--no-github", help="annotations and step summary; default: where GITHUB_ACTIONS=true"),
]
PairByOption = Annotated[
    str, typer.Option("--pair-by", help="content, or key: imported items of one name are one item, on trust")
]
SharedOption = Annotated[
    bool, typer.Option("--shared-only", help="compare what both runs have; leave the rest out, with a note")
]
FieldOption = Annotated[
    list[str] | None, typer.Option("--field", help="OURS=COLUMN: what a column of the file is, such as score=pass1")
]
ViewOption = Annotated[str, typer.Option("--view", help="ability, chat or as_used: how the model was asked")]
Base = Annotated[str, typer.Argument(help="alias (or folder) of the reference")]
Candidates = Annotated[list[str], typer.Argument(help="aliases (or folders) of the candidates, oldest first")]
