//! The templates of all routes as a tree of segments, in two flat tables.
//!
//! Each node but a root stands for a segment. A literal one is found by its parent and its bytes in one hash table for the
//! whole tree, so that a node with 100 000 children costs what one with two does; an only one, a parameter and a rest stand in the node.
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

/// A literal of up to so many bytes stands in its node.
const SHORT: usize = 16;

/// In a cache line of its own, with all that a walk looks at: in a large tree it is the lines that cost.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Node<L> {
    parent: u32,
    /// Its literal, if it is short, and else where it stands.
    short: [u8; SHORT],
    long: u32,
    length: u8,
    /// Whether it has several literal children: then they are in the table.
    many: bool,
    /// The first of them.
    literal: u32,
    param: u32,
    rest: u32,
    /// What ends here, and at the parameter below: most templates end so.
    leaf: L,
    param_leaf: L,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    node: u32,
}

/// The tree. Its roots are the first nodes.
#[derive(Debug)]
pub(crate) struct Tree<L> {
    nodes: Vec<Node<L>>,
    /// The long literals.
    text: Vec<u8>,
    /// A power of two, half of them empty at least.
    slots: Vec<Slot>,
    /// How many are taken.
    taken: usize,
}

impl<L: Copy + Default> Tree<L> {
    pub(crate) fn new(roots: u32) -> Self {
        let mut tree = Self { nodes: Vec::new(), text: Vec::new(), slots: Vec::new(), taken: 0 };
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
        new.length = u8::try_from(text.len()).expect("a literal has 255 bytes at most");
        if let Some(short) = new.short.get_mut(..text.len()) {
            short.copy_from_slice(text);
        } else {
            new.long = u32::try_from(self.text.len()).expect("all literals together are shorter than 4 GiB");
            self.text.extend_from_slice(text);
        }
        let above = &mut self.nodes[parent as usize];
        if above.literal == NONE {
            above.literal = node;
        } else {
            let first = (!above.many).then_some(above.literal);
            above.many = true;
            first.into_iter().chain([node]).for_each(|child| self.add(child));
        }
        node
    }

    pub(crate) fn set_leaf(&mut self, node: u32, leaf: L) {
        self.nodes[node as usize].leaf = leaf;
        let parent = self.nodes[node as usize].parent;
        if let Some(above) = self.nodes.get_mut(parent as usize)
            && above.param == node
        {
            above.param_leaf = leaf;
        }
    }

    pub(crate) fn has_literals(&self, node: u32) -> bool {
        self.nodes[node as usize].literal != NONE
    }

    /// The child of `parent` that is this literal.
    pub(crate) fn literal(&self, parent: u32, text: &[u8]) -> Option<u32> {
        let above = &self.nodes[parent as usize];
        if !above.many {
            let only = self.nodes.get(above.literal as usize)?;
            return (self.text_of(only) == text).then_some(above.literal);
        }
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
        take: &mut impl FnMut(L, &Ranges) -> bool,
    ) -> bool {
        let (id, node) = (node, &self.nodes[node as usize]);
        let rest = &path[at..];
        let length = rest.iter().position(|&byte| byte == b'/');
        let end = at + length.unwrap_or(rest.len());
        let last = length.is_none();
        if node.literal != NONE
            && let Some(child) = self.segment(id, &path[at..end])
            && if last {
                take(self.nodes[child as usize].leaf, ranges)
            } else {
                self.walk(child, path, end + 1, ranges, take)
            }
        {
            return true;
        }
        if node.param != NONE && end > at {
            ranges.push(at, end);
            let found = if last {
                take(node.param_leaf, ranges)
            } else {
                self.walk(node.param, path, end + 1, ranges, take)
            };
            if found {
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

    fn text_of<'a>(&'a self, node: &'a Node<L>) -> &'a [u8] {
        let length = usize::from(node.length);
        node.short.get(..length).unwrap_or_else(|| &self.text[node.long as usize..][..length])
    }

    fn node(&mut self, parent: u32) -> u32 {
        let node = u32::try_from(self.nodes.len()).ok().filter(|&node| node != NONE);
        self.nodes.push(Node {
            parent,
            short: [0; SHORT],
            long: 0,
            length: 0,
            many: false,
            literal: NONE,
            param: NONE,
            rest: NONE,
            leaf: L::default(),
            param_leaf: L::default(),
        });
        node.expect("there are fewer than 4 294 967 295 segments")
    }

    /// Where a literal is looked for first: by the high half of its hash, as the low one is its tag.
    const fn start(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    /// Puts a node into the table.
    fn add(&mut self, node: u32) {
        self.taken += 1;
        if self.taken * 2 > self.slots.len() {
            self.resize(self.slots.len() * 2);
        }
        let new = self.nodes[node as usize];
        self.place(hash(new.parent, self.text_of(&new)), node);
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
