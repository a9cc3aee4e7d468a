//! Clauses.

use super::lexer::Kind;
use super::patterns::Purpose;
use super::{Parser, Refusal, Written, quoted, refuse, wrong};

/// Clauses and commands that are understood and not for members, with the reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "CALL",
        "procedures and subqueries (CALL) are not available on this server: they reach other meshes' data",
    ),
    (
        "LOAD",
        "LOAD CSV is not available: it reads files and addresses of the server",
    ),
    ("USE", "USE is not available: a mesh has one graph"),
    ("SHOW", "commands of the server are not available"),
    ("TERMINATE", "commands of the server are not available"),
    ("DROP", "indexes, constraints and databases are the operator's"),
    ("ALTER", "users and databases are the operator's"),
    ("GRANT", "rights are the operator's"),
    ("DENY", "rights are the operator's"),
    ("REVOKE", "rights are the operator's"),
    ("RENAME", "users and databases are the operator's"),
    ("START", "databases are the operator's"),
    ("STOP", "databases are the operator's"),
    ("ENABLE", "servers are the operator's"),
    ("DRYRUN", "servers are the operator's"),
    ("DEALLOCATE", "servers are the operator's"),
    ("REALLOCATE", "servers are the operator's"),
    ("EXPLAIN", "plans are not shown: they tell about other meshes"),
    ("PROFILE", "plans are not shown: they tell about other meshes"),
    ("CYPHER", "options of the query language are the broker's"),
    ("INSERT", "INSERT is not available on this server; use CREATE"),
    (
        "FINISH",
        "FINISH is not available on this server; leave out RETURN instead",
    ),
    ("LET", "LET is not available on this server; use WITH"),
    ("FILTER", "FILTER is not available on this server; use WITH … WHERE"),
    ("NEXT", "NEXT is not available on this server; use WITH"),
    ("USING", "hints are not available on this server"),
];

