//! Arguments, help, exit codes and what is printed where, without a broker.
#![allow(clippy::unwrap_used)]

mod common;

use common::Person;

const COMMANDS: &[&str] = &[
    "up", "broker", "create", "invite", "join", "list", "leave", "peers", "send", "inbox", "state", "info", "status",
    "remember", "recall", "forget", "context", "task", "vector", "graph", "skill", "profile", "grant", "revoke",
    "block", "grants", "remove", "verify", "audit", "mcp", "tool",
];

#[test]
fn cli_64_every_command_has_help_with_examples() {
    let person = Person::new();
    let overview = person.run(&["--help"]);
    assert_eq!(overview.code, 0);
    for command in COMMANDS {
        assert!(
            overview.stdout.contains(&format!("\n  {command} ")),
            "{command} in {}",
            overview.stdout
        );
        let help = person.run(&[command, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{command}");
        assert!(help.stdout.contains("Examples:"), "{command}: {}", help.stdout);
        assert!(
            help.stdout.contains(&format!("claudemesh {command}")) || *command == "mcp",
            "{command}"
        );
    }
}

/// Every `claudemesh <word>` of a text, whatever it is wrapped in.
fn commands_in(text: &str) -> Vec<String> {
    let words = text.replace(['`', '\'', '"', '(', ')', '$'], " ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let named = words.windows(2).filter(|pair| pair[0] == "claudemesh");
    named
        .map(|pair| pair[1].trim_end_matches(['.', ',', ':', ';']).to_owned())
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        .collect()
}

/// The original's help and hints named commands that do not exist.
#[test]
fn cli_64_help_names_commands_that_exist() {
    let person = Person::new();
    let mut texts = vec![person.run(&["--help"]).stdout];
    for command in COMMANDS {
        texts.push(person.run(&[command, "--help"]).stdout);
        // Errors give hints: here without a mesh, without a broker, and without what is needed.
        texts.push(person.run(&[command, "--no-such-flag"]).stderr);
    }
    for words in [
        &["peers"][..],
        &["send", "ana", "hi"],
        &["list"],
        &["invite"],
        &["status"],
        &[],
    ] {
        let run = person.run(words);
        texts.extend([run.stdout, run.stderr]);
    }
    let mut count = 0;
    for text in texts {
        for word in commands_in(&text) {
            assert!(
                COMMANDS.contains(&word.as_str()) || word == "help",
                "`claudemesh {word}` in: {text}"
            );
            count += 1;
        }
    }
    assert!(count > COMMANDS.len(), "{count}");
}

#[test]
fn all_forms_of_version_work() {
    let person = Person::new();
    for flag in ["--version", "-V", "-v"] {
        let run = person.run(&[flag]);
        assert_eq!(run.code, 0);
        assert_eq!(run.stdout.trim(), concat!("claudemesh ", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn cli_61_mistakes_are_refused_with_a_hint_and_code_3() {
    let person = Person::new();
    for (words, hint) in [
        (&["pers"][..], "peers"),
        (&["send", "ana", "hi", "--priorty", "now"], "--priority"),
        (&["send", "ana", "hi", "--priority", "soon"], "--help"),
        (&["list", "--no-such-flag"], "--help"),
        (&["join"], "Usage"),
        (&["send", "ana", "   "], "message"),
        (&["invite", "--expires", "soon"], "--help"),
        (&["peers", "stray"], "--help"),
    ] {
        let run = person.run(words);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{words:?} {run:?}");
        assert!(
            run.stderr.starts_with("error: ") && run.stderr.contains(hint),
            "{words:?} {run:?}"
        );
    }
}

#[test]
fn errors_are_one_json_document_on_standard_error() {
    let person = Person::new();
    for (words, code, exit) in [
        (&["info", "--json"][..], "not_found", 5),
        (&["pears", "--json"], "invalid_request", 3),
        (&["state", "get", "x", "--mesh", "none", "--json"], "not_found", 5),
        (&["tool", "no_such_tool", "--json"], "not_found", 5),
        (&["join", "no invite", "--json"], "invalid_request", 3),
    ] {
        let run = person.run(words);
        assert_eq!((run.code, run.stdout.as_str()), (exit, ""), "{words:?} {run:?}");
        let error = run.error();
        assert_eq!(error["error"]["code"], code, "{words:?}");
        for member in ["message", "next"] {
            assert!(
                error["error"][member].as_str().is_some_and(|text| !text.is_empty()),
                "{error}"
            );
        }
    }
}

#[test]
fn without_a_mesh_the_next_step_is_named() {
    let person = Person::new();
    let run = person.run(&[]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("claudemesh up"), "{run:?}");
    assert!(person.run(&["peers"]).stderr.contains("claudemesh join"));
    assert_eq!(person.json(&["list"])["meshes"], serde_json::json!([]));
    assert_eq!(person.json(&["status"])["meshes"], serde_json::json!([]));
}

#[test]
fn an_unreachable_broker_is_a_network_error() {
    let person = Person::new();
    // Nothing listens on the discard port.
    let run = person.run(&["create", "team", "--broker", "ws://127.0.0.1:9/ws"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(!person.dir.join("config.json").exists());
    let run = person.run(&["https://127.0.0.1:9/i/abcdef"]);
    assert_eq!(run.code, 4, "an invite as first word is a join: {run:?}");
}

#[test]
fn tools_are_listed_with_schemas() {
    let person = Person::new();
    let tools = person.json(&["tool", "--list"]);
    let tools = tools["tools"].as_array().unwrap();
    let send = tools.iter().find(|tool| tool["name"] == "send_message").unwrap();
    assert!(send["inputSchema"]["properties"]["to"].is_object());
    assert!(send["outputSchema"]["properties"]["results"].is_object());
    assert!(person.run(&["tool", "--list"]).stdout.contains("send_message"));
}

#[test]
fn output_has_no_colours_without_a_terminal() {
    let person = Person::new();
    assert!(!person.run(&[]).stdout.contains('\x1b'));
    assert!(!person.run(&["--help"]).stdout.contains('\x1b'));
    assert!(!person.run(&["pers"]).stderr.contains('\x1b'));
}
