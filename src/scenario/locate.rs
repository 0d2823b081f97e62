//! Where in the file each element stands: a second reading that keeps nothing but positions, so that the model
//! needs none.

use super::problem::{Step, Stretch};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// The shape of a YAML document.
enum Node {
    Leaf,
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        macro_rules! leaves {
            ($($visit:ident: $type:ty),*) => {
                $(fn $visit<E>(self, _: $type) -> Result<Node, E> { Ok(Node::Leaf) })*
            };
        }
        impl<'de> Visitor<'de> for Shape {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            leaves!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128,
                    visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = access.next_element()? {
                    elements.push(element);
                }
                Ok(Node::List(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = access.next_key::<String>()? {
                    entries.push((key, access.next_value()?));
                }
                Ok(Node::Map(entries))
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

/// The positions of a document's elements.
pub(super) struct Positions(Option<Spanned<Node>>);

impl Positions {
    /// Reads them; without any where the text is no YAML (which the model's reading complains of).
    pub(super) fn read(text: &str, options: serde_saphyr::Options) -> Self {
        Self(serde_saphyr::from_str_with_options(text, options).ok())
    }

    /// The stretch of the element at the end of `steps`, or of the last one on the way that exists.
    pub(super) fn find(&self, steps: &[Step]) -> Option<Stretch> {
        let mut here = self.0.as_ref()?;
        for step in steps {
            let next = match (step, &here.value) {
                (Step::Key(key), Node::Map(entries)) => entries
                    .iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, value)| value),
                (Step::Index(index), Node::List(elements)) => elements.get(*index),
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        let length = match here.value {
            Node::Leaf => usize::try_from(here.referenced.span().len()).unwrap_or(1),
            // A whole list or map would be underlined over many lines: its beginning is enough.
            Node::List(_) | Node::Map(_) => 1,
        };
        stretch(here.referenced, length)
    }
}

/// `None` where the location is unknown.
pub(super) fn stretch(location: Location, length: usize) -> Option<Stretch> {
    let line = usize::try_from(location.line()).ok().filter(|line| *line > 0)?;
    let column = usize::try_from(location.column())
        .ok()
        .filter(|column| *column > 0)?;
    Some(Stretch { line, column, length })
}
