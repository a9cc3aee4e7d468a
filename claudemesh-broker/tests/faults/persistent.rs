//! Programs with a persistent inbox and outbox, and the broker, are killed in the middle of everything. What a program
//! queued arrives, once and in order; what it was given and did not confirm it gets again, and knows it.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use claudemesh_client::proto::model::Priority;
use claudemesh_client::secure::FileKeyStore;
use claudemesh_client::{ClientError, ClientEvent, Identity, MeshClient};
use tokio::time::{sleep, timeout};

use crate::clients::{from_text, to_text};
use crate::kit::cast::{Cast, Received, cast};
use crate::kit::process::Setting;
use crate::kit::rows::Rows;
use crate::kit::{PATIENCE, figures, random, scale, until};

const IDENTITY: &str = "CLAUDEMESH_PERSISTENT_IDENTITY";
const DIRECTORY: &str = "CLAUDEMESH_PERSISTENT_DIRECTORY";
const ROLE: &str = "CLAUDEMESH_PERSISTENT_ROLE";

/// Files in which the programs note what they did, line by line. A line that was written survives a kill.
const ABOUT_TO_SEND: &str = "about";
const QUEUED: &str = "queued";
const HELLO: &str = "hello";
const GOT: &str = "got";
const REMARKS: &str = "remarks";

struct Notes(PathBuf);

impl Notes {
    fn add(&self, file: &str, line: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join(file))
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn read(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Not a test: the program that is killed, when another test starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_persistent_program() {
    let Ok(identity) = std::env::var(IDENTITY) else { return };
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let notes = Arc::new(Notes(directory.clone()));
    let client = MeshClient::builder(from_text(&identity))
        .persistent(directory.join("journal"))
        .key_store(Arc::new(FileKeyStore::new(directory.join("keys"))))
        .outbox_capacity(256)
        .start()
        .unwrap();
    let mut events = client.events();
    let heard = notes.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let ClientEvent::Warning(warning) = event {
                heard.add(REMARKS, &warning);
            }
        }
    });
    let told_to_end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let (sender, receiver) = (client.clone(), client.clone());
    let sends = std::env::var(ROLE).unwrap() == "send";
    let work = async {
        if sends {
            tokio::spawn(async move {
                while let Some(message) = receiver.recv().await {
                    message.confirm();
                }
            });
            send(&sender, &notes).await;
        } else {
            receive(&receiver, &notes).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = told_to_end => {}
    }
    client.wait_open(PATIENCE).await.unwrap();
    client.close().await;
}

async fn send(client: &MeshClient, notes: &Notes) {
    let targets = loop {
        match (client.resolve("ben").await, client.resolve("*").await) {
            (Ok(ben), Ok(all)) => break [("direct", ben), ("all", all)],
            _ => sleep(Duration::from_millis(50)).await,
        }
    };
    let mut next = notes.read(ABOUT_TO_SEND).len();
    loop {
        let (lane, to) = &targets[next % 2];
        let text = format!("{lane} {next}");
        notes.add(ABOUT_TO_SEND, &text);
        loop {
            match client.queue_to(to, &text, Priority::Now).await {
                Ok(pending) => {
                    notes.add(QUEUED, &text);
                    drop(pending);
                    break;
                }
                Err(ClientError::QueueFull { .. }) => sleep(Duration::from_millis(20)).await,
                // Nothing was queued: group keys could not be had while the broker was away.
                Err(error) if error.retryable() => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{text}: {error}"),
            }
        }
        next += 1;
        sleep(Duration::from_millis(4)).await;
    }
}

async fn receive(client: &MeshClient, notes: &Notes) {
    let mut had: HashSet<String> = notes.read(GOT).into_iter().collect();
    while let Some(message) = client.recv().await {
        let text = message
            .text
            .clone()
            .unwrap_or_else(|| format!("unreadable {:?}", message.warnings));
        // The only thing that the program has to do: look, where it is told that it may have been here before.
        if !message.redelivered() || !had.contains(&text) {
            notes.add(GOT, &text);
        }
        for warning in &message.warnings {
            notes.add(REMARKS, &format!("{text}: {warning}"));
        }
        had.insert(text);
        if random(4) == 0 {
            // More chances to be killed in between.
            sleep(Duration::from_millis(2)).await;
        }
        message.confirm();
    }
}

/// A program that is started again and again.
struct Program {
    identity: Identity,
    role: &'static str,
    notes: Notes,
    running: Option<(Child, Option<ChildStdin>)>,
}

