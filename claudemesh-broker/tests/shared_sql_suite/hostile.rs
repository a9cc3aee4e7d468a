//! Statements of somebody who wants out.

use super::{Db, Lab};
use claudemesh_broker::backends::sql::{SqlError, schema_name};
use claudemesh_proto::model::SqlValue;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// For both engines.
const EVERYWHERE: &[&str] = &[
    "ATTACH DATABASE '/etc/passwd' AS x",
    "ATTACH ':memory:' AS x",
    "ATTACH DATABASE 'claudemesh.db' AS broker",
    "DETACH DATABASE main",
    "PRAGMA table_info(t)",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA database_list",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA max_page_count = 1000000000",
    "PRAGMA trusted_schema = ON",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/claudemesh-hostile', 'x')",
    "SELECT edit('x')",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('t')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('x', x'4141414141414141')",
    "VACUUM",
    "VACUUM INTO '/tmp/claudemesh-hostile.db'",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT x",
    "RELEASE x",
    "START TRANSACTION READ WRITE",
    "ABORT",
    "CREATE TEMP TABLE x (a INTEGER)",
    "CREATE TEMPORARY TABLE x (a INTEGER)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
    "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
    "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()",
    "CREATE VIRTUAL TABLE x USING fts5(a)",
    "CREATE VIRTUAL TABLE x USING rtree(a, b, c)",
    "CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')",
    "CREATE TABLE temp.x (a INTEGER)",
    "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, 'CREATE TABLE x (a)')",
    "UPDATE sqlite_master SET sql = 'x'",
    "DELETE FROM sqlite_schema",
    "DROP TABLE sqlite_master",
    "UPDATE sqlite_temp_master SET sql = 'x'",
    "UPDATE temp.sqlite_master SET sql = 'x'",
    "INSERT INTO sqlite_temp_schema VALUES ('table', 'x', 'x', 0, 'CREATE TABLE x (a)')",
    "UPDATE pg_class SET relname = 'x'",
    "SET ROLE claudemesh",
    "SET ROLE NONE",
    "RESET ROLE",
    "RESET ALL",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET SESSION AUTHORIZATION claudemesh",
    "SET search_path TO mesh",
    "SET LOCAL search_path = public",
    "SET\tsearch_path\tTO\tmesh",
    "SET statement_timeout = 0",
    "SET default_transaction_read_only = off",
    "SET TRANSACTION READ WRITE",
    "SHOW ALL",
    "SHOW data_directory",
    "DISCARD ALL",
    "DO $$ BEGIN RAISE NOTICE 'x'; END $$",
    "DO 'BEGIN NULL; END'",
    "DO LANGUAGE plpgsql 'BEGIN NULL; END'",
    "CALL x()",
    "COPY t TO '/tmp/claudemesh-hostile'",
    "COPY t FROM '/etc/passwd'",
    "COPY t TO PROGRAM 'touch /tmp/claudemesh-hostile'",
    "COPY (SELECT 1) TO STDOUT",
    "COPY t FROM STDIN",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE ALL",
    "DECLARE x CURSOR FOR SELECT 1",
    "FETCH ALL FROM x",
    "LISTEN x",
    "NOTIFY x, 'y'",
    "UNLISTEN *",
    "LOAD 'auto_explain'",
    "LOCK TABLE t",
    "CHECKPOINT",
    "CLUSTER",
    "GRANT ALL ON t TO PUBLIC",
    "GRANT claudemesh TO x",
    "REVOKE ALL ON t FROM PUBLIC",
    "CREATE ROLE x SUPERUSER",
    "CREATE USER x",
    "ALTER ROLE claudemesh PASSWORD 'x'",
    "DROP ROLE claudemesh",
    "CREATE DATABASE x",
    "DROP DATABASE postgres",
    "ALTER DATABASE postgres SET search_path = x",
    "CREATE SCHEMA x",
    "CREATE\n/* x */\nSCHEMA x",
    "DROP SCHEMA mesh CASCADE",
    "ALTER SCHEMA mesh RENAME TO x",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION IF NOT EXISTS plpython3u",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "CREATE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'",
    "CREATE RULE x AS ON SELECT TO t DO INSTEAD SELECT 1",
    "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION f()",
    "CREATE TYPE x AS (a int)",
    "CREATE DOMAIN x AS int",
    "CREATE CAST (int AS text) WITH INOUT",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE AGGREGATE x (int) (sfunc = int4pl, stype = int)",
    "CREATE LANGUAGE x",
    "CREATE SERVER x FOREIGN DATA WRAPPER y",
    "CREATE FOREIGN TABLE x (a int) SERVER y",
    "CREATE PUBLICATION x FOR ALL TABLES",
    "CREATE SUBSCRIPTION x CONNECTION 'host=x' PUBLICATION y",
    "CREATE TABLESPACE x LOCATION '/tmp'",
    "CREATE STATISTICS x ON a, b FROM t",
    "CREATE POLICY x ON t",
    "SECURITY LABEL ON TABLE t IS 'x'",
    "COMMENT ON TABLE t IS 'x'",
    "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z",
    "REASSIGN OWNED BY CURRENT_USER TO x",
    "DROP OWNED BY CURRENT_USER",
    "ALTER SYSTEM SET shared_preload_libraries = 'x'",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "ALTER LARGE OBJECT 1 OWNER TO x",
    "REFRESH MATERIALIZED VIEW x",
    "EXPLAIN ANALYZE DELETE FROM t",
];

