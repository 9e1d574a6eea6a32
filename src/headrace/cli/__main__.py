"""``python -m headrace.cli``: the ``headrace`` command, wherever the script of that name is not on the path."""

import sys

from headrace.cli.main import main

sys.exit(main())