impl Program {
    fn new(identity: &Identity, role: &'static str, directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let mut program = Self {
            identity: identity.clone(),
            role,
            notes: Notes(directory.to_owned()),
            running: None,
        };
        program.start();
        program
    }

    fn start(&mut self) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "persistent::the_persistent_program", "--nocapture"])
            .env(IDENTITY, to_text(&self.identity))
            .env(DIRECTORY, &self.notes.0)
            .env(ROLE, self.role)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        self.running = Some((child, stdin));
    }

    fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            assert!(child.try_wait().unwrap().is_none(), "{} has ended by itself", self.role);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    async fn end(&mut self) {
        let (mut child, stdin) = self.running.take().unwrap();
        drop(stdin);
        let mut status = None;
        until("the program ends", || {
            status = child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        assert!(status.unwrap().success(), "{}: {status:?}", self.role);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _killed = child.kill();
            let _waited = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_persistent_programs_send_and_get_survives_kills_of_everything() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), None);
    let mut broker = setting.start().await;
    let Cast { owner, others } = cast(&setting.url(), &["sam", "ben"], |builder| builder).await;
    let identities: Vec<_> = others.iter().map(|client| client.identity().clone()).collect();
    for client in &others {
        client.close().await;
    }
    let (to_owner, _receiving) = Received::by(&owner);
    let mut ben = Program::new(&identities[1], "receive", &directory.path().join("ben"));
    // It starts without the mesh's keys, and group messages that wait for them may be overtaken. Who reads one has them.
    owner.send_text("*", HELLO, Priority::Now).await.unwrap();
    until("the keys arrive", || async { ben.notes.read(GOT) == [HELLO] }).await;
    let mut sam = Program::new(&identities[0], "send", &directory.path().join("sam"));
    let kills = scale::client_kills().max(6);
    for round in 0..kills {
        let before = ben.notes.read(GOT).len();
        until("messages arrive", || async { ben.notes.read(GOT).len() >= before + 20 }).await;
        sleep(Duration::from_millis(random(150))).await;
        if round % 3 != 1 {
            ben.kill();
        }
        if round % 3 != 0 {
            sam.kill();
        }
        if round % 4 == 3 {
            broker.kill();
            broker = setting.start().await;
        }
        for program in [&mut ben, &mut sam] {
            if program.running.is_none() {
                program.start();
            }
        }
    }
    sam.end().await;
    let about: HashSet<String> = sam.notes.read(ABOUT_TO_SEND).into_iter().collect();
    let queued = sam.notes.read(QUEUED);
    until("everything arrives", || async {
        let got: HashSet<String> = ben.notes.read(GOT).into_iter().collect();
        queued.iter().all(|text| got.contains(text))
    })
    .await;
    to_owner
        .wait_for(queued.iter().filter(|text| text.starts_with("all")).count())
        .await;
    ben.end().await;

    let got = ben.notes.read(GOT).split_off(1);
    assert!(got.iter().all(|text| about.contains(text)), "nobody sent this: {got:?}");
    let mut last: HashMap<&str, usize> = HashMap::new();
    for text in &got {
        let (lane, number) = text.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        if let Some(before) = last.insert(lane, number) {
            let place = got.iter().position(|other| other == text);
            assert!(
                before < number,
                "`{text}`, first at {place:?}, came after {before}: {got:?}"
            );
        }
    }
    let to_all: Vec<_> = got.iter().filter(|text| text.starts_with("all")).cloned().collect();
    to_owner.must_be(&to_all, "owner");
    let alarms: Vec<_> = [&sam, &ben]
        .iter()
        .flat_map(|program| program.notes.read(REMARKS))
        .collect();
    assert!(alarms.is_empty(), "{alarms:?}");
    owner.close().await;
    let [from, to] = identities.as_slice() else { panic!() };
    let plain = rate(from, to, None).await;
    let persistent = rate(from, to, Some(directory.path())).await;
    broker.kill();
    let all = 1 + got.len() + 2 * RATED;
    Rows::of(None, &setting.data()).await.must_hold(all).await;
    figures::record(
        "persistent",
        &[
            ("kills of a program", kills.to_string()),
            ("messages queued", queued.len().to_string()),
            ("lost, twice, out of order", "0".to_owned()),
            (
                "messages/s from one client to one, not persistent",
                format!("{plain:.0}"),
            ),
            ("persistent on both sides", format!("{persistent:.0}")),
        ],
    );
}

/// Messages of which the rate is measured.
const RATED: usize = 2_000;

/// Messages per second from queueing the first to confirming the last.
#[allow(clippy::cast_precision_loss)]
async fn rate(from: &Identity, to: &Identity, directory: Option<&Path>) -> f64 {
    let client = |identity: &Identity, name: &str| {
        let builder = MeshClient::builder(identity.clone()).outbox_capacity(RATED);
        match directory {
            Some(directory) => builder.persistent(directory.join(name)).connect(),
            None => builder.connect(),
        }
    };
    let sender = client(from, "rate-from").await.unwrap();
    let receiver = client(to, "rate-to").await.unwrap();
    let target = sender.resolve("ben").await.unwrap();
    let started = Instant::now();
    let taking = async {
        for _ in 0..RATED {
            receiver.recv().await.unwrap().confirm();
        }
    };
    let sending = async {
        let mut pending = Vec::with_capacity(RATED);
        for number in 0..RATED {
            pending.push(
                sender
                    .queue_to(&target, &number.to_string(), Priority::Now)
                    .await
                    .unwrap(),
            );
        }
        for sent in pending {
            sent.await.unwrap();
        }
    };
    timeout(PATIENCE, async { tokio::join!(taking, sending) })
        .await
        .unwrap();
    let rate = RATED as f64 / started.elapsed().as_secs_f64();
    sender.close().await;
    receiver.close().await;
    rate
}
