//! Expressions. What is written has brackets around everything, so that the server cannot read it differently.

use super::functions;
use super::lexer::Kind;
use super::patterns::Purpose;
use super::{Parser, Written, quoted, refuse, wrong};
use crate::backends::graph::values::RESERVED;

/// Words that are no variables where an expression is expected.
const KEYWORDS: [&str; 12] = [
    "WHERE", "RETURN", "WITH", "MATCH", "AS", "THEN", "ELSE", "END", "WHEN", "ORDER", "AND", "OR",
];

impl Parser<'_> {
    /// An expression.
    pub(super) fn expression(&mut self) -> Written {
        self.deeper(Self::or)
    }

    /// Operands with operators of one kind between them.
    fn chained(
        &mut self,
        operand: fn(&mut Self) -> Written,
        operator: fn(&mut Self) -> Option<&'static str>,
    ) -> Written {
        let mut written = operand(self)?;
        let mut count = 0;
        while let Some(operator) = operator(self) {
            count += 1;
            written.push(' ');
            written.push_str(operator);
            written.push(' ');
            written.push_str(&operand(self)?);
        }
        Ok(if count == 0 { written } else { format!("({written})") })
    }

    fn or(&mut self) -> Written {
        self.chained(Self::xor, |parser| parser.take_word("OR").then_some("OR"))
    }

    fn xor(&mut self) -> Written {
        self.chained(Self::and, |parser| parser.take_word("XOR").then_some("XOR"))
    }

    fn and(&mut self) -> Written {
        self.chained(Self::not, |parser| parser.take_word("AND").then_some("AND"))
    }

    fn not(&mut self) -> Written {
        let mut times = 0;
        while self.take_word("NOT") {
            times += 1;
        }
        let inner = self.comparison()?;
        // NOT NOT x is x, but for values that are no truth values: those are told by the server.
        Ok(match times {
            0 => inner,
            times if times % 2 == 1 => format!("(NOT {inner})"),
            _ => format!("(NOT (NOT {inner}))"),
        })
    }

    fn comparison(&mut self) -> Written {
        self.chained(Self::predicate, |parser| {
            ["=", "<>", "<=", ">=", "<", ">"]
                .into_iter()
                .find(|sign| parser.take_sign(sign))
        })
    }

    fn predicate(&mut self) -> Written {
        let mut left = self.sum()?;
        loop {
            if self.is_sign("=~") {
                let why =
                    "regular expressions cannot be stopped on this server; use CONTAINS, STARTS WITH or ENDS WITH";
                return Err(refuse(self.place(), why));
            }
            let operator = if self.is_word("STARTS") && self.is_word_at(1, "WITH") {
                self.step();
                "STARTS WITH"
            } else if self.is_word("ENDS") && self.is_word_at(1, "WITH") {
                self.step();
                "ENDS WITH"
            } else if self.is_word("CONTAINS") {
                "CONTAINS"
            } else if self.is_word("IN") {
                "IN"
            } else if self.is_word("IS") {
                self.step();
                let not = if self.take_word("NOT") { "NOT " } else { "" };
                self.word("NULL")?;
                left = format!("({left} IS {not}NULL)");
                continue;
            } else {
                return Ok(left);
            };
            self.step();
            let right = self.sum()?;
            left = format!("({left} {operator} {right})");
        }
    }

    fn sum(&mut self) -> Written {
        self.chained(Self::product, |parser| {
            ["+", "-"].into_iter().find(|sign| parser.take_sign(sign))
        })
    }

    fn product(&mut self) -> Written {
        self.chained(Self::power, |parser| {
            ["*", "/", "%"].into_iter().find(|sign| parser.take_sign(sign))
        })
    }

    fn power(&mut self) -> Written {
        self.chained(Self::unary, |parser| parser.take_sign("^").then_some("^"))
    }

    fn unary(&mut self) -> Written {
        let mut is_negative = false;
        let mut signs = 0;
        while let Some(sign) = ["+", "-"].into_iter().find(|sign| self.is_sign(sign)) {
            self.step();
            signs += 1;
            is_negative ^= sign == "-";
        }
        let inner = self.postfix()?;
        Ok(match (signs, is_negative) {
            (0, _) => inner,
            (_, true) => format!("(-{inner})"),
            (_, false) => format!("(+{inner})"),
        })
    }

    fn postfix(&mut self) -> Written {
        let mut written = self.atom()?;
        loop {
            if self.take_sign(".") {
                written = format!("{written}.{}", quoted(&self.name("a property")?));
            } else if self.take_sign("[") {
                written = format!("{written}[{}]", self.index()?);
            } else if self.is_sign(":") {
                self.step();
                written = format!("({written}:{})", self.label_predicate()?);
            } else {
                return Ok(written);
            }
        }
    }

    /// What is in the brackets of `list[…]`.
    fn index(&mut self) -> Written {
        let from = match self.is_sign("..") {
            true => String::new(),
            false => self.expression()?,
        };
        if !self.take_sign("..") {
            self.sign("]")?;
            return Ok(from);
        }
        let to = match self.is_sign("]") {
            true => String::new(),
            false => self.expression()?,
        };
        self.sign("]")?;
        Ok(format!("{from}..{to}"))
    }

    fn atom(&mut self) -> Written {
        match self.kind().clone() {
            Kind::Text(content) => {
                self.step();
                Ok(self.text(content))
            }
            Kind::Number(text) => {
                self.step();
                Ok(text)
            }
            Kind::Param(_) => self.param(),
            Kind::Sign("(") if self.is_pattern() => self.chain(Purpose::Match),
            Kind::Sign("(") => {
                self.step();
                let inner = self.expression()?;
                self.sign(")")?;
                Ok(format!("({inner})"))
            }
            Kind::Sign("[") => self.deeper(Self::bracket),
            Kind::Sign("{") => self.map(),
            Kind::Sign("$") => Err(refuse(self.place(), "computed names are not available on this server")),
            Kind::Word { text, quoted: false } => self.word_atom(&text),
            Kind::Word { .. } => self.variable(),
            _ => Err(self.expected("an expression")),
        }
    }

    fn word_atom(&mut self, text: &str) -> Written {
        let lower = text.to_ascii_lowercase();
        let next = self.ahead(1).clone();
        match (lower.as_str(), &next) {
            ("true" | "false" | "null", _) => {
                self.step();
                Ok(lower)
            }
            ("inf" | "infinity" | "nan", next) if *next != Kind::Sign("(") && !self.known.contains(text) => {
                self.step();
                Ok(lower)
            }
            ("case", _) => self.deeper(Self::case),
            ("exists" | "count", Kind::Sign("{")) => self.deeper(|parser| parser.subquery(&lower)),
            ("collect", Kind::Sign("{")) => Err(refuse(
                self.place(),
                "COLLECT { … } is not available on this server; use a pattern comprehension",
            )),
            ("count", Kind::Sign("(")) if matches!(self.ahead(2), Kind::Sign("*")) => {
                (0..3).for_each(|_| self.step());
                self.sign(")")?;
                Ok("count(*)".to_owned())
            }
            ("all" | "any" | "none" | "single", Kind::Sign("(")) => self.deeper(|parser| parser.quantifier(&lower)),
            ("reduce", Kind::Sign("(")) => self.deeper(Self::reduce),
            ("shortestpath" | "allshortestpaths", Kind::Sign("(")) => self.pattern(Purpose::Match),
            (_, Kind::Sign("(" | ".")) if self.is_call() => self.deeper(Self::call),
            _ if KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(text)) => {
                Err(self.expected("an expression"))
            }
            _ => self.variable(),
        }
    }

    /// A variable, or a projection of its properties: `n {.name, .*, other: 1}`.
    fn variable(&mut self) -> Written {
        let name = quoted(&self.name("a variable")?);
        if !self.is_sign("{") {
            return Ok(name);
        }
        self.step();
        let mut parts = Vec::new();
        while !self.is_sign("}") {
            if !parts.is_empty() {
                self.sign(",")?;
            }
            if self.take_sign(".") {
                parts.push(match self.take_sign("*") {
                    true => ".*".to_owned(),
                    false => format!(".{}", quoted(&self.name("a property")?)),
                });
                continue;
            }
            let key = quoted(&self.name("a key")?);
            parts.push(match self.take_sign(":") {
                true => format!("{key}: {}", self.expression()?),
                false => key,
            });
        }
        self.sign("}")?;
        Ok(format!("{name} {{{}}}", parts.join(", ")))
    }

    pub(super) fn param(&mut self) -> Written {
        let Kind::Param(name) = self.kind().clone() else {
            return Err(self.expected("a parameter"));
        };
        if name.to_ascii_lowercase().starts_with(RESERVED) {
            let why = format!("parameters that start with {RESERVED} are the broker's");
            return Err(refuse(self.place(), why));
        }
        self.step();
        Ok(format!("${name}"))
    }

    pub(super) fn map(&mut self) -> Written {
        self.deeper(|parser| {
            parser.sign("{")?;
            let mut members = Vec::new();
            while !parser.is_sign("}") {
                if !members.is_empty() {
                    parser.sign(",")?;
                }
                let key = quoted(&parser.name("a key")?);
                parser.sign(":")?;
                members.push(format!("{key}: {}", parser.expression()?));
            }
            parser.sign("}")?;
            Ok(format!("{{{}}}", members.join(", ")))
        })
    }

    /// A list, a list comprehension or a pattern comprehension.
    fn bracket(&mut self) -> Written {
        self.sign("[")?;
        if matches!(self.kind(), Kind::Word { .. }) && self.is_word_at(1, "IN") {
            let (name, list, condition) = self.before_bar(|parser| {
                let (name, list) = parser.each()?;
                Ok((name, list, parser.condition()?))
            })?;
            let mapped = match self.take_sign("|") {
                true => format!(" | {}", self.expression()?),
                false => String::new(),
            };
            self.sign("]")?;
            return Ok(format!("[{name} IN {list}{condition}{mapped}]"));
        }
        let is_named = matches!(self.kind(), Kind::Word { .. })
            && matches!(self.ahead(1), Kind::Sign("="))
            && matches!(self.ahead(2), Kind::Sign("("));
        if is_named || self.is_pattern() {
            let known = self.known.clone();
            let pattern = self.pattern(Purpose::Match)?;
            let condition = self.before_bar(Self::condition)?;
            self.sign("|")?;
            let mapped = self.expression()?;
            self.sign("]")?;
            self.known = known;
            return Ok(format!("[{pattern}{condition} | {mapped}]"));
        }
        if self.take_sign("]") {
            return Ok("[]".to_owned());
        }
        let items = self.list(Self::expression)?;
        self.sign("]")?;
        Ok(format!("[{items}]"))
    }

    /// What stands before the `|` of a comprehension.
    pub(super) fn before_bar<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, super::Refusal>,
    ) -> Result<T, super::Refusal> {
        let before = std::mem::replace(&mut self.is_bar_free, false);
        let done = work(self);
        self.is_bar_free = before;
        done
    }

    /// `name IN list`.
    fn each(&mut self) -> Result<(String, String), super::Refusal> {
        let name = quoted(&self.name("a variable")?);
        self.word("IN")?;
        Ok((name, self.expression()?))
    }

    /// `WHERE condition`, if there is one.
    pub(super) fn condition(&mut self) -> Written {
        match self.take_word("WHERE") {
            true => Ok(format!(" WHERE {}", self.expression()?)),
            false => Ok(String::new()),
        }
    }

    fn case(&mut self) -> Written {
        self.word("CASE")?;
        let mut written = "CASE".to_owned();
        if !self.is_word("WHEN") {
            written += &format!(" {}", self.expression()?);
        }
        let mut branches = 0;
        while self.take_word("WHEN") {
            let when = self.expression()?;
            self.word("THEN")?;
            written += &format!(" WHEN {when} THEN {}", self.expression()?);
            branches += 1;
        }
        if branches == 0 {
            return Err(self.expected("WHEN"));
        }
        if self.take_word("ELSE") {
            written += &format!(" ELSE {}", self.expression()?);
        }
        self.word("END")?;
        Ok(format!("({written} END)"))
    }

    /// `EXISTS { pattern WHERE condition }`, `COUNT { … }`.
    fn subquery(&mut self, kind: &str) -> Written {
        self.step();
        self.sign("{")?;
        self.take_word("MATCH");
        if !self.is_sign("(") && !matches!(self.ahead(1), Kind::Sign("=")) {
            let why = format!(
                "{} {{ … }} takes a pattern and WHERE on this server",
                kind.to_uppercase()
            );
            return Err(refuse(self.place(), why));
        }
        let known = self.known.clone();
        let patterns = self.patterns(Purpose::Match)?;
        let condition = self.condition()?;
        if !self.is_sign("}") {
            let why = format!(
                "{} {{ … }} takes a pattern and WHERE on this server",
                kind.to_uppercase()
            );
            return Err(refuse(self.place(), why));
        }
        self.step();
        self.known = known;
        Ok(format!("{} {{ MATCH {patterns}{condition} }}", kind.to_uppercase()))
    }

    fn quantifier(&mut self, kind: &str) -> Written {
        self.step();
        self.sign("(")?;
        let (name, list) = self.each()?;
        let condition = self.condition()?;
        self.sign(")")?;
        Ok(format!("{kind}({name} IN {list}{condition})"))
    }

    fn reduce(&mut self) -> Written {
        self.step();
        self.sign("(")?;
        let sum = quoted(&self.name("a variable")?);
        self.sign("=")?;
        let from = self.expression()?;
        self.sign(",")?;
        let (name, list) = self.before_bar(Self::each)?;
        self.sign("|")?;
        let next = self.expression()?;
        self.sign(")")?;
        Ok(format!("reduce({sum} = {from}, {name} IN {list} | {next})"))
    }

    /// Whether a function is called: names with dots between them, and a bracket.
    fn is_call(&self) -> bool {
        let mut by = 1;
        while matches!(self.ahead(by), Kind::Sign(".")) && matches!(self.ahead(by + 1), Kind::Word { .. }) {
            by += 2;
        }
        matches!(self.ahead(by), Kind::Sign("("))
    }

    fn call(&mut self) -> Written {
        let place = self.place();
        let mut name = self.name("a function")?.to_ascii_lowercase();
        while self.take_sign(".") {
            name = format!("{name}.{}", self.name("a function")?.to_ascii_lowercase());
        }
        if !functions::is_allowed(&name) {
            return Err(wrong(place, format!("there is no function {name} for members")));
        }
        self.sign("(")?;
        let distinct = if self.take_word("DISTINCT") { "DISTINCT " } else { "" };
        let arguments = match self.is_sign(")") {
            true => String::new(),
            false => self.list(Self::expression)?,
        };
        self.sign(")")?;
        if name == "labels" && self.label.is_some() {
            let prefix = self.text(RESERVED.to_owned());
            let each = quoted(&format!("{RESERVED}label"));
            return Ok(format!(
                "[{each} IN labels({arguments}) WHERE NOT ({each} STARTS WITH {prefix}) | {each}]"
            ));
        }
        Ok(format!("{name}({distinct}{arguments})"))
    }
}
