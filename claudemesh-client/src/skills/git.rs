//! Skills in git repositories. The `git` program fetches, and nothing of what it fetched is run: no checkout, no hooks, no
//! filters, no submodules, no configuration of the user or the machine, no credentials, no question. What it packs into an
//! archive is unpacked like any other archive.

use super::GitAccess;
use super::address::is_public;
use super::archive;
use super::bundle::{SkillBundle, too_large};
use crate::ClientError;
use crate::files::interrupted;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::limits::MAX_SKILL_ARCHIVE_BYTES;
use claudemesh_proto::model::check_bundle_path;
use std::io::Cursor;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::lookup_host;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Url};

/// The first version that connects to given addresses only (`http.curloptResolve`).
const OLDEST: (u32, u32) = (2, 37);
/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How long an address may take to be found.
const LOOKUP_LIMIT: Duration = Duration::from_secs(15);
/// Most bytes that a repository may have here.
const MAX_CLONE_BYTES: u64 = 128 * 1024 * 1024;
/// How often its size is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Most bytes of what git says that are kept.
const MAX_SAID: usize = 16 * 1024;
/// How long its last words may take when it has ended.
const GRACE: Duration = Duration::from_secs(5);
/// Longest part of what git says that is shown.
const SHOWN: usize = 300;

/// A repository, as the caller names it.
pub(super) struct Repository<'a> {
    pub(super) url: &'a str,
    /// Branch or tag.
    pub(super) branch: Option<&'a str>,
    /// Directory of the skill in it.
    pub(super) path: Option<&'a str>,
}

/// Fetches the skill, and tells of which commit it is.
pub(super) async fn fetch(repository: Repository<'_>, access: GitAccess) -> Result<(SkillBundle, String), ClientError> {
    let url = checked(repository.url, access)?;
    if let Some(branch) = repository.branch {
        check_branch(branch)?;
    }
    let fetching = async {
        let pinned = addresses(&url, access).await?;
        let git = Git::new(&url, pinned, access)?;
        git.check_version().await?;
        git.clone(&url, repository.branch).await?;
        let commit = git.run(&["rev-parse", "HEAD"], 128).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let wanted = repository
            .path
            .map(|path| path.trim_matches('/'))
            .filter(|path| !matches!(*path, "" | "."));
        let mut words = vec!["archive", "--format=zip", "HEAD"];
        if let Some(path) = wanted {
            check_bundle_path(path).map_err(|error| ClientError::invalid("path", error.to_string()))?;
            words.extend(["--", path]);
        }
        let packed = git.run(&words, MAX_SKILL_ARCHIVE_BYTES).await?;
        let wanted = wanted.map(str::to_owned);
        let name = repository_name(&url);
        let unpacking = tokio::task::spawn_blocking(move || {
            // The directory goes with it.
            drop(git);
            let mut bundle = archive::unpack(Cursor::new(packed), wanted.as_deref())?;
            bundle.directory = bundle.directory.or(name);
            Ok::<_, ClientError>(bundle)
        });
        Ok((unpacking.await.map_err(interrupted)??, commit))
    };
    timeout(LIMIT, fetching).await.unwrap_or_else(|_| {
        Err(ClientError::Timeout {
            what: "git".to_owned(),
            after: LIMIT,
        })
    })
}

fn invalid(message: impl Into<String>) -> ClientError {
    ClientError::invalid("git_url", message)
}

