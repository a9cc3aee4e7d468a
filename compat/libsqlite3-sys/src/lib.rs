//! The bindings of `libsqlite3-sys` 0.37, under the version that graphdblite's driver asks for.
//!
//! That driver keeps its connection to itself, so bounds cannot be set on it. Here they can: [`bounds`] holds those of the
//! current thread, and [`sqlite3_open_v2`], which the driver calls, opens connections that keep to them.

pub use current::*;

use std::ffi::{c_char, c_int, c_void};

/// Bounds of what the current thread does with connections that were opened through this crate.
pub mod bounds {
    use std::cell::Cell;
    use std::time::Instant;

    thread_local! {
        static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
        static STOPPED: Cell<bool> = const { Cell::new(false) };
        static PAGES: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// When statements that this thread runs are interrupted; `None`: never. Forgets what was stopped before.
    pub fn set_deadline(deadline: Option<Instant>) {
        STOPPED.set(false);
        DEADLINE.set(deadline);
    }

    /// Whether a statement was interrupted since [`set_deadline`].
    #[must_use]
    pub fn was_stopped() -> bool {
        STOPPED.get()
    }

    /// Most pages of the files that this thread opens from now on; `None`: as SQLite has it.
    pub fn set_max_pages(pages: Option<u32>) {
        PAGES.set(pages);
    }

    pub(crate) fn max_pages() -> Option<u32> {
        PAGES.get()
    }

    pub(crate) fn is_over() -> bool {
        let is_over = DEADLINE.get().is_some_and(|deadline| Instant::now() > deadline);
        if is_over {
            STOPPED.set(true);
        }
        is_over
    }
}

/// How many steps of a statement pass between two looks at the clock.
const STEPS: c_int = 1_000;

extern "C" fn progress(_: *mut c_void) -> c_int {
    c_int::from(bounds::is_over())
}

/// SQLite's function of this name; the connection keeps to [`bounds`].
///
/// # Safety
/// As for [`current::sqlite3_open_v2`].
pub unsafe fn sqlite3_open_v2(
    filename: *const c_char,
    connection: *mut *mut sqlite3,
    flags: c_int,
    vfs: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps to the contract of this very function.
    let code = unsafe { current::sqlite3_open_v2(filename, connection, flags, vfs) };
    if code != SQLITE_OK {
        return code;
    }
    // SAFETY: after SQLITE_OK `*connection` is an open connection that nobody else has yet. The handler takes no argument, and
    // the statement is a C string that SQLite only reads.
    unsafe {
        sqlite3_progress_handler(*connection, STEPS, Some(progress), std::ptr::null_mut());
        match bounds::max_pages() {
            Some(pages) => {
                let pragma = format!("PRAGMA max_page_count = {pages}\0");
                let text = pragma.as_ptr().cast();
                sqlite3_exec(*connection, text, None, std::ptr::null_mut(), std::ptr::null_mut())
            }
            None => code,
        }
    }
}
