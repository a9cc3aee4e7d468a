//! The same load on NATS JetStream, for scale: file storage, every write synced before it is acknowledged, one mailbox for
//! each recipient.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy, StorageType};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::process::{Child, Command};

use crate::broker::DataDir;
use crate::load::{DRAIN, Measured, Plan, body, histogram, nanos};
use crate::process;

/// Path of the server's program; without it, it is looked for on the `PATH`.
const SERVER: &str = "CLAUDEMESH_BENCH_NATS_SERVER";

/// A running server. Killed when dropped.
struct Server {
    child: Child,
    pid: u32,
    address: SocketAddr,
    _data: DataDir,
}

impl Server {
    /// `None` if the program is not installed.
    async fn start() -> anyhow::Result<Option<Self>> {
        let data = DataDir::new("nats")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let settings = data.path().join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            data.path().join("store").display().to_string()
        );
        std::fs::write(&settings, text)?;
        let program = std::env::var(SERVER).unwrap_or_else(|_| "nats-server".to_owned());
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut child = match command.stderr(Stdio::null()).kill_on_drop(true).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("starting nats-server"),
        };
        let pid = child.id().context("nats-server ended at once")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let patience = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("nats-server ended: {status}");
            }
            if Instant::now() > patience {
                bail!("nats-server does not listen");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Some(Self {
            child,
            pid,
            address,
            _data: data,
        }))
    }

    async fn connect(&self) -> anyhow::Result<jetstream::Context> {
        let client = async_nats::connect(self.address.to_string()).await?;
        Ok(jetstream::new(client))
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

struct Run {
    start: Instant,
    measured_from: u64,
    measured_until: Cell<u64>,
    /// When each message of each sender was sent.
    sent: RefCell<Vec<Vec<u64>>>,
    latency: RefCell<Histogram<u64>>,
    stored: RefCell<Histogram<u64>>,
    settled: Cell<u64>,
    arrived: Cell<u64>,
    disordered: Cell<u64>,
    twice: Cell<u64>,
    is_over: Cell<bool>,
}

impl Run {
    fn observe(&self, histogram: &RefCell<Histogram<u64>>, sent: u64) {
        let now = nanos(self.start.elapsed());
        if sent >= self.measured_from && sent < self.measured_until.get() {
            histogram.borrow_mut().saturating_record(now - sent);
        }
    }
}

/// As many senders to as many recipients, `window` messages of each sender under way. `None` if there is no server.
pub(crate) async fn pairs(count: usize, window: usize, plan: &Plan) -> anyhow::Result<Option<Measured>> {
    let Some(server) = Server::start().await? else {
        return Ok(None);
    };
    let setup = server.connect().await?;
    let mailboxes = setup
        .create_stream(stream::Config {
            name: "mail".to_owned(),
            subjects: vec!["mail.*".to_owned()],
            storage: StorageType::File,
            retention: RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        })
        .await?;
    let run = Rc::new(Run {
        start: Instant::now(),
        measured_from: nanos(plan.warm_up),
        measured_until: Cell::new(u64::MAX),
        sent: RefCell::new(vec![Vec::new(); count]),
        latency: RefCell::new(histogram()),
        stored: RefCell::new(histogram()),
        settled: Cell::new(0),
        arrived: Cell::new(0),
        disordered: Cell::new(0),
        twice: Cell::new(0),
        is_over: Cell::new(false),
    });
    let mut recipients = Vec::new();
    for place in 0..count {
        let consumer = mailboxes
            .create_consumer(pull::Config {
                durable_name: Some(format!("recipient-{place}")),
                filter_subject: format!("mail.{place}"),
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: 10_000,
                ..pull::Config::default()
            })
            .await?;
        recipients.push(tokio::task::spawn_local(receive(consumer, run.clone())));
    }
    let text = body(plan.payload);
    let mut senders = Vec::new();
    for place in 0..count {
        let context = server.connect().await?;
        senders.push(tokio::task::spawn_local(send(
            context,
            place,
            window,
            text.clone(),
            run.clone(),
        )));
    }
    let at = || {
        (
            run.start.elapsed(),
            run.settled.get(),
            run.arrived.get(),
            process::cpu(server.pid),
            process::cpu(std::process::id()),
        )
    };
    tokio::time::sleep(plan.warm_up.saturating_sub(run.start.elapsed())).await;
    let before = at();
    tokio::time::sleep(plan.time).await;
    let after = at();
    run.measured_until.set(nanos(run.start.elapsed()));
    run.is_over.set(true);
    for sender in senders {
        sender.await.context("a sender of the driver")??;
    }
    let patience = Instant::now() + DRAIN;
    while run.arrived.get() < run.settled.get() && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for recipient in &recipients {
        recipient.abort();
    }
    server.stop().await?;
    let seconds = (after.0 - before.0).as_secs_f64();
    let deliveries = (after.2 - before.2).max(1) as f64;
    let measured = Measured {
        accepted_per_second: (after.1 - before.1) as f64 / seconds,
        delivered_per_second: (after.2 - before.2) as f64 / seconds,
        latency: run.latency.borrow().clone(),
        stored: run.stored.borrow().clone(),
        lost: run.settled.get().saturating_sub(run.arrived.get()),
        twice: run.twice.get(),
        disordered: run.disordered.get(),
        refused: 0,
        broker_cpu: after.3.saturating_sub(before.3).div_f64(deliveries),
        driver_cpu: after.4.saturating_sub(before.4).div_f64(deliveries),
    };
    Ok(Some(measured))
}

async fn send(
    context: jetstream::Context,
    place: usize,
    window: usize,
    text: String,
    run: Rc<Run>,
) -> anyhow::Result<()> {
    let subject = format!("mail.{place}");
    let mut under_way = FuturesUnordered::new();
    while !run.is_over.get() {
        while under_way.len() < window {
            let sent = nanos(run.start.elapsed());
            let number = {
                let mut all = run.sent.borrow_mut();
                all[place].push(sent);
                all[place].len() - 1
            };
            let payload = format!("{place} {number} {text}");
            let stored = context.publish(subject.clone(), payload.into()).await?;
            under_way.push(async move {
                stored.await?;
                anyhow::Ok(sent)
            });
        }
        if let Some(stored) = under_way.next().await {
            run.observe(&run.stored, stored?);
            run.settled.set(run.settled.get() + 1);
        }
    }
    while let Some(stored) = under_way.next().await {
        stored?;
        run.settled.set(run.settled.get() + 1);
    }
    Ok(())
}

async fn receive(consumer: jetstream::consumer::Consumer<pull::Config>, run: Rc<Run>) -> anyhow::Result<()> {
    let mut messages = consumer.messages().await?;
    let mut next = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        let text = std::str::from_utf8(&message.payload)?;
        let mut words = text.split(' ').map(str::parse::<usize>);
        let (Some(Ok(place)), Some(Ok(number))) = (words.next(), words.next()) else {
            bail!("a message of somebody else");
        };
        let sent = run.sent.borrow()[place][number];
        run.observe(&run.latency, sent);
        message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
        if number < next {
            run.twice.set(run.twice.get() + 1);
            continue;
        }
        if number > next {
            run.disordered.set(run.disordered.get() + 1);
        }
        next = number + 1;
        run.arrived.set(run.arrived.get() + 1);
    }
    Ok(())
}
