//! Roles and schemas of meshes, made and looked at with the broker's own user.

use std::collections::HashSet;

use claudemesh_crypto::{encode_base64, encode_base64_url, random_bytes};
use claudemesh_proto::ops::{SqlColumn, SqlTable};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Row as _};
use tokio::sync::OnceCell;

use super::{SqlError, admin_pool, unavailable};

/// Rounds of the password's hash: the server's default. The password itself has 256 bits.
const ROUNDS: u32 = 4096;
/// Most connections of one mesh's role: the broker uses three.
const ROLE_CONNECTIONS: u32 = 8;

/// How a mesh's role logs in.
pub(super) struct Login {
    /// Name of the role and of its schema.
    pub(super) role: String,
    /// Its password, for this process.
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Login").field(&self.role).finish()
    }
}

/// The broker's own user.
#[derive(Debug)]
pub(super) struct Admin {
    pool: PgPool,
    functions: OnceCell<HashSet<String>>,
}

impl Admin {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            pool: admin_pool(options),
            functions: OnceCell::new(),
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Names of all functions that the server brings.
    pub(super) async fn functions(&self) -> Result<&HashSet<String>, SqlError> {
        let load = || async {
            let sql = "SELECT DISTINCT lower(p.proname)::text AS name FROM pg_catalog.pg_proc p \
                       JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pg_catalog'";
            let rows = sqlx::query(sql)
                .fetch_all(&self.pool)
                .await
                .map_err(|error| unavailable(&error))?;
            let names: HashSet<String> = rows.iter().filter_map(|row| row.try_get("name").ok()).collect();
            // Without the names nothing would be forbidden.
            match names.contains("set_config") {
                true => Ok(names),
                false => Err(SqlError::Unavailable(
                    "the server does not tell its functions".to_owned(),
                )),
            }
        };
        self.functions.get_or_try_init(load).await
    }

    /// Creates the mesh's role and schema if they do not exist, and gives the role a fresh password.
    pub(super) async fn prepare(&self, schema: &str) -> Result<Login, SqlError> {
        let password = encode_base64_url(&random_bytes::<32>());
        // The name consists of a-z, 0-9 and _.
        let create = match self
            .exists("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", schema)
            .await?
        {
            true => "ALTER",
            false => "CREATE",
        };
        let verifier = scram_verifier(&password);
        let statements = [
            format!(
                "{create} ROLE {schema} WITH LOGIN NOINHERIT NOCREATEDB NOCREATEROLE \
                 CONNECTION LIMIT {ROLE_CONNECTIONS} PASSWORD '{verifier}'"
            ),
            format!("CREATE SCHEMA IF NOT EXISTS {schema}"),
            format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {schema}"),
        ];
        let mut connection = self.pool.acquire().await.map_err(|error| unavailable(&error))?;
        let mut transaction = connection.begin().await.map_err(|error| unavailable(&error))?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await
                .map_err(|error| cannot_prepare(&error))?;
        }
        transaction.commit().await.map_err(|error| unavailable(&error))?;
        // Only where the operator took it from everybody is this needed, and may it fail elsewhere.
        let grant = format!(
            "DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO {schema}', current_database()); \
             EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"
        );
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(grant)).execute(&mut *connection).await {
            tracing::debug!(%error, "the right to connect was not granted");
        }
        Ok(Login {
            role: schema.to_owned(),
            password,
        })
    }

    async fn exists(&self, sql: &'static str, name: &str) -> Result<bool, SqlError> {
        let row = sqlx::query(sql).bind(name).fetch_optional(&self.pool).await;
        row.map(|row| row.is_some()).map_err(|error| unavailable(&error))
    }

    /// Tables and views of a schema, by name. Empty if there is none.
    pub(super) async fn tables(&self, schema: &str) -> Result<Vec<SqlTable>, SqlError> {
        let sql = "SELECT c.relname::text AS relation, a.attname::text AS name, \
                   pg_catalog.format_type(a.atttypid, a.atttypmod) AS kind, NOT a.attnotnull AS nullable \
                   FROM pg_catalog.pg_class c \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                   WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm') \
                   ORDER BY c.relname COLLATE \"C\", a.attnum";
        let rows = sqlx::query(sql)
            .bind(schema)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| unavailable(&error))?;
        let mut tables: Vec<SqlTable> = Vec::new();
        for row in rows {
            let name: String = row.try_get("relation").map_err(|error| unavailable(&error))?;
            if tables.last().is_none_or(|table| table.name != name) {
                tables.push(SqlTable {
                    name,
                    columns: Vec::new(),
                });
            }
            let column = SqlColumn {
                // A table may have no column.
                name: match row.try_get("name") {
                    Ok(name) => name,
                    Err(_) => continue,
                },
                kind: row.try_get("kind").unwrap_or_default(),
                nullable: row.try_get("nullable").unwrap_or(true),
            };
            if let Some(table) = tables.last_mut() {
                table.columns.push(column);
            }
        }
        Ok(tables)
    }
}

/// What an operator has to do.
fn cannot_prepare(error: &sqlx::Error) -> SqlError {
    match error {
        sqlx::Error::Database(error) if error.code().as_deref() == Some("42501") => SqlError::Unavailable(
            "the database user of the broker may not create roles and schemas; run ALTER USER … CREATEROLE and GRANT \
             CREATE ON DATABASE …, or set SHARED_SQL=sqlite"
                .to_owned(),
        ),
        // The verifier is in the statement; the server's text may quote it.
        sqlx::Error::Database(error) => SqlError::Unavailable(format!(
            "the role of a mesh could not be made ({})",
            error.code().unwrap_or_default()
        )),
        error => unavailable(error),
    }
}

/// What the server stores of a password (RFC 5803): with it nobody can log in, so it may appear in the server's log.
fn scram_verifier(password: &str) -> String {
    let salt = random_bytes::<16>();
    let salted = pbkdf2(password.as_bytes(), &salt);
    let stored = Sha256::digest(mac(&salted, b"Client Key"));
    let server = mac(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        encode_base64(&salt),
        encode_base64(&stored),
        encode_base64(&server)
    )
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn pbkdf2(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut block = [salt, &1_u32.to_be_bytes()].concat();
    let mut sum = [0; 32];
    for _ in 0..ROUNDS {
        let next = mac(password, &block);
        sum.iter_mut().zip(next).for_each(|(sum, byte)| *sum ^= byte);
        block = next.to_vec();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_standards() {
        // PBKDF2-HMAC-SHA256("password", "salt", 4096).
        let expected = "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a";
        let hash: String = pbkdf2(b"password", b"salt")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hash, expected);
    }
}