impl Parser<'_> {
    /// The whole query.
    pub(super) fn query(&mut self) -> Written {
        let mut written = self.single()?;
        while self.take_word("UNION") {
            let all = if self.take_word("ALL") { " ALL" } else { "" };
            self.known.clear();
            written = format!("{written} UNION{all} {}", self.single()?);
        }
        self.take_sign(";");
        match self.kind() {
            Kind::End => Ok(written),
            _ => Err(self.unknown()),
        }
    }

    /// Clauses up to the end or UNION.
    fn single(&mut self) -> Written {
        let mut clauses = Vec::new();
        while let Some(clause) = self.clause()? {
            clauses.push(clause);
        }
        match clauses.is_empty() {
            true => Err(self.unknown()),
            false => Ok(clauses.join(" ")),
        }
    }

    fn unknown(&self) -> Refusal {
        if let Kind::Word { text, quoted: false } = self.kind() {
            let refused = REFUSED.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
            if let Some((_, why)) = refused {
                return refuse(self.place(), *why);
            }
        }
        self.expected("a clause such as MATCH, CREATE, MERGE or RETURN")
    }

    fn clause(&mut self) -> Result<Option<String>, Refusal> {
        self.part()?;
        let written = if self.take_word("OPTIONAL") {
            self.word("MATCH")?;
            format!("OPTIONAL {}", self.match_clause()?)
        } else if self.take_word("MATCH") {
            self.match_clause()?
        } else if self.take_word("UNWIND") {
            let list = self.expression()?;
            self.word("AS")?;
            let name = self.name("a variable")?;
            let written = format!("UNWIND {list} AS {}", quoted(&name));
            self.known.insert(name);
            written
        } else if self.take_word("WITH") {
            self.projection("WITH")?
        } else if self.take_word("RETURN") {
            self.projection("RETURN")?
        } else if self.is_word("CREATE") && !matches!(self.ahead(1), Kind::Sign("(")) && !self.names_a_path() {
            return Err(refuse(
                self.place(),
                "indexes, constraints, users and databases are the operator's",
            ));
        } else if self.take_word("CREATE") {
            self.makes = true;
            format!("CREATE {}", self.patterns(Purpose::Make)?)
        } else if self.take_word("MERGE") {
            self.makes = true;
            self.merge()?
        } else if self.take_word("SET") {
            format!("SET {}", self.list(Self::assignment)?)
        } else if self.take_word("REMOVE") {
            format!("REMOVE {}", self.list(Self::removal)?)
        } else if self.is_word("DELETE") || self.is_word("DETACH") || self.is_word("NODETACH") {
            let detach = if self.take_word("DETACH") { "DETACH " } else { "" };
            self.take_word("NODETACH");
            self.word("DELETE")?;
            format!("{detach}DELETE {}", self.list(Self::expression)?)
        } else if self.take_word("FOREACH") {
            self.deeper(Self::foreach)?
        } else {
            return Ok(None);
        };
        Ok(Some(written))
    }

    /// Whether `CREATE` is followed by `name = (`.
    fn names_a_path(&self) -> bool {
        matches!(self.ahead(1), Kind::Word { .. }) && matches!(self.ahead(2), Kind::Sign("="))
    }

    fn match_clause(&mut self) -> Written {
        let patterns = self.patterns(Purpose::Match)?;
        Ok(format!("MATCH {patterns}{}", self.condition()?))
    }

    fn merge(&mut self) -> Written {
        let mut written = format!("MERGE {}", self.pattern(Purpose::Make)?);
        while self.take_word("ON") {
            let event = match (self.take_word("CREATE"), self.take_word("MATCH")) {
                (true, false) => "CREATE",
                (false, true) => "MATCH",
                _ => return Err(self.expected("CREATE or MATCH")),
            };
            self.word("SET")?;
            written += &format!(" ON {event} SET {}", self.list(Self::assignment)?);
        }
        Ok(written)
    }

    fn foreach(&mut self) -> Written {
        self.sign("(")?;
        let name = self.name("a variable")?;
        self.word("IN")?;
        let list = self.before_bar(Self::expression)?;
        self.sign("|")?;
        let known = self.known.clone();
        let written = format!("FOREACH ({} IN {list} |", quoted(&name));
        self.known.insert(name);
        let mut clauses = Vec::new();
        while !self.is_sign(")") {
            let changes = ["CREATE", "MERGE", "SET", "REMOVE", "DELETE", "DETACH", "FOREACH"];
            if !changes.iter().any(|clause| self.is_word(clause)) {
                return Err(self.expected("CREATE, MERGE, SET, REMOVE, DELETE or FOREACH"));
            }
            clauses.extend(self.clause()?);
        }
        self.sign(")")?;
        self.known = known;
        Ok(format!("{written} {})", clauses.join(" ")))
    }

    /// `n.key = value`, `n = map`, `n += map`, `n:Label`.
    fn assignment(&mut self) -> Written {
        let target = self.target()?;
        if target.1 {
            self.sign("=")?;
            return Ok(format!("{} = {}", target.0, self.expression()?));
        }
        if self.take_sign(":") {
            return Ok(format!("{}:{}", target.0, self.labels()?));
        }
        let sign = match (self.take_sign("="), self.take_sign("+=")) {
            (true, false) => "=",
            (false, true) => "+=",
            _ => return Err(self.expected("=, += or a label")),
        };
        Ok(format!("{} {sign} {}", target.0, self.expression()?))
    }

    /// `n.key`, `n:Label`.
    fn removal(&mut self) -> Written {
        let (target, is_property) = self.target()?;
        if is_property {
            return Ok(target);
        }
        self.sign(":")?;
        Ok(format!("{target}:{}", self.labels()?))
    }

    /// A variable or a property of one, and which of them.
    fn target(&mut self) -> Result<(String, bool), Refusal> {
        let mut written = quoted(&self.name("a variable")?);
        let mut is_property = false;
        while self.take_sign(".") {
            written = format!("{written}.{}", quoted(&self.name("a property")?));
            is_property = true;
        }
        if self.is_sign("[") {
            return Err(refuse(
                self.place(),
                "computed names of properties are not available on this server",
            ));
        }
        if self.is_word("IS") {
            return Err(refuse(self.place(), "write labels with a colon, as in SET n:Label"));
        }
        Ok((written, is_property))
    }

    /// What follows WITH and RETURN.
    fn projection(&mut self, clause: &str) -> Written {
        let mut written = clause.to_owned();
        if self.take_word("DISTINCT") {
            written += " DISTINCT";
        }
        let mut named = Vec::new();
        let mut items = Vec::new();
        let keeps_all = self.take_sign("*");
        if keeps_all {
            items.push("*".to_owned());
        }
        if !keeps_all || self.take_sign(",") {
            loop {
                let (item, name) = self.item(clause)?;
                items.push(item);
                named.push(name);
                if !self.take_sign(",") {
                    break;
                }
            }
        }
        written += &format!(" {}", items.join(", "));
        // What is ordered by may name what was there before.
        let mut known = std::mem::take(&mut self.known);
        if self.take_word("ORDER") {
            self.word("BY")?;
            written += &format!(" ORDER BY {}", self.list(Self::sorting)?);
        }
        for (words, bound) in [(["SKIP", "OFFSET"], "SKIP"), (["LIMIT", "LIMIT"], "LIMIT")] {
            if words.iter().any(|word| self.take_word(word)) {
                written += &format!(" {bound} {}", self.expression()?);
            }
        }
        if !keeps_all {
            known.clear();
        }
        known.extend(named);
        self.known = known;
        if clause == "WITH" {
            written += &self.condition()?;
        }
        Ok(written)
    }

    /// One item of WITH and RETURN, and its name.
    fn item(&mut self, clause: &str) -> Result<(String, String), Refusal> {
        let (from, start) = (self.at, self.place());
        let written = self.expression()?;
        if self.take_word("AS") {
            let name = self.name("a name")?;
            return Ok((format!("{written} AS {}", quoted(&name)), name));
        }
        if let (Kind::Word { text, .. }, true) = (&self.tokens[from].kind, self.at == from + 1) {
            return Ok((written, text.clone()));
        }
        // The column is named as the member has written it.
        let name = self.source[start..self.tokens[self.at - 1].end].to_owned();
        let is_plain = !name.contains(['`', '\\']) && !name.chars().any(char::is_control) && name.len() <= 256;
        match is_plain && clause == "RETURN" {
            true => Ok((format!("{written} AS {}", quoted(&name)), name)),
            false => Err(wrong(start, "give this a name with AS")),
        }
    }

    fn sorting(&mut self) -> Written {
        let written = self.expression()?;
        for (word, order) in [
            ("DESC", " DESC"),
            ("DESCENDING", " DESC"),
            ("ASC", ""),
            ("ASCENDING", ""),
        ] {
            if self.take_word(word) {
                return Ok(written + order);
            }
        }
        Ok(written)
    }
}
