"""`forgetbench drift`: what a fine-tune did to the weights. Runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forgetbench import flow
from forgetbench.cli.output import console, print_json, say
from forgetbench.drift import Drift
from forgetbench.drift import drift as compare
from forgetbench.drift.types import Group
from forgetbench.drift.weights import side_of
from forgetbench.report import drift as drift_page
from forgetbench.report import page
from forgetbench.workspace import Workspace

_LISTED = 12


def drift(ws: Workspace, *, out: Path | None, directions: bool, as_json: bool) -> None:
    """Compare the weights of the two models chosen, base first; print, and write the page where `out` says."""
    base, candidate = (side_of(flow.checkpoint(ws, alias)) for alias in ws.chosen)

    def tell(done: int, total: int, name: str) -> None:
        if done % 32 == 0 and total > 64:
            say(f"{done} of {total} tensors: {name}")

    found = compare(base, candidate, directions=directions, tell=tell)
    written = None if out is None else page.write(drift_page.render(found), out)
    if as_json:
        print_json({**drift_page.document(found), "report": None if written is None else str(written)})
        return
    _show(found)
    if written is not None:
        say(f"wrote {written}")


def _show(found: Drift) -> None:
    for line in found.reading:
        print(line)
    if found.tensors:
        _table(found.kinds)
        more = len(found.kinds) - _LISTED
        print("share: of |dW|^2; stable, effective: ranks of dW; new: leading directions that the base does not have.")
        print(f"{f'{more} more kinds, ' if more > 0 else ''}layers and tensors: --out FILE.html, or --json.")
    for line in found.notes:
        print(line)
    for one in found.skipped[:_LISTED]:
        print(f"{one.name} {one.why}.")
    for side, names in (("base", found.only_base), ("candidate", found.only_candidate)):
        if names:
            listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
            print(f"In the {side} only: {listed}.")


def _table(groups: Sequence[Group]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    names = [g.name for g in groups[:_LISTED]]
    table.add_column("kind", min_width=min(32, max(len(name) for name in names)), overflow="fold")
    for column in ("change", "share", "|dW|₂", "stable", "effective", "new"):
        table.add_column(column, justify="right")
    for g in groups[:_LISTED]:
        table.add_row(
            escape(g.name),
            drift_page.share(g.relative),
            drift_page.share(g.share),
            drift_page.size(g.spectral),
            drift_page.rank(g.stable_rank),
            drift_page.rank(g.effective_rank),
            drift_page.directions(g.directions),
        )
    console().print(table)
