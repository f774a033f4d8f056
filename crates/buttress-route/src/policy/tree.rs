//! The templates of all routes as a tree of segments, in two flat tables.
//!
//! Each node but a root stands for a segment. A literal one is found by its parent and its bytes in one hash table for the
//! whole tree, so that a node with 100 000 children costs what one with two does; a parameter and a rest are one child each.
//! A literal goes before a parameter, and that before a rest, in each segment from the left. What does not lead to a route
//! that takes the request is left again: each node is looked at once at most, as there is one way to it.

use super::path::decoded;
use super::template::Segment;

/// In one template.
pub(crate) const MOST_PARAMETERS: usize = 16;
/// In one template: the walk is as deep.
pub(crate) const MOST_SEGMENTS: usize = 128;
pub(crate) const LONGEST_LITERAL: usize = 255;
/// Of a request, so that places in it fit 16 bits.
pub(crate) const LONGEST_PATH: usize = 65_535;

/// No node.
const NONE: u32 = u32::MAX;

/// Where parameters stand in a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ranges {
    all: [(u16, u16); MOST_PARAMETERS],
    count: u8,
}

impl Ranges {
    pub(crate) fn get(&self, at: usize) -> std::ops::Range<usize> {
        let (start, end) = self.all[..usize::from(self.count)][at];
        start.into()..end.into()
    }

    fn push(&mut self, start: usize, end: usize) {
        const SHORT: &str = "no longer path is walked";
        let range = (start.try_into().expect(SHORT), end.try_into().expect(SHORT));
        self.all[usize::from(self.count)] = range;
        self.count += 1;
    }

    const fn pop(&mut self) {
        self.count -= 1;
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    /// Where its literal stands.
    text: u32,
    length: u8,
    /// Whether it has literal children.
    literals: bool,
    param: u32,
    rest: u32,
    /// What ends here: a range of whoever built the tree.
    leaf: (u32, u32),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    node: u32,
}

/// The tree. Its roots are the first nodes.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    text: Vec<u8>,
    /// A power of two, half of them empty at least.
    slots: Vec<Slot>,
    edges: usize,
}

impl Tree {
    pub(crate) fn new(roots: u32) -> Self {
        let mut tree = Self { nodes: Vec::new(), text: Vec::new(), slots: Vec::new(), edges: 0 };
        tree.resize(8);
        for _ in 0..roots {
            tree.node(NONE);
        }
        tree
    }

    /// The node at the end of `segments`, below `root`; made where there is none.
    pub(crate) fn insert(&mut self, root: u32, segments: &[Segment]) -> u32 {
        segments.iter().fold(root, |node, segment| match segment {
            Segment::Literal(text) => self.insert_literal(node, text),
            Segment::Param => {
                if self.nodes[node as usize].param == NONE {
                    self.nodes[node as usize].param = self.node(node);
                }
                self.nodes[node as usize].param
            }
            Segment::Rest => {
                if self.nodes[node as usize].rest == NONE {
                    self.nodes[node as usize].rest = self.node(node);
                }
                self.nodes[node as usize].rest
            }
        })
    }

    pub(crate) fn insert_literal(&mut self, parent: u32, text: &[u8]) -> u32 {
        if let Some(node) = self.literal(parent, text) {
            return node;
        }
        let node = self.node(parent);
        let new = &mut self.nodes[node as usize];
        new.text = u32::try_from(self.text.len()).expect("all literals together are shorter than 4 GiB");
        new.length = u8::try_from(text.len()).expect("a literal has 255 bytes at most");
        self.text.extend_from_slice(text);
        self.nodes[parent as usize].literals = true;
        self.edges += 1;
        if self.edges * 2 > self.slots.len() {
            self.resize(self.slots.len() * 2);
        }
        self.place(hash(parent, text), node);
        node
    }

    pub(crate) fn set_leaf(&mut self, node: u32, from: u32, to: u32) {
        self.nodes[node as usize].leaf = (from, to);
    }

    pub(crate) fn has_literals(&self, node: u32) -> bool {
        self.nodes[node as usize].literals
    }

