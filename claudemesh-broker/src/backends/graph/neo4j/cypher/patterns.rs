//! Patterns: the places where nodes come from.

use super::lexer::Kind;
use super::{Parser, Refusal, Written, quoted, refuse, wrong};
use crate::backends::graph::values::RESERVED;

/// What a pattern is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Finding nodes.
    Match,
    /// Making nodes; names that are known already stand for what they name.
    Make,
}

impl Parser<'_> {
    /// Patterns with commas between them.
    pub(super) fn patterns(&mut self, purpose: Purpose) -> Written {
        self.list(|parser| parser.pattern(purpose))
    }

    /// `[name =] (node)-[relationship]->(node)…`.
    pub(super) fn pattern(&mut self, purpose: Purpose) -> Written {
        let mut written = String::new();
        if matches!(self.kind(), Kind::Word { .. }) && matches!(self.ahead(1), Kind::Sign("=")) {
            let name = self.name("a name")?;
            self.sign("=")?;
            written = format!("{} = ", quoted(&name));
            self.known.insert(name);
        }
        for shortest in ["shortestPath", "allShortestPaths"] {
            if self.is_word(shortest) && matches!(self.ahead(1), Kind::Sign("(")) {
                self.step();
                self.step();
                let chain = self.chain(purpose)?;
                self.sign(")")?;
                return Ok(format!("{written}{shortest}({chain})"));
            }
        }
        if let Kind::Word { text, .. } = self.kind() {
            let selectors = [
                "ANY",
                "ALL",
                "SHORTEST",
                "REPEATABLE",
                "DIFFERENT",
                "TRAIL",
                "WALK",
                "ACYCLIC",
            ];
            if selectors.iter().any(|selector| text.eq_ignore_ascii_case(selector)) {
                let text = format!("{} in patterns is not available on this server", text.to_uppercase());
                return Err(refuse(self.place(), text));
            }
        }
        Ok(written + &self.chain(purpose)?)
    }

    /// Nodes with relationships between them.
    pub(super) fn chain(&mut self, purpose: Purpose) -> Written {
        let mut written = self.node(purpose)?;
        while self.is_sign("-") || (self.is_sign("<") && matches!(self.ahead(1), Kind::Sign("-"))) {
            written += &self.relationship(purpose)?;
            if self.is_sign("+") || self.is_sign("*") || self.is_sign("{") {
                return Err(refuse(
                    self.place(),
                    "quantified patterns are not available on this server; use -[*1..3]-",
                ));
            }
            written += &self.node(purpose)?;
        }
        if self.is_sign("(") || self.is_sign("{") || self.is_sign("+") {
            return Err(refuse(
                self.place(),
                "quantified patterns are not available on this server; use -[*1..3]-",
            ));
        }
        Ok(written)
    }

    /// `(name:Label {key: value} WHERE condition)`.
    fn node(&mut self, purpose: Purpose) -> Written {
        self.part()?;
        self.sign("(")?;
        if self.is_sign("(") {
            return Err(refuse(
                self.place(),
                "patterns in brackets are not available on this server",
            ));
        }
        let mut name = None;
        if matches!(self.kind(), Kind::Word { .. }) && !self.is_word("WHERE") {
            name = Some(self.name("a name")?);
        }
        if self.is_word("IS") {
            return Err(refuse(self.place(), "write labels with a colon, as in (n:Label)"));
        }
        let labels = match self.take_sign(":") {
            true if purpose == Purpose::Make => Some(self.labels()?),
            true => Some(self.label_expression()?),
            false => None,
        };
        let properties = self.properties()?;
        let mut condition = String::new();
        if self.take_word("WHERE") {
            if purpose == Purpose::Make {
                return Err(wrong(self.place(), "what is made has no conditions"));
            }
            condition = format!(" WHERE {}", self.expression()?);
        }
        self.sign(")")?;
        let known = match &name {
            // An equally named node later in the clause is this one.
            Some(name) => !self.known.insert(name.clone()),
            None => false,
        };
        let name = name.as_deref().map(quoted).unwrap_or_default();
        if purpose == Purpose::Make && known && labels.is_none() && properties.is_empty() {
            return Ok(format!("({name})"));
        }
        let labels = match (self.label, labels, purpose) {
            (None, None, _) => String::new(),
            (None, Some(labels), _) => format!(":{labels}"),
            (Some(own), None, _) => format!(":{}", quoted(own)),
            (Some(own), Some(labels), Purpose::Make) => format!(":{}:{labels}", quoted(own)),
            (Some(own), Some(labels), Purpose::Match) => format!(":{}&({labels})", quoted(own)),
        };
        Ok(format!("({name}{labels}{properties}{condition})"))
    }

    /// `-[name:TYPE*1..3 {key: value} WHERE condition]->`.
    fn relationship(&mut self, purpose: Purpose) -> Written {
        let left = self.take_sign("<");
        self.sign("-")?;
        let mut inner = String::new();
        if self.take_sign("[") {
            if matches!(self.kind(), Kind::Word { .. }) && !self.is_word("WHERE") {
                let name = self.name("a name")?;
                inner += &quoted(&name);
                self.known.insert(name);
            }
            if self.is_word("IS") {
                return Err(refuse(self.place(), "write types with a colon, as in -[:TYPE]-"));
            }
            if self.take_sign(":") {
                inner.push(':');
                inner += &quoted(&self.name("a type")?);
                while self.take_sign("|") {
                    self.take_sign(":");
                    inner.push('|');
                    inner += &quoted(&self.name("a type")?);
                }
            }
            if self.take_sign("*") {
                inner.push('*');
                inner += &self.hops()?;
            }
            inner += &self.properties()?;
            if self.take_word("WHERE") {
                if purpose == Purpose::Make {
                    return Err(wrong(self.place(), "what is made has no conditions"));
                }
                inner += &format!(" WHERE {}", self.expression()?);
            }
            self.sign("]")?;
            inner = format!("[{inner}]");
        }
        self.sign("-")?;
        let right = self.take_sign(">");
        let (left, right) = (if left { "<" } else { "" }, if right { ">" } else { "" });
        Ok(format!("{left}-{inner}-{right}"))
    }

    fn hops(&mut self) -> Written {
        let mut written = String::new();
        let number = |parser: &mut Self| match parser.kind().clone() {
            Kind::Number(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                parser.step();
                Some(text)
            }
            _ => None,
        };
        written += &number(self).unwrap_or_default();
        if self.take_sign("..") {
            written += "..";
            written += &number(self).unwrap_or_default();
        }
        Ok(written)
    }

    /// `{key: value}` or a parameter, if there is one.
    fn properties(&mut self) -> Written {
        match self.kind() {
            Kind::Sign("{") => Ok(format!(" {}", self.map()?)),
            Kind::Param(_) => Ok(format!(" {}", self.param()?)),
            _ => Ok(String::new()),
        }
    }

    /// A label.
    pub(super) fn label(&mut self) -> Written {
        match self.kind() {
            Kind::Sign("$") | Kind::Param(_) => {
                Err(refuse(self.place(), "computed labels are not available on this server"))
            }
            Kind::Word { text, .. } if text.to_ascii_lowercase().starts_with(RESERVED) => {
                let why = format!("labels that start with {RESERVED} are the broker's");
                Err(refuse(self.place(), why))
            }
            _ => Ok(quoted(&self.name("a label")?)),
        }
    }

    /// Labels that something has or gets: `A:B` or `A&B`.
    pub(super) fn labels(&mut self) -> Written {
        let mut written = self.label()?;
        while self.take_sign(":") || self.take_sign("&") {
            written = format!("{written}:{}", self.label()?);
        }
        Ok(written)
    }

    /// `A|B`, `A&!B`, `(A|B)&C`, `%`.
    pub(super) fn label_expression(&mut self) -> Written {
        self.labels_with(true)
    }

    /// The labels of a predicate: `n:A&B`.
    pub(super) fn label_predicate(&mut self) -> Written {
        self.labels_with(self.is_bar_free)
    }

    fn labels_with(&mut self, bars: bool) -> Written {
        self.deeper(|parser| {
            let mut written = parser.label_conjunction()?;
            while bars && parser.take_sign("|") {
                parser.take_sign(":");
                written = format!("{written}|{}", parser.label_conjunction()?);
            }
            Ok(written)
        })
    }

    fn label_conjunction(&mut self) -> Written {
        let mut written = self.label_atom()?;
        while self.take_sign("&") || self.take_sign(":") {
            written = format!("{written}&{}", self.label_atom()?);
        }
        Ok(written)
    }

    fn label_atom(&mut self) -> Result<String, Refusal> {
        let mut negations = String::new();
        while self.take_sign("!") {
            negations.push('!');
        }
        // Twice not is as if nothing were said; no recursion for a long row of them.
        let negation = if negations.len() % 2 == 1 { "!" } else { "" };
        if self.take_sign("%") {
            return Ok(format!("{negation}%"));
        }
        if self.take_sign("(") {
            let inner = self.label_expression()?;
            self.sign(")")?;
            return Ok(format!("{negation}({inner})"));
        }
        Ok(format!("{negation}{}", self.label()?))
    }

    /// Whether what comes is a pattern and no expression in brackets.
    pub(super) fn is_pattern(&self) -> bool {
        if !self.is_sign("(") {
            return false;
        }
        let behind = self.tokens[self.at].closes + 1 - self.at;
        let follows = matches!(
            (self.ahead(behind), self.ahead(behind + 1), self.ahead(behind + 2)),
            (Kind::Sign("<"), Kind::Sign("-"), Kind::Sign("-" | "["))
                | (Kind::Sign("-"), Kind::Sign("["), _)
                | (Kind::Sign("-"), Kind::Sign("-"), Kind::Sign("(" | ">"))
        );
        let begins = match (self.ahead(1), self.ahead(2)) {
            (Kind::Sign(")" | ":" | "{"), _) => true,
            (Kind::Word { .. }, Kind::Sign(")" | ":" | "{")) => true,
            (Kind::Word { .. }, _) => self.is_word_at(2, "WHERE"),
            _ => false,
        };
        follows && begins
    }
}
