//! Receiving programs are killed in the middle. What a program took and did not come to acknowledge goes to the member's
//! next session once more; nothing is lost, and nothing is stuck.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use claudemesh_client::{Identity, MeshClient};
use claudemesh_crypto::SecretKey;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::kit::cast::{Cast, cast};
use crate::kit::load::{Load, sent};
use crate::kit::process::Setting;
use crate::kit::rows::Rows;
use crate::kit::{figures, random, scale, until};

/// Tells the program who it is; it is this test program with this variable.
const IDENTITY: &str = "CLAUDEMESH_FAULTS_IDENTITY";
/// What a line of the program begins with that is a message.
const GOT: &str = "got: ";

pub(crate) fn to_text(identity: &Identity) -> String {
    json!({
        "mesh": identity.mesh_id,
        "member": identity.member_id,
        "secret": *identity.member.to_hex(),
        "broker": identity.broker_url,
        "owner": identity.owner_pubkey.map(|key| key.to_string()),
    })
    .to_string()
}

pub(crate) fn from_text(text: &str) -> Identity {
    let value: Value = serde_json::from_str(text).unwrap();
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Identity {
        mesh_id: text("mesh").into(),
        member_id: text("member").into(),
        slug: "faults".to_owned(),
        name: "Faults".to_owned(),
        member: SecretKey::from_hex(&text("secret")).unwrap(),
        broker_url: text("broker"),
        owner_pubkey: value["owner"].as_str().map(|key| key.parse().unwrap()),
        owner: None,
        display_name: None,
    }
}

/// Not a test: the program that is killed, when another test starts it. On one thread, so that a message is printed before
/// its acknowledgement can leave.
#[tokio::test]
async fn the_program_that_is_killed() {
    let Ok(identity) = std::env::var(IDENTITY) else { return };
    let client = MeshClient::connect(from_text(&identity)).await.unwrap();
    let told_to_end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let receiving = async {
        while let Some(message) = client.recv().await {
            println!("{GOT}{}", message.text.as_deref().unwrap());
        }
    };
    tokio::select! {
        () = receiving => {}
        _ = told_to_end => client.close().await,
    }
}

/// A running program, and what it has printed.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    got: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Program {
    fn start(identity: &Identity) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "clients::the_program_that_is_killed", "--nocapture"])
            .env(IDENTITY, to_text(identity))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), got.clone());
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, text)) = line.split_once(GOT) {
                    kept.lock().unwrap().push(text.to_owned());
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            got,
            reading: Some(reading),
        }
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// Everything that it printed until it ended.
    fn ended(mut self) -> Vec<String> {
        self.child.wait().unwrap();
        self.reading.take().unwrap().join().unwrap();
        self.got.lock().unwrap().clone()
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.ended()
    }

    fn end(mut self) -> Vec<String> {
        self.stdin.take();
        self.ended()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn number(text: &str) -> usize {
    text.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receiving_programs_that_are_killed_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let setting = Setting::new(directory.path(), None);
    let broker = setting.start().await;
    let Cast { owner, others } = cast(&setting.url(), &["ben"], |builder| builder).await;
    let ben = others[0].identity().clone();
    others[0].close().await;
    let load = Load::new(Duration::from_millis(4));
    let senders = vec![load.send(&owner, "ben", "owner")];
    let mut programs = Vec::new();
    for _ in 0..scale::client_kills() {
        let program = Program::start(&ben);
        until("the program gets messages", || async { program.count() >= 20 }).await;
        sleep(Duration::from_millis(random(200))).await;
        programs.push(program.kill());
    }
    load.stop();
    let sent = sent(senders).await.remove(0);
    let last = Program::start(&ben);
    let has_all = |all: &[Vec<String>]| {
        let had: std::collections::HashSet<_> = all.iter().flatten().collect();
        sent.iter().all(|text| had.contains(text))
    };
    until("every message was printed", || async {
        let mut all = programs.clone();
        all.push(last.got.lock().unwrap().clone());
        has_all(&all)
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    programs.push(last.end());
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for program in &programs {
        assert!(
            program.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])),
            "twice or out of order within one program: {program:?}"
        );
        for text in program {
            *counts.entry(text).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), sent.len(), "what nobody sent");
    let again = counts.values().filter(|count| **count > 1).count();
    owner.close().await;
    broker.kill();
    Rows::of(None, &setting.data()).await.must_hold(sent.len()).await;
    figures::record(
        "client kills",
        &[
            ("kills", scale::client_kills().to_string()),
            ("messages", sent.len().to_string()),
            ("lost, stuck", "0".to_owned()),
            ("taken by a killed program and again by the next", again.to_string()),
        ],
    );
}
