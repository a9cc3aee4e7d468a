//! Connections of the meshes' roles: as many as the server can bear, the idle ones used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claudemesh_proto::ops::SqlResult;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::role::Login;
use super::{SqlError, unavailable};
use crate::backends::sql::SqlLimits;

/// Idle connections, the one that was used last at the end.
type Idle = Arc<Mutex<VecDeque<(String, PgConnection)>>>;

/// Connections of all meshes.
#[derive(Debug)]
pub(super) struct Connections {
    options: PgConnectOptions,
    limits: SqlLimits,
    idle: Idle,
    places: Arc<Semaphore>,
}

/// A connection in use. Dropping it closes it, wherever its statement is: [`Taken::settle`] keeps it.
#[derive(Debug)]
pub(super) struct Taken {
    connection: Option<PgConnection>,
    role: String,
    was_kept: bool,
    idle: Idle,
    _place: OwnedSemaphorePermit,
}

fn lock(idle: &Idle) -> MutexGuard<'_, VecDeque<(String, PgConnection)>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, limits: SqlLimits) -> Self {
        Self {
            options,
            limits,
            idle: Idle::default(),
            places: Arc::new(Semaphore::new(limits.open)),
        }
    }

    /// A connection of the role. Waits for a place.
    pub(super) async fn take(&self, login: &Login) -> Result<Taken, SqlError> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| SqlError::Unavailable("it is closed".to_owned()))?;
        let kept = {
            let mut idle = lock(&self.idle);
            let own = idle.iter().rposition(|(role, _)| *role == login.role);
            let kept = own.and_then(|at| idle.remove(at)).map(|(_, connection)| connection);
            let running = self.limits.open - self.places.available_permits();
            // The idle ones and those in use together are no more than the limit.
            while kept.is_none() && idle.len() + running > self.limits.open {
                if idle.pop_front().is_none() {
                    break;
                }
            }
            kept
        };
        let was_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect(login).await?,
        };
        Ok(Taken {
            connection: Some(connection),
            role: login.role.clone(),
            was_kept,
            idle: self.idle.clone(),
            _place: place,
        })
    }

    async fn connect(&self, login: &Login) -> Result<PgConnection, SqlError> {
        let options = self
            .options
            .clone()
            .username(&login.role)
            .password(&login.password)
            .application_name("claudemesh shared sql")
            .options([
                ("search_path", login.role.as_str()),
                // What the transactions set again for themselves; here for what comes before.
                ("statement_timeout", "10000"),
                ("standard_conforming_strings", "on"),
                ("client_min_messages", "error"),
            ]);
        options.connect().await.map_err(|error| match &error {
            sqlx::Error::Database(refused) if refused.code().is_some_and(|code| code.starts_with("28")) => {
                SqlError::Unavailable(format!(
                    "the server does not let the role {} log in: pg_hba.conf must allow it as it does the broker's user",
                    login.role
                ))
            }
            error => unavailable(error),
        })
    }

    pub(super) fn close(&self) {
        self.places.close();
        lock(&self.idle).clear();
    }
}

impl Taken {
    /// Whether it was used before.
    pub(super) fn was_kept(&self) -> bool {
        self.was_kept
    }

    /// The connection.
    pub(super) fn get(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is there until it is settled")
    }

    /// Keeps the connection for the next statement if it is as it was, and gives the result. It is not when the statement's
    /// end is unknown.
    pub(super) fn settle(
        mut self,
        result: Result<(SqlResult, bool), (SqlError, bool)>,
        limits: SqlLimits,
    ) -> Result<SqlResult, SqlError> {
        let (result, is_clean) = match result {
            Ok((result, is_clean)) => (Ok(result), is_clean),
            Err((error, is_clean)) => (Err(error), is_clean),
        };
        if let Some(connection) = self.connection.take()
            && is_clean
        {
            let mut idle = lock(&self.idle);
            idle.push_back((self.role.clone(), connection));
            while idle.len() > limits.open {
                idle.pop_front();
            }
        }
        result
    }
}