/// Reads that must give an error, with `{broker}`: a table of the broker, `{other}`: the schema of another mesh.
const POSTGRES: &[&str] = &[
    "SELECT * FROM mesh.member",
    "SELECT * FROM \"mesh\".\"member\"",
    "SELECT * FROM mesh . member",
    "SELECT * FROM mesh/**/./**/member",
    "TABLE mesh.member",
    "TABLE mesh.member_secret",
    "SELECT * FROM {other}.secret_of_ana",
    "SELECT x FROM \"{other}\".secret_of_ana",
    "SELECT * FROM public.x",
    "SELECT * FROM pg_class",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM PG_CATALOG.PG_CLASS",
    "SELECT * FROM \"pg_class\"",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_tables",
    "SELECT * FROM pg_namespace",
    "SELECT * FROM pg_proc",
    "SELECT * FROM pg_locks",
    "SELECT * FROM pg_database",
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM information_schema.schemata",
    "SELECT * FROM \"information_schema\".\"columns\"",
    "TABLE pg_class",
    "WITH x AS (SELECT * FROM pg_class) SELECT * FROM x",
    "SELECT (SELECT relname FROM pg_class LIMIT 1)",
    "SELECT count(*) FROM t WHERE EXISTS (SELECT 1 FROM pg_class)",
    "SELECT set_config('role', 'none', false)",
    "SELECT set_config('role', 'claudemesh', false)",
    "SELECT set_config('search_path', 'mesh', false)",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT \"set_config\"('role', 'none', false)",
    "SELECT SET_CONFIG('role', 'none', false)",
    "SELECT set_config/**/('role', 'none', false)",
    "SELECT set_config\n(\n'role', 'none', false)",
    "SELECT pg_catalog.set_config('role', 'none', false)",
    "SELECT \"pg_catalog\".\"set_config\"('role', 'none', false)",
    "SELECT U&\"set\\005fconfig\"('role', 'none', false)",
    "SELECT 1 WHERE set_config('role', 'none', false) IS NULL",
    "SELECT * FROM set_config('role', 'none', false)",
    "SELECT * FROM ROWS FROM (set_config('role', 'none', false))",
    "SELECT * FROM t, LATERAL set_config('role', 'none', false) x",
    "SELECT CASE WHEN true THEN set_config('role', 'none', false) END",
    "SELECT count(*) FILTER (WHERE set_config('role', 'none', false) = '') FROM t",
    "SELECT 1 ORDER BY set_config('role', 'none', false)",
    "SELECT current_setting('data_directory')",
    "SELECT current_setting('role')",
    "SELECT pg_sleep(100)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_advisory_lock(109267421066088)",
    "SELECT pg_try_advisory_lock(109267421066088)",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_notify('x', 'y')",
    "SELECT pg_get_viewdef('t')",
    "SELECT pg_get_functiondef(1)",
    "SELECT pg_logical_emit_message(true, 'x', 'y')",
    "SELECT pg_export_snapshot()",
    "SELECT pg_relation_filepath('t')",
    "SELECT pg_total_relation_size('mesh.member')",
    "SELECT pg_typeof(1)",
    "SELECT pg_describe_object(1259, 1259, 0)",
    "SELECT pg_identify_object(1259, 1259, 0)",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/claudemesh-hostile')",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_get(1)",
    "SELECT lo_put(1, 0, 'x')",
    "SELECT lo_open(1, 131072)",
    "SELECT lo_unlink(1)",
    "SELECT lowrite(0, 'x')",
    "SELECT loread(0, 1)",
    "SELECT dblink('dbname=postgres', 'SELECT 1')",
    "SELECT public.dblink('dbname=postgres', 'SELECT 1')",
    "SELECT dblink_connect('host=localhost')",
    "SELECT query_to_xml('SELECT * FROM mesh.member', true, true, '')",
    "SELECT query_to_xml('SELECT relname FROM pg_class', true, true, '')",
    "SELECT table_to_xml('t', true, true, '')",
    "SELECT schema_to_xml('mesh', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT cursor_to_xml('x', 1, true, true, '')",
    "SELECT query_to_xmlschema('SELECT 1', true, true, '')",
    "SELECT ts_stat('SELECT to_tsvector(relname) FROM pg_class')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(''x'')')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT * FROM x')",
    "SELECT xmlparse(document '<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>')::text || xpath('/a', '')::text",
    "SELECT 'mesh.member'::regclass",
    "SELECT CAST('mesh.member' AS regclass)",
    "SELECT regclass 'mesh.member'",
    "SELECT regclass('mesh.member')",
    "SELECT to_regclass('mesh.member')",
    "SELECT 1259::regclass",
    "SELECT i::oid::regclass FROM generate_series(16384, 20000) i",
    "SELECT '{1259}'::_regclass",
    "SELECT ARRAY[1259]::regclass[]",
    "SELECT i::oid::\"regclass\"::text FROM generate_series(16384, 20000) i",
    "SELECT 10::regrole",
    "SELECT 11::regnamespace",
    "SELECT 1::regproc",
    "SELECT 23::regtype",
    "SELECT to_regrole('claudemesh')",
    "SELECT to_regnamespace('mesh')",
    "SELECT format_type(16385, 0)",
    "SELECT has_table_privilege('mesh.member', 'SELECT')",
    "SELECT has_schema_privilege('mesh', 'USAGE')",
    "SELECT obj_description(1259)",
    "SELECT col_description(16385, 1)",
    "SELECT shobj_description(1, 'pg_database')",
    "SELECT makeaclitem(10, 10, 'SELECT', false)",
    "SELECT '=r/claudemesh'::aclitem",
    "SELECT nextval('16385')",
    "SELECT setval('16385', 1)",
    "SELECT currval('16385')",
    "SELECT nextval('mesh.x')",
    "SELECT row_security_active('t')",
    "SELECT inet_server_addr()",
    "SELECT inet_client_addr()",
    "SELECT version()",
    "SELECT txid_current()",
    "SELECT amvalidate(1)",
    "SELECT brin_summarize_new_values('t')",
    "SELECT gin_clean_pending_list('t')",
    "SELECT currtid2('t', '(0,1)')",
    "SELECT binary_upgrade_set_next_pg_type_oid(1)",
    "SELECT plpgsql_call_handler()",
    "SELECT E'\\'; SELECT set_config(''role'', ''none'', false) --'",
    "SELECT $$'$$, set_config('role','none',false), $$'$$",
    "SELECT '\\', set_config('role', 'none', false), '\\'",
    "SELECT \"\"\"\", set_config('role', 'none', false)",
    "SELECT /*/* */ 1, */ set_config('role', 'none', false)",
    "SELECT 1 --\r, set_config('role', 'none', false)",
    "SELECT 1--1\n, set_config('role', 'none', false)",
    "SELECT 1 OPERATOR(pg_catalog.+) 1",
    "SELECT x.set_config('role', 'none', false) FROM t x",
    "SELECT {other}.f()",
    "SELECT (5::oid).lo_unlink",
    "SELECT ('16385').nextval",
    "SELECT (1259::oid) . \"obj_description\"",
    "SELECT (ARRAY[5::oid])[1].lo_unlink",
    "SELECT (SELECT 5::oid).lo_unlink",
    "SELECT ((5::oid)).lo_unlink::text",
    "SELECT (x).lo_unlink FROM (SELECT 5::oid AS x) y",
    "SELECT x.x[1].lo_unlink FROM (SELECT ARRAY[5::oid] AS x) x",
    "SELECT (/**/5::oid)/**/./**/lo_unlink",
];

