"""The application that every module of commands registers with."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="forgetbench",
    help="Tells what a fine-tune broke: pairs a base and its checkpoints item by item, and gates on the difference.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda t: t.replace("_", "-"),
    },
)


def _version(value: bool) -> None:
    if value:
        from forgetbench import __version__

        print(f"forgetbench {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    pass
