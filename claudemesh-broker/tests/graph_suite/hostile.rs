//! Queries of members who mean harm.

use super::{Graph, Lab, patient};
use claudemesh_broker::backends::graph::GraphError;
use serde_json::{Value, json};

/// Reading changes nothing, whatever the text looks like.
pub async fn reads_change_nothing(lab: &Lab) {
    let graph = lab.graph();
    graph.execute("CREATE (:T {a: 1})-[:R]->(:U)").await;
    let before = graph.query("MATCH (n) RETURN n ORDER BY n.a").await;
    for text in [
        "CREATE (:T)",
        "create (:T)",
        "MERGE (:T {a: 2})",
        "MERGE (t:T {a: 1}) ON MATCH SET t.a = 3",
        "MATCH (t:T) SET t.a = 2",
        "MATCH (t:T) SET t += {a: 2}",
        "MATCH (t:T) SET t:X",
        "MATCH (t:T) REMOVE t.a",
        "MATCH (t:T) REMOVE t:T",
        "MATCH (t:T) DETACH DELETE t",
        "MATCH ()-[r]->() DELETE r",
        "MATCH (t:T) WITH t MATCH (u:U) CREATE (t)-[:X]->(u) RETURN t",
        "/* MATCH */ CREATE (:T) // RETURN",
        "MATCH (n) RETURN n UNION CREATE (n) RETURN n",
        "UNWIND [1, 2] AS x CREATE (:T {a: x})",
        "FOREACH (x IN [1] | CREATE (:T))",
        "MATCH (n) CALL { CREATE (:T) } RETURN n",
        "CALL { CREATE (:T) RETURN 1 AS a } RETURN a",
        "CREATE INDEX FOR (n:T) ON (n.a)",
        "DROP INDEX x",
        "EXPLAIN CREATE (:T)",
        "PROFILE CREATE (:T)",
    ] {
        match graph.try_query(text, json!({})).await {
            Err(GraphError::Forbidden(_) | GraphError::Query(_)) => {}
            // A plan is no change.
            Ok(_) if text.starts_with("EXPLAIN") => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    let plain = graph.try_query("MATCH (t:T) SET t.a = 2", json!({})).await.unwrap_err();
    assert!(
        matches!(&plain, GraphError::Forbidden(text) if text.contains("graph_execute")),
        "{plain:?}"
    );
    assert_eq!(graph.query("MATCH (n) RETURN n ORDER BY n.a").await, before);
    assert_eq!(
        graph.value("RETURN 'CREATE (:T) DELETE x SET' AS text").await,
        "CREATE (:T) DELETE x SET"
    );
    // A mesh that has only read has no graph yet.
    if let Some(directory) = &lab.directory {
        let other = graph.neighbour();
        other.query("MATCH (n) RETURN n").await;
        let files = std::fs::read_dir(directory.path().join("graph")).unwrap().flatten();
        let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        assert!(!names.any(|name| name.starts_with(other.mesh.as_str())));
    }
}

/// What a mesh can say to see or touch what is another's. `{label}` is the label that Neo4j would have for the victim, `{id}` the
/// id of one of its nodes.
const REACHING: &[&str] = &[
    "MATCH (n) RETURN n",
    "MATCH (n:Secret) RETURN n",
    "MATCH (n {word: 'hidden'}) RETURN n",
    "MATCH (n) WHERE n.word IS NOT NULL RETURN n.word AS w",
    "MATCH (n) WHERE id(n) = {id} RETURN n",
    "MATCH (n) WHERE id(n) >= 0 RETURN n",
    "MATCH (n) WHERE elementId(n) ENDS WITH ':{id}' RETURN n",
    "MATCH (n:`{label}`) RETURN n",
    "MATCH (n:`{label}`|Secret) RETURN n",
    "MATCH (n:!Own) RETURN n",
    "MATCH (n:%) RETURN n",
    "MATCH (n:Own|!Own) RETURN n",
    "MATCH (n:(Own|Secret)&!Other) RETURN n",
    "MATCH (n IS Secret) RETURN n",
    "MATCH (n) WHERE n:`{label}` RETURN n",
    "MATCH (n) WHERE n:Secret OR true RETURN n",
    "MATCH (n:$('Secret')) RETURN n",
    "MATCH (n:$all('Secret')) RETURN n",
    "MATCH (n:$any(['{label}', 'Secret'])) RETURN n",
    "MATCH (n WHERE n.word IS NOT NULL) RETURN n",
    "MATCH ()-[r]->() RETURN r",
    "MATCH ()-[r:BIND]-() RETURN r",
    "MATCH ()-[r*1..3]-() RETURN r",
    "MATCH ()-[r]->() WHERE id(r) >= 0 RETURN startNode(r) AS n",
    "MATCH ()-[r WHERE r.word IS NOT NULL]->() RETURN r",
    "MATCH p = (a)-[*0..3]-(b) RETURN p",
    "MATCH p = shortestPath((a:Secret)-[*]-(b:Secret)) RETURN p",
    "MATCH p = allShortestPaths((a)-[*]-(b:Secret)) RETURN p",
    "MATCH p = ANY SHORTEST (a)-[]-+(b) RETURN p",
    "MATCH ((a)-[r]->(b)){1,3} RETURN a",
    "MATCH (a:Own) (()-[]-()){0,2} (b) RETURN b",
    "MATCH (a)-->+(b) RETURN b",
    "MATCH ALL (a)--(b) RETURN b",
    "MATCH REPEATABLE ELEMENTS (a)--(b) RETURN b",
    "OPTIONAL MATCH (n:Secret) WITH n WHERE n IS NOT NULL RETURN n",
    "RETURN [(n:Secret)-[]-(m) | n.word] AS w",
    "RETURN [p = (:Secret)--() | p] AS w",
    "MATCH (o:Own) RETURN [(n)-->(m) WHERE n.word = 'hidden' | m] AS w",
    "MATCH (o:Own) WHERE EXISTS { (n:Secret) } RETURN o.nothing AS w, 'hidden' AS leak",
    "MATCH (o:Own) WHERE EXISTS { MATCH (n:Secret) } RETURN 'hidden' AS leak",
    "MATCH (o:Own) WHERE EXISTS { MATCH (n) WHERE n.word = 'hidden' RETURN n } RETURN 'hidden' AS leak",
    "MATCH (o:Own) WHERE COUNT { (n:Secret) } > 0 RETURN 'hidden' AS leak",
    "MATCH (o:Own) WHERE COUNT { MATCH (n) RETURN n } > 1 RETURN 'hidden' AS leak",
    "MATCH (o:Own) RETURN COLLECT { MATCH (n:Secret) RETURN n.word } AS w",
    "MATCH (o:Own) WHERE (:Secret)-[]-() RETURN 'hidden' AS leak",
    "MATCH (o:Own) WHERE exists((:Secret)--()) RETURN 'hidden' AS leak",
    "MATCH (o:Own) WHERE size([(:Secret)--() | 1]) > 0 RETURN 'hidden' AS leak",
    "CALL { MATCH (n:Secret) RETURN n } RETURN n",
    "MATCH (o:Own) CALL (o) { MATCH (n:Secret) RETURN n } RETURN n",
    "CALL db.labels() YIELD label RETURN label",
    "CALL db.labels()",
    "CALL db.propertyKeys()",
    "CALL db.relationshipTypes()",
    "CALL db.schema.visualization()",
    "CALL db.schema.nodeTypeProperties()",
    "CALL dbms.listConfig()",
    "CALL dbms.components()",
    "CALL dbms.killTransaction('x')",
    "CALL dbms.security.listUsers()",
    "CALL db.index.fulltext.queryNodes('x', 'hidden') YIELD node RETURN node",
    "CALL apoc.cypher.run('MATCH (n) RETURN n', {}) YIELD value RETURN value",
    "CALL tx.getMetaData()",
    "CALL `db`.`labels`()",
    "SHOW DATABASES",
    "SHOW USERS",
    "SHOW INDEXES YIELD *",
    "SHOW TRANSACTIONS",
    "SHOW PROCEDURES",
    "SHOW SETTINGS",
    "USE system SHOW DATABASES",
    "USE neo4j MATCH (n) RETURN n",
    "USE graph.byName('neo4j') MATCH (n) RETURN n",
    "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
    "LOAD CSV WITH HEADERS FROM 'http://127.0.0.1:1/' AS line RETURN line",
    "CYPHER runtime=slotted MATCH (n) RETURN n",
    "CYPHER 25 MATCH (n) RETURN n",
    "EXPLAIN MATCH (n:Secret) RETURN n",
    "PROFILE MATCH (n:Secret) RETURN n",
    "MATCH (n:Secret) USING INDEX n:Secret(word) RETURN n",
    "MATCH (n) RETURN n; MATCH (m) RETURN m",
    "MATCH (n:Own)\\u0029 RETURN n",
    "MATCH (n:Own {a: '\\u0027}) MATCH (m) RETURN m //'}) RETURN n",
    "MATCH (n:Own {a: '\\'}) MATCH (m:Secret) RETURN m //'}) RETURN n",
    "MATCH (n:`Own\\u0060) MATCH (m` ) RETURN n",
    "MATCH (n:`Own``) MATCH (m:Secret) RETURN m //`) RETURN n",
    "MATCH (n:Own /* ) MATCH (m:Secret) RETURN m */) RETURN n",
    "MATCH (n:Own) // \n MATCH (m:Secret) RETURN m",
    "MATCH (n:Own) WITH n MATCH (m) WHERE m <> n RETURN m",
    "MATCH (n:Own) WITH n AS m MATCH (n) RETURN n",
    "MATCH (n:Own) UNWIND [1] AS x MATCH (m) RETURN m",
    "MATCH (n:Own) RETURN 1 AS a UNION MATCH (n) RETURN n.word AS a",
    "MATCH (n:Own) RETURN n.a AS a NEXT MATCH (m) RETURN m",
    "LET x = 1 MATCH (n) RETURN n",
    "FINISH",
    "WITH 1 AS x MATCH (n), (m:Secret) RETURN m",
    "MATCH (n:Own), (m) RETURN m",
    "MATCH (n:Own)-[r]-(m) RETURN m",
    "MATCH (n:Own)--(m)--(o) RETURN o",
    "RETURN graph.names() AS g",
    "RETURN apoc.version() AS v",
    "RETURN file() AS f",
    "RETURN properties({id}) AS p",
    "MATCH (n:Own) RETURN n { .*, leak: [(m:Secret)--() | m.word] } AS n",
    "MATCH (o:Own) RETURN reduce(x = [], n IN [(s:Secret)--() | s.word] | x + n) AS w",
    "MATCH (o:Own) RETURN CASE WHEN (:Secret)--() THEN 'hidden' END AS leak",
    "MATCH (o:Own) RETURN head([(n)--() | n.word]) AS w",
    "MATCH (n) RETURN count(n) AS n ORDER BY size([(s:Secret)--() | 1])",
    "MATCH (n) WITH count(n) AS n, max(n.word) AS w RETURN w",
];

/// What a mesh can say to change what is another's, or to give its own nodes away.
const CHANGING: &[&str] = &[
    "MATCH (n) DETACH DELETE n",
    "MATCH (n:Secret) SET n.word = 'changed'",
    "MATCH (n) WHERE id(n) = {id} SET n.word = 'changed'",
    "MATCH (n) SET n = {word: 'changed'}",
    "MATCH (n) REMOVE n:`{label}`",
    "MATCH (n) REMOVE n.word",
    "MATCH (n:Own) SET n:`{label}`",
    "MATCH (n:Own) SET n:Own:`{label}`",
    "MATCH (n:Own) SET n:$('{label}')",
    "MATCH (n:Own) SET n IS `{label}`",
    "CREATE (n:`{label}` {word: 'planted'})",
    "CREATE (n:Own&`{label}` {word: 'planted'})",
    "CREATE (n:$('{label}') {word: 'planted'})",
    "MERGE (n:`{label}` {word: 'planted'})",
    "MERGE (n:Secret {word: 'hidden'}) SET n.seen = 1",
    "MERGE (n {word: 'hidden'}) ON MATCH SET n.word = 'changed'",
    "MERGE (a:Secret)-[r:BIND]->(b:Secret) SET a.seen = 1, b.seen = 1",
    "MATCH (o:Own), (s:Secret) CREATE (o)-[:R]->(s)",
    "MATCH (o:Own) MERGE (o)-[:R]->(s:Secret) SET s.seen = 1",
    "MATCH (o:Own) CREATE (o)-[:R]->(s:Secret {word: 'mine'})",
    "MATCH ()-[r:BIND]->() DELETE r",
    "MATCH ()-[r]->() SET r.word = 'changed'",
    "MATCH p = (:Secret)--() FOREACH (n IN nodes(p) | SET n.word = 'changed')",
    "FOREACH (x IN [1] | MERGE (n:Secret {word: 'hidden'}) SET n.seen = 1)",
    "FOREACH (x IN [1] | CREATE (:`{label}` {word: 'planted'}))",
    "MATCH (o:Own) CALL { MATCH (n:Secret) DETACH DELETE n }",
    "MATCH (o:Own) CALL { MATCH (n:Secret) DETACH DELETE n } IN TRANSACTIONS",
    "CALL db.createLabel('x')",
    "CALL db.clearQueryCaches()",
    "CALL apoc.nodes.delete([{id}], 1)",
    "CREATE INDEX own FOR (n:Secret) ON (n.word)",
    "CREATE CONSTRAINT own FOR (n:Secret) REQUIRE n.word IS UNIQUE",
    "DROP CONSTRAINT own IF EXISTS",
    "CREATE DATABASE other",
    "DROP DATABASE neo4j",
    "STOP DATABASE neo4j",
    "CREATE USER eve SET PASSWORD 'password'",
    "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
    "GRANT ROLE admin TO eve",
    "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "LOAD CSV FROM 'file:///etc/passwd' AS line CREATE (:Own {line: line})",
    "MATCH (n:Own) DETACH DELETE n WITH 1 AS x MATCH (m) DETACH DELETE m",
    "INSERT (n:Secret {word: 'planted'})",
    "MATCH (n) SET n['word'] = 'changed'",
    "MATCH (n:Own) SET n.copy = [(s:Secret)--() | s.word][0]",
    "MATCH (n:Own) WITH n, [(s:Secret)--() | s] AS all UNWIND all AS s DETACH DELETE s",
];

fn filled(text: &str, label: &str, id: &Value) -> String {
    text.replace("{label}", label).replace("{id}", &id.to_string())
}

/// What the victim has.
async fn everything(victim: &Graph) -> String {
    let nodes = victim.query("MATCH (n) RETURN n ORDER BY n.number").await;
    let relationships = victim.query("MATCH (a)-[r]->(b) RETURN r ORDER BY r.number").await;
    format!("{nodes:?} {relationships:?}")
}

/// A mesh cannot see or touch what is another's, with any clause; what cannot be made safe is refused, and the refusal says why.
pub async fn a_mesh_reaches_nothing_of_another(lab: &Lab) {
    let victim = lab.graph();
    let own = victim.neighbour();
    victim
        .execute("CREATE (:Secret {word: 'hidden', number: 1})-[:BIND {word: 'hidden', number: 3}]->(:Secret {word: 'hidden', number: 2})")
        .await;
    let id = victim.value("MATCH (n:Secret {number: 1}) RETURN id(n) AS id").await;
    let label = format!("__mesh_{}", victim.mesh.as_str());
    let before = everything(&victim).await;
    let make = "CREATE (a:Own {a: 1})-[:R]->(b:Own {a: 2})";
    for text in REACHING {
        own.execute("MATCH (n) DETACH DELETE n").await;
        own.execute(make).await;
        let text = filled(text, &label, &id);
        for execute in [false, true] {
            let done = match execute {
                true => own.try_execute(&text, json!({})).await,
                false => own.try_query(&text, json!({})).await,
            };
            match done {
                Ok(result) => {
                    let shown = json!(result.records).to_string();
                    let leaks = shown.contains("hidden") || shown.contains("Secret") || shown.contains("__mesh");
                    assert!(!leaks || shown.contains("est. "), "{text}: {shown}");
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(!matches!(error, GraphError::Unavailable(_)), "{text}: {message}");
                    assert!(
                        !message.is_empty() && !message.contains(own.mesh.as_str()),
                        "{text}: {message}"
                    );
                }
            }
        }
    }
    for text in CHANGING {
        own.execute("MATCH (n) DETACH DELETE n").await;
        own.execute(make).await;
        let text = filled(text, &label, &id);
        if let Err(error) = own.try_execute(&text, json!({})).await {
            let message = error.to_string();
            assert!(!matches!(error, GraphError::Unavailable(_)), "{text}: {message}");
        }
        assert_eq!(everything(&victim).await, before, "{text}");
        let shown = json!(own.query("MATCH (n) RETURN n").await.records).to_string();
        assert!(!shown.contains("hidden") || text.contains("MERGE"), "{text}: {shown}");
        // Nothing was given to the victim or taken out of the own mesh's sight.
        assert!(!shown.contains("__mesh"), "{text}: {shown}");
    }
}

fn nested(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("RETURN {}{middle}{} AS a", open.repeat(times), close.repeat(times))
}

/// What would end a broker that is not careful.
pub async fn queries_that_are_made_to_harm_do_not(lab: &Lab) {
    let limits = claudemesh_broker::backends::graph::GraphLimits {
        time: std::time::Duration::from_secs(20),
        ..patient()
    };
    let graph = lab.mesh((lab.open)(limits));
    graph.execute("CREATE (:T {a: 1})").await;
    let mut texts = vec![
        nested("(", "1", ")", 30_000),
        nested("[", "1", "]", 30_000),
        nested("{a: ", "1", "}", 10_000),
        nested("coalesce(", "1", ")", 5_000),
        nested("-", "1", "", 30_000),
        nested("NOT ", "true", "", 15_000),
        nested("[x IN [1] | ", "1", "]", 4_000),
        nested("CASE WHEN true THEN ", "1", " END", 2_500),
        nested("EXISTS { MATCH (n) WHERE ", "true", "}", 2_000),
        format!("RETURN 1{} AS a", " + 1".repeat(15_000)),
        format!("RETURN $x{} AS a", "[0]".repeat(20_000)),
        format!("RETURN $x{} AS a", ".a".repeat(30_000)),
        format!("MATCH (a){} RETURN a", "-->(b)".repeat(9_000)),
        format!("MATCH {} RETURN 1 AS a", vec!["(a)"; 15_000].join(", ")),
        format!("MATCH (n:{}) RETURN n", vec!["A"; 20_000].join("&")),
        format!("MATCH (n:{}A{}) RETURN n", "(".repeat(20_000), ")".repeat(20_000)),
        format!("RETURN 1 AS a{}", " UNION RETURN 1 AS a".repeat(3_000)),
        format!("{} RETURN 1 AS a", "WITH 1 AS x ".repeat(5_000)),
        format!("{} RETURN 1 AS a", "MATCH (n) ".repeat(6_000)),
        format!("RETURN [{}] AS a", vec!["1"; 30_000].join(",")),
        format!("RETURN '{}' AS a", "x".repeat(60_000)),
        format!("RETURN `{}` AS a", "x".repeat(60_000)),
        format!("RETURN \"{}", "\\\"".repeat(30_000)),
        format!("/*{}", "*".repeat(60_000)),
        "\u{0}".repeat(1000),
        "RETURN '\u{0}' AS a".to_owned(),
        "RETURN '\\uD800' AS a".to_owned(),
        "RETURN '\\' AS a".to_owned(),
        "RETURN range(1, 9223372036854775807) AS a".to_owned(),
        "UNWIND range(0, -9223372036854775808, -1) AS a RETURN count(*) AS n".to_owned(),
        "RETURN range(1, 2, 0) AS a".to_owned(),
        "RETURN range(1, 9000000) AS a".to_owned(),
        "RETURN -9223372036854775808 / -1 AS a".to_owned(),
        "RETURN abs(-9223372036854775808) AS a".to_owned(),
        "RETURN 9223372036854775807 + 1 AS a".to_owned(),
        "RETURN 0x7FFFFFFFFFFFFFFFFF AS a".to_owned(),
        "RETURN 1e999999999999 AS a".to_owned(),
        "RETURN substring('é', 1, 9223372036854775807) AS a".to_owned(),
        "RETURN [1, 2, 3][-9223372036854775808..9223372036854775807] AS a".to_owned(),
        "RETURN '(((((((((((((((((((((((((((((((a+)+)+)+)+)+)+' =~ '(((((a+)+)+)+)+)+$' AS a".to_owned(),
        format!("RETURN '{}b' =~ '(a+)+$' AS a", "a".repeat(5_000)),
        "RETURN 'x' =~ 'a{1000}{1000}{1000}{1000}' AS a".to_owned(),
        "RETURN 'x' =~ '(' AS a".to_owned(),
        "RETURN date('999999999-99-99') AS a".to_owned(),
        "RETURN duration({years: 9223372036854775807}) AS a".to_owned(),
        "RETURN datetime('2026-01-01T00:00[Nowhere/Land]') AS a".to_owned(),
        "RETURN date({year: 1000000000000}) AS a".to_owned(),
        "MATCH (a)-[*1..9223372036854775807]->(b) RETURN a".to_owned(),
        "MATCH (a)-[*99999999999999999999]->(b) RETURN a".to_owned(),
        "MATCH (a) RETURN a SKIP -1".to_owned(),
        "MATCH (a) RETURN a LIMIT 99999999999999999999".to_owned(),
        "MATCH (a) RETURN a LIMIT $x".to_owned(),
        "CREATE (a)-[:R*2]->(b)".to_owned(),
    ];
    if lab.engine != "threads" {
        // What needs much memory is ended with its process, or by the server.
        texts.push("WITH 'xxxxxxxxxx' AS x WITH replace(x, 'x', x) AS x WITH replace(x, 'x', x) AS x WITH replace(x, 'x', x) AS x \
                    WITH replace(x, 'x', x) AS x RETURN size(x) AS n".to_owned());
        texts.push("UNWIND range(1, 10000000) AS x WITH collect(x) AS all UNWIND all AS y WITH collect([y, all]) AS more RETURN size(more) AS n".to_owned());
    }
    for text in texts {
        let shown: String = text.chars().take(60).collect();
        for execute in [false, true] {
            let params = json!({ "x": [1, 2] });
            let done = match execute {
                true => graph.try_execute(&text, params).await,
                false => graph.try_query(&text, params).await,
            };
            if let Err(error) = done {
                assert!(!matches!(error, GraphError::Unavailable(_)), "{shown}: {error:?}");
                assert!(error.to_string().len() < 2_000, "{shown}: {error}");
            }
        }
    }
    graph.execute("MATCH (n) WHERE NOT n:T DETACH DELETE n").await;
    assert_eq!(graph.value("MATCH (t:T) RETURN t.a AS a").await, 1);
    for depth in [20, 100] {
        let mut value = json!(1);
        for _ in 0..depth {
            value = json!([value]);
        }
        let done = graph.try_query("RETURN $v AS v", json!({ "v": value })).await;
        assert_eq!(done.is_ok(), depth == 20, "{done:?}");
    }
    // Lists can be made deeper than they can be given.
    let grown = graph.try_query("WITH [[[[[[[[[[1]]]]]]]]]] AS a WITH [[[[[[[[[[a]]]]]]]]]] AS a WITH [[[[[[[[[[a]]]]]]]]]] AS a WITH [[[[[[[[[[a]]]]]]]]]] AS a RETURN a", json!({})).await;
    assert!(matches!(grown, Err(GraphError::TooLarge(_))), "{grown:?}");
}
