//! The part of Turtle (RDF) that AFF4 writers use: prefixes, a base, and statements with `;` and `,`.
//!
//! Source: "RDF 1.1 Turtle". Blank nodes, collections and long strings are not used and end the reading.

use std::collections::HashMap;

/// Most statements that are kept.
const MAX_STATEMENTS: usize = 1 << 20;

/// Statements by subject: predicate without its namespace, and object as text.
#[derive(Default)]
pub(super) struct Graph {
    subjects: HashMap<String, Vec<(String, String)>>,
    /// Subjects in the order in which they appeared.
    pub(super) order: Vec<String>,
}

impl Graph {
    /// Objects of a subject under any of the predicates.
    pub(super) fn objects<'a>(&'a self, subject: &str, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let statements = self.subjects.get(subject).map(Vec::as_slice).unwrap_or_default();
        let named = statements.iter().filter(|(name, _)| names.contains(&name.as_str()));
        named.map(|(_, object)| object.as_str())
    }

    /// The first such object as a number.
    pub(super) fn number(&self, subject: &str, names: &[&str]) -> Option<u64> {
        let objects = self.subjects.get(subject)?;
        objects.iter().find(|(name, _)| names.contains(&name.as_str()))?.1.parse().ok()
    }

    /// Whether the subject is of a type of that name, whatever its case and namespace.
    pub(super) fn is_a(&self, subject: &str, kind: &str) -> bool {
        self.objects(subject, &["type"]).any(|object| local(object).eq_ignore_ascii_case(kind))
    }

    fn add(&mut self, subject: &str, predicate: &str, object: String) {
        if !self.subjects.contains_key(subject) {
            self.order.push(subject.to_owned());
        }
        self.subjects.entry(subject.to_owned()).or_default().push((local(predicate).to_owned(), object));
    }
}

/// The last part of an IRI.
pub(super) fn local(iri: &str) -> &str {
    iri.rsplit(['#', '/']).next().unwrap_or(iri)
}

/// A piece of Turtle.
enum Token<'a> {
    /// An IRI, a prefixed name or a literal, written out.
    Term(String),
    /// `@prefix`, `@base`, `PREFIX` or `BASE`.
    Directive(&'a str),
    /// `.`, `;` or `,`.
    Mark(char),
}

