//! What is in the store when nothing runs any more.

use std::path::Path;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

/// The store of a broker that has ended.
pub(crate) struct Rows {
    connection: AnyConnection,
    tables: &'static str,
}

impl Rows {
    /// Of the database at this address, else of the SQLite file in `data`.
    pub(crate) async fn of(database: Option<&str>, data: &Path) -> Self {
        sqlx::any::install_default_drivers();
        let (address, tables) = match database {
            Some(database) => (database.to_owned(), "mesh."),
            None => (format!("sqlite:{}", data.join("claudemesh.db").display()), ""),
        };
        let connection = AnyConnection::connect(&address).await.unwrap();
        Self { connection, tables }
    }

    async fn count(&mut self, rows: &str) -> i64 {
        let query = format!("SELECT COUNT(*) AS n FROM {}", rows.replace("{t}", self.tables));
        let row = sqlx::query(AssertSqlSafe(query))
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        row.get("n")
    }

    /// Everything that was sent is stored once, was delivered, and every row belongs to another one that is there.
    pub(crate) async fn must_hold(mut self, messages: usize) {
        assert_eq!(self.count("{t}message").await, i64::try_from(messages).unwrap());
        for (what, rows) in [
            (
                "deliveries without a message",
                "{t}delivery d WHERE NOT EXISTS (SELECT 1 FROM {t}message m WHERE m.mesh_id = d.mesh_id AND m.id = d.message_id)",
            ),
            (
                "messages for nobody",
                "{t}message m WHERE NOT EXISTS (SELECT 1 FROM {t}delivery d WHERE d.seq = m.seq)",
            ),
            (
                "deliveries to nobody",
                "{t}delivery d WHERE NOT EXISTS (SELECT 1 FROM {t}member m WHERE m.id = d.recipient_member_id)",
            ),
            (
                "deliveries whose number is another's",
                "{t}delivery d WHERE NOT EXISTS (SELECT 1 FROM {t}message m WHERE m.seq = d.seq AND m.id = d.message_id)",
            ),
            (
                "messages that are not in the audit log once",
                "{t}mesh h WHERE (SELECT COUNT(*) FROM {t}audit_log a WHERE a.mesh_id = h.id AND a.event_type = 'message_sent') <> (SELECT COUNT(*) FROM {t}message x WHERE x.mesh_id = h.id)",
            ),
            ("waiting messages", "{t}delivery d WHERE d.stage = 0"),
            (
                "what nobody left behind",
                "{t}peer_state p WHERE NOT EXISTS (SELECT 1 FROM {t}member m WHERE m.id = p.member_id)",
            ),
        ] {
            assert_eq!(self.count(rows).await, 0, "{what}");
        }
        if self.tables.is_empty() {
            for pragma in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
                let rows = sqlx::query(pragma).fetch_all(&mut self.connection).await.unwrap();
                let texts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                assert!(texts.iter().all(|text| text == "ok"), "{pragma}: {texts:?}");
            }
        }
        self.connection.close().await.unwrap();
    }
}
