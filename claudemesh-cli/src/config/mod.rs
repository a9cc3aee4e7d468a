//! What this machine remembers: joined meshes, their keys, this person's name.
//!
//! The directory is `~/.claudemesh`, or `CLAUDEMESH_CONFIG_DIR`:
//!
//! | file | what |
//! |---|---|
//! | `config.json` | joined meshes (the original's format, unknown keys kept) |
//! | `keys/<slug>.key` | the member's secret key, 128 hexadecimal characters |
//! | `keys/<slug>.owner` | the owner's secret key, at the owner's only |
//! | `keys/` | group keys, by the client |
//! | `sessions/` | what agents' sessions have in hand, sealed; by the client |
//! | `config.lock` | taken while `config.json` is changed |

mod file;
mod keys;
pub(crate) mod private;

pub use file::{ConfigFile, MeshEntry};

use crate::CliError;
use claudemesh_client::Identity;
use claudemesh_client::skills::GitAccess;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::{MemberId, MeshId};
use std::path::{Path, PathBuf};

/// Name of the configuration file.
const FILE: &str = "config.json";
/// Broker for new meshes and bare invite codes: the local one.
pub const DEFAULT_BROKER: &str = "ws://127.0.0.1:7900/ws";

/// The configuration directory and what its file said when it was read.
#[derive(Clone, Debug)]
pub struct Config {
    dir: PathBuf,
    file: ConfigFile,
}

impl Config {
    /// Reads the configuration of `CLAUDEMESH_CONFIG_DIR`, else of `~/.claudemesh`. No file is an empty configuration.
    ///
    /// # Errors
    /// If the file cannot be read or is not JSON.
    pub fn open() -> Result<Self, CliError> {
        Self::open_at(default_dir()?)
    }

    /// Reads the configuration in `dir`.
    ///
    /// # Errors
    /// If the file cannot be read or is not JSON.
    pub fn open_at(dir: PathBuf) -> Result<Self, CliError> {
        let file = read(&dir.join(FILE))?;
        Ok(Self { dir, file })
    }

    /// The configuration directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Directory of keys.
    #[must_use]
    pub fn keys_dir(&self) -> PathBuf {
        self.dir.join(keys::DIR)
    }

    /// Directory of what agents' sessions have in hand.
    #[must_use]
    pub fn sessions_dir(&self) -> PathBuf {
        self.dir.join("sessions")
    }

    /// Directory of notes about uploads that were interrupted.
    #[must_use]
    pub fn uploads_dir(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// What the file said.
    #[must_use]
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// Joined meshes, in the order of joining.
    #[must_use]
    pub fn meshes(&self) -> &[MeshEntry] {
        &self.file.meshes
    }

    /// The mesh with this slug; without one, the only mesh.
    ///
    /// # Errors
    /// If there is none, or several and none is named.
    pub fn mesh(&self, slug: Option<&str>) -> Result<&MeshEntry, CliError> {
        let known = || {
            self.meshes()
                .iter()
                .map(|mesh| mesh.slug.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        match (slug, self.meshes()) {
            (_, []) => Err(CliError::new(ErrorCode::NotFound, "You have not joined a mesh yet.")
                .next("Run `claudemesh up` to start one here, or `claudemesh join <invite link>`.")),
            (None, [mesh]) => Ok(mesh),
            (None, _) => Err(CliError::usage(
                "You have joined several meshes.",
                format!("Say which one with --mesh <slug>: {}.", known()),
            )),
            (Some(slug), meshes) => meshes.iter().find(|mesh| mesh.slug == slug).ok_or_else(|| {
                CliError::new(ErrorCode::NotFound, format!("There is no mesh {slug} here."))
                    .next(format!("Joined meshes: {}.", known()))
            }),
        }
    }

    /// Who this machine is in a mesh, with its secret key.
    ///
    /// # Errors
    /// If the key is missing, damaged or somebody else's.
    pub fn identity(&self, entry: &MeshEntry) -> Result<Identity, CliError> {
        let owner = keys::owner(&self.dir, entry)?;
        let named = entry.owner_pubkey.as_deref().and_then(|text| text.parse().ok());
        Ok(Identity {
            mesh_id: MeshId::from(entry.mesh_id.as_str()),
            member_id: MemberId::from(entry.member_id.as_str()),
            slug: entry.slug.clone(),
            name: entry.name.clone(),
            member: keys::member(&self.dir, entry)?,
            broker_url: entry.broker_url.clone(),
            owner_pubkey: named.or_else(|| owner.as_ref().map(claudemesh_crypto::SecretKey::public)),
            owner,
            display_name: self.display_name(),
        })
    }

    /// Whether this is the machine of the mesh's owner.
    #[must_use]
    pub fn holds_owner_key(&self, entry: &MeshEntry) -> bool {
        keys::has_owner(&self.dir, entry)
    }

    /// `CLAUDEMESH_DISPLAY_NAME`, else the name in the file.
    #[must_use]
    pub fn display_name(&self) -> Option<String> {
        env("CLAUDEMESH_DISPLAY_NAME").or_else(|| self.file.display_name.clone())
    }

    /// Creates the directories, so that what is obtained next can be stored.
    ///
    /// # Errors
    /// If they cannot be created.
    pub fn prepare(&self) -> Result<(), CliError> {
        private::create_dir(&self.keys_dir())?;
        private::lock(&self.dir.join("config.lock")).map(drop)
    }

    /// Remembers a mesh and its keys. A mesh that was joined before is replaced; another mesh of the same slug stays, and
    /// the new one gets a number. Returns the slug in this configuration.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn add(&mut self, identity: &Identity, joined_at: String) -> Result<String, CliError> {
        let dir = self.dir.clone();
        self.change(|file| {
            let mesh_id = identity.mesh_id.as_str();
            let slug = file.free_slug(&identity.slug, mesh_id);
            let key_file = keys::store(&dir, &slug, &identity.member, identity.owner.as_ref())?;
            let entry = MeshEntry {
                mesh_id: mesh_id.to_owned(),
                member_id: identity.member_id.to_string(),
                slug: slug.clone(),
                name: identity.name.clone(),
                pubkey: identity.public().to_string(),
                secret_key: None,
                key_file: Some(key_file),
                broker_url: identity.broker_url.clone(),
                joined_at,
                owner_pubkey: identity.owner_pubkey.as_ref().map(ToString::to_string),
                other: serde_json::Map::new(),
            };
            match file.meshes.iter_mut().find(|mesh| mesh.mesh_id == mesh_id) {
                Some(old) => {
                    *old = MeshEntry {
                        other: std::mem::take(&mut old.other),
                        ..entry
                    }
                }
                None => file.meshes.push(entry),
            }
            Ok(slug)
        })
    }

    /// Forgets a mesh and deletes its key files.
    ///
    /// # Errors
    /// If the mesh is unknown, or a file cannot be written.
    pub fn remove(&mut self, slug: &str) -> Result<(), CliError> {
        let entry = self.mesh(Some(slug))?.clone();
        self.change(|file| {
            file.meshes.retain(|mesh| mesh.mesh_id != entry.mesh_id);
            Ok(())
        })?;
        for path in keys::files(&self.dir, &entry) {
            std::fs::remove_file(&path).map_err(|error| private::failed("delete", &path, &error))?;
        }
        Ok(())
    }

    /// Remembers this person's name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_display_name(&mut self, name: &str) -> Result<(), CliError> {
        self.change(|file| {
            file.display_name = Some(name.to_owned());
            Ok(())
        })
    }

    /// Corrects the address of a local broker that had to take another port.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn move_broker(&mut self, old: &str, new: &str) -> Result<(), CliError> {
        self.readdress(new, |mesh| mesh.broker_url == old)
    }

