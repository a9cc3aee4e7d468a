//! What the mesh remembers.

use super::enrolment::{patch, permission, permissions};
use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, KeyHex, Permissions, Role};
use claudemesh_client::proto::ops::{
    Forget, Memory, MemoryResults, MeshInfo, Recall, Remember, RemoveMember, SetGrants,
};
use claudemesh_client::proto::tools::ForgetTool;
use claudemesh_client::{ClientError, MeshClient};

fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

async fn remember(client: &MeshClient, content: &str, of: &[&str]) -> String {
    let request = Remember {
        content: content.to_owned(),
        tags: tags(of),
    };
    client.request(request).await.unwrap().id
}

async fn recall(client: &MeshClient, query: &str) -> MemoryResults {
    let request = Recall {
        query: query.to_owned(),
        ..Recall::default()
    };
    client
        .request(request)
        .await
        .unwrap_or_else(|error| panic!("{query:?}: {error}"))
}

fn contents(found: &MemoryResults) -> Vec<&str> {
    found.memories.iter().map(|memory| memory.content.as_str()).collect()
}

async fn forget(client: &MeshClient, id: &str) -> Result<bool, ClientError> {
    let request = Forget {
        memory_id: id.to_owned(),
    };
    Ok(client.request(request).await?.forgotten)
}

pub async fn grant(client: &MeshClient, to: KeyHex, capabilities: &[Capability]) {
    let grants = [(to, Some(capabilities.to_vec()))].into();
    client.request(SetGrants { grants }).await.unwrap();
}

pub async fn everybody_finds_what_is_remembered(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let long = format!(
        "{} The staging database is restored on Mondays. {}",
        "Nothing to see here. ".repeat(40),
        "More of the same. ".repeat(40)
    );
    remember(&ana, &long, &["ops"]).await;
    let id = remember(&ben, "Deploys to staging go out from main.", &["Ops", "deploy  steps", "ops"]).await;
    remember(&ben, "Lunch is at noon.", &[]).await;

    let found = recall(&cara, "how do we DEPLOY to staging?").await;
    assert_eq!(contents(&found), ["Deploys to staging go out from main."]);
    assert!(!found.partial && !found.more);
    let Memory {
        id: found_id,
        snippet,
        tags: found_tags,
        remembered_by,
        remembered_by_id,
        ..
    } = &found.memories[0];
    assert_eq!((found_id, remembered_by.as_str()), (&id, "ben"));
    assert_eq!(remembered_by_id.as_ref(), Some(&ben.person.identity.member_id));
    assert_eq!(found_tags, &tags(&["Ops", "deploy steps"]), "each tag once");
    assert_eq!(snippet, "**Deploys** to **staging** go out from main.");

    // Both have the word: the short text is about it, the long one is not.
    let found = recall(&cara, "staging").await;
    assert_eq!(contents(&found), ["Deploys to staging go out from main.", long.as_str()]);
    let snippet = &found.memories[1].snippet;
    assert!(snippet.contains("The **staging** database is restored"), "{snippet}");
    assert!(snippet.starts_with('…') && snippet.ends_with('…') && snippet.chars().count() < 230);
    // Tags are searched, and can be asked for.
    assert_eq!(recall(&cara, "ops").await.memories.len(), 2);
    let with = |query: &str, of: &[&str], limit| {
        ana.request(Recall {
            query: query.to_owned(),
            tags: tags(of),
            limit,
        })
    };
    assert_eq!(with("staging", &["OPS", "Deploy Steps"], None).await.unwrap().memories.len(), 1);
    assert_eq!(with("", &["ops"], None).await.unwrap().memories.len(), 2, "the newest");
    assert!(with("staging", &["op"], None).await.unwrap().memories.is_empty(), "not the beginning of one");
    let first = with("staging", &[], Some(1)).await.unwrap();
    assert_eq!((first.memories.len(), first.more), (1, true));
    // The beginning of a word, if there is no such word; some of the words, if nothing has them all.
    assert_eq!(contents(&recall(&ana, "lun").await), ["Lunch is at noon."]);
    let some = recall(&ana, "lunch zebra").await;
    assert_eq!((contents(&some), some.partial), (vec!["Lunch is at noon."], true));
    assert!(recall(&ana, "zebra").await.memories.is_empty());

    assert_eq!(ana.request(MeshInfo {}).await.unwrap().memory_count, 3);
    lab.restart().await;
    let found = within("the connection", recall(&cara, "deploying")).await;
    assert_eq!(found.memories[0].id, id);
    lab.finish().await;
}