struct Reader<'a> {
    rest: &'a str,
    base: String,
    prefixes: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// An IRI from behind its `<`.
    fn iri(&mut self) -> Option<String> {
        let (iri, rest) = self.rest.split_once('>')?;
        self.rest = rest;
        Some(match iri {
            "" => self.base.clone(),
            _ if iri.contains("://") => iri.to_owned(),
            _ => format!("{}/{}", self.base.trim_end_matches('/'), iri.trim_start_matches('/')),
        })
    }

    /// A literal from behind its quote; its type or language is passed over.
    fn literal(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut escaped = false;
        let mut chars = self.rest.char_indices();
        let end = loop {
            let (at, char) = chars.next()?;
            match char {
                _ if escaped => {
                    text.push(match char {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if char == quote => break at,
                _ => text.push(char),
            }
        };
        self.take(end.checked_add(quote.len_utf8())?)?;
        if let Some(kind) = self.rest.strip_prefix("^^") {
            self.rest = kind;
            self.token()?;
        } else if self.rest.starts_with('@') {
            let end = self.rest.find(char::is_whitespace)?;
            self.take(end)?;
        }
        Some(text)
    }

    fn token(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let first = self.rest.chars().next()?;
        match first {
            '<' => {
                self.take(1)?;
                self.iri().map(Token::Term)
            }
            '"' | '\'' => {
                self.take(1)?;
                self.literal(first).map(Token::Term)
            }
            '.' | ';' | ',' => {
                self.take(1)?;
                Some(Token::Mark(first))
            }
            _ => {
                let stop = |char: char| char.is_whitespace() || matches!(char, ';' | ',' | '<' | '"');
                let end = self.rest.find(stop).unwrap_or(self.rest.len());
                let word = self.rest.get(..end)?;
                // A full stop at the end of a word ends the statement.
                let word = word.strip_suffix('.').filter(|word| !word.is_empty()).unwrap_or(word);
                self.take(word.len().max(1))?;
                Some(match word {
                    "a" => Token::Term("type".to_owned()),
                    "@prefix" | "@base" | "PREFIX" | "BASE" => Token::Directive(word),
                    _ => Token::Term(self.expand(word)),
                })
            }
        }
    }

    /// A prefixed name written out; other words as they are.
    fn expand(&self, word: &str) -> String {
        let expanded = word.split_once(':').and_then(|(prefix, name)| {
            let namespace = self.prefixes.get(prefix)?;
            Some(format!("{namespace}{name}"))
        });
        expanded.unwrap_or_else(|| word.to_owned())
    }

    fn directive(&mut self, word: &str) -> Option<()> {
        if word.eq_ignore_ascii_case("@base") || word == "BASE" {
            let Token::Term(base) = self.token()? else { return None };
            self.base = base;
        } else {
            self.skip_space();
            let (prefix, rest) = self.rest.split_once(':')?;
            self.rest = rest;
            let Token::Term(namespace) = self.token()? else { return None };
            self.prefixes.insert(prefix.trim().to_owned(), namespace);
        }
        if word.starts_with('@') {
            self.token()?;
        }
        Some(())
    }
}

/// Reads statements up to the end or to the first one that makes no sense. `base` is what relative names are
/// relative to until the text says otherwise.
pub(super) fn read(text: &str, base: &str) -> Graph {
    let mut graph = Graph::default();
    let mut reader = Reader { rest: text, base: base.to_owned(), prefixes: HashMap::new() };
    read_into(&mut reader, &mut graph);
    graph
}

fn read_into(reader: &mut Reader<'_>, graph: &mut Graph) -> Option<()> {
    let mut statements = 0usize;
    while let Some(token) = reader.token() {
        let subject = match token {
            Token::Directive(word) => {
                reader.directive(word)?;
                continue;
            }
            Token::Term(subject) => subject,
            Token::Mark(_) => continue,
        };
        let Token::Term(mut predicate) = reader.token()? else { return None };
        loop {
            let Token::Term(object) = reader.token()? else { return None };
            statements = statements.checked_add(1).filter(|count| *count <= MAX_STATEMENTS)?;
            graph.add(&subject, &predicate, object);
            match reader.token()? {
                Token::Mark(',') => {}
                Token::Mark(';') => match reader.token()? {
                    Token::Term(next) => predicate = next,
                    // A semicolon may stand before the full stop.
                    _ => break,
                },
                _ => break,
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_writers_are_understood() {
        let graph = read(
            "@base <aff4://8a03> .\n@prefix aff4: <http://aff4.org/Schema#> .\n# a comment\n\
             </a.exe>\n    aff4:chunk_size 32768 ;\n    aff4:stored <> ;\n    a aff4:image .\n\
             <aff4://ffff/b> a aff4:Map, aff4:Image ; aff4:size \"12\"^^xsd:long ; aff4:name \"x\\\"; .\"@en ; .\n",
            "",
        );
        assert_eq!(graph.order, ["aff4://8a03/a.exe", "aff4://ffff/b"]);
        assert_eq!(graph.number("aff4://8a03/a.exe", &["chunkSize", "chunk_size"]), Some(32768));
        assert_eq!(graph.objects("aff4://8a03/a.exe", &["stored"]).collect::<Vec<_>>(), ["aff4://8a03"]);
        assert!(graph.is_a("aff4://8a03/a.exe", "Image") && graph.is_a("aff4://ffff/b", "map"));
        assert_eq!(graph.number("aff4://ffff/b", &["size"]), Some(12));
        assert_eq!(graph.objects("aff4://ffff/b", &["name"]).collect::<Vec<_>>(), ["x\"; ."]);
        assert_eq!(read("<a> <b> [ <c> <d> ] . \"", "").order.len(), 1);
    }
}
