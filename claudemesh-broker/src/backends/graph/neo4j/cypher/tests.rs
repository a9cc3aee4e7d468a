//! What the server gets.

use super::*;

fn rewritten(text: &str) -> String {
    rewrite(text, Some("L")).map_or_else(|error| format!("{error:?}"), |rewritten| rewritten.text)
}

#[test]
fn every_node_has_the_label() {
    for (text, expected) in [
        ("MATCH (n) RETURN n", "MATCH (`n`:`L`) RETURN `n`"),
        ("match (n:A|B) return n", "MATCH (`n`:`L`&(`A`|`B`)) RETURN `n`"),
        ("MATCH (n:A:B) RETURN n", "MATCH (`n`:`L`&(`A`&`B`)) RETURN `n`"),
        (
            "MATCH (:!A)-->() RETURN 1 AS a",
            "MATCH (:`L`&(!`A`))-->(:`L`) RETURN 1 AS `a`",
        ),
        (
            "MATCH (a)<-[r:R|:S*1..3 {x: 1} WHERE r.x > 0]-(b WHERE b.y) RETURN *",
            "MATCH (`a`:`L`)<-[`r`:`R`|`S`*1..3 {`x`: 1} WHERE (`r`.`x` > 0)]-(`b`:`L` WHERE `b`.`y`) RETURN *",
        ),
        (
            "MATCH (a:A) CREATE (a)-[:R]->(b:B {c: $d}), (b)-[:R]->(c), (a:X)",
            "MATCH (`a`:`L`&(`A`)) CREATE (`a`)-[:`R`]->(`b`:`L`:`B` {`c`: $d}), (`b`)-[:`R`]->(`c`:`L`), (`a`:`L`:`X`)",
        ),
        (
            "MATCH (a) WITH a.x AS x CREATE (a)",
            "MATCH (`a`:`L`) WITH `a`.`x` AS `x` CREATE (`a`:`L`)",
        ),
        (
            "MATCH (a) RETURN a AS b UNION CREATE (a) RETURN a AS b",
            "MATCH (`a`:`L`) RETURN `a` AS `b` UNION CREATE (`a`:`L`) RETURN `a` AS `b`",
        ),
        (
            "MERGE (a:A {x: 'it\\'s'}) ON CREATE SET a.y = 1, a:B REMOVE a:C, a.z",
            "MERGE (`a`:`L`:`A` {`x`: $__mesh0}) ON CREATE SET `a`.`y` = 1, `a`:`B` REMOVE `a`:`C`, `a`.`z`",
        ),
        (
            "MATCH (a) WHERE NOT (a)-->(:B) AND exists((a)--()) RETURN [p = (a)--(b) WHERE b:C | p] AS p",
            "MATCH (`a`:`L`) WHERE ((NOT (`a`:`L`)-->(:`L`&(`B`))) AND exists((`a`:`L`)--(:`L`))) \
             RETURN [`p` = (`a`:`L`)--(`b`:`L`) WHERE (`b`:`C`) | `p`] AS `p`",
        ),
        (
            "MATCH (a) WHERE EXISTS { (a)--(b) WHERE b.x } AND COUNT { MATCH (c) } > 1 RETURN a",
            "MATCH (`a`:`L`) WHERE (EXISTS { MATCH (`a`:`L`)--(`b`:`L`) WHERE `b`.`x` } AND (COUNT { MATCH (`c`:`L`) } > 1)) RETURN `a`",
        ),
        (
            "MATCH p = shortestPath((a)-[*]-(b)) FOREACH (n IN nodes(p) | SET n.x = 1 CREATE (n)-[:R]->(m))",
            "MATCH `p` = shortestPath((`a`:`L`)-[*]-(`b`:`L`)) FOREACH (`n` IN nodes(`p`) | SET `n`.`x` = 1 CREATE (`n`)-[:`R`]->(`m`:`L`))",
        ),
        (
            "MATCH (n) RETURN labels(n) AS l",
            "MATCH (`n`:`L`) RETURN [`__meshlabel` IN labels(`n`) WHERE NOT (`__meshlabel` STARTS WITH $__mesh0) | `__meshlabel`] AS `l`",
        ),
    ] {
        let found = rewritten(text);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn nothing_of_a_text_gets_into_the_query() {
    for text in [
        "RETURN 'a` b\\n\\u0027 \\\\' AS a",
        "RETURN \"it's\" AS a",
        "MATCH (n {a: '}) MATCH (m) RETURN m //'}) RETURN n",
    ] {
        let found = rewrite(text, Some("L")).unwrap();
        assert!(!found.text.contains(['\'', '"', '\\']), "{}", found.text);
        assert_eq!(found.texts.len(), 1);
    }
    let found = rewrite("RETURN 'a\\u0027\\t\\'' AS a", None).unwrap();
    assert_eq!(found.texts["__mesh0"], "a'\t'");
}

#[test]
fn what_cannot_be_kept_to_the_mesh_is_refused_with_the_reason() {
    for (text, why) in [
        ("CALL db.labels()", "procedures"),
        ("MATCH (n) CALL { MATCH (m) RETURN m } RETURN m", "CALL"),
        ("LOAD CSV FROM 'x' AS l RETURN l", "LOAD CSV"),
        ("USE neo4j MATCH (n) RETURN n", "USE"),
        ("SHOW DATABASES", "commands"),
        ("CREATE INDEX FOR (n:A) ON (n.x)", "indexes"),
        ("CREATE CONSTRAINT x FOR (n:A) REQUIRE n.x IS UNIQUE", "constraints"),
        ("CREATE OR REPLACE DATABASE x", "databases"),
        ("MATCH (n:`__mesh_x`) RETURN n", "the broker's"),
        ("MATCH (n) SET n:__MESH_x", "the broker's"),
        ("MATCH (n) REMOVE n:__mesh_x", "the broker's"),
        ("MATCH (n) WHERE n:__mesh_x RETURN n", "the broker's"),
        ("MATCH (n:$(x)) RETURN n", "computed labels"),
        ("MATCH (n:$any(x)) RETURN n", "computed labels"),
        ("MATCH (n) SET n:$(x)", "computed labels"),
        ("MATCH (n) SET n[x] = 1", "computed names"),
        ("MATCH ((a)--(b))+ RETURN a", "brackets"),
        ("MATCH (a)-->+(b) RETURN a", "quantified"),
        ("MATCH ANY SHORTEST (a)--(b) RETURN a", "ANY"),
        ("MATCH (a) WHERE EXISTS { MATCH (n) RETURN n } RETURN a", "EXISTS"),
        ("RETURN COLLECT { MATCH (n) RETURN n } AS a", "COLLECT"),
        ("MATCH (a) WHERE a.x =~ '.*' RETURN a", "regular expressions"),
        ("EXPLAIN MATCH (n) RETURN n", "plans"),
        ("CYPHER 5 MATCH (n) RETURN n", "options"),
        ("MATCH (n:`a\\u0060`) RETURN n", "names"),
        ("MATCH (n:`a``b`) RETURN n", "names"),
        ("MATCH (n:A)\\u0029 RETURN n", "escapes"),
        ("RETURN $__mesh0 AS a", "the broker's"),
    ] {
        match rewrite(text, Some("L")) {
            Err(GraphError::Forbidden(found)) => {
                assert!(found.contains(why) && found.contains("(line 1"), "{text}: {found}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in [
        "RETURN apoc.x() AS a",
        "RETURN file() AS a",
        "RETURN graph.byName('x') AS a",
        "RETURN `labels`(n) AS a",
    ] {
        assert!(matches!(rewrite(text, Some("L")), Err(GraphError::Query(_))), "{text}");
    }
}

#[test]
fn whatever_comes_ends_in_an_answer() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let pieces = [
        "MATCH",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "n",
        ":",
        "A",
        "-",
        "->",
        "<-",
        "--",
        "RETURN",
        "*",
        "$p",
        "$",
        "'x'",
        "1",
        ".",
        "..",
        ",",
        "|",
        "&",
        "!",
        "%",
        "=",
        "<",
        ">",
        "+",
        "WHERE",
        "CREATE",
        "SET",
        "AS",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "IN",
        "any",
        "`q`",
        "WITH",
        "EXISTS",
        "shortestPath",
        "FOREACH",
        "reduce",
        "NOT",
        "IS",
        "NULL",
        "UNION",
        "é",
        "//",
        "/*",
        "\\",
        "\n",
    ];
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(pieces[usize::try_from(state % pieces.len() as u64).unwrap()]);
            text.push(' ');
        }
        if let Ok(found) = rewrite(&text, Some("L")) {
            let outside: String = found.text.split('`').step_by(2).collect();
            assert!(!outside.contains(['\'', '"']) && !found.text.contains('\\'), "{text}");
            // What is written is understood the same way again, but for names that are the broker's.
            let bare = found.text.replace("__mesh", "x");
            assert!(rewrite(&bare, None).is_ok(), "{text}: {bare}");
        }
    }
}
