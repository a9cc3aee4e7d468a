//! The scenarios.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::{self, Measured, Peer, Plan, To, connect_all};
use crate::plot::Line;
use crate::reference::References;
use crate::report::{Chart, Report, grouped, time};
use crate::world::World;

/// Everything that scenarios share.
pub(crate) struct Bench {
    /// What this machine can do.
    pub(crate) references: References,
    /// What was found.
    pub(crate) report: Report,
    /// Seconds of each load.
    pub(crate) seconds: f64,
    /// Most messages that wait in `depth`.
    pub(crate) depth: u64,
    /// Where Postgres is, if it runs.
    pub(crate) postgres: Option<StoreKind>,
}

/// Name and what it does, in the order in which they run.
pub(crate) const SCENARIOS: &[(&str, &str)] = &[
    ("ping-pong", "two peers, one message at a time"),
    ("pairs", "50 senders to 50 receivers, 8 under way each"),
    ("ring", "100 peers that all send and receive, one under way each"),
    ("random", "50 peers that send to random others"),
    ("broadcast", "one sender to 100 receivers"),
    ("storm", "1,000 sessions that connect at once"),
    ("idle", "memory with 1,000 idle connections"),
    (
        "open-loop",
        "messages at given rates, whether the broker keeps up or not",
    ),
    ("start", "start with an existing store"),
    ("postgres", "50 senders to 50 receivers on Postgres"),
    ("nats", "50 senders to 50 receivers on NATS JetStream, for scale"),
    ("recall", "searches over 100,000 memories"),
    ("graph", "three hops over 100,000 edges of a graph"),
    (
        "files",
        "a file of 512 MiB up and down, beside a copy and its encryption",
    ),
    ("shared-sql", "one row of the shared database, beside SQLite alone"),
    ("publish", "events to 100 subscribers, beside a bare server"),
    ("vectors", "searches over 100,000 vectors of 768 numbers"),
    ("growth-peers", "pairs from 1 to 200"),
    ("growth-mesh", "10 pairs in meshes of 20 to 1,000 connected peers"),
    ("growth-payload", "messages from 100 bytes to 100 KB"),
    ("growth-depth", "a pair while up to a million messages wait"),
];

/// A broker with one mesh.
struct Stage {
    data: DataDir,
    broker: Broker,
    world: World,
}

impl Stage {
    async fn new(name: &str, members: usize, store: &StoreKind) -> anyhow::Result<Self> {
        let data = DataDir::new(name)?;
        let broker = Broker::start(&data, store).await?;
        let world = World::create(&broker, "Bench", members).await?;
        Ok(Self { data, broker, world })
    }

    async fn run(&self, plan: Plan) -> anyhow::Result<Measured> {
        load::run(self.broker.address, &self.world.members, plan, || self.broker.cpu()).await
    }

    async fn end(self) -> anyhow::Result<()> {
        self.broker.stop().await
    }
}

/// The first half sends to the second.
fn pairs(count: usize, window: usize) -> Vec<Peer> {
    let senders = (0..count).map(|place| Peer {
        to: To::One(count + place),
        window,
        ..Peer::default()
    });
    senders.chain((0..count).map(|_| Peer::default())).collect()
}

fn pings() -> Vec<Peer> {
    vec![
        Peer {
            to: To::One(1),
            pong: true,
            kick: true,
            ..Peer::default()
        },
        Peer {
            to: To::One(0),
            pong: true,
            ..Peer::default()
        },
    ]
}