    /// Corrects the address of one mesh's broker.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn move_broker_of(&mut self, mesh_id: &str, new: &str) -> Result<(), CliError> {
        self.readdress(new, |mesh| mesh.mesh_id == mesh_id)
    }

    fn readdress(&mut self, url: &str, which: impl Fn(&MeshEntry) -> bool) -> Result<(), CliError> {
        if !self.meshes().iter().any(|mesh| which(mesh) && mesh.broker_url != url) {
            return Ok(());
        }
        self.change(|file| {
            file.meshes
                .iter_mut()
                .filter(|mesh| which(mesh))
                .for_each(|mesh| mesh.broker_url = url.to_owned());
            Ok(())
        })
    }

    /// Which of the directory and its files others can read, and how to close them.
    #[must_use]
    pub fn exposures(&self) -> Vec<String> {
        let key_files = self.meshes().iter().flat_map(|mesh| keys::files(&self.dir, mesh));
        [self.dir.clone(), self.path(), self.keys_dir()]
            .into_iter()
            .chain(key_files)
            .filter_map(|path| private::exposure(&path))
            .collect()
    }

    /// Changes the file as it is now on disk, while no other process does.
    fn change<T>(&mut self, edit: impl FnOnce(&mut ConfigFile) -> Result<T, CliError>) -> Result<T, CliError> {
        private::create_dir(&self.dir)?;
        let _lock = private::lock(&self.dir.join("config.lock"))?;
        let mut file = read(&self.path())?;
        let result = edit(&mut file)?;
        let text = file
            .to_text()
            .map_err(|error| CliError::local(error.to_string(), "Report it."))?;
        private::write(&self.path(), text.as_bytes())?;
        self.file = file;
        Ok(result)
    }
}

fn read(path: &Path) -> Result<ConfigFile, CliError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ConfigFile::default()),
        Err(error) => return Err(private::failed("read", path, &error)),
    };
    ConfigFile::parse(&text).map_err(|error| {
        CliError::local(
            format!("{} is damaged: {error}", path.display()),
            "Correct the file, or move it away and join your meshes again.",
        )
    })
}

/// The configuration directory.
fn default_dir() -> Result<PathBuf, CliError> {
    if let Some(dir) = env("CLAUDEMESH_CONFIG_DIR") {
        return Ok(PathBuf::from(dir));
    }
    Ok(home()?.join(".claudemesh"))
}

/// Where a broker started by `up` keeps its data.
///
/// # Errors
/// If neither `XDG_DATA_HOME` nor a home directory is known.
pub fn default_data_dir() -> Result<PathBuf, CliError> {
    if let Some(dir) = env("XDG_DATA_HOME") {
        return Ok(Path::new(&dir).join("claudemesh"));
    }
    Ok(home()?.join(".local/share/claudemesh"))
}

/// Address of the broker for new meshes and bare invite codes.
#[must_use]
pub fn default_broker() -> String {
    env("CLAUDEMESH_BROKER_URL").unwrap_or_else(|| DEFAULT_BROKER.to_owned())
}

/// A variable of the environment; empty is the same as unset.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// From where git repositories may be fetched beside public hosts over HTTPS: `CLAUDEMESH_GIT_ALLOW`.
pub(crate) fn git_access() -> GitAccess {
    GitAccess::of_words(&env("CLAUDEMESH_GIT_ALLOW").unwrap_or_default())
}

fn home() -> Result<PathBuf, CliError> {
    std::env::home_dir()
        .filter(|path| !path.as_os_str().is_empty())
        .ok_or_else(|| {
            CliError::local(
                "There is no home directory.",
                "Set CLAUDEMESH_CONFIG_DIR to a directory of your own.",
            )
        })
}