/// Changes that must give an error on Postgres.
const POSTGRES_CHANGES: &[&str] = &[
    "INSERT INTO mesh.member VALUES ('x')",
    "DELETE FROM mesh.member",
    "UPDATE mesh.member_secret SET x = 'y'",
    "TRUNCATE mesh.member_secret",
    "DROP TABLE mesh.member_secret",
    "ALTER TABLE mesh.member_secret ADD COLUMN y TEXT",
    "DROP TABLE {other}.secret_of_ana",
    "INSERT INTO {other}.secret_of_ana VALUES ('x')",
    "CREATE TABLE mesh.x (a INTEGER)",
    "CREATE TABLE public.x (a INTEGER)",
    "CREATE TABLE {other}.x (a INTEGER)",
    "CREATE TABLE pg_temp.x (a INTEGER)",
    "CREATE VIEW v AS SELECT * FROM mesh.member_secret",
    "CREATE VIEW v AS SELECT * FROM pg_class",
    "CREATE VIEW v AS SELECT set_config('role', 'none', false)",
    "CREATE VIEW v WITH (security_invoker = false) AS SELECT * FROM {other}.secret_of_ana",
    "CREATE TABLE x (a TEXT DEFAULT set_config('role', 'none', false))",
    "CREATE TABLE x (a regclass)",
    "CREATE TABLE x (a TEXT CHECK (pg_sleep(1) IS NULL))",
    "CREATE TABLE x (a TEXT GENERATED ALWAYS AS (current_setting('role')) STORED)",
    "CREATE TABLE x AS SELECT * FROM pg_class",
    "CREATE TABLE x AS SELECT * FROM mesh.member_secret",
    "CREATE TABLE x (LIKE mesh.member_secret)",
    "CREATE TABLE x (a TEXT REFERENCES mesh.member_secret)",
    "CREATE TABLE x () INHERITS (mesh.member_secret)",
    "CREATE TABLE x (a INTEGER) TABLESPACE pg_global",
    "CREATE INDEX i ON t ((set_config('role', 'none', false)))",
    "CREATE INDEX i ON mesh.member_secret (x)",
    "CREATE LOCAL TEMP TABLE x (a INTEGER)",
    "CREATE GLOBAL TEMPORARY TABLE x (a INTEGER)",
    "CREATE MATERIALIZED VIEW x AS SELECT 1",
    "ALTER TABLE t OWNER TO claudemesh",
    "ALTER TABLE t SET SCHEMA mesh",
    "ALTER TABLE t SET SCHEMA public",
    "ALTER TABLE t SET TABLESPACE pg_global",
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT set_config('role', 'none', false)",
    "ALTER TABLE t ALTER COLUMN a TYPE TEXT USING set_config('role', 'none', false)",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (pg_sleep(1) IS NULL)",
    "ALTER TABLE t ENABLE TRIGGER pg_x",
    "INSERT INTO t SELECT relpages FROM pg_class",
    "INSERT INTO t VALUES ((SELECT count(*) FROM mesh.member_secret))",
    "INSERT INTO t VALUES (1) RETURNING set_config('role', 'none', false)",
    "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = pg_backend_pid()",
    "UPDATE t SET a = (SELECT 1 FROM pg_shadow LIMIT 1)",
    "UPDATE t SET a = 1 FROM mesh.member_secret",
    "DELETE FROM t USING mesh.member_secret",
    "MERGE INTO t USING mesh.member_secret s ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (SELECT set_config('role', 'none', false)) INSERT INTO t SELECT 1 FROM x",
    "WITH x AS (DELETE FROM mesh.member_secret RETURNING x) SELECT * FROM x",
    "WITH x AS (SELECT 1) SELECT * INTO TEMP y FROM x",
];

