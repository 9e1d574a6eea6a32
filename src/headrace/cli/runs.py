"""``headrace runs``: the commands about runs."""

from __future__ import annotations

import typer


def build_app() -> typer.Typer:
    """The group of commands."""
    from headrace.cli import runs_change, runs_code, runs_read, runs_why

    app = typer.Typer(help="Look at runs and command them.", no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(runs_read.list_runs)
    app.command("show")(runs_read.show)
    app.command("why")(runs_why.why)
    app.command("logs")(runs_read.logs)
    app.command("cancel")(runs_change.cancel)
    app.command("pause")(runs_change.pause)
    app.command("resume")(runs_change.resume)
    app.command("retry")(runs_change.retry)
    for name in ("signal", "query", "update", "terminate", "history", "reset", "fork"):
        app.command(name)(getattr(runs_code, name))
    app.command("delete")(runs_change.delete)
    return app
