//! Disks that fail.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Runs a program and tells whether it worked.
fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Limits the size of the files that a process writes, in bytes; what it cannot write fails.
fn limit_files(process: u32, bytes: &str) {
    let process = process.to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    assert!(
        run("prlimit", &["--pid", &process, &limit]),
        "prlimit (of util-linux) is needed"
    );
}

/// A small disk that can be filled: a file system in memory for root, else a limit on the size of files.
pub(crate) struct SmallDisk {
    directory: TempDir,
    mounted: bool,
}

impl SmallDisk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=32m", "none", path]);
        Self { directory, mounted }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What it really is.
    pub(crate) fn kind(&self) -> &'static str {
        if self.mounted {
            "a file system of 32 MB, filled"
        } else {
            "limit on the size of files"
        }
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// No byte is free any more.
    pub(crate) fn fill(&self, process: u32, data: &Path) {
        if self.mounted {
            let mut file = std::fs::File::create(self.filler()).unwrap();
            for size in [1 << 20, 1 << 12, 1] {
                let bytes = vec![0; size];
                while file.write_all(&bytes).is_ok() {}
            }
        } else {
            let size = |name: &str| std::fs::metadata(data.join(name)).map_or(0, |file| file.len());
            let largest = size("claudemesh.db").min(size("claudemesh.db-wal"));
            limit_files(process, &largest.to_string());
        }
    }

    /// There is room again.
    pub(crate) fn free(&self, process: u32) {
        if self.mounted {
            std::fs::remove_file(self.filler()).unwrap();
        } else {
            limit_files(process, "unlimited");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _unmounted = run("umount", &["--lazy", self.path().to_str().unwrap_or_default()]);
        }
    }
}

/// Makes the files of a SQLite store read-only under the process that has them open. For root on a file system that can
/// (ext4, XFS) they become immutable; else the process may not write any file.
pub(crate) struct ReadOnly {
    files: Vec<PathBuf>,
    immutable: bool,
}

impl ReadOnly {
    pub(crate) fn begin(process: u32, data: &Path) -> Self {
        let files = ["claudemesh.db", "claudemesh.db-wal"]
            .map(|name| data.join(name))
            .to_vec();
        let paths: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
        let immutable = run("chattr", &[&["+i"], paths.as_slice()].concat());
        if !immutable {
            limit_files(process, "0");
        }
        Self { files, immutable }
    }

    /// What it really is.
    pub(crate) fn kind(&self) -> &'static str {
        if self.immutable {
            "the files of the store made immutable"
        } else {
            "no file may be written"
        }
    }

    pub(crate) fn end(self, process: u32) {
        if !self.immutable {
            limit_files(process, "unlimited");
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.immutable {
            let paths = self.files.iter().filter_map(|path| path.to_str());
            let _writable = run("chattr", &[&["-i"], paths.collect::<Vec<_>>().as_slice()].concat());
        }
    }
}
