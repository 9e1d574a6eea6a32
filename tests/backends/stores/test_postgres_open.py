"""What happens at open: URLs, servers that cannot be used, foreign and newer schemas, several nodes at once. Each ends in a
clear error, and no password is ever shown."""

import asyncio
import builtins
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace.backends.stores import open_store, postgres_errors, postgres_schema
from headrace.backends.stores.postgres import PostgresStore
from headrace.backends.stores.postgres_url import place_of_url, with_schema
from headrace.core.errors import (
    HeadraceError,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)

PROGRAM = Path(__file__).with_name("sqlite_process.py")


def open_and_close(url: str) -> None:
    async def work() -> None:
        store = open_store(url)
        try:
            await store.open()
        finally:
            await store.close()

    asyncio.run(work())


def refused(url: str, kind: type[StoreError]) -> str:
    """The message of the error that opening must raise, which must be exactly of that kind."""
    with pytest.raises(kind) as caught:
        open_and_close(url)
    assert type(caught.value) is kind
    assert caught.value.hint
    return str(caught.value)


@pytest.fixture
def harness(postgres: PostgresServer) -> PostgresHarness:
    return PostgresHarness(postgres)


# ---- URLs -----------------------------------------------------------------------------------------------------------


def test_a_url_without_its_password_is_what_people_see() -> None:
    for scheme in ("postgresql", "postgres"):
        store = open_store(f"{scheme}://ann:s3cret@db.example:5433/runs?sslmode=require&password=s3cret&schema=x")
        assert isinstance(store, PostgresStore)
        assert store.url == "postgresql://ann@db.example:5433/runs?sslmode=require&schema=x"
    place = place_of_url("postgresql://ann:s3cret@db.example/runs?pgbouncer=true&sslmode=require")
    assert place.dsn == "postgresql://ann:s3cret@db.example/runs?sslmode=require"
    assert (place.schema, place.pooled) == ("headrace", True)
    assert place_of_url("postgresql:///runs").dsn == "postgresql:///runs"
    hosts = place_of_url("postgresql://a:1,b:2/runs?target_session_attrs=read-write")
    assert hosts.dsn == "postgresql://a:1,b:2/runs?target_session_attrs=read-write"