fn is_refused(outcome: &Result<claudemesh_proto::ops::SqlResult, SqlError>) -> bool {
    matches!(
        outcome,
        Err(SqlError::Forbidden(_) | SqlError::Statement(_) | SqlError::TooLarge(_))
    )
}

/// Every one of them is an error that tells nothing, and everything is as it was.
pub async fn defect_028_sub_e_07_08_hostile_statements_reach_nothing(lab: &Lab) {
    let ana = lab.db();
    ana.execute("CREATE TABLE secret_of_ana (x TEXT)").await;
    ana.execute("INSERT INTO secret_of_ana VALUES ('hunter2')").await;
    let db = lab.mesh(ana.sql.clone());
    db.execute("CREATE TABLE t (a INTEGER)").await;
    db.execute("INSERT INTO t VALUES (7)").await;
    let other = schema_name(&ana.mesh);
    if let Some(url) = &lab.url {
        behind(url, "CREATE SCHEMA IF NOT EXISTS mesh").await;
        behind(url, "CREATE TABLE IF NOT EXISTS mesh.member_secret (x TEXT)").await;
        behind(url, "INSERT INTO mesh.member_secret VALUES ('hunter3')").await;
    }
    let mut reads: Vec<_> = EVERYWHERE.to_vec();
    let mut changes = EVERYWHERE.to_vec();
    if lab.url.is_some() {
        reads.extend(POSTGRES);
        changes.extend(POSTGRES_CHANGES);
    }
    let mut passed = Vec::new();
    for sql in reads {
        // SQLite can explain what a statement would do; nothing is done.
        if lab.url.is_none() && sql.starts_with("EXPLAIN") {
            continue;
        }
        let sql = sql.replace("{other}", &other);
        check(&db, &mut passed, &sql, &db.try_query(&sql, &[]).await).await;
    }
    for sql in changes {
        if lab.url.is_none() && sql.starts_with("EXPLAIN") {
            continue;
        }
        let sql = sql.replace("{other}", &other);
        check(&db, &mut passed, &sql, &db.try_execute(&sql, &[]).await).await;
    }
    if lab.url.is_some() {
        // Parameters that would become arguments.
        for sql in [
            "SELECT lo_unlink $1",
            "SELECT lo_creat $1",
            "SELECT \"lo_get\" $1",
            "SELECT obj_description/**/$1",
            "SELECT * FROM lo_get $1",
            "SELECT mesh.lo_get $1",
            "SELECT regclass $1",
            "SELECT $1.lo_unlink",
            "SELECT ($1).lo_get",
        ] {
            let outcome = db.try_query(sql, &[SqlValue::Integer(5)]).await;
            assert!(matches!(outcome, Err(SqlError::Forbidden(_))), "{sql} → {outcome:?}");
        }
    }
    assert!(
        passed.is_empty(),
        "{} statements were not refused: {passed:#?}",
        passed.len()
    );
    // Everything is as it was.
    let kept = db.query("SELECT a FROM t").await;
    assert_eq!(
        serde_json::to_value(&kept.rows).unwrap(),
        serde_json::json!([{ "a": 7 }])
    );
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(ana.tables().await, ["secret_of_ana"]);
    assert_eq!(
        ana.value("SELECT x FROM secret_of_ana").await,
        SqlValue::Text("hunter2".to_owned())
    );
    assert!(!std::path::Path::new("/tmp/claudemesh-hostile").exists());
    assert!(!std::path::Path::new("/tmp/claudemesh-hostile.db").exists());
    if let Some(url) = &lab.url {
        assert_eq!(behind(url, "SELECT x FROM mesh.member_secret").await, ["hunter3"]);
        rights_alone_hold(url, &db, &other).await;
    }
}