pub async fn any_query_is_answered(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let texts = [
        "It's a \"quoted\" text with a-hyphen and an O'Reilly book",
        "東京都の天気は晴れです",
        "我们的数据库在周一恢复",
        "고양이가 잔다",
        "ราคาน้ำมัน",
        "See claudemesh-broker/src/store/dialect.rs:42 and C++",
        "🚀 launched -- with :: and *stars* and 100%",
        "naïve café Straße ＦＵＬＬ",
    ];
    for text in texts {
        remember(&ana, text, &[]).await;
    }
    for (query, expected) in [
        ("a-hyphen", 0),
        ("\"quoted text\"", 0),
        ("\"text with", 0),
        ("O'Reilly", 0),
        ("東京", 1),
        ("京都", 1),
        ("晴", 1),
        ("す", 1),
        ("天気 東京都", 1),
        ("数据库", 2),
        ("恢复", 2),
        ("고양이", 3),
        ("잔다", 3),
        ("น้ำมัน", 4),
        ("store/dialect.rs", 5),
        ("claudemesh-broker", 5),
        ("dialect.rs:42", 5),
        ("c++", 5),
        ("🚀", 6),
        ("*", 6),
        ("::", 6),
        ("100%", 6),
        ("--", 6),
        ("CAFÉ", 7),
        ("cafe\u{301}", 7),
        ("full", 7),
    ] {
        let found = recall(&ben, query).await;
        assert!(contents(&found).contains(&texts[expected]), "{query}: {:?}", contents(&found));
        assert!(!found.partial, "{query}");
    }
    for query in [
        "AND", "OR NOT", "NEAR(a b)", "NEAR/3", "a AND", "NOT quoted", "quoted OR", "mesh : x", "{body} : x", "body:x",
        "^quoted", "quot*", "*quot", "(quoted", "quoted)", "((((", "\"", "\"\"", "\"\"\"", "'", "''", "\\", "\\'", "a & b",
        "a | b", "!a", "a <-> b", "a:*", ":*", "<->", "&", "|", "'; DROP TABLE memory; --", "%", "_", "%_%", "\u{202e}x",
        "\u{feff}", "\n\t", " ", "", "日本-語 \"東", "x'y\"z", "\u{10ffff}", "ﷺ ﬁ ①", "e\u{301}\u{301}\u{301}", "-a -b", "+a",
        "#tag", "@name", "~", "a,b;c", "$1", "?1", ":a", "0x1F", "1e999", "-1",
    ] {
        recall(&ben, query).await;
    }
    for query in ["a ".repeat(512), "猫".repeat(1024), "\"a\" ".repeat(256), "x".repeat(1024), "(".repeat(1024)] {
        recall(&ben, &query).await;
    }
    assert_eq!(ben.request(MeshInfo {}).await.unwrap().memory_count, texts.len() as u64);
    lab.finish().await;
}

pub async fn defect_022_only_author_and_admins_forget(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (first, second) = (
        remember(&ben, "the first secret plan", &[]).await,
        remember(&ben, "the second secret plan", &[]).await,
    );
    for id in [&first, &second] {
        let (code, field) = refusal(forget(&cara, id).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::Forbidden, Some("/memoryId")));
    }
    assert_eq!(recall(&cara, "secret").await.memories.len(), 2, "and nothing was changed");
    assert!(forget(&ben, &first).await.unwrap(), "the author");
    assert!(!forget(&ben, &first).await.unwrap(), "again");
    let tool = ben.forget_tool(ForgetTool { id: first.clone() }).await.unwrap();
    assert_eq!((tool.id, tool.forgotten), (first.clone(), false));
    assert_eq!(contents(&recall(&cara, "secret").await), ["the second secret plan"]);
    assert_eq!(recall(&cara, "the first plan").await.memories.len(), 1, "{first} is found by no query");
    assert_eq!(recall(&cara, "").await.memories.len(), 1);
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().memory_count, 1);

    patch(&lab, &ana, &cara, permission(Role::Admin)).await.unwrap();
    assert!(forget(&cara, &second).await.unwrap(), "an admin");
    let third = remember(&cara, "the third secret plan", &[]).await;
    assert_eq!(code(forget(&ben, &third).await), ErrorCode::Forbidden);
    assert!(forget(&ana, &third).await.unwrap(), "the owner");
    for id in ["nothing", "'; DROP TABLE memory; --", &"x".repeat(64)] {
        assert_eq!(code(forget(&ana, id).await), ErrorCode::NotFound);
    }
    lab.restart().await;
    assert!(within("the connection", recall(&ben, "secret plan")).await.memories.is_empty());
    lab.finish().await;
}

