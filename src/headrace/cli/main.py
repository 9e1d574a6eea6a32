"""Where the ``headrace`` command begins and ends: arguments in, exit code out, whatever happens in between."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ``headrace.cli.exits``). Never raises, but for ``SystemExit``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["version"]):
        import headrace

        sys.stdout.write(f"headrace {headrace.__version__}\n")
        return 0
    from headrace.cli.exits import exit_code_of

    try:
        from headrace.cli.app import build_app  # takes long enough to be interrupted

        result = build_app()(args=given, prog_name="headrace", standalone_mode=False)
    except BaseException as error:
        return exit_code_of(error)
    return result if isinstance(result, int) else 0
