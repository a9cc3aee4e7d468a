//! A large file shared and fetched, beside a copy of it on the same disk and beside its encryption alone.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::create_mesh;
use claudemesh_crypto::{FILE_CHUNK_BYTES, FileKey, FileSealer, random_bytes};
use claudemesh_proto::tools::{FetchFile, ShareFile};

use crate::broker::{Broker, DataDir, StoreKind};
use crate::report::{grouped, ratio};
use crate::scenarios::Bench;

/// Bytes of the file.
const BYTES: u64 = 512 * 1024 * 1024;

fn rate(took: Duration) -> f64 {
    BYTES as f64 / 1e6 / took.as_secs_f64()
}

fn shown(took: Duration) -> String {
    format!("{} MB/s", grouped(rate(took)))
}

impl Bench {
    /// 512 MiB up and down.
    pub(crate) async fn files(&mut self) -> anyhow::Result<()> {
        let local = DataDir::new("files-local")?;
        let source = local.path().join("source");
        write(&source)?;
        let copied = copy(&source, &local.path().join("copy"))?;
        let sealed = seal(&source)?;

        let data = DataDir::new("files")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let identity = create_mesh(&broker.url(), "Bench", Some("ana")).await?.identity;
        let client = MeshClient::connect(identity).await?;
        let request: ShareFile = serde_json::from_value(serde_json::json!({ "path": source }))?;
        let started = Instant::now();
        let shared = client.share_file(request).await?;
        let up = started.elapsed();
        let target = local.path().join("fetched");
        let request = FetchFile {
            id: shared.id,
            save_to: target.to_string_lossy().into_owned(),
            overwrite: false,
        };
        let started = Instant::now();
        client.fetch_file(request).await?;
        let down = started.elapsed();
        let (_, most) = broker.memory();
        client.close().await;
        broker.stop().await?;
        anyhow::ensure!(same(&source, &target)?, "the file came back changed");

        for (name, took) in [
            ("a copy on the same disk, synced", copied),
            ("AES-256-GCM in chunks, one core", sealed),
            ("file shared (sealed, sent, on disk)", up),
            ("file fetched (received, opened, on disk)", down),
        ] {
            self.report.fact(format!("512 MiB: {name}"), shown(took));
        }
        for (name, took) in [("shared", up), ("fetched", down)] {
            let seconds = took.as_secs_f64();
            self.report.fact(
                format!("file {name}: time to that of a copy, and of the encryption"),
                format!(
                    "{}, {}",
                    ratio(seconds, copied.as_secs_f64()),
                    ratio(seconds, sealed.as_secs_f64())
                ),
            );
        }
        self.report.fact(
            "memory of the broker, at most, meanwhile",
            format!("{:.0} MB", most as f64 / 1e6),
        );
        Ok(())
    }
}

fn write(path: &Path) -> anyhow::Result<()> {
    let block: [u8; 65_536] = random_bytes();
    let mut file = File::create(path)?;
    for number in 0..BYTES / block.len() as u64 {
        file.write_all(&number.to_le_bytes())?;
        file.write_all(&block[8..])?;
    }
    Ok(file.sync_all()?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<Duration> {
    let started = Instant::now();
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    let took = started.elapsed();
    std::fs::remove_file(to)?;
    Ok(took)
}

/// Reads and encrypts as a client does, and drops the result.
fn seal(path: &Path) -> anyhow::Result<Duration> {
    let mut file = File::open(path)?;
    let started = Instant::now();
    let sealer = FileSealer::new(&FileKey::generate(), BYTES)?;
    let mut chunk = Vec::with_capacity(FILE_CHUNK_BYTES + 16);
    for number in 0.. {
        chunk.clear();
        let read = (&mut file).take(FILE_CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if read == 0 {
            break;
        }
        sealer.seal(number, &mut chunk)?;
        std::hint::black_box(&chunk);
    }
    Ok(started.elapsed())
}

fn same(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..read]).context("reading it again")?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}
