"""Options that many commands share, and what they become: a :class:`Session`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from headrace.cli.output import Format
from headrace.core.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.config.load import Configuration

STORE_VARIABLE = "HEADRACE_STORE"
SERVER_VARIABLE = "HEADRACE_SERVER"
TOKEN_VARIABLE = "HEADRACE_API_TOKEN"  # noqa: S105 - its name
STORE_DEFAULT = "sqlite:///.headrace/headrace.db"

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help=f"Where runs are kept. [env: {STORE_VARIABLE}; key: store; default: {STORE_DEFAULT}]",
    ),
]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help=f"Ask this server instead of a store. [env: {SERVER_VARIABLE}]"),
]
TokenFile = Annotated[
    str | None,
    typer.Option("--token-file", metavar="FILE", help=f"Holds a token for --server. [env: {TOKEN_VARIABLE}]"),
]
Ca = Annotated[
    str | None,
    typer.Option(
        "--ca", metavar="FILE", help="Authorities (PEM) that the server's certificate may be from. [env: HEADRACE_CA]"
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what the engine does. [env: HEADRACE_LOG=LEVEL]")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours. [env: NO_COLOR]")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Go on in the background and print the run's id.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, its first characters, or - for the latest.")]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration file. [env: HEADRACE_CONFIG; default: headrace.toml or headrace.yaml here]",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the configuration, as slots.threads=8; again for more."),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY[=VALUE]", help="A tag; again for more.")]


@dataclass(frozen=True)
class ServerOptions:
    """Which server to ask. ``is_given``: on the command line, so commands shown to the user must name it too."""

    url: str
    token_file: str | None
    ca: str | None
    is_given: bool


@dataclass(frozen=True)
class Session:
    """What a command was told about its surroundings."""

    store: str
    store_given: bool = False
    """The store was named on the command line, so commands shown to the user must name it too."""
    server: ServerOptions | None = None
    """The server to ask instead of a store."""
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    configuration: Configuration | None = field(default=None, repr=False)
    """What the process goes by; None for commands that need none."""

    @property
    def store_option(self) -> str:
        """What to add to a command that the user is told to give."""
        if self.server is not None:
            return f" --server {self.server.url}" if self.server.is_given else ""
        return f" --store {self.store}" if self.store_given else ""

    def colors(self, stream: TextIO) -> bool:
        """Whether to colour what goes to a stream. Source of the variables: no-color.org."""
        return stream.isatty() and not (self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")

    def is_live(self, stream: TextIO) -> bool:
        """Whether a stream is a terminal that can be redrawn."""
        return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def session_of(
    store: str | None,
    *,
    server: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
    asks_servers: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    no_color: bool = False,
) -> Session:
    """Settle the surroundings: option, then environment, then configuration file, then default. Sets logging up.
    ``asks_servers``: the command can ask a server, so the variable that names one counts unless a store is given."""
    from headrace.cli.logs import set_up_logging
    from headrace.config.load import load

    configuration = load()
    log = configuration.settings.log
    set_up_logging(level=log.level, form=log.format, verbose=verbose)
    return Session(
        store or configuration.settings.store,
        store_given=store is not None,
        server=_server_of(store, server, token_file, ca) if asks_servers else None,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
        configuration=configuration,
    )


def _server_of(store: str | None, server: str | None, token_file: str | None, ca: str | None) -> ServerOptions | None:
    if server is not None and store is not None:
        raise HeadraceError("--server and --store exclude each other", hint="a server knows where its runs are")
    url = server or (os.environ.get(SERVER_VARIABLE) if store is None else None)
    if url:
        return ServerOptions(url, token_file, ca, is_given=server is not None)
    if token_file is not None or ca is not None:
        raise HeadraceError(
            "--token-file and --ca are for --server", hint="for example: --server http://127.0.0.1:7233"
        )
    return None


def pairs(given: list[str] | None, option: str, *, bare: str | None = None) -> dict[str, str]:
    """``name=value`` texts as a dict. A text without ``=`` has the value ``bare``, or is refused if that is None."""
    found: dict[str, str] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        name = name.strip()
        if not name or (not separator and bare is None):
            raise HeadraceError(f"{option} {text}: expected name=value", hint=f"for example: {option} year=2013")
        found[name] = value if separator else (bare or "")
    return found
