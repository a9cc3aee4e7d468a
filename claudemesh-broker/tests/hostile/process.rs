//! The broker program by itself: its memory is its own, and so are its files and its time zone.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::gateway_kit::{Lab, Listening, http};
use crate::watch;

/// A broker program that serves. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    addr: SocketAddr,
}

impl Listening for Program {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Program {
    /// Starts it with nothing in its environment but where to listen, its data, and these variables.
    pub(crate) async fn start(directory: &Path, variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = std::fs::File::create(directory.join("broker.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_claudemesh-broker"))
            .env_clear()
            .env("BROKER_HOST", "127.0.0.1")
            .env("BROKER_PORT", port.to_string())
            .env("BROKER_DATA_DIR", directory.join("data"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Self {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !program.is_ready().await {
            let log = || std::fs::read_to_string(directory.join("broker.log")).unwrap_or_default();
            if let Some(status) = program.child.try_wait().unwrap() {
                panic!("the broker ended with {status}: {}", log());
            }
            assert!(Instant::now() < deadline, "the broker does not get ready: {}", log());
            sleep(Duration::from_millis(20)).await;
        }
        program
    }

    async fn is_ready(&self) -> bool {
        TcpStream::connect(self.addr).await.is_ok() && http(self.addr, "GET", "/health", "", b"").await.status == 200
    }

    /// Its memory in MiB; `None` where the system does not tell.
    pub(crate) fn resident_mib(&self) -> Option<usize> {
        watch::resident_mib_of(&self.child.id().to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// A program with a mesh, whose rate limits do not answer in place of what is tested.
pub(crate) async fn lab(variables: &[(&str, &str)]) -> Lab<Program> {
    let directory = tempfile::tempdir().unwrap();
    let generous = [
        "RATE_LIMIT_READ_PER_SEC",
        "RATE_LIMIT_WRITE_PER_SEC",
        "RATE_LIMIT_MESSAGE_PER_SEC",
        "RATE_LIMIT_HEAVY_PER_SEC",
        "ENROL_RATE_LIMIT_PER_MIN",
        "HOOK_RATE_LIMIT_PER_MIN",
    ];
    let mut all: Vec<_> = generous.map(|name| (name, "1000000")).into();
    all.extend(variables);
    let program = Program::start(directory.path(), &all).await;
    Lab::of(program, directory).await
}

/// The broker reads no variable that must be there.
#[tokio::test]
async fn sub_e_31_a_broker_starts_with_nothing_set() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::of(Program::start(directory.path(), &[]).await, directory).await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let peers = socket.ask(serde_json::json!({ "type": "list_peers" })).await;
    assert_eq!(peers["type"], "peers_list", "{peers}");
}

/// The original read the times of stored messages in the zone of its own machine.
#[tokio::test]
async fn defect_076_times_do_not_depend_on_the_brokers_time_zone() {
    for zone in ["Pacific/Auckland", "America/New_York", "NZST-12"] {
        let lab = lab(&[("TZ", zone)]).await;
        let bob = lab.join("bob", "member").await;
        let mut owner = lab.connect_v2(&lab.owner).await;
        let before = crate::gateway_kit::now_ms();
        let ack = owner
            .ask(serde_json::json!({ "type": "send", "targetSpec": bob.pubkey(), "nonce": "", "ciphertext": "AAAA" }))
            .await;
        assert_eq!(ack["type"], "ack", "{ack}");
        // It comes from the store: bob was not there.
        let mut bob = lab.connect_v2(&bob).await;
        let push = bob.next_message().await;
        let created: claudemesh_proto::model::Timestamp = push["createdAt"].as_str().unwrap().parse().unwrap();
        let after = crate::gateway_kit::now_ms();
        assert!((before..=after).contains(&created.as_ms()), "{zone}: {push}");
    }
}

/// Opens `count` connections; `upgraded` of them become WebSockets, the others stay in the head of a request.
async fn flood(addr: SocketAddr, count: usize) -> (Vec<TcpStream>, usize) {
    let mut streams = Vec::with_capacity(count);
    let mut upgraded = 0;
    for index in 0..count {
        let (stream, head) = if index % 10 == 9 {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\n").await.unwrap();
            (stream, String::new())
        } else {
            crate::sockets::raw(addr, "").await
        };
        upgraded += usize::from(head.starts_with("HTTP/1.1 101"));
        streams.push(stream);
    }
    (streams, upgraded)
}

/// How many connections at once the test may hold, up to `wanted`. Says so on the terminal when it is fewer.
fn may_open(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // Some stay for everything else: files, and sockets of other tests in this process.
    let most = now.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(1_000)
    });
    if most < wanted {
        use std::io::Write as _;
        // Not captured by the test runner.
        let _told = writeln!(
            std::io::stderr(),
            "note: the limit of open files allows {most} of {wanted} sockets; raise it with `ulimit -n`"
        );
    }
    wanted.min(most)
}

/// As many as ten thousand sockets that say nothing, twice: who is a member is served, and the second time takes no more
/// memory than the first.
#[tokio::test(flavor = "multi_thread")]
async fn defect_026_ten_thousand_sockets_without_hello() {
    let count = may_open(10_000);
    let lab = lab(&[("MAX_UNAUTHENTICATED_SOCKETS", "10000"), ("HELLO_TIMEOUT_MS", "600000")]).await;
    let mut member = lab.connect_v2(&lab.owner).await;
    let mut sizes = vec![lab.running.resident_mib()];
    for round in 0..2 {
        let (streams, upgraded) = flood(lab.addr(), count).await;
        assert!(
            upgraded >= count * 8 / 10,
            "round {round}: {upgraded} of {count} became WebSockets"
        );
        let peers = member.ask(serde_json::json!({ "type": "list_peers" })).await;
        assert_eq!(peers["type"], "peers_list", "a member is served: {peers}");
        assert_eq!(http(lab.addr(), "GET", "/health", "", b"").await.status, 200);
        sizes.push(lab.running.resident_mib());
        drop(streams);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let metrics = http(lab.addr(), "GET", "/metrics", "", b"").await.body;
            if metrics.contains("broker_sockets_unauthenticated 0\n") {
                break;
            }
            assert!(Instant::now() < deadline, "sockets that are gone are still counted");
            sleep(Duration::from_millis(50)).await;
        }
    }
    println!("{count} sockets without hello: resident MiB {sizes:?}");
    if let [Some(before), Some(first), Some(second)] = sizes[..] {
        // 32 KiB for each would be 320.
        assert!(first < before + 320, "{sizes:?}");
        assert!(second < first + 32, "{sizes:?}");
    }
    let mut late = lab.connect_v2(&lab.owner).await;
    assert_eq!(
        late.ask(serde_json::json!({ "type": "list_peers" })).await["type"],
        "peers_list"
    );
}

/// Everything that a hostile member may send, again and again: after the first times the broker's memory stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_and_again_takes_no_more_memory() {
    let lab = lab(&[]).await;
    let mut sizes = Vec::new();
    for _ in 0..6 {
        // A session of its own each round, so that what is kept for sessions shows, too.
        let mut socket = lab.connect_v2(&lab.owner).await;
        let mut sent = 0_u32;
        for operation in claudemesh_proto::schema::operations() {
            for mut request in crate::schemas::requests(operation.request.as_value()) {
                request["type"] = serde_json::json!(operation.meta.wire_type);
                request["_reqId"] = serde_json::json!(format!("r{sent}"));
                socket.send(&request).await;
                sent += 1;
                // Answers are read, or the broker would end the connection.
                if sent.is_multiple_of(32) {
                    let fence = socket.ask(serde_json::json!({ "type": "get_grants" })).await;
                    assert_eq!(fence["type"], "grants", "{fence}");
                }
            }
        }
        for frame in crate::frames::large() {
            socket.send_text(&frame).await;
            let fence = socket.ask(serde_json::json!({ "type": "get_grants" })).await;
            assert_eq!(fence["type"], "grants", "{fence}");
        }
        for _ in 0..100 {
            let (stream, _) = crate::sockets::raw(lab.addr(), "").await;
            drop(stream);
        }
        sizes.push(lab.running.resident_mib());
    }
    println!("resident MiB after each round: {sizes:?}");
    let Some(settled) = sizes[..3].iter().flatten().min() else {
        return;
    };
    watch::falls_below(&lab.running.child.id().to_string(), settled + 24, || async {
        let mut socket = lab.connect_v2(&lab.owner).await;
        socket.ask(serde_json::json!({ "type": "get_grants" })).await;
    })
    .await;
}