def test_a_schema_is_put_into_a_url() -> None:
    assert with_schema("postgresql://h/d", "x") == "postgresql://h/d?schema=x"
    assert with_schema("postgresql://h/d?sslmode=require&schema=y", "x") == "postgresql://h/d?sslmode=require&schema=x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/d?schema=Robert'); DROP", "no name of a schema"),
        ("postgresql://h/d?schema=pg_x", "no name of a schema"),
        ("postgresql://h/d?pgbouncer=maybe", "expected true or false"),
        ("postgresql://h/d?schema", "cannot be read"),
        ("postgresql://[h/d", "cannot be read"),
    ],
)
def test_urls_that_mean_nothing_are_explained(url: str, expected: str) -> None:
    with pytest.raises(StoreError, match=expected):
        open_store(url)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "asyncpg":
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return real(name, *rest)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.startswith("headrace.backends.stores.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StoreError, match=r'pip install "headrace\[postgres\]"'):
        open_store("postgresql://h/d")


# ---- servers --------------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    message = refused(f"postgresql://ann:s3cret@127.0.0.1:{port}/runs", StoreUnavailable)
    assert "cannot be reached" in message
    assert "s3cret" not in message


def test_a_port_that_is_no_number() -> None:
    assert "cannot be used" in refused("postgresql://ann@127.0.0.1:many/runs", StoreError)


def test_a_missing_database(postgres: PostgresServer) -> None:
    assert "createdb" in refused(postgres.url("nothing_here"), StoreError)


def test_a_user_who_does_not_exist(postgres: PostgresServer) -> None:
    message = refused(f"postgresql://nobody:s3cret@127.0.0.1:{postgres.port}/postgres", StoreError)
    assert "pg_hba.conf" in message
    assert "s3cret" not in message


def test_a_setting_that_does_not_exist(postgres: PostgresServer) -> None:
    assert "sslmodus" in refused(postgres.url(more="?sslmodus=require"), StoreError)


def test_an_encoding_that_cannot_hold_everything(postgres: PostgresServer) -> None:
    postgres.sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "LATIN1" in refused(postgres.url("latin"), StoreError)


def test_a_user_without_rights(harness: PostgresHarness) -> None:
    """Making the schema needs a right; using it, once somebody made it, only those on its contents."""
    user = f"u_{harness.schema}"
    harness.sql(f"CREATE ROLE {user} LOGIN")
    url = harness.url.replace("postgres@", f"{user}@")
    assert "CREATE on the database" in refused(url, StoreError)
    open_and_close(harness.url)
    harness.sql(f"GRANT USAGE ON SCHEMA {{schema}} TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA {{schema}} TO {user}")
    harness.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {{schema}} TO {user}")
    open_and_close(url)


def test_a_database_that_takes_no_writes(postgres: PostgresServer) -> None:
    with postgres.database() as name:
        postgres.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        assert "takes no writes" in refused(postgres.url(name), StoreReadOnly)


def test_durability_and_isolation_do_not_depend_on_the_defaults_of_the_database(postgres: PostgresServer) -> None:
    """An acknowledged flush is on disk although the database says that commits need not wait."""

    async def work(url: str) -> None:
        store = PostgresStore(url)
        await store.open()
        place, seen = store._place, f"{store._schema}.seen"
        db = await asyncpg.connect(place.dsn)
        await db.execute(f"CREATE TABLE {seen} (setting text)")
        await db.execute(
            f"CREATE FUNCTION {seen}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" INSERT INTO {seen} VALUES (current_setting('synchronous_commit') || ', '"
            " || current_setting('transaction_isolation')); RETURN NULL; END $$"
        )
        # At the end of the transaction: what holds then decides how it is committed.
        await db.execute(
            f"CREATE CONSTRAINT TRIGGER x AFTER INSERT ON {store._schema}.workflows DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION {seen}()"
        )
        await store._value("put_workflow_1", "v", "n", 0.0, "", "{}")
        assert await db.fetchval(f"SELECT setting FROM {seen}") == "on, read committed"
        await db.close()
        await store.close()

    with postgres.database() as name:
        postgres.sql("postgres", f"ALTER DATABASE {name} SET synchronous_commit = off")
        postgres.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        asyncio.run(work(postgres.url(name)))


def test_an_isolation_level_that_a_pooler_keeps_us_from_choosing(postgres: PostgresServer) -> None:
    with postgres.database() as name:
        postgres.sql("postgres", f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        assert "serializable" in refused(postgres.url(name, more="?pgbouncer=true"), StoreError)


# ---- schemas --------------------------------------------------------------------------------------------------------


def test_a_schema_of_something_else_is_left_as_it_is(harness: PostgresHarness) -> None:
    harness.sql("CREATE SCHEMA {schema}; CREATE TABLE {schema}.customers (id integer)")
    assert "customers" in refused(harness.url, StoreCorrupt)
    assert harness.sql("SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = '{schema}'") == "customers"


def test_an_empty_schema_is_used(harness: PostgresHarness) -> None:
    """As an administrator prepares it for a user who may not make one."""
    harness.sql("CREATE SCHEMA {schema}")
    open_and_close(harness.url)
    open_and_close(harness.url)


def test_a_newer_schema(harness: PostgresHarness) -> None:
    open_and_close(harness.url)
    harness.sql("UPDATE {schema}.schema_version SET version = 9999")
    message = refused(harness.url, SchemaTooNew)
    assert "9999" in message
    assert "upgrade" in message


def test_a_migration_that_fails_leaves_nothing(harness: PostgresHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    open_and_close(harness.url)
    known = postgres_schema.migrations()
    broken = ("0099_x.sql", "CREATE TABLE {schema}.new_one (x integer); nonsense;")
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migrations", lambda: (*known, broken))
        assert "nonsense" in refused(harness.url, StoreError)
    open_and_close(harness.url)
    assert harness.sql("SELECT version FROM {schema}.schema_version") == str(len(known))
    assert harness.sql("SELECT to_regclass('{schema}.new_one') IS NULL") == "t"


def test_processes_that_open_a_new_database_at_once_do_not_collide(harness: PostgresHarness) -> None:
    command = [sys.executable, str(PROGRAM), harness.url, "open", "x", "1"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        assert [process.communicate(timeout=60)[0].strip() for process in started] == ["opened"] * 4
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert harness.sql("SELECT version FROM {schema}.schema_version") == str(len(postgres_schema.migrations()))


def test_two_schemas_of_one_database_know_nothing_of_each_other(postgres: PostgresServer) -> None:
    async def work() -> None:
        one, two = PostgresHarness(postgres).handle(), PostgresHarness(postgres).handle()
        await one.open()
        await two.open()
        await one.join("a", 10.0, "", {})  # type: ignore[arg-type]
        assert len(await one.nodes()) == 1
        assert await two.nodes() == []
        await one.close()
        await two.close()

    asyncio.run(work())


def test_a_store_that_is_not_open_says_so(harness: PostgresHarness) -> None:
    async def work() -> None:
        store = harness.handle()
        with pytest.raises(StoreError, match="not open"):
            await store.nodes()
        await store.open()
        await store.open()
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            store.renew("a", 1, 10.0)  # type: ignore[arg-type]
        await store.open()
        assert await store.nodes() == []
        await store.close()

    asyncio.run(work())


def test_a_node_needs_few_connections(harness: PostgresHarness) -> None:
    """However much is asked at once: the writer's, three others, the lease's."""

    async def work() -> None:
        store = harness.handle()
        await store.open()
        epoch = await store.join("a", 10.0, "", {})  # type: ignore[arg-type]
        await asyncio.gather(*(store.nodes() for _ in range(50)))
        assert store.renew("a", epoch, 10.0)  # type: ignore[arg-type]
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headrace'"
        assert int(await asyncio.to_thread(harness.sql, count)) == 5
        await store.close()
        await harness.until(f"SELECT ({count}) = 0")

    asyncio.run(work())


# ---- translation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.AdminShutdownError("x"), StoreUnavailable),
        (asyncpg.CannotConnectNowError("x"), StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("x"), StoreUnavailable),
        (asyncpg.TooManyConnectionsError("x"), StoreUnavailable),
        (asyncpg.DeadlockDetectedError("x"), StoreUnavailable),
        (asyncpg.SerializationError("x"), StoreUnavailable),
        (asyncpg.LockNotAvailableError("x"), StoreUnavailable),
        (asyncpg.InterfaceError("connection is closed"), StoreUnavailable),
        (ConnectionResetError(104, "Connection reset by peer"), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (asyncpg.DiskFullError("x"), StoreFull),
        (asyncpg.ReadOnlySQLTransactionError("x"), StoreReadOnly),
        (asyncpg.InsufficientPrivilegeError("x"), StoreError),
        (asyncpg.InvalidPasswordError("x"), StoreError),
        (asyncpg.UndefinedTableError("x"), StoreError),
        (asyncpg.exceptions.DataCorruptedError("x"), StoreCorrupt),
        (asyncpg.DataError("x"), StoreError),
    ],
)
def test_codes_become_errors(error: Exception, kind: type[HeadraceError]) -> None:
    translated = postgres_errors.translated(error, "postgresql://db/runs")
    assert type(translated) is kind
    assert "postgresql://db/runs" in translated.message
    assert translated.retryable == (kind is StoreUnavailable)