async fn check(
    db: &Db,
    passed: &mut Vec<String>,
    sql: &str,
    outcome: &Result<claudemesh_proto::ops::SqlResult, SqlError>,
) {
    if !is_refused(outcome) {
        passed.push(format!("{sql} → {outcome:?}"));
    }
    if let Err(error) = outcome {
        let text = error.to_string();
        for secret in ["hunter", "secret_of_ana\" ", "member_secret\" ", "root:"] {
            assert!(!text.contains(secret), "{sql} → {text}");
        }
    }
    // The next statement finds the connection as it was.
    assert_eq!(db.query("SELECT a FROM t").await.row_count, 1, "after {sql}");
}

async fn behind(url: &str, sql: &str) -> Vec<String> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    rows.iter()
        .map(|row| row.try_get::<String, _>(0).unwrap_or_default())
        .collect()
}

/// The first wall by itself: what the role could do if every statement went through.
async fn rights_alone_hold(url: &str, db: &Db, other: &str) {
    use sqlx::postgres::{PgConnectOptions, PgConnection};
    use std::str::FromStr as _;
    let role = schema_name(&db.mesh);
    // With the right to log in by a password that the test knows.
    behind(url, &format!("ALTER ROLE {role} PASSWORD 'known'")).await;
    let options = PgConnectOptions::from_str(url)
        .unwrap()
        .username(&role)
        .password("known");
    let mut connection: PgConnection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for sql in [
        "SELECT x FROM mesh.member_secret",
        "INSERT INTO mesh.member_secret VALUES ('x')",
        "DROP SCHEMA mesh CASCADE",
        "CREATE TABLE mesh.x (a int)",
        &format!("SELECT x FROM {other}.secret_of_ana"),
        &format!("CREATE TABLE {other}.x (a int)"),
        &format!("DROP TABLE {other}.secret_of_ana"),
        "CREATE SCHEMA x",
        "CREATE ROLE x",
        "CREATE DATABASE x",
        "SET ROLE claudemesh",
        "SET SESSION AUTHORIZATION claudemesh",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY t TO PROGRAM 'true'",
        "SELECT rolpassword FROM pg_authid",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "CREATE EXTENSION dblink",
        &format!("GRANT {other} TO {role}"),
        &format!("SET ROLE {other}"),
    ] {
        let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await;
        assert!(refused.is_err(), "{sql}");
        let back = sqlx::raw_sql("RESET ROLE").execute(&mut connection).await;
        assert!(back.is_ok());
    }
    let mine = sqlx::query("SELECT current_user::text, session_user::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        (mine.get::<String, _>(0), mine.get::<String, _>(1)),
        (role.clone(), role)
    );
}