pub async fn each_mesh_remembers_for_itself(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let olga = lab.mesh("Other", "olga").await;
    let id = remember(&ana, "the canary sings", &["canary"]).await;
    let theirs = remember(&olga, "their canary sleeps", &["canary"]).await;
    for query in ["canary", "sings", "", "the canary sings", ana.person.identity.mesh_id.as_str(), "mesh"] {
        let found = recall(&olga, query).await;
        assert!(found.memories.iter().all(|memory| memory.id == theirs), "{query}: {found:?}");
    }
    assert_eq!(contents(&recall(&ben, "canary").await), ["the canary sings"]);
    assert_eq!(code(forget(&olga, &id).await), ErrorCode::NotFound);
    assert_eq!(olga.request(MeshInfo {}).await.unwrap().memory_count, 1);
    assert_eq!(recall(&ben, "canary").await.memories.len(), 1);
    lab.finish().await;
}

pub async fn who_may_not_read_or_write_does_not(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let id = remember(&ben, "ben's word", &[]).await;
    remember(&ana, "ana's word", &[]).await;
    grant(&ben, cara.key(), &[Capability::Read, Capability::Dm]).await;
    assert_eq!(contents(&recall(&cara, "word").await), ["ana's word"]);
    assert_eq!(contents(&recall(&cara, "'").await), ["ana's word"]);
    assert_eq!(code(forget(&cara, &id).await), ErrorCode::NotFound, "it is not told of");
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().memory_count, 1);
    assert_eq!(recall(&ana, "word").await.memories.len(), 2);
    grant(&ben, cara.key(), &[Capability::StateRead]).await;
    assert_eq!(recall(&cara, "word").await.memories.len(), 2);

    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    let write = Remember {
        content: "x".to_owned(),
        tags: Vec::new(),
    };
    assert_eq!(code(ben.request(write).await), ErrorCode::Forbidden);
    assert_eq!(code(forget(&ben, &id).await), ErrorCode::Forbidden);
    assert_eq!(recall(&ben, "word").await.memories.len(), 2, "reading is free");
    // What a removed member wrote stays, and admins can forget it.
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert_eq!(recall(&cara, "word").await.memories.len(), 2);
    assert!(forget(&ana, &id).await.unwrap());
    lab.finish().await;
}

pub async fn limits_are_told(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    let largest = "word ".repeat(32_768 / 5);
    remember(&ana, &largest, &[]).await;
    assert_eq!(recall(&ana, "word").await.memories[0].content, largest);
    let widest = "語".repeat(32_768 / 3);
    remember(&ana, &widest, &[]).await;
    assert_eq!(recall(&ana, "語語語").await.memories[0].content, widest);
    let store = |content: &str, of: Vec<String>| {
        ana.request(Remember {
            content: content.to_owned(),
            tags: of,
        })
    };
    let tag = |length: usize| "t".repeat(length);
    store("tagged", (0..32).map(|number| format!("{}{number}", tag(62))).collect()).await.unwrap();
    for (content, of, expected, place) in [
        ("語".repeat(11_000), Vec::new(), ErrorCode::TooLarge, "/content"),
        ("x".repeat(32_769), Vec::new(), ErrorCode::InvalidRequest, "/content"),
        (String::new(), Vec::new(), ErrorCode::InvalidRequest, "/content"),
        (" \n\t".to_owned(), Vec::new(), ErrorCode::InvalidRequest, "/content"),
        ("x".to_owned(), vec![tag(65)], ErrorCode::InvalidRequest, "/tags/0"),
        ("x".to_owned(), vec![String::new()], ErrorCode::InvalidRequest, "/tags/0"),
        ("x".to_owned(), vec![tag(1); 33], ErrorCode::InvalidRequest, "/tags"),
    ] {
        let (code, field) = refusal(store(&content, of).await);
        assert_eq!((code, field.as_deref()), (expected, Some(place)));
    }
    for limit in [0, 101] {
        let query = Recall {
            query: "x".to_owned(),
            tags: Vec::new(),
            limit: Some(limit),
        };
        assert_eq!(refusal(ana.request(query).await).1.as_deref(), Some("/limit"));
    }
    // An answer has a size of its own.
    for _ in 0..40 {
        remember(&ana, &largest, &[]).await;
    }
    let query = Recall {
        query: "word".to_owned(),
        tags: Vec::new(),
        limit: Some(100),
    };
    let found = ana.request(query).await.unwrap();
    assert!(found.more && (30..40).contains(&found.memories.len()), "{}", found.memories.len());
    lab.finish().await;
}