/// The address, if it is one that may be fetched from.
fn checked(text: &str, access: GitAccess) -> Result<Url, ClientError> {
    let url =
        Url::parse(text.trim()).map_err(|error| invalid(format!("is no URL ({error}); use https://host/path")))?;
    match url.scheme() {
        "https" => {}
        "http" if access.insecure => {}
        "http" => {
            return Err(invalid(
                "is not encrypted: use https, or allow http: CLAUDEMESH_GIT_ALLOW=http, or git_access in a program",
            ));
        }
        _ => return Err(invalid("has a scheme other than https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "holds a name or a password, which every member would see; only repositories that need none can be deployed \
             from, and others as an archive (share_file, then file_id)",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("has a query or a fragment"));
    }
    Ok(url)
}

/// Names of branches and tags, as far as git takes them; none can pass for an option.
fn check_branch(branch: &str) -> Result<(), ClientError> {
    let is_fine = |c: char| c.is_alphanumeric() || "/._-+@#=".contains(c);
    if branch.starts_with(['-', '/', '.'])
        || branch.contains("..")
        || branch.contains("@{")
        || !branch.chars().all(is_fine)
    {
        return Err(ClientError::invalid("git_branch", "is not the name of a branch or tag"));
    }
    Ok(())
}

/// The addresses of the host, each of which may be connected to. git is told to use these and no others, so that a name
/// cannot lead elsewhere a moment later.
async fn addresses(url: &Url, access: GitAccess) -> Result<Vec<IpAddr>, ClientError> {
    let found: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => {
            let port = url.port_or_known_default().unwrap_or(443);
            let looked_up = timeout(LOOKUP_LIMIT, lookup_host((name, port))).await;
            let looked_up =
                looked_up.map_err(|_| unreachable(format!("the address of {name} was not found in time")))?;
            let looked_up = looked_up.map_err(|error| unreachable(format!("{name} has no address: {error}")))?;
            looked_up.map(|address| address.ip()).collect()
        }
        None => return Err(invalid("names no host")),
    };
    if !access.private
        && let Some(address) = found.iter().find(|address| !is_public(**address))
    {
        return Err(invalid(format!(
            "leads to {address}, which is not on the public network; allow that: CLAUDEMESH_GIT_ALLOW=private, or git_access in a program"
        )));
    }
    Ok(found)
}

fn unreachable(message: String) -> ClientError {
    ClientError::Http { status: None, message }
}

/// `https://host/team/review.git` → `review`.
fn repository_name(url: &Url) -> Option<String> {
    let last = url.path().trim_end_matches('/').rsplit('/').next()?;
    let name = last.strip_suffix(".git").unwrap_or(last);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The program, with a directory of its own.
struct Git {
    directory: TempDir,
    settings: Vec<String>,
}

impl Git {
    fn new(url: &Url, pinned: Vec<IpAddr>, access: GitAccess) -> Result<Self, ClientError> {
        let directory = tempfile::Builder::new()
            .prefix("claudemesh-git-")
            .tempdir()
            .map_err(|error| ClientError::invalid("git_url", format!("needs a temporary directory: {error}")))?;
        let allow = |scheme: &str, allowed: bool| {
            format!("protocol.{scheme}.allow={}", if allowed { "always" } else { "never" })
        };
        let mut settings = vec![
            "protocol.allow=never".to_owned(),
            allow("https", true),
            allow("http", access.insecure),
            // A redirect could lead to an address that was not looked at.
            "http.followRedirects=false".to_owned(),
            "http.proxy=".to_owned(),
            "http.lowSpeedLimit=1000".to_owned(),
            "http.lowSpeedTime=20".to_owned(),
            "credential.helper=".to_owned(),
            "core.hooksPath=/dev/null".to_owned(),
            "core.attributesFile=/dev/null".to_owned(),
            "core.fsmonitor=false".to_owned(),
            "core.symlinks=false".to_owned(),
            "core.autocrlf=false".to_owned(),
            "submodule.recurse=false".to_owned(),
            "fetch.fsckObjects=true".to_owned(),
            "fetch.unpackLimit=1".to_owned(),
            "gc.auto=0".to_owned(),
            "maintenance.auto=false".to_owned(),
            "advice.detachedHead=false".to_owned(),
        ];
        if let Some(Host::Domain(name)) = url.host() {
            let port = url.port_or_known_default().unwrap_or(443);
            let list: Vec<String> = pinned
                .iter()
                .map(|address| match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => format!("[{address}]"),
                })
                .collect();
            settings.push(format!("http.curloptResolve={name}:{port}:{}", list.join(",")));
        }
        Ok(Self { directory, settings })
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("repository.git")
    }

    /// The program with these words. It inherits nothing but the way to other programs and to certificates.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        for name in ["PATH", "SystemRoot", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let home = self.directory.path();
        command
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home)
            .env("TMPDIR", home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS", "")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .current_dir(home);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Refuses versions that would look the address up again.
    async fn check_version(&self) -> Result<(), ClientError> {
        let printed = finish(self.command(&["--version"]), MAX_SAID as u64).await?;
        let printed = String::from_utf8_lossy(&printed);
        match version(&printed) {
            Some(version) if version < OLDEST => {
                let (major, minor) = OLDEST;
                Err(invalid(format!(
                    "needs git {major}.{minor} or newer; this is {}",
                    shown(printed.as_bytes())
                )))
            }
            _ => Ok(()),
        }
    }

    async fn clone(&self, url: &Url, branch: Option<&str>) -> Result<(), ClientError> {
        let to = self.repository();
        let (to, url) = (to.to_string_lossy(), url.as_str());
        let mut words = vec![
            "clone",
            "--quiet",
            "--bare",
            "--depth=1",
            "--single-branch",
            "--no-tags",
            "--no-local",
            "--template=",
        ];
        if let Some(branch) = branch {
            words.extend(["--branch", branch]);
        }
        words.extend(["--", url, to.as_ref()]);
        let cloning = finish(self.command(&words), MAX_SAID as u64);
        tokio::select! {
            cloned = cloning => cloned.map(drop),
            () = grows_too_large(self.directory.path().to_owned()) => {
                Err(too_large(format!("the repository has more than {MAX_CLONE_BYTES} bytes")))
            }
        }
    }

    /// Runs a command on the repository, and gives what it printed: at most `limit` bytes.
    async fn run(&self, words: &[&str], limit: u64) -> Result<Vec<u8>, ClientError> {
        let repository = self.repository();
        let place = format!("--git-dir={}", repository.display());
        let words: Vec<&str> = [place.as_str()].into_iter().chain(words.iter().copied()).collect();
        finish(self.command(&words), limit).await
    }
}

/// Runs a command to its end.
async fn finish(mut command: Command, limit: u64) -> Result<Vec<u8>, ClientError> {
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => invalid("needs the program git, which is not on this machine: install it"),
        _ => invalid(format!("git cannot be started: {error}")),
    })?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(invalid("git cannot be read from"));
    };
    // All of it is read, so that git does not wait; only the beginning is kept.
    let saying = tokio::spawn(async move {
        let mut said = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = stderr.read(&mut part).await {
            if said.len() < MAX_SAID {
                said.extend_from_slice(&part[..length]);
            }
        }
        said
    });
    let mut printed = Vec::new();
    let read = stdout.take(limit + 1).read_to_end(&mut printed).await;
    read.map_err(|error| invalid(format!("git cannot be read from: {error}")))?;
    if printed.len() as u64 > limit {
        let text = format!(
            "the repository's files have more than {limit} bytes when packed; give the directory of the skill as `path`"
        );
        return Err(too_large(text));
    }
    let status = child.wait().await;
    let status = status.map_err(|error| invalid(format!("git did not end: {error}")))?;
    if status.success() {
        return Ok(printed);
    }
    let said = timeout(GRACE, saying)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    let text = format!("git failed: {}", shown(&said));
    Err(ClientError::refused(ErrorCode::InvalidRequest, text))
}

