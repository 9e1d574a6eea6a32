"""Options that many commands share, and what they become: a :class:`Session`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from headrace.cli.output import Format

if TYPE_CHECKING:
    from headrace.config.load import Configuration

STORE_VARIABLE = "HEADRACE_STORE"
STORE_DEFAULT = "sqlite:///.headrace/headrace.db"

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help=f"Where runs are kept. [env: {STORE_VARIABLE}; key: store; default: {STORE_DEFAULT}]",
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
class Session:
    """What a command was told about its surroundings."""

    store: str
    store_given: bool = False
    """The store was named on the command line, so commands shown to the user must name it too."""
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    configuration: Configuration | None = field(default=None, repr=False)
    """What the process goes by; None for commands that need none."""

    @property
    def store_option(self) -> str:
        """What to add to a command that the user is told to give."""
        return f" --store {self.store}" if self.store_given else ""

    def colors(self, stream: TextIO) -> bool:
        """Whether to colour what goes to a stream. Source of the variables: no-color.org."""
        return stream.isatty() and not (self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")

    def is_live(self, stream: TextIO) -> bool:
        """Whether a stream is a terminal that can be redrawn."""
        return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def session_of(store: str | None, *, quiet: bool = False, verbose: bool = False, no_color: bool = False) -> Session:
    """Settle the surroundings: option, then environment, then configuration file, then default. Sets logging up."""
    from headrace.cli.logs import set_up_logging
    from headrace.config.load import load

    configuration = load()
    log = configuration.settings.log
    set_up_logging(level=log.level, form=log.format, verbose=verbose)
    return Session(
        store or configuration.settings.store,
        store_given=store is not None,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
        configuration=configuration,
    )


def pairs(given: list[str] | None, option: str, *, bare: str | None = None) -> dict[str, str]:
    """``name=value`` texts as a dict. A text without ``=`` has the value ``bare``, or is refused if that is None."""
    found: dict[str, str] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        name = name.strip()
        if not name or (not separator and bare is None):
            from headrace.core.errors import HeadraceError

            raise HeadraceError(f"{option} {text}: expected name=value", hint=f"for example: {option} year=2013")
        found[name] = value if separator else (bare or "")
    return found
