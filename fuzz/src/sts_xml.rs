//! XML of AWS services: a document.
//!
//! What another parser, `roxmltree`, reads is read too, with the same texts and the same tree. Messages are fixed.

use pgiam_core::Element;
use pgiam_core::fuzz_hooks::{xml_texts, xml_tree};
use roxmltree::{Document, Node};

const NAMES: [&str; 5] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Code"];
const DEEPEST: usize = 64;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (texts, tree) = (xml_texts(text, NAMES), xml_tree(text));
    for message in [texts.as_ref().err(), tree.as_ref().err()].into_iter().flatten() {
        assert!(["the response is not XML", "the response is XML that is nested too deeply"].contains(message));
    }
    // An end tag without a name in another parser's error is of no interest, nor is a DTD, which this one skips.
    let Ok(theirs) = Document::parse(text) else { return };
    // It reads `<:a></a>` too, which no other parser does: the names differ.
    if text.contains("<:") || text.contains("</:") {
        return;
    }
    // It replaces a reference to what is no character; others refuse the document.
    if text.split("&#").skip(1).any(|reference| !refers_to_a_character(reference)) {
        return;
    }
    let root = theirs.root_element();
    if depth(root) > DEEPEST {
        assert!(texts.is_err() && tree.is_err());
        return;
    }
    let (texts, tree) = (texts.expect("well-formed"), tree.expect("well-formed"));
    // An empty CDATA section makes an element that is not the same as one without any text.
    if !text.contains("<![CDATA[]]>") {
        assert_eq!(texts, texts_of(root));
    }
    // The root's own name is not told; its children's are compared by paths.
    compare(&tree, root);
}

/// What stands behind `&#`.
fn refers_to_a_character(reference: &str) -> bool {
    let Some((number, _)) = reference.split_once(';') else { return false };
    let code = match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32).is_some_and(|character| character != '\0')
}

fn depth(node: Node<'_, '_>) -> usize {
    // Without recursion over siblings.
    node.descendants()
        .filter(Node::is_element)
        .map(|node| node.ancestors().filter(Node::is_element).count())
        .max()
        .unwrap_or(0)
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn texts_of(root: Node<'_, '_>) -> [Option<String>; 5] {
    let mut found = [const { None }; 5];
    let mut reading: Option<Node<'_, '_>> = None;
    for node in root.descendants().filter(Node::is_element) {
        if reading.is_some_and(|reading| node.ancestors().any(|ancestor| ancestor == reading)) {
            continue;
        }
        reading = None;
        if let Some(place) = NAMES.iter().position(|name| *name == node.tag_name().name())
            && found[place].is_none()
        {
            reading = Some(node);
            found[place] = Some(text_of(node)).filter(|text| !text.is_empty());
        }
    }
    found
}

fn compare(ours: &Element, theirs: Node<'_, '_>) {
    let children: Vec<Node<'_, '_>> = theirs.children().filter(Node::is_element).collect();
    for child in &children {
        let name = child.tag_name().name();
        let same: Vec<_> = children.iter().filter(|other| other.tag_name().name() == name).collect();
        let ours = ours.all(name);
        // A name with a slash would be a path, but no name has one.
        assert_eq!(ours.len(), same.len(), "{name}");
    }
    let mut seen: Vec<&str> = Vec::new();
    for child in &children {
        let name = child.tag_name().name();
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let of_name = children.iter().filter(|other| other.tag_name().name() == name);
        for ((our, their), text) in ours.all(name).into_iter().zip(of_name).zip(ours.texts(name)) {
            let own: String = their.children().filter(Node::is_text).filter_map(|node| node.text()).collect();
            assert_eq!(text, own.trim(), "{name}");
            compare(our, *their);
        }
    }
}
