//! The commands against a real broker: `up` in one process, a second person in others.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Person, Running, up};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Kai runs the broker and owns the mesh; Ana has joined it.
struct Mesh {
    kai: Person,
    ana: Person,
    ready: Value,
    up: Running,
}

impl Mesh {
    fn start() -> Self {
        let kai = Person::new();
        let (up, ready) = up(&kai, &["--name", "kai", "--mesh-name", "Team One"]);
        let ana = Person::new();
        let joined = ana.json(&["join", ready["invite"]["url"].as_str().unwrap(), "--name", "ana"]);
        assert_eq!(joined["meshId"], ready["mesh"]["meshId"]);
        Self { kai, ana, ready, up }
    }
}

fn texts(inbox: &Value) -> Vec<&str> {
    inbox["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["text"].as_str().unwrap())
        .collect()
}

#[test]
fn cli_07_16_17_40_two_people_on_one_broker() {
    let mesh = Mesh::start();
    let (kai, ana) = (&mesh.kai, &mesh.ana);
    assert_eq!(mesh.ready["mesh"]["slug"], "team-one");

    // Keys are in private files, not in the configuration.
    for (person, file) in [(kai, "team-one.key"), (kai, "team-one.owner"), (ana, "team-one.key")] {
        let path = person.dir.join("keys").join(file);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().trim().len(), 128);
    }
    assert!(!ana.dir.join("keys/team-one.owner").exists());
    let config: Value = serde_json::from_str(&fs::read_to_string(ana.dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["meshes"][0]["keyFile"], "keys/team-one.key");
    assert!(config["meshes"][0].get("secretKey").is_none());

    // One-shot commands are not peers, and members are found without being connected.
    let peers = kai.json(&["peers", "--all"]);
    assert_eq!(peers["meshes"][0]["peers"], json!([]));
    let names: Vec<_> = peers["meshes"][0]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["displayName"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kai", "ana"]);

    // A message waits for who is away; looking does not take it, other commands do not either.
    let sent = kai.json(&["send", "ana", "hello", "from", "kai"]);
    assert_eq!((&sent["stage"], &sent["recipients"]), (&json!("accepted"), &json!(1)));
    let id = sent["messageId"].as_str().unwrap();
    for words in [
        &["peers"][..],
        &["info"],
        &["status"],
        &["state", "list"],
        &["audit"],
        &["verify"],
    ] {
        ana.json(words);
    }
    let stage = |id: &str| kai.json(&["status", "--message", id])["recipients"][0]["stage"].clone();
    assert_eq!(stage(id), "accepted");
    let peeked = ana.json(&["inbox", "--peek"]);
    assert_eq!(
        (texts(&peeked), &peeked["peeked"]),
        (vec!["hello from kai"], &json!(true))
    );
    assert_eq!(stage(id), "accepted");
    let inbox = ana.json(&["inbox"]);
    assert_eq!(texts(&inbox), ["hello from kai"]);
    assert_eq!(inbox["messages"][0]["authenticated"], true);
    assert_eq!(inbox["messages"][0]["from"], "kai");
    let status = kai.json(&["status", "--message", id]);
    assert_eq!(
        (&status["recipients"][0]["stage"], &status["recipients"][0]["adapter"]),
        (&json!("read"), &json!("terminal"))
    );
    assert_eq!(texts(&ana.json(&["inbox"])), Vec::<&str>::new(), "nothing comes twice");
    mesh.up.wait_for("the receipt", |line| {
        line["receipt"]["messageId"] == id && line["receipt"]["stage"] == "read"
    });

    // The rest of the daily commands.
    kai.json(&["state", "set", "sprint", "42"]);
    assert_eq!(ana.json(&["state", "get", "sprint"])["value"], 42);
    assert_eq!(ana.run(&["state", "get", "sprint"]).stdout.lines().next(), Some("42"));
    assert_eq!(ana.json(&["state", "list"])["entries"][0]["updatedBy"], "kai");
    ana.json(&["state", "delete", "sprint"]);
    assert_eq!(ana.run(&["state", "get", "sprint"]).code, 5);
    mesh.up
        .wait_for("the state change", |line| line["event"] == "state_deleted");

    let info = ana.json(&["info"]);
    assert_eq!(
        (&info["slug"], &info["members"], &info["displayName"]),
        (&json!("team-one"), &json!(2), &json!("ana"))
    );
    let status = ana.json(&["status"]);
    assert_eq!(status["meshes"][0]["ok"], true);
    assert!(status["meshes"][0]["connectMs"].is_u64() && status["meshes"][0]["roundTripMs"].is_f64());

    let audit = ana.json(&["audit", "--type", "message_sent", "--limit", "5"]);
    assert_eq!(audit["entries"][0]["actor"], "kai");
    assert!(!audit.to_string().contains("hello from kai"));
    assert_eq!(ana.json(&["audit", "--verify"])["valid"], true);

    // Both sides see the same digits.
    let (seen_by_kai, seen_by_ana) = (kai.json(&["verify", "ana"]), ana.json(&["verify", "kai"]));
    assert_eq!(
        seen_by_kai["peers"][0]["safetyNumber"],
        seen_by_ana["peers"][0]["safetyNumber"]
    );
    assert_eq!(seen_by_kai["groupHead"], seen_by_ana["groupHead"]);

    // A broken recipient is told at once.
    let run = kai.run(&["send", "anna", "hi", "--json"]);
    assert_eq!((run.code, &run.error()["error"]["code"]), (5, &json!("no_such_peer")));
    assert!(
        run.error()["error"]["next"].as_str().unwrap().contains("ana"),
        "{run:?}"
    );

    assert_eq!(mesh.up.stop("INT"), 0);
}

/// Every file below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The original left the mesh's root key in a file that everybody could read and nobody read.
#[test]
fn cli_45_joining_leaves_private_files_of_known_names_only() {
    let mesh = Mesh::start();
    let ana = &mesh.ana;
    let url = mesh.ready["invite"]["url"].as_str().unwrap();
    let secret = url.rsplit_once('#').unwrap().1;
    ana.json(&["peers"]);
    let mut found = Vec::new();
    files(ana.home(), &mut found);
    assert!(found.len() > 1, "{found:?}");
    for path in &found {
        let name = path.strip_prefix(&ana.dir).unwrap_or(path).display().to_string();
        let is_key = |name: &str| [".key", ".group", ".lock"].iter().any(|end| name.ends_with(end));
        let known = name == "config.json" || name == "config.lock" || name.strip_prefix("keys/").is_some_and(is_key);
        assert!(known, "{name} is left behind");
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o077,
            0,
            "{name} is open to others"
        );
        let content = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        assert!(
            !content.contains(secret) && !content.contains(url),
            "{name} has the link"
        );
    }
    let mut folders = vec![ana.dir.clone(), ana.dir.join("keys")];
    folders.retain(|folder| fs::metadata(folder).unwrap().permissions().mode() & 0o077 != 0);
    assert_eq!(folders, Vec::<PathBuf>::new(), "open to others");
    assert_eq!(mesh.up.stop("INT"), 0);
}

/// Meshes that were joined by a short link were called `mesh-1a2b3c4d` by the original.
#[test]
fn cli_65_a_joined_mesh_has_its_name() {
    let mesh = Mesh::start();
    let url = mesh.ready["invite"]["url"].as_str().unwrap();
    let (address, code) = url.split_once('#').unwrap().0.rsplit_once("/i/").unwrap();
    let by_code = Person::new();
    let broker = format!("{}/ws", address.replacen("http", "ws", 1));
    let words = ["join", code, "--name", "cleo", "--json"];
    let run = by_code.run_with(&words, &[("CLAUDEMESH_BROKER_URL", &broker)]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["meshId"], mesh.ready["mesh"]["meshId"]);
    for person in [&mesh.ana, &by_code] {
        let listed = person.json(&["list"]);
        let joined = &listed["meshes"][0];
        assert_eq!(
            (&joined["slug"], &joined["name"]),
            (&json!("team-one"), &json!("Team One")),
            "{joined}"
        );
        // The name is good for choosing it.
        assert_eq!(person.json(&["info", "--mesh", "team-one"])["slug"], "team-one");
    }
    assert_eq!(mesh.up.stop("INT"), 0);
}

#[test]
fn groups_profiles_and_grants() {
    let mesh = Mesh::start();
    let (kai, ana) = (&mesh.kai, &mesh.ana);

    let sent = kai.json(&["send", "@all", "to everybody"]);
    assert_eq!(sent["recipients"], 1);
    let inbox = ana.json(&["inbox", "--wait", "20"]);
    assert_eq!(texts(&inbox), ["to everybody"]);
    assert_eq!(inbox["messages"][0]["authenticated"], true);

    let profile = ana.json(&[
        "profile",
        "--name",
        "Ana B",
        "--role-tag",
        "backend",
        "--groups",
        "eng:lead,docs",
    ]);
    assert_eq!(profile["member"]["displayName"], "Ana B");
    assert_eq!(profile["member"]["groups"][0], json!({"name": "eng", "role": "lead"}));
    assert_eq!(ana.json(&["profile"])["member"]["roleTag"], "backend");
    assert_eq!(ana.run(&["profile", "--member", "kai", "--name", "x"]).code, 7);
    assert_eq!(
        kai.json(&["profile", "--member", "Ana B", "--name", "ana"])["member"]["displayName"],
        "ana"
    );

    // Grants are kept by member key and hold although nobody is connected.
    let kai_key = kai.json(&["list"])["meshes"][0]["pubkey"].as_str().unwrap().to_owned();
    let blocked = ana.json(&["block", "kai"]);
    assert_eq!(blocked["grants"][&kai_key], json!([]));
    assert_eq!(blocked["names"][&kai_key], "kai");
    assert_eq!(kai.run(&["send", "ana", "hi"]).code, 7);
    assert_eq!(
        ana.json(&["grant", &kai_key[..8], "dm"])["grants"][&kai_key],
        json!(["dm"])
    );
    assert_eq!(kai.run(&["send", "ana", "hi again"]).code, 0);
    assert_eq!(ana.json(&["revoke", "kai", "dm"])["grants"][&kai_key], json!([]));
    assert_eq!(ana.json(&["block", "kai", "--reset"])["grants"], json!({}));
    assert_eq!(ana.json(&["grants"])["grants"], json!({}));
    assert_eq!(ana.run(&["grant", "kai", "everything"]).code, 3);

    // A member cannot invite; an admin link needs the owner.
    assert_eq!(ana.run(&["invite"]).code, 7);
    let invite = kai.json(&["invite", "--uses", "3", "--expires", "2h", "--role", "admin"]);
    assert_eq!((&invite["uses"], &invite["role"]), (&json!(3), &json!("admin")));

    let tool = ana.json(&["tool", "send_message", "to=kai", "message=by tool"]);
    assert_eq!(tool["results"][0]["stage"], "accepted");
    assert_eq!(texts(&kai.json(&["inbox"])).last(), Some(&"by tool"));
    assert_eq!(ana.run(&["tool", "send_message", "to=kai", "mesage=x"]).code, 3);

    // Removal ends the membership.
    assert_eq!(kai.run(&["remove", "ana"]).code, 3, "asks for --yes");
    assert_eq!(kai.json(&["remove", "ana", "--yes"])["name"], "ana");
    assert_eq!(ana.run(&["peers"]).code, 7);
    assert_eq!(mesh.up.stop("TERM"), 0);
}

#[test]
fn cli_16_the_mail_of_a_connected_session_is_left_to_it() {
    let mesh = Mesh::start();
    let (kai, ana) = (&mesh.kai, &mesh.ana);
    let following = ana.start(&["inbox", "--follow", "--json"]);
    mesh.up
        .wait_for("ana", |line| line["event"] == "peer_joined" && line["actor"] == "ana");

    let sent = kai.json(&["send", "ana", "are you there?", "--wait", "read"]);
    assert_eq!(sent["status"]["recipients"][0]["stage"], "read");
    following.wait_for("the message", |line| line["text"] == "are you there?");

    kai.json(&["send", "ana", "when you have time", "--priority", "low"]);
    let looked = ana.json(&["inbox"]);
    assert_eq!(
        (texts(&looked), &looked["peeked"]),
        (vec!["when you have time"], &json!(true))
    );
    assert_eq!(following.stop("INT"), 0);
    mesh.up.wait_for("ana's leaving", |line| {
        line["event"] == "peer_left" && line["actor"] == "ana"
    });
    let inbox = ana.json(&["inbox"]);
    assert_eq!(
        (texts(&inbox), &inbox["peeked"]),
        (vec!["when you have time"], &json!(false))
    );

    let late = kai.run(&[
        "send",
        "ana",
        "nobody home",
        "--wait",
        "read",
        "--timeout",
        "1s",
        "--json",
    ]);
    assert_eq!((late.code, &late.error()["error"]["code"]), (4, &json!("timeout")));
}

#[test]
fn up_is_found_again_and_remembers() {
    let mesh = Mesh::start();
    let data = mesh.kai.home().join("data");
    let again = mesh.kai.start(&["up", "--json", "--data-dir", data.to_str().unwrap()]);
    let ready = again.wait_for("ready", |line| line["event"] == "ready");
    assert_eq!((&ready["started"], &ready["url"]), (&json!(false), &mesh.ready["url"]));
    assert_eq!(ready["mesh"]["meshId"], mesh.ready["mesh"]["meshId"]);
    assert_eq!(again.stop("INT"), 0);
    mesh.kai.json(&["send", "ana", "kept over a restart"]);
    assert_eq!(mesh.up.stop("INT"), 0);
    assert_eq!(mesh.ana.run(&["peers"]).code, 4);

    let once_more = mesh.kai.start(&["up", "--json", "--data-dir", data.to_str().unwrap()]);
    let ready = once_more.wait_for("ready", |line| line["event"] == "ready");
    assert_eq!(
        (&ready["started"], &ready["url"]),
        (&json!(true), &mesh.ready["url"]),
        "the same port"
    );
    assert_eq!(texts(&mesh.ana.json(&["inbox"])), ["kept over a restart"]);

    let left = mesh.ana.json(&["leave", "team-one", "--yes", "--remove-me"]);
    assert_eq!(
        (&left["removedFromBroker"], &left["remaining"]),
        (&json!(true), &json!([]))
    );
    assert!(!mesh.ana.dir.join("keys/team-one.key").exists());
    let members = mesh.kai.json(&["peers", "--all"]);
    assert_eq!(members["meshes"][0]["members"].as_array().unwrap().len(), 1);
}

#[test]
fn the_demo_shows_the_whole_ladder_and_answers() {
    let kai = Person::new();
    let (up, ready) = up(&kai, &["--name", "kai", "--demo"]);
    assert_eq!(ready["started"], true);
    let mut seen = Vec::new();
    for stage in ["delivered", "surfaced", "read"] {
        let line = up.wait_for(stage, |line| {
            line["receipt"]["name"] == "ben" && line["receipt"]["stage"] == stage
        });
        seen.push(line["receipt"]["messageId"].clone());
    }
    assert!(seen.iter().all(|id| *id == seen[0]), "one message: {seen:?}");

    let sent = kai.json(&["send", "ana", "hello demo", "--wait", "read"]);
    assert_eq!(sent["status"]["recipients"][0]["adapter"], "demo");
    let inbox = kai.json(&["inbox", "--wait", "20"]);
    assert_eq!(inbox["messages"][0]["from"], "ana");
    assert!(texts(&inbox)[0].contains("hello demo"));
    assert_eq!(up.stop("INT"), 0);
}
