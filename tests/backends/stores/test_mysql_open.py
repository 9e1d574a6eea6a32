"""What happens at open: URLs, servers that cannot be used, foreign and newer databases, several nodes at once. Each ends in
a clear error, and no password is ever shown."""

import asyncio
import builtins
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from asyncmy import errors as driver_errors
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness

from headrace.backends.stores import mysql_errors, mysql_schema, open_store
from headrace.backends.stores.mysql import MysqlStore
from headrace.backends.stores.mysql_url import place_of_url, with_database
from headrace.core.errors import (
    Fenced,
    HeadraceError,
    NotFound,
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
    assert type(caught.value) is kind, caught.value
    assert caught.value.hint
    return str(caught.value)


@pytest.fixture
def harness(mariadb: MariadbServer) -> MysqlHarness:
    return MysqlHarness(mariadb)


# ---- URLs -----------------------------------------------------------------------------------------------------------


def test_a_url_without_its_password_is_what_people_see() -> None:
    for scheme in ("mysql", "mariadb"):
        store = open_store(f"{scheme}://ann:s3cr%40t@db.example:3307/runs?ssl-mode=required")
        assert isinstance(store, MysqlStore)
        assert store.url == f"{scheme}://ann@db.example:3307/runs?ssl_mode=required"
    place = place_of_url("mysql://ann:s3cr%40t@db.example/runs?unix_socket=/run/x.sock")
    assert (place.user, place.password, place.host, place.port) == ("ann", b"s3cr@t", "db.example", 3306)
    assert (place.database, place.unix_socket, place.tls, place.relaxed) == ("runs", "/run/x.sock", "disabled", False)
    assert place_of_url("mysql://ann@h/d?ssl_ca=/ca.pem").tls == "verify_identity"


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", "s3crét")
    assert place_of_url("mysql://ann@h/d").password == "s3crét".encode()
    assert place_of_url("mysql://ann:@h/d").password == b""


def test_a_database_is_put_into_a_url() -> None:
    assert with_database("mysql://ann:x@h:1/d?ssl_mode=required", "e") == "mysql://ann:x@h:1/e?ssl_mode=required"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://h", "names no database"),
        ("mysql://h/", "names no database"),
        ("mysql://h/a`b", "names the database"),
        ("mysql://h/d?sslmode=require", "no option 'sslmode'"),
        ("mysql://h/d?ssl_mode=maybe", "expected one of disabled, required"),
        ("mysql://h/d?ssl_mode=required&unix_socket=/s", "TLS over a unix socket"),
        ("mysql://h/d?relaxed_durability=maybe", "expected true or false"),
        ("mysql://h/d?ssl_mode", "cannot be read"),
        ("mysql://[h/d", "cannot be read"),
        ("mysql://h:many/d", "cannot be read"),
    ],
)
def test_urls_that_mean_nothing_are_explained(url: str, expected: str) -> None:
    with pytest.raises(StoreError, match=expected):
        open_store(url)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "asyncmy":
            raise ModuleNotFoundError("No module named 'asyncmy'", name="asyncmy")
        return real(name, *rest)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.startswith("headrace.backends.stores.mysql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StoreError, match=r'pip install "headrace\[mysql\]"'):
        open_store("mysql://h/d")


# ---- servers --------------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    message = refused(f"mysql://ann:s3cret@127.0.0.1:{port}/runs", StoreUnavailable)
    assert "cannot be reached" in message
    assert "s3cret" not in message


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.backends.stores.mysql_connections.CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert "did not answer" in refused(f"mysql://ann@127.0.0.1:{port}/runs", StoreUnavailable)


def test_a_socket(harness: MysqlHarness) -> None:
    open_and_close(f"mysql://root@/{harness.database}?unix_socket={harness.server.socket}")
    assert "cannot be reached" in refused("mysql://root@/x?unix_socket=/nowhere/x.sock", StoreUnavailable)


def test_a_user_who_does_not_exist(mariadb: MariadbServer) -> None:
    message = refused(f"mysql://nobody_here:s3cret@127.0.0.1:{mariadb.port}/x", StoreError)
    assert "check user and password" in message
    assert "s3cret" not in message


def test_a_password_in_any_letters(harness: MysqlHarness) -> None:
    harness.server.sql(f"CREATE DATABASE {harness.database}")
    harness.server.sql(f"CREATE USER u_{harness.database}@'127.0.0.1' IDENTIFIED BY 's3crét'")
    harness.server.sql(f"GRANT ALL ON {harness.database}.* TO u_{harness.database}@'127.0.0.1'")
    open_and_close(harness.url.replace("root@", f"u_{harness.database}:s3cr%C3%A9t@"))


def test_a_user_without_rights(harness: MysqlHarness) -> None:
    """Making the tables needs all rights; using them, once somebody made them, only a few."""
    user = f"u_{harness.database}"
    harness.server.sql(f"CREATE USER {user}@'127.0.0.1'")
    url = harness.url.replace("root@", f"{user}@")
    assert "ALL PRIVILEGES" in refused(url, StoreError)
    harness.server.sql(f"CREATE DATABASE {harness.database}")
    harness.server.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON {harness.database}.* TO {user}@'127.0.0.1'")
    assert "ALL PRIVILEGES" in refused(url, StoreError)
    open_and_close(harness.url)

    async def work() -> None:
        store = MysqlStore(url)
        await store.open()
        epoch = await store.join("a", 10.0, "", {})  # type: ignore[arg-type]
        assert await store.claim("a", epoch, 1) == []  # type: ignore[arg-type]
        assert store.renew("a", epoch, 10.0)  # type: ignore[arg-type]
        await store.close()

    asyncio.run(work())


def test_tls() -> None:
    """Asked for, it is used or refused, never left out; the certificate is checked where that is asked for."""
    from certificates import make_certificates
    from mariadb_server import mariadb_programs

    programs = mariadb_programs()
    server = MariadbServer(programs)
    try:
        files = make_certificates(server.folder, "127.0.0.1")
        server.options = [f"--ssl-cert={files.certificate}", f"--ssl-key={files.key}"]
        server.start()

        async def cipher(url: str) -> str:
            store = MysqlStore(url)
            await store.open()
            rows = await store._rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            await store.close()
            return rows[0][1]

        assert asyncio.run(cipher(server.url("tls"))) == ""
        assert asyncio.run(cipher(server.url("tls", more="?ssl_mode=required"))) != ""
        assert asyncio.run(cipher(server.url("tls", more=f"?ssl_ca={files.authority}"))) != ""
        assert "certificate" in refused(server.url("tls", more="?ssl_mode=verify_ca"), StoreUnavailable)
        wrong = f"mysql://root@localhost:{server.port}/tls?ssl_ca={files.authority}"
        assert "certificate" in refused(wrong, StoreUnavailable)
        open_and_close(wrong + "&ssl_mode=verify_ca")
    finally:
        server.close()


def test_tls_that_a_server_does_not_have(harness: MysqlHarness) -> None:
    message = refused(harness.url_through(harness.server.port, "?ssl_mode=required"), StoreUnavailable)
    assert "does not offer TLS" in message


def test_certificates_that_are_not_there(harness: MysqlHarness) -> None:
    assert "PEM" in refused(harness.url_through(harness.server.port, "?ssl_ca=/nowhere/ca.pem"), StoreError)


def test_a_database_that_takes_no_writes(harness: MysqlHarness) -> None:
    """A replica: to open it is refused before anything is written; a store that was open is told so, too."""
    harness.server.sql(f"CREATE DATABASE {harness.database}")
    user = f"u_{harness.database}"  # root may write even then
    harness.server.sql(f"CREATE USER {user}@'127.0.0.1'; GRANT ALL ON {harness.database}.* TO {user}@'127.0.0.1'")
    url = harness.url.replace("root@", f"{user}@")

    async def work() -> None:
        store = MysqlStore(url)
        await store.open()
        await asyncio.to_thread(harness.server.sql, "SET GLOBAL read_only = 1")
        with pytest.raises(StoreReadOnly, match="takes no writes"):
            await store.join("a", 10.0, "", {})  # type: ignore[arg-type]
        assert await store.nodes() == []
        await store.close()

    try:
        harness.server.sql("SET GLOBAL read_only = 1")
        assert "takes no writes" in refused(url, StoreReadOnly)
        harness.server.sql("SET GLOBAL read_only = 0")
        asyncio.run(work())
    finally:
        harness.server.sql("SET GLOBAL read_only = 0")


def test_a_server_that_may_lose_commits_is_refused_unless_that_is_wanted(harness: MysqlHarness) -> None:
    try:
        harness.server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        assert "innodb_flush_log_at_trx_commit = 2" in refused(harness.url, StoreError)
        open_and_close(harness.url + "?relaxed_durability=true")
    finally:
        harness.server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


def test_settings_do_not_depend_on_the_defaults_of_the_server(harness: MysqlHarness) -> None:
    async def work() -> None:
        store = MysqlStore(harness.url)
        await store.open()
        rows = await store._rows("SELECT @@tx_isolation, @@time_zone, @@autocommit, @@sql_mode LIKE '%NO_BACKSLASH%'")
        assert rows == [("READ-COMMITTED", "+00:00", 1, 0)]
        assert abs(await store.now() - float(await harness.server.later("SELECT UNIX_TIMESTAMP()"))) < 60
        await store.close()

    try:
        harness.server.sql(
            "SET GLOBAL tx_isolation = 'SERIALIZABLE', time_zone = '+05:00', autocommit = 0,"
            " sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'"
        )
        asyncio.run(work())
    finally:
        harness.server.sql(
            "SET GLOBAL tx_isolation = 'REPEATABLE-READ', time_zone = 'SYSTEM', autocommit = 1, sql_mode = DEFAULT"
        )


# ---- databases ------------------------------------------------------------------------------------------------------


def test_a_database_of_something_else_is_left_as_it_is(harness: MysqlHarness) -> None:
    harness.server.sql(f"CREATE DATABASE {harness.database}; CREATE TABLE {harness.database}.customers (id INT)")
    assert "customers" in refused(harness.url, StoreCorrupt)
    assert harness.sql("SHOW TABLES") == "customers"


def test_an_empty_database_is_used(harness: MysqlHarness) -> None:
    """As an administrator prepares it, in whatever collation."""
    harness.server.sql(f"CREATE DATABASE {harness.database} CHARACTER SET latin1")
    open_and_close(harness.url)
    open_and_close(harness.url)


def test_a_newer_schema(harness: MysqlHarness) -> None:
    open_and_close(harness.url)
    harness.sql("UPDATE headrace_version SET version = 9999")
    message = refused(harness.url, SchemaTooNew)
    assert "9999" in message
    assert "upgrade" in message


def test_a_migration_that_is_cut_short_is_done_again(harness: MysqlHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any of its statements: nothing of it can be rolled back, all of it can be repeated."""
    known = mysql_schema.migrations()
    for number, (_, text) in enumerate(known):
        statements = mysql_schema.statements_of(text)
        for count in (1, len(statements) // 2, len(statements)):
            short = "\n;;\n".join([*statements[:count], "nonsense"])
            with monkeypatch.context() as patch:
                patch.setattr(mysql_schema, "migrations", lambda n=number, s=short: (*known[:n], ("x.sql", s)))
                assert "nonsense" in refused(harness.url, StoreError)
            assert harness.sql("SELECT version FROM headrace_version") in (str(number), "")
    open_and_close(harness.url)
    assert harness.sql("SELECT version FROM headrace_version") == str(len(known))


def test_processes_that_open_a_new_database_at_once_do_not_collide(harness: MysqlHarness) -> None:
    command = [sys.executable, str(PROGRAM), harness.url, "open", "x", "1"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        assert [process.communicate(timeout=100)[0].strip() for process in started] == ["opened"] * 4
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert harness.sql("SELECT version FROM headrace_version") == str(len(mysql_schema.migrations()))


def test_a_store_that_is_not_open_says_so(harness: MysqlHarness) -> None:
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


def test_a_node_needs_few_connections(harness: MysqlHarness) -> None:
    """However much is asked at once: the writer's, three others, the lease's."""

    async def work() -> None:
        store = harness.handle()
        await store.open()
        epoch = await store.join("a", 10.0, "", {})  # type: ignore[arg-type]
        await asyncio.gather(*(store.nodes() for _ in range(50)))
        assert store.renew("a", epoch, 10.0)  # type: ignore[arg-type]
        count = f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{harness.database}' AND id <> CONNECTION_ID()"
        assert int(await harness.server.later(count)) == 5
        await store.close()
        await harness.until(f"SELECT ({count}) = 0")

    asyncio.run(work())


# ---- translation ----------------------------------------------------------------------------------------------------


def failed(code: int, text: str = "x", state: str | None = None) -> Exception:
    error = driver_errors.OperationalError(code, text)
    error.sqlstate = state
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(1213), StoreUnavailable),
        (failed(1205), StoreUnavailable),
        (failed(1040), StoreUnavailable),
        (failed(1317), StoreUnavailable),
        (failed(2006), StoreUnavailable),
        (failed(2013), StoreUnavailable),
        (failed(1927), StoreUnavailable),
        (failed(4031), StoreUnavailable),
        (failed(1053), StoreUnavailable),
        (failed(2003), StoreUnavailable),
        (driver_errors.InternalError("Packet sequence number wrong"), StoreUnavailable),
        (driver_errors.InterfaceError(0, "Not connected"), StoreUnavailable),
        (ConnectionResetError(104, "Connection reset by peer"), StoreUnavailable),
        (ssl.SSLError(1, "wrong version"), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (failed(1153, "Got a packet bigger than 'max_allowed_packet' bytes"), StoreError),
        (failed(1021), StoreFull),
        (failed(1114, "The table 'events' is full"), StoreFull),
        (failed(1030, 'Got error 28 "No space left on device" from storage engine InnoDB'), StoreFull),
        (failed(3, "Error writing file './x' (Errcode: 28 \"No space left on device\")"), StoreFull),
        (failed(1290, "--read-only"), StoreReadOnly),
        (failed(1792), StoreReadOnly),
        (failed(1836), StoreReadOnly),
        (failed(1142), StoreError),
        (failed(1045), StoreError),
        (failed(1146), StoreError),
        (failed(1406), StoreError),
        (failed(1064), StoreError),
        (failed(1877), StoreCorrupt),
        (failed(1932), StoreCorrupt),
        (failed(1644, "late", "HR005"), StoreUnavailable),
    ],
)
def test_codes_become_errors(error: Exception, kind: type[HeadraceError]) -> None:
    translated = mysql_errors.translated(error, "mysql://db/runs")
    assert type(translated) is kind
    assert "mysql://db/runs" in translated.message
    assert translated.retryable == (kind is StoreUnavailable)


def test_states_of_our_own_become_errors() -> None:
    assert type(mysql_errors.translated(failed(1644, "it left", "HR001"), "x")) is Fenced
    assert type(mysql_errors.translated(failed(1644, "there is no run", "HR003"), "x")) is NotFound