    /// The child of `parent` that is this literal.
    pub(crate) fn literal(&self, parent: u32, text: &[u8]) -> Option<u32> {
        let hash = hash(parent, text);
        let mut at = self.start(hash);
        loop {
            let slot = self.slots[at];
            if slot.node == NONE {
                return None;
            }
            if slot.tag == hash as u32 {
                let node = &self.nodes[slot.node as usize];
                if node.parent == parent && self.text_of(node) == text {
                    return Some(slot.node);
                }
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Shows what ends where `path` does, the most specific first, until `take` has found what it looks for. `at` is the
    /// beginning of a segment.
    pub(crate) fn walk(
        &self,
        node: u32,
        path: &[u8],
        at: usize,
        ranges: &mut Ranges,
        take: &mut impl FnMut((u32, u32), &Ranges) -> bool,
    ) -> bool {
        let (id, node) = (node, &self.nodes[node as usize]);
        let rest = &path[at..];
        let length = rest.iter().position(|&byte| byte == b'/');
        let end = at + length.unwrap_or(rest.len());
        let mut go_on = |child: u32, ranges: &mut Ranges| {
            if length.is_none() {
                take(self.nodes[child as usize].leaf, ranges)
            } else {
                self.walk(child, path, end + 1, ranges, take)
            }
        };
        if node.literals
            && let Some(child) = self.segment(id, &path[at..end])
            && go_on(child, ranges)
        {
            return true;
        }
        if node.param != NONE && end > at {
            ranges.push(at, end);
            if go_on(node.param, ranges) {
                return true;
            }
            ranges.pop();
        }
        if node.rest != NONE && !rest.is_empty() {
            ranges.push(at, path.len());
            if take(self.nodes[node.rest as usize].leaf, ranges) {
                return true;
            }
            ranges.pop();
        }
        false
    }

    /// The literal child that a segment reads as, decoded.
    fn segment(&self, parent: u32, segment: &[u8]) -> Option<u32> {
        if !segment.contains(&b'%') {
            return self.literal(parent, segment);
        }
        let mut text = [0; LONGEST_LITERAL];
        let mut length = 0;
        for byte in decoded(segment) {
            *text.get_mut(length)? = byte;
            length += 1;
        }
        self.literal(parent, &text[..length])
    }

    fn text_of(&self, node: &Node) -> &[u8] {
        &self.text[node.text as usize..][..usize::from(node.length)]
    }

    fn node(&mut self, parent: u32) -> u32 {
        let node = u32::try_from(self.nodes.len()).ok().filter(|&node| node != NONE);
        let new = Node { parent, text: 0, length: 0, literals: false, param: NONE, rest: NONE, leaf: (0, 0) };
        self.nodes.push(new);
        node.expect("there are fewer than 4 294 967 295 segments")
    }

    /// Where a literal is looked for first: by the high half of its hash, as the low one is its tag.
    const fn start(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    fn place(&mut self, hash: u64, node: u32) {
        let mut at = self.start(hash);
        while self.slots[at].node != NONE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = Slot { tag: hash as u32, node };
    }

    fn resize(&mut self, slots: usize) {
        let former = std::mem::replace(&mut self.slots, vec![Slot { tag: 0, node: NONE }; slots]);
        for slot in former.into_iter().filter(|slot| slot.node != NONE) {
            let node = self.nodes[slot.node as usize];
            self.place(hash(node.parent, self.text_of(&node)), slot.node);
        }
    }
}

/// Folds eight bytes at a time by one wide multiplication, as wyhash does.
///
/// It has no seed: what is in the table comes from the configuration, so that a client can look for long runs of slots, but not
/// make them longer.
fn hash(parent: u32, text: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    const fn fold(a: u64, b: u64) -> u64 {
        let product = a as u128 * b as u128;
        product as u64 ^ (product >> u64::BITS) as u64
    }
    let mut state = (u64::from(parent) << 32) ^ text.len() as u64 ^ 0xa076_1d64_78bd_642f;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), ODD);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(fold(state ^ u64::from_le_bytes(last), ODD), 0xe703_7ed1_a0b4_28db)
}
