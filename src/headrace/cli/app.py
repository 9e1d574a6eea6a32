"""The table of commands. Kept light: what a command needs is imported when it runs."""

from __future__ import annotations

import typer

_HELP = "Headrace runs workflows that must finish: graphs of tasks, durable on your own machine."

_EXIT_CODES = (
    "Exit codes: 0 succeeded, 1 the run failed, 2 bad input or an unusable store, 3 the run was cancelled, "
    "130 interrupted (the run can be resumed)."
)


def build_app() -> typer.Typer:
    """The command line as a typer application."""
    from headrace.cli import check, config, define, nodes, replay, run, runs, schedules, up, worker

    app = typer.Typer(
        help=_HELP,
        epilog=_EXIT_CODES,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(_root)
    app.command("run")(run.run)
    app.command("up")(up.up)
    app.add_typer(config.build_app(), name="config")
    app.add_typer(runs.build_app(), name="runs")
    app.add_typer(schedules.build_app(), name="schedules")
    for command in (define.validate, define.graph, define.workflows, define.schema):
        app.command(command.__name__)(command)
    app.command("check")(check.check)
    app.command("replay")(replay.replay)
    app.command("worker")(worker.worker)
    app.command("queues")(worker.queues)
    app.command("nodes")(nodes.nodes)
    app.command("locks")(nodes.locks)
    app.command("bench")(define.bench)
    app.command("version")(define.version)
    return app


def _root(
    config: str | None = typer.Option(
        None,
        "--config",
        metavar="FILE",
        help="The configuration file, for every command. [env: HEADRACE_CONFIG]",
    ),
    show_version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> int | None:
    if show_version:
        from headrace.cli.define import version

        version()
        raise typer.Exit
    if config is not None:
        import os
        from pathlib import Path

        # For this process and those it starts, wherever they work.
        os.environ["HEADRACE_CONFIG"] = str(Path(config).absolute())
    return None