/// `git version 2.39.5` → 2 and 39.
fn version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.split_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The last thing that git said.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let fatal = lines
        .clone()
        .find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
    let line = fatal.or_else(|| lines.next_back()).unwrap_or("it gave no reason");
    line.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Resolves when the directory has more bytes than a repository may have.
async fn grows_too_large(directory: PathBuf) {
    loop {
        sleep(LOOK).await;
        let looked_at = directory.clone();
        let begun = Instant::now();
        let size = tokio::task::spawn_blocking(move || size_of(&looked_at))
            .await
            .unwrap_or(0);
        if size > MAX_CLONE_BYTES {
            return;
        }
        // A slow disk is not looked at all the time.
        sleep(begun.elapsed()).await;
    }
}

fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => size_of(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_for_fetching_are_refused() {
        let none = GitAccess::default();
        for bad in [
            "git@host:team/x.git",
            "ssh://git@host/x",
            "file:///etc",
            "ext::sh -c true",
            "git://host/x",
            "http://host/x",
            "https://user:secret@host/x",
            "https://token@host/x",
            "https://host/x?y",
            "-uhttps://host/x",
            "/tmp/x",
            "",
            "--upload-pack=touch /tmp/x",
        ] {
            let error = checked(bad, none).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        checked("https://host/x", none).unwrap();
        checked(
            "http://host/x",
            GitAccess {
                insecure: true,
                private: false,
            },
        )
        .unwrap();
        for bad in [
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a\nb",
            "@{1}x",
            "a@{0}",
            ".x",
            "/x",
            "a~1",
            "a^",
            "a:b",
            "$(x)",
        ] {
            assert!(check_branch(bad).is_err(), "{bad}");
        }
        for good in ["main", "feature/x", "v1.2.3", "release-1_0"] {
            check_branch(good).unwrap();
        }
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert!(version("git version 2.9.5") < Some(OLDEST) && version("") < Some(OLDEST));
        assert_eq!(
            repository_name(&Url::parse("https://h/a/b.git/").unwrap()).as_deref(),
            Some("b")
        );
    }

    #[tokio::test]
    async fn private_networks_are_refused() {
        for url in [
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://169.254.169.254/latest",
            "https://localhost/x",
        ] {
            let url = Url::parse(url).unwrap();
            let error = addresses(&url, GitAccess::default()).await.unwrap_err().to_string();
            assert!(error.contains("public network"), "{error}");
            addresses(
                &url,
                GitAccess {
                    private: true,
                    insecure: false,
                },
            )
            .await
            .unwrap();
        }
    }
}
