//! XML documents of AWS services: the few texts that are needed of one, or its tree.
//!
//! A document is read once from front to back, in linear time, whatever is in it. External and internal entities are not
//! expanded.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use zeroize::Zeroizing;

/// The deepest nesting that is read. STS has six levels.
const DEEPEST: usize = 64;

const NOT_XML: &str = "the response is not XML";

/// The text of the first element of each name, whatever its namespace and place; `None` where there is no such element
/// or it is empty.
///
/// # Errors
///
/// A phrase: the text is not a well-formed document, or it is nested too deeply.
pub(crate) fn texts<const N: usize>(
    document: &str,
    names: [&str; N],
) -> Result<[Option<Zeroizing<String>>; N], &'static str> {
    let mut found = [const { None::<Zeroizing<String>> }; N];
    // The element that is being read: its place in `names`, and its depth.
    let mut reading: Option<(usize, usize)> = None;
    let mut depth = 0;
    let mut has_root = false;
    let mut reader = Reader::from_str(document);
    loop {
        let event = reader.read_event().map_err(|_| NOT_XML)?;
        let mut append = |text: &str| {
            if let Some((place, _)) = reading {
                found[place].get_or_insert_default().push_str(text);
            }
        };
        match event {
            Event::Start(start) => {
                depth += 1;
                has_root = true;
                if depth > DEEPEST {
                    return Err("the response is XML that is nested too deeply");
                }
                let name = start.local_name();
                let place = names.iter().position(|wanted| *wanted == name.as_ref());
                if let (None, Some(place)) = (reading, place)
                    && found[place].is_none()
                {
                    reading = Some((place, depth));
                }
            }
            Event::End(_) => {
                reading = reading.filter(|(_, at)| *at != depth);
                depth = depth.saturating_sub(1);
            }
            Event::Text(text) => append(&text.xml10_content()),
            Event::CData(text) => append(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(character)) => append(character.encode_utf8(&mut [0; 4])),
                Ok(None) => append(resolve_predefined_entity(&reference.xml10_content()).ok_or(NOT_XML)?),
                Err(_) => return Err(NOT_XML),
            },
            Event::Eof if depth > 0 || !has_root => return Err(NOT_XML),
            Event::Eof => return Ok(found),
            Event::Empty(_) => has_root = true,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// An element of a document that contains no secrets. Names are without namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// As [`texts`].
    pub(crate) fn parse(document: &str) -> Result<Self, &'static str> {
        let mut reader = Reader::from_str(document);
        // The open element, the first one not of the document, and those around it.
        let (mut current, mut outer) = (Self::default(), Vec::new());
        let named = |name: &str| Self { name: name.to_owned(), ..Self::default() };
        loop {
            match reader.read_event().map_err(|_| NOT_XML)? {
                Event::Start(_) if outer.len() >= DEEPEST => {
                    return Err("the response is XML that is nested too deeply");
                }
                Event::Start(start) => {
                    outer.push(std::mem::replace(&mut current, named(start.local_name().as_ref())));
                }
                Event::Empty(empty) => current.children.push(named(empty.local_name().as_ref())),
                Event::End(_) => {
                    let ended = std::mem::replace(&mut current, outer.pop().ok_or(NOT_XML)?);
                    current.children.push(ended);
                }
                Event::Text(text) => current.text.push_str(&text.xml10_content()),
                Event::CData(text) => current.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|_| NOT_XML)? {
                    Some(character) => current.text.push(character),
                    None => {
                        let name = reference.xml10_content();
                        current.text.push_str(resolve_predefined_entity(&name).ok_or(NOT_XML)?);
                    }
                },
                Event::Eof if !outer.is_empty() => return Err(NOT_XML),
                Event::Eof => return current.children.pop().ok_or(NOT_XML),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    /// The elements at a path of names below this one, as in `DBInstances/DBInstance`.
    #[must_use]
    pub fn all(&self, path: &str) -> Vec<&Self> {
        path.split('/').fold(vec![self], |found, name| {
            found.into_iter().flat_map(|element| element.children.iter().filter(move |it| it.name == name)).collect()
        })
    }

    /// The text of the first element at a path of names; `None` if there is no such element, or it is empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.all(path).first().map(|element| element.text.trim()).filter(|text| !text.is_empty())
    }

    /// The names of the elements below those at a path of names, without empty ones.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<&str> {
        let below = self.all(path).into_iter().flat_map(|element| &element.children);
        below.filter(|it| !it.text.is_empty() || !it.children.is_empty()).map(|it| it.name.as_str()).collect()
    }

    /// The texts of all elements at a path of names.
    #[must_use]
    pub fn texts(&self, path: &str) -> Vec<String> {
        self.all(path).into_iter().map(|element| element.text.trim().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn codes(document: &str) -> Result<[Option<String>; 2], &'static str> {
        texts(document, ["Code", "Message"]).map(|found| found.map(|text| text.map(|text| text.to_string())))
    }

    #[test]
    fn the_first_element_of_a_name_is_read_whatever_its_namespace() {
        let error = "<?xml version=\"1.0\"?><!-- x --><e:ErrorResponse xmlns:e=\"urn:x\"><e:Error><e:Code a=\"b\">Denied</e:Code>\
             <e:Message>&lt;a&#x20;b&gt; &amp; <![CDATA[<c>]]></e:Message><e:Code>Other</e:Code></e:Error></e:ErrorResponse>";
        assert_eq!(codes(error), Ok([Some("Denied".into()), Some("<a b> & <c>".into())]));
        assert_eq!(codes("<Error><Code/><Message></Message></Error>"), Ok([None, None]));
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        for text in ["", "Service Unavailable", "<Error><Code>x</Code>", "<a></b>", "<Code>&bomb;</Code>", "{\"a\": 1}"]
        {
            assert!(codes(text).is_err() && Element::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn elements_are_found_by_their_path() {
        let document =
            "<r:A xmlns:r=\"urn:x\">\n<L><M><N>a&amp;b</N></M><M><N/></M><M><N>&#x43;</N><N>d</N></M></L></r:A>";
        let root = Element::parse(document).unwrap();
        assert_eq!(root.texts("L/M/N"), ["a&b", "", "C", "d"]);
        assert_eq!((root.text("L/M/N"), root.text("L/X"), root.text("L")), (Some("a&b"), None, None));
        assert_eq!(root.all("L/M")[1].text("N"), None);
        assert_eq!((root.names("L"), root.names("L/M")), (vec!["M", "M", "M"], vec!["N", "N", "N"]));
    }

    #[test]
    fn hostile_documents_of_the_largest_size_are_read_in_linear_time() {
        const SIZE: usize = 256 * 1024;
        let nested = |open: &str| open.repeat(SIZE / open.len());
        let attributes: String = (0..SIZE / 16).map(|n| format!("xmlns:a{n}=\"u{n}\" ")).collect();
        let wide = format!("<a {attributes}>{}</a>", "<b/>".repeat(1000));
        let began = Instant::now();
        for document in [
            nested("<a xmlns:b=\"urn:c\">"),
            nested("<Code>"),
            nested("<a>x</a><b>y</b>"),
            nested("&amp;"),
            nested("<!-- "),
            nested("<![CDATA["),
            format!("<Code>{}</Code>", nested("&amp;")),
            format!("<!DOCTYPE a [{}]><a/>", nested("<!ENTITY b \"&c;&c;\">")),
            wide,
        ] {
            codes(&document).ok();
            Element::parse(&document).ok();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
