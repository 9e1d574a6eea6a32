"""Tasks that write into the engine's own database, exactly once: :func:`database_task`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from headrace.authoring.tasks import TaskFunction, TaskOptions, task
from headrace.contracts.database import DATABASE, connection_var

P = ParamSpec("P")
R = TypeVar("R")


@overload
def database_task(function: Callable[Concatenate[Any, P], R], /) -> TaskFunction[P, R]: ...
@overload
def database_task(
    **options: Unpack[TaskOptions],
) -> Callable[[Callable[Concatenate[Any, P], R]], TaskFunction[P, R]]: ...
def database_task(function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
    """Make a function a task whose writes and whose outcome are committed in one transaction::

        @database_task
        def debit(db: sqlite3.Connection, account: str, amount: int) -> int: ...


        left = await run_task(debit, "alice", 5)

    The first parameter is a connection to the database of the engine's store, inside a transaction; callers leave it out.
    With SQLite it is a ``sqlite3.Connection`` and the function a plain one; with PostgreSQL an ``asyncpg.Connection``,
    with MySQL an ``asyncmy.Connection``, and the function is ``async``. After any crash the rows and the outcome are both
    there or both not, and the code runs again only if they are not.

    The function must not end the transaction, and be quick. With SQLite nobody else can write while it runs, the engine
    included; after 3 s it is rolled back and fails as ``transaction_timeout``. Elsewhere it keeps other database tasks of
    its node waiting, and may take 10 s. Options are those of ``@task``. Raises ``TypeError`` for functions without a
    first parameter.
    """

    def decorate(decorated: Callable[..., Any]) -> TaskFunction[..., Any]:
        return task(**options)(_without_connection(decorated))

    return decorate if function is None else decorate(function)


def _without_connection(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as its callers see it; the executor's connection goes first."""
    name = getattr(function, "__name__", repr(function))
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise TypeError(f"the first parameter of database task {name} is the connection")

    def connection() -> Any:
        found = connection_var.get()
        if found is None:
            raise RuntimeError(
                f"database task {name} was called without a transaction: only an engine can run it; "
                "in tests call it inside `with using_connection(db):`"
            )
        return found

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(connection(), *args, **kwargs)

    @functools.wraps(function)
    async def called_later(*args: Any, **kwargs: Any) -> Any:
        return await function(connection(), *args, **kwargs)

    task_function: Any = called_later if inspect.iscoroutinefunction(function) else called
    task_function.__signature__ = inspect.signature(function).replace(parameters=parameters[1:])
    task_function.__annotations__ = {
        key: hint for key, hint in function.__annotations__.items() if key != parameters[0].name
    }
    task_function.__headrace_executor__ = DATABASE
    return task_function
