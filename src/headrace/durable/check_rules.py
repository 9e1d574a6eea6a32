"""What :mod:`headrace.durable.check` looks for. A name covers everything below it: ``requests`` is all of it."""

from __future__ import annotations

from collections.abc import Iterator

_WORK = "move it into a @task function and await that"

REMEDIES = {
    "blocking": f"{_WORK}; to wait, `await asyncio.sleep(...)`",
    "thread": f"{_WORK}; sync @task functions run in threads by themselves",
    "chance": "use random or uuid.uuid4, whose values are recorded, or ask a @task function",
    "clock": "import it at the top of the module: there it has the clock of the run",
    "surroundings": "pass it as a parameter, or read it in a @task function",
    "not-awaited": "write `await` before the call, or give it to asyncio.create_task or gather",
    "set-order": "iterate over sorted(...), or use a list or dict, which keep their order",
    "global": "keep state in local variables: a replay finds globals as earlier runs left them",
    "shared": "make it inside of the workflow; what comes from outside is a signal (wait_for_signal, @signal)",
    "swallows-cancel": "add `raise` at the end, or catch the errors that are meant",
    "swallows-errors": "catch the errors that are meant, such as TaskFailed; errors about replay must pass",
    "not-async": "make it `async def`, and put blocking work into @task functions",
}
"""Every rule with what to do about it."""

CALLS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("time.sleep", "requests", "urllib.request", "http.client", "urllib3", "smtplib", "ftplib", "socket"),
            *("httpx.get", "httpx.post", "httpx.put", "httpx.delete", "httpx.patch", "httpx.head", "httpx.request"),
            *("httpx.stream", "httpx.Client", "httpx.AsyncClient", "aiohttp", "open", "io.open", "input"),
            *("subprocess", "os.system", "os.popen", "os.spawnl", "os.spawnv", "os.listdir", "os.scandir", "os.walk"),
            *("os.stat", "os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir", "os.makedirs", "os.rmdir"),
            *("os.path.exists", "os.path.getmtime", "os.path.getsize", "os.path.isfile", "os.path.isdir"),
            *("shutil", "tempfile", "glob.glob", "sqlite3.connect", "psycopg", "psycopg2", "asyncpg", "pymysql"),
            *("redis", "boto3", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"),
            *(
                "os.fork",
                "os.forkpty",
                "os.posix_spawn",
                "os.posix_spawnp",
                "os.open",
                "os.link",
                "os.symlink",
                "os.chmod",
            ),
            *("os.lstat", "os.access", "os.readlink", "os.statvfs", "os.utime", "os.chown", "os.wait", "os.waitpid"),
            *("os.path.islink", "os.path.getctime", "os.path.getatime", "os.path.samefile"),
            *("os.truncate", "os.mkfifo", "queue.Queue", "queue.SimpleQueue"),
            *("asyncio.open_connection", "asyncio.start_server", "asyncio.run", "asyncio.Runner"),
            *("asyncio.new_event_loop", "asyncio.set_event_loop", "select"),
        ),
        "blocking",
    ),
    **dict.fromkeys(("threading", "_thread", "multiprocessing", "concurrent.futures", "asyncio.to_thread"), "thread"),
    **dict.fromkeys(("os.getrandom", "numpy.random", "id", "hash"), "chance"),
    **dict.fromkeys(
        (
            *("os.getenv", "os.getpid", "os.getppid", "os.getcwd", "os.uname", "os.cpu_count", "os.getlogin"),
            *("platform", "getpass", "socket.gethostname", "time.process_time", "time.thread_time"),
        ),
        "surroundings",
    ),
}
"""Calls, by full name or by what the name begins with; the longest entry wins."""

VALUES: dict[str, str] = {"os.environ": "surroundings", "sys.argv": "surroundings"}
"""Names whose value is not the run's own."""

PATH_METHODS = frozenset(
    {"read_text", "write_text", "read_bytes", "write_bytes", "iterdir", "rglob", "is_file", "is_dir", "lstat"}
)
"""Methods that only files have."""

METHODS_OF_PATHS = frozenset(
    {
        *("exists", "open", "stat", "glob", "mkdir", "rmdir", "unlink", "touch", "rename", "replace", "chmod", "walk"),
        *("is_symlink", "symlink_to", "hardlink_to", "resolve", "samefile", "owner"),
    }
)
"""Methods of files that other things have too."""

MUTATORS = frozenset(
    ("append", "extend", "insert", "remove", "clear", "add", "discard", "update", "setdefault", "popitem", "sort")
)
"""Methods that change a list, dict or set."""

OF_ONE_LOOP = frozenset(
    f"asyncio.{name}"
    for name in (
        *("Queue", "LifoQueue", "PriorityQueue", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore"),
        *("Barrier", "Future"),
    )
)
"""What belongs to the event loop of whoever waits with it first, as every run has one of its own."""

DURABLE = frozenset(
    {
        *("asyncio.sleep", "asyncio.wait", "asyncio.wait_for"),
        *(f"headrace.{name}" for name in ("wait_for_signal", "wait_until", "signal_run", "cancel_run", "run_task")),
        "headrace.Saga.step",
    }
)
"""Library calls that do nothing until they are awaited."""


def dotted_prefixes(full: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    while full:
        yield full
        full = full.rpartition(".")[0]
