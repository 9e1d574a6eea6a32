"""``headrace config``: what this process would go by, what a running node goes by, and whether a file is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    from headrace.config.load import Configuration


def build_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)
    app.command("show")(show)
    app.command("reload")(reload)
    app.command("check")(check)
    app.command("schema")(schema)
    return app


Server = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Of the node that serves there, for administrators.")
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file", metavar="FILE", help="Holds an administrator's token for --server. [env: HEADRACE_ADMIN_TOKEN]"
    ),
]

CertificateAuthority = Annotated[
    str | None,
    typer.Option(
        "--ca", metavar="FILE", help="Authorities (PEM) that the server's certificate may be from. [env: HEADRACE_CA]"
    ),
]


def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Of the nodes that run on this host.")] = False,
    server: Server = None,
    token_file: TokenFile = None,
    ca: CertificateAuthority = None,
    config: options.Config = None,
    sets: options.Sets = None,
    output: options.Output = Format.TEXT,
) -> int:
    """Print every key with the value in force. Secrets are not shown."""
    if server is not None:
        return _show_served(server, token_file, ca, output, origin=origin)
    from headrace.config.load import load

    configuration = load(config, overrides=sets or (), only_right=running)
    if running:
        return _show_running(configuration, output, origin=origin)
    from headrace.config.describe import entries

    found = entries(configuration)
    if output is not Format.TEXT:
        file = str(configuration.file) if configuration.file is not None else None
        write_document({"file": file, "settings": found}, output)
        return ExitCode.SUCCEEDED
    write(f"# {configuration.file or 'no configuration file'}")
    write(_table(found, origin=origin))
    return ExitCode.SUCCEEDED


def _table(found: list[dict[str, Any]], *, origin: bool) -> str:
    from headrace.cli.table import aligned

    rows = [[entry["key"], entry["text"], *([entry["origin"]] if origin else [])] for entry in found]
    return aligned(["KEY", "VALUE", *(["ORIGIN"] if origin else [])], rows)


def _show_running(configuration: Configuration, output: Format, *, origin: bool) -> int:
    from headrace.assembly import Headrace
    from headrace.service.status import running

    found = running(Headrace.configured(configuration.settings, adopt=False, codec=None).data_dir)
    if output is not Format.TEXT:
        write_document(found, output)
        return ExitCode.SUCCEEDED
    if not found:
        from headrace.core.errors import NotFound

        raise NotFound("no node of this store runs on this host", hint="start one: headrace up")
    write("\n".join(_node_text(node, origin=origin) for node in found))
    return ExitCode.SUCCEEDED


def _show_served(server: str, token_file: str | None, ca: str | None, output: Format, *, origin: bool) -> int:
    from headrace.cli.config_remote import status

    found = status(server, token_file, ca)
    if output is not Format.TEXT:
        write_document(found, output)
    else:
        write(_node_text(found, origin=origin))
    return ExitCode.SUCCEEDED


def reload(
    server: Annotated[str, typer.Option("--server", metavar="URL", help="Where the node serves.")],
    token_file: TokenFile = None,
    ca: CertificateAuthority = None,
    output: options.Output = Format.TEXT,
) -> int:
    """Have a node read its configuration and its workflow files again, and say what that changed. One that cannot be
    used is refused: its mistakes are shown, and the old one stays in force."""
    from headrace.cli.config_remote import reload as ask

    done = ask(server, token_file, ca)
    if output is not Format.TEXT:
        import msgspec

        write_document(msgspec.to_builtins(done), output)
        return ExitCode.SUCCEEDED
    write(f"node {done.node} has read {done.file or 'the environment'} again")
    write(f"  changed: {', '.join(done.changed) or 'nothing'}")
    if done.needs_restart:
        write(f"  needs a restart: {', '.join(done.needs_restart)}")
    for served in done.workflows:
        write(f"  {served.file}: {', '.join(served.workflows) or 'no workflow'}")
        if served.problem:
            write("\n".join(f"    {line}" for line in served.problem.splitlines()))
    return ExitCode.SUCCEEDED


def _node_text(node: dict[str, Any], *, origin: bool) -> str:
    from headrace.cli.times import local

    lines = [
        f"node {node['node']}, process {node['pid']}, up since {local(node['started_at'])}",
        f"  configuration file: {node['file'] or 'none'}",
    ]
    last = node["reload"]
    if last is not None:
        when = local(last["at"])
        if last["outcome"] == "refused":
            lines.append(f"  the configuration of {when} was REFUSED; the one before it stays in force:")
            lines += [f"    {line}" for line in last["problem"].splitlines()]
        else:
            lines.append(f"  read again {when}; changed: {', '.join(last['changed']) or 'nothing'}")
        if last["needs_restart"]:
            lines.append(f"  needs a restart: {', '.join(last['needs_restart'])}")
    for served in node["workflows"]:
        lines.append(f"  {served['file']}: {', '.join(served['workflows']) or 'no workflow'}")
        if served["problem"]:
            lines += [f"    {line}" for line in served["problem"].splitlines()]
    table = _table(node["settings"], origin=origin)
    return "\n".join([*lines, "", *(f"  {line}" for line in table.splitlines()), ""])


def check(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A file. [default: the one that would be used]")
    ] = None,
    output: options.Output = Format.TEXT,
) -> int:
    """Say everything that is wrong with a configuration file, with line and column. The environment is not looked at,
    but for the secrets that the file names."""
    from headrace.cli.exits import say_error
    from headrace.config.load import load
    from headrace.core.errors import InvalidConfiguration, NotFound

    try:
        configuration = load(file, use_environment=False)
    except InvalidConfiguration as error:
        if output is Format.TEXT:
            say_error(error)
        else:
            problems = [
                {"where": problem.where, "message": problem.message, "hint": problem.hint or None}
                for problem in error.problems
            ]
            write_document({"file": file, "ok": False, "problems": problems}, output)
        return ExitCode.BAD_INPUT
    if configuration.file is None:
        raise NotFound("there is no configuration file here", hint="headrace config check FILE")
    if output is Format.TEXT:
        write(f"ok: {configuration.file}, {len(configuration.given)} keys")
    else:
        write_document({"file": str(configuration.file), "ok": True, "problems": []}, output)
    return ExitCode.SUCCEEDED


def schema() -> int:
    """Print the JSON Schema of configuration files, for editors."""
    import json

    from headrace.config.describe import schema as configuration_schema

    write(json.dumps(configuration_schema(), indent=2))
    return ExitCode.SUCCEEDED
