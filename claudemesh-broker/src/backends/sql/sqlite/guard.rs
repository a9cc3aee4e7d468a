//! What a statement may do. SQLite asks while it compiles a statement, for everything that the statement does: also for what
//! views and expressions do.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading.
    Read,
    /// Reading and changing.
    Write,
}

/// Functions that reach outside of the database, or write into the broker's log.
const FORBIDDEN_FUNCTIONS: [&str; 7] = [
    "load_extension",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
    "sqlite_log",
    "zipfile",
];
/// Tables of the database itself that may be read.
const READABLE: [&str; 8] = [
    "sqlite_master",
    "sqlite_schema",
    "sqlite_sequence",
    "sqlite_stat1",
    "sqlite_stat2",
    "sqlite_stat3",
    "sqlite_stat4",
    "sqlite_temp_master",
];

/// Whether the statement may do this; otherwise what it is, for people.
pub(super) fn judge(access: Access, context: &AuthContext<'_>) -> Result<(), String> {
    // Views and triggers are asked for by what they do as well.
    if let Some(database) = context.database_name
        && database != "main"
        && !is_reading(&context.action)
        && !is_part_of_alter(&context.action)
    {
        return Err(format!("the database {database}"));
    }
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Read { table_name, .. } => match is_hidden(table_name) {
            true => Err(format!("the table {table_name}")),
            false => Ok(()),
        },
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            match FORBIDDEN_FUNCTIONS.contains(&name.as_str()) {
                true => Err(format!("the function {name}")),
                false => Ok(()),
            }
        }
        _ if access == Access::Read => Err("a change; use mesh_execute for it".to_owned()),
        AuthAction::Insert { .. }
        | AuthAction::Update { .. }
        | AuthAction::Delete { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropView { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => Ok(()),
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempView { .. }
        | AuthAction::DropTempTrigger { .. } => Err("a temporary table, view, index or trigger".to_owned()),
        AuthAction::CreateTrigger { .. } | AuthAction::DropTrigger { .. } => Err("a trigger".to_owned()),
        AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => Err("a virtual table".to_owned()),
        AuthAction::Pragma { pragma_name, .. } => Err(format!("PRAGMA {pragma_name}")),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Err("ATTACH, DETACH and VACUUM".to_owned()),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            Err("transactions; each call is one of its own".to_owned())
        }
        // What a newer SQLite can do.
        _ => Err("this kind of statement".to_owned()),
    }
}

/// The answer to SQLite.
pub(super) fn answer(judged: &Result<(), String>) -> Authorization {
    match judged {
        Ok(()) => Authorization::Allow,
        Err(_) => Authorization::Deny,
    }
}

fn is_reading(action: &AuthAction<'_>) -> bool {
    matches!(
        action,
        AuthAction::Select | AuthAction::Recursive | AuthAction::Read { .. } | AuthAction::Function { .. }
    )
}

/// Renaming looks through the temporary schema as well, which is empty. Statements cannot write it by themselves: that is what
/// the connection's defensive mode forbids.
fn is_part_of_alter(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::Update { table_name, .. } if *table_name == "sqlite_temp_master")
}

fn is_hidden(table: &str) -> bool {
    let name = table.to_ascii_lowercase();
    name.starts_with("pragma_") || name.starts_with("sqlite_") && !READABLE.contains(&name.as_str())
}