fn p(measured: &Measured, quantile: f64) -> Duration {
    Duration::from_nanos(measured.latency.value_at_quantile(quantile))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl Bench {
    /// Runs a scenario.
    pub(crate) async fn run(&mut self, name: &str) -> anyhow::Result<()> {
        match name {
            "ping-pong" => self.ping_pong().await,
            "pairs" => self.pairs().await,
            "ring" => self.ring().await,
            "random" => self.random().await,
            "broadcast" => self.broadcast().await,
            "storm" => self.storm().await,
            "idle" => self.idle().await,
            "open-loop" => self.open_loop().await,
            "start" => self.start().await,
            "postgres" => self.postgres().await,
            "nats" => self.nats().await,
            "recall" => self.recall().await,
            "graph" => self.graph().await,
            "files" => self.files().await,
            "shared-sql" => self.shared_sql().await,
            "publish" => self.publish().await,
            "vectors" => self.vectors().await,
            "growth-peers" => self.growth_peers().await,
            "growth-mesh" => self.growth_mesh().await,
            "growth-payload" => self.growth_payload().await,
            "growth-depth" => self.growth_depth().await,
            other => anyhow::bail!("there is no scenario {other}"),
        }
    }

    fn record(&mut self, name: &str, measured: &Measured) {
        self.report.load(name, measured, &self.references);
    }

    async fn ping_pong(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("ping", 2, &StoreKind::Sqlite).await?;
        let measured = stage.run(Plan::new(pings(), self.seconds)).await?;
        self.record("ping-pong", &measured);
        let (got, allowed) = (p(&measured, 0.5), self.references.one_way());
        let ratio = got.as_secs_f64() / allowed.as_secs_f64();
        self.report.target(
            "ping-pong, one way, p50",
            format!("≤ one echo round trip + two fdatasyncs = {:.0} µs", micros(allowed)),
            format!("{:.0} µs ({ratio:.2} of it)", micros(got)),
            got <= allowed,
        );
        stage.end().await
    }

    async fn pairs(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("pairs", 100, &StoreKind::Sqlite).await?;
        let measured = stage.run(Plan::new(pairs(50, 8), self.seconds)).await?;
        self.record("50 → 50, window 8", &measured);
        let clean = measured.lost + measured.twice + measured.disordered + measured.refused == 0;
        self.report.target(
            "50 → 50, window 8",
            "≥ 15,000 acknowledged and delivered/s",
            format!("{}/s", grouped(measured.delivered_per_second)),
            measured.delivered_per_second >= 15_000.0,
        );
        self.report.target(
            "50 → 50, p99",
            "≤ 25 ms",
            time(measured.latency.value_at_quantile(0.99)),
            p(&measured, 0.99).as_millis() < 25,
        );
        self.report.target(
            "50 → 50, lost, twice, out of order",
            "0",
            format!("{}, {}, {}", measured.lost, measured.twice, measured.disordered),
            clean,
        );
        self.report.target(
            "CPU of broker and store for a delivery",
            "≤ 80 µs",
            format!("{:.1} µs", micros(measured.broker_cpu)),
            micros(measured.broker_cpu) <= 80.0,
        );
        let (now, most) = stage.broker.memory();
        self.report.fact(
            "memory after and during 50 → 50",
            format!("{} MB, {} MB", now / 1_000_000, most / 1_000_000),
        );
        let mut plan = Plan::new(pairs(50, 8), self.seconds);
        plan.priorities = &["now", "next"];
        let measured = stage.run(plan).await?;
        self.record("50 → 50, classes now and next in turn", &measured);
        stage.end().await
    }

    async fn ring(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("ring", 100, &StoreKind::Sqlite).await?;
        let peers = (0..100).map(|place| Peer {
            to: To::One((place + 1) % 100),
            window: 1,
            ..Peer::default()
        });
        let measured = stage.run(Plan::new(peers.collect(), self.seconds)).await?;
        self.record("100 × 100, one under way", &measured);
        stage.end().await
    }

    async fn random(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("random", 50, &StoreKind::Sqlite).await?;
        let peers = (0..50).map(|_| Peer {
            to: To::Random(50),
            window: 4,
            ..Peer::default()
        });
        let measured = stage.run(Plan::new(peers.collect(), self.seconds)).await?;
        self.record("random mesh of 50, window 4", &measured);
        stage.end().await
    }

    async fn broadcast(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("broadcast", 101, &StoreKind::Sqlite).await?;
        let mut peers = vec![Peer::default(); 101];
        peers[0] = Peer {
            to: To::All,
            window: 16,
            ..Peer::default()
        };
        let measured = stage.run(Plan::new(peers, self.seconds)).await?;
        self.record("broadcast 1 → 100, window 16", &measured);
        let durable = measured.accepted_per_second * 100.0;
        self.report.target(
            "broadcast 1 → 100, durable",
            "≥ 100,000 deliveries/s",
            format!(
                "{}/s accepted, {}/s acknowledged by recipients",
                grouped(durable),
                grouped(measured.delivered_per_second)
            ),
            measured.delivered_per_second >= 100_000.0,
        );
        stage.end().await
    }

    async fn storm(&mut self) -> anyhow::Result<()> {
        for (meshes, members) in [(20, 50), (1, 1000)] {
            let data = DataDir::new("storm")?;
            let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
            let mut all = Vec::new();
            for mesh in 0..meshes {
                all.extend(World::create(&broker, &format!("Mesh {mesh}"), members).await?.members);
            }
            let (started, before) = (Instant::now(), broker.cpu());
            let address = broker.address;
            let connects = all.iter().map(|member| crate::wire::connect(address, member));
            let mut wires = futures_util::stream::iter(connects).buffer_unordered(64);
            let mut connected = 0;
            let mut readers = Vec::new();
            while let Some(wire) = wires.next().await {
                let mut wire = wire?;
                connected += 1;
                readers.push(tokio::task::spawn_local(async move {
                    while wire.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
                }));
            }
            let rate = f64::from(connected) / started.elapsed().as_secs_f64();
            let cpu = (broker.cpu() - before).div_f64(f64::from(connected));
            let name = format!("{connected} connect at once, {meshes} mesh(es) of {members}");
            let got = format!("{} hellos/s, {:.0} µs of broker CPU each", grouped(rate), micros(cpu));
            if meshes > 1 {
                self.report.target(name, "≥ 2,000 hellos/s", got, rate >= 2_000.0);
            } else {
                self.report.fact(name, got);
            }
            readers.iter().for_each(tokio::task::JoinHandle::abort);
            broker.stop().await?;
        }
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        let data = DataDir::new("idle")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let empty = broker.memory().0;
        let mut members = Vec::new();
        for mesh in 0..20 {
            members.extend(World::create(&broker, &format!("Mesh {mesh}"), 50).await?.members);
        }
        broker.stop().await?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let wires = connect_all(broker.address, &members).await?;
        let readers: Vec<_> = wires
            .into_iter()
            .map(|mut wire| {
                tokio::task::spawn_local(
                    async move { while wire.socket.next().await.is_some_and(|frame| frame.is_ok()) {} },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (now, most) = broker.memory();
        self.report
            .fact("memory of a new broker", format!("{:.1} MB", empty as f64 / 1e6));
        self.report.target(
            "1,000 idle connections",
            "≤ 60 MB",
            format!(
                "{:.1} MB (at most {:.1} MB while they came)",
                now as f64 / 1e6,
                most as f64 / 1e6
            ),
            now <= 60_000_000,
        );
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        broker.stop().await
    }

    async fn open_loop(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("open", 100, &StoreKind::Sqlite).await?;
        for rate in [1_000, 5_000, 10_000] {
            let mut peers = pairs(50, 0);
            for peer in &mut peers[..50] {
                peer.every = Some(Duration::from_secs(50) / rate);
            }
            let measured = stage.run(Plan::new(peers, self.seconds)).await?;
            self.record(
                &format!("open loop, {}/s from 50 to 50", grouped(f64::from(rate))),
                &measured,
            );
        }
        stage.end().await
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let Stage { data, broker, world } = Stage::new("start", 100, &StoreKind::Sqlite).await?;
        let empty = broker.ready;
        let mut plan = Plan::new(pairs(50, 8), 60.0);
        plan.most = Some(100_000);
        load::run(broker.address, &world.members, plan, || broker.cpu()).await?;
        broker.stop().await?;
        let mut times = Vec::new();
        for _ in 0..5 {
            let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
            times.push(broker.ready);
            broker.stop().await?;
        }
        times.sort_unstable();
        self.report.fact(
            "start with a new store",
            format!("ready after {:.0} ms", empty.as_secs_f64() * 1e3),
        );
        self.report.target(
            format!(
                "start with a store of 100,000 messages ({} MB)",
                data.bytes() / 1_000_000
            ),
            "ready ≤ 100 ms",
            format!("{:.0} ms (median of 5)", times[2].as_secs_f64() * 1e3),
            times[2].as_millis() <= 100,
        );
        Ok(())
    }

    async fn postgres(&mut self) -> anyhow::Result<()> {
        let Some(store) = self.postgres.clone() else {
            self.report
                .fact("50 → 50 on Postgres", "not run: no Postgres programs found");
            return Ok(());
        };
        let stage = Stage::new("postgres", 100, &store).await?;
        let measured = stage.run(Plan::new(pairs(50, 8), self.seconds)).await?;
        self.record("50 → 50, window 8, Postgres", &measured);
        self.report.target(
            "50 → 50 on Postgres",
            "≥ 5,000 acknowledged and delivered/s",
            format!("{}/s", grouped(measured.delivered_per_second)),
            measured.delivered_per_second >= 5_000.0,
        );
        stage.end().await
    }

    async fn nats(&mut self) -> anyhow::Result<()> {
        match crate::nats::pairs(50, 8, &Plan::new(Vec::new(), self.seconds)).await? {
            Some(measured) => self.record("for scale: 50 → 50, window 8, NATS JetStream", &measured),
            None => self
                .report
                .fact("50 → 50 on NATS JetStream", "not run: no nats-server found"),
        }
        Ok(())
    }

    /// Runs the same load at several sizes, and draws throughput, latency and CPU.
    fn growth(&mut self, name: &'static str, files: [&'static str; 2], x: &'static str, results: &[(f64, Measured)]) {
        let line = |name: &str, value: &dyn Fn(&Measured) -> f64| Line {
            name: name.to_owned(),
            points: results.iter().map(|(x, measured)| (*x, value(measured))).collect(),
        };
        let millis = |quantile: f64| move |measured: &Measured| p(measured, quantile).as_secs_f64() * 1e3;
        let latency = vec![line("p50", &millis(0.5)), line("p99", &millis(0.99))];
        let work = vec![
            line("delivered/s", &|measured| measured.delivered_per_second),
            line("broker CPU µs", &|measured| micros(measured.broker_cpu)),
        ];
        self.report.chart(Chart {
            file: files[0],
            title: format!("Latency by {name}"),
            x,
            y: "milliseconds",
            lines: latency,
        });
        self.report.chart(Chart {
            file: files[1],
            title: format!("Deliveries by {name}"),
            x,
            y: "per second, µs",
            lines: work,
        });
    }

    async fn growth_peers(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("peers", 400, &StoreKind::Sqlite).await?;
        let mut results = Vec::new();
        for count in [1, 5, 20, 50, 100, 200] {
            results.push((
                count as f64,
                stage.run(Plan::new(pairs(count, 8), self.seconds / 2.0)).await?,
            ));
        }
        self.growth(
            "number of pairs",
            ["peers-latency.svg", "peers-rate.svg"],
            "pairs, 8 under way each",
            &results,
        );
        stage.end().await
    }

    async fn growth_mesh(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("mesh", 1000, &StoreKind::Sqlite).await?;
        let mut results = Vec::new();
        for size in [20, 50, 100, 300, 1000] {
            let mut peers = pairs(10, 4);
            peers.resize(size, Peer::default());
            results.push((size as f64, stage.run(Plan::new(peers, self.seconds / 2.0)).await?));
        }
        self.growth(
            "size of the mesh",
            ["mesh-latency.svg", "mesh-rate.svg"],
            "connected peers, 10 pairs active",
            &results,
        );
        stage.end().await
    }

    async fn growth_payload(&mut self) -> anyhow::Result<()> {
        let stage = Stage::new("payload", 20, &StoreKind::Sqlite).await?;
        let mut results = Vec::new();
        for bytes in [100, 1_000, 10_000, 100_000] {
            let mut plan = Plan::new(pairs(10, 4), self.seconds / 2.0);
            plan.payload = bytes;
            results.push((bytes as f64, stage.run(plan).await?));
        }
        self.growth(
            "payload",
            ["payload-latency.svg", "payload-rate.svg"],
            "bytes of ciphertext, 10 pairs",
            &results,
        );
        stage.end().await
    }

    async fn growth_depth(&mut self) -> anyhow::Result<()> {
        let mut stage = Stage::new("depth", 30, &StoreKind::Sqlite).await?;
        let absent = stage.world.members.split_off(20);
        let mut results = Vec::new();
        let mut waiting = 0;
        let mut depth = 1_000;
        while depth <= self.depth {
            // Senders to members that are away fill the queue.
            let fill = absent.iter().map(|member| Peer {
                to: To::Absent(member.key.clone()),
                window: 64,
                ..Peer::default()
            });
            let mut plan = Plan::new(fill.collect(), 600.0);
            plan.most = Some(depth - waiting);
            stage.run(plan).await?;
            waiting = depth;
            results.push((
                depth as f64,
                stage.run(Plan::new(pairs(10, 4), self.seconds / 2.0)).await?,
            ));
            let started = Instant::now();
            let mut wire = crate::wire::connect(stage.broker.address, &absent[0]).await?;
            let first = async {
                while let Some(Ok(frame)) = wire.socket.next().await {
                    if frame
                        .to_text()
                        .is_ok_and(|text| text.starts_with(r#"{"type":"push""#) && !text.contains("system"))
                    {
                        return;
                    }
                }
            };
            let found = tokio::time::timeout(Duration::from_secs(10), first).await.is_ok();
            let took = time(u64::try_from(started.elapsed().as_nanos())?);
            self.report.fact(
                format!(
                    "from dialling to the first of {} waiting messages",
                    grouped(depth as f64 / 10.0)
                ),
                if found { took } else { "not within 10 s".to_owned() },
            );
            depth *= 10;
        }
        self.report.fact(
            "database with that many waiting messages",
            format!("{} MB", stage.data.bytes() / 1_000_000),
        );
        self.growth(
            "waiting messages",
            ["depth-latency.svg", "depth-rate.svg"],
            "messages that wait for others",
            &results,
        );
        stage.end().await
    }
}
