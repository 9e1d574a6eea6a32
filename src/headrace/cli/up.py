"""``headrace up``: a node that stays, or several."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode

if TYPE_CHECKING:
    from headrace.config.load import Configuration
    from headrace.config.settings import Settings


def up(
    workflows: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]", help="Workflow files, folders or patterns, instead of the configuration's."
        ),
    ] = None,
    config: options.Config = None,
    sets: options.Sets = None,
    store: options.Store = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=256, help="How many processes to keep up here.")] = 1,
    ready_file: Annotated[
        str | None, typer.Option("--ready-file", metavar="FILE", help="A file that is there while the node is ready.")
    ] = None,
    verbose: options.Verbose = False,
    supervised: Annotated[int | None, typer.Option("--supervised", hidden=True)] = None,
) -> int:
    """Serve: take over runs and carry them out until told to stop.

    SIGTERM or Ctrl-C once: nothing new starts, attempts under way may end; twice: they are stopped. What has not ended
    goes on later or elsewhere. SIGHUP, or a changed file: configuration and workflow files are read again.
    """
    given = list(sets or ())
    if store is not None:
        given.append(f"store={store}")
    if workflows:
        import msgspec

        given.append(f"workflows={msgspec.json.encode(workflows).decode()}")
    from headrace.config.load import load

    def read() -> Configuration:
        return load(config, overrides=given, serving=True)

    configuration = read()
    show_logs = _log_writer(verbose=verbose)
    show_logs(configuration.settings, "")
    ready = Path(ready_file).absolute() if ready_file is not None else None
    if nodes > 1 and supervised is None:
        return _supervise(nodes, configuration, given, config, ready, verbose=verbose)
    return _serve(configuration, read, show_logs, ready, supervised)


def _log_writer(*, verbose: bool) -> Callable[[Settings, str], None]:
    from headrace.cli.logs import set_up_logging

    def show(settings: Settings, node: str) -> None:
        level = settings.log.level or ("debug" if verbose else "info")
        set_up_logging(level=level, form=settings.log.format, stamped=True, node=node)

    return show


def _serve(
    configuration: Configuration,
    read: Callable[[], Configuration],
    show_logs: Callable[[Settings, str], None],
    ready_file: Path | None,
    supervised: int | None,
) -> int:
    from headrace.cli.runtime import run
    from headrace.service.host import End, Host
    from headrace.service.lifeline import Lifeline
    from headrace.service.notify import Notifier

    lifeline = Lifeline(supervised) if supervised is not None else None

    async def serve() -> End:
        import asyncio

        def applied(settings: Settings) -> None:
            show_logs(settings, name)

        def nobody(_message: dict[str, Any]) -> None:
            pass

        say = lifeline.say if lifeline is not None else nobody
        host = Host(
            configuration,
            load=read,
            applied=applied,
            notifier=Notifier(ready_file),
            say=say,
            shares_port=supervised is not None,
        )
        name = host.headrace.node_id
        show_logs(configuration.settings, name)
        if lifeline is not None:
            lifeline.watch(_when_alone(asyncio.get_running_loop(), host))
        return await host.serve()

    end = run(serve())
    sys.stdout.flush()
    return {End.DONE: ExitCode.SUCCEEDED, End.INTERRUPTED: ExitCode.INTERRUPTED, End.BROKEN: ExitCode.FAILED}[end]


def _when_alone(loop: object, host: object) -> Callable[[], None]:
    """The supervisor is gone: stop as if told to; if the event loop does not listen, end anyway."""
    import asyncio
    import contextlib
    import threading

    from headrace.service.host import STOP_GRACE_SECONDS, Host

    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(host, Host)

    def gone() -> None:
        bound = host.headrace.settings.node.drain + 2 * STOP_GRACE_SECONDS
        timer = threading.Timer(bound, os._exit, [int(ExitCode.FAILED)])
        timer.daemon = True
        timer.start()
        logging.getLogger("headrace.up").warning("the supervisor is gone; the node stops")
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(host.stop)

    return gone


def _supervise(
    nodes: int,
    configuration: Configuration,
    given: list[str],
    config: str | None,
    ready_file: Path | None,
    *,
    verbose: bool,
) -> int:
    from headrace.cli.runtime import run
    from headrace.service.notify import Notifier
    from headrace.service.supervisor import Supervisor

    if configuration.settings.store.startswith("memory:") or configuration.settings.store == "sqlite://":
        from headrace.core.errors import StoreError

        raise StoreError(
            f"--nodes {nodes} needs a store that several processes can open, not {configuration.settings.store}",
            hint="give --store sqlite:///name.db, or a database server",
        )
    name = configuration.settings.node.name

    def command(number: int, descriptor: int) -> list[str]:
        arguments = [sys.executable, "-m", "headrace.cli", "up", "--supervised", str(descriptor)]
        if config is not None:
            arguments += ["--config", config]
        if name is not None:
            arguments += ["--set", f"node.name={name}-{number}"]
        for text in given:
            arguments += ["--set", text]
        return [*arguments, "--verbose"] if verbose else arguments

    async def serve() -> int:
        supervisor = Supervisor(nodes, command, Notifier(ready_file), drain=configuration.settings.node.drain)
        return await supervisor.serve()

    return run(serve())
