use crate::{
    Among, Bandwidth, Connections, Ended, Hashing, HotCold, LeastLoadRules, Load, MaglevRules, ModuloRules,
    Node, PeakEwma, Picker, Policy, PolicyError, RandomRules, RendezvousRules, ReportedRules, ResponseTime,
    RingRules, RoundRobinRules,
};
use buttress_core::Timestamp;

macro_rules! any {
    ($($name:ident($rules:ty),)*) => {
        /// A policy that is chosen at run time, from a configuration file say: any of those of this crate.
        ///
        /// ```
        /// use buttress_balance::{AnyPolicy, Balancer, ConsistentHash, Static};
        ///
        /// let policy = |name: &str| -> Option<AnyPolicy> {
        ///     Some(match name {
        ///         "ring" => ConsistentHash::ring().into(),
        ///         "round_robin" => Static::round_robin().into(),
        ///         _ => return None,
        ///     })
        /// };
        /// let balancer = Balancer::new([("a", 1), ("b", 2)]).policy(policy("ring").expect("it is known"));
        /// # let _ = balancer;
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum AnyPolicy {
            $(
                #[doc = concat!("[`", stringify!($rules), "`].")]
                $name($rules),
            )*
        }

        /// What an [`AnyPolicy`] is built to.
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum AnyPicker {
            $(
                #[doc = concat!("That of [`", stringify!($rules), "`].")]
                $name(<$rules as Policy>::Picker),
            )*
        }

        $(
            impl From<$rules> for AnyPolicy {
                fn from(rules: $rules) -> Self {
                    Self::$name(rules)
                }
            }
        )*

        impl Policy for AnyPolicy {
            type Picker = AnyPicker;

            fn build(&self, nodes: &[Node]) -> Result<AnyPicker, PolicyError> {
                Ok(match self {
                    $(Self::$name(rules) => AnyPicker::$name(Policy::build(rules, nodes)?),)*
                })
            }

            fn rebuild(&self, present: &AnyPicker, nodes: &[Node]) -> Result<AnyPicker, PolicyError> {
                match (self, present) {
                    $((Self::$name(rules), AnyPicker::$name(present)) => {
                        Ok(AnyPicker::$name(rules.rebuild(present, nodes)?))
                    })*
                    _ => self.build(nodes),
                }
            }

            fn hashing(&self) -> Hashing {
                match self {
                    $(Self::$name(rules) => Policy::hashing(rules),)*
                }
            }

            fn is_timed(&self) -> bool {
                match self {
                    $(Self::$name(rules) => rules.is_timed(),)*
                }
            }

            fn counts_bytes(&self) -> bool {
                match self {
                    $(Self::$name(rules) => rules.counts_bytes(),)*
                }
            }

            fn ended(&self, load: &Load, call: &Ended<'_>) {
                match self {
                    $(Self::$name(rules) => rules.ended(load, call),)*
                }
            }

            fn received(&self, load: &Load, bytes: u64, now: Timestamp) {
                match self {
                    $(Self::$name(rules) => rules.received(load, bytes, now),)*
                }
            }
        }

        impl Picker for AnyPicker {
            #[inline]
            fn pick(&self, hash: u64, among: &impl Among) -> Option<usize> {
                match self {
                    $(Self::$name(picker) => picker.pick(hash, among),)*
                }
            }
        }
    };
}

any! {
    Ring(RingRules),
    Maglev(MaglevRules),
    Rendezvous(RendezvousRules),
    RoundRobin(RoundRobinRules),
    Random(RandomRules),
    Modulo(ModuloRules),
    PeakEwma(LeastLoadRules<PeakEwma>),
    Connections(LeastLoadRules<Connections>),
    ResponseTime(LeastLoadRules<ResponseTime>),
    Bandwidth(LeastLoadRules<Bandwidth>),
    HotCold(LeastLoadRules<HotCold>),
    Reported(ReportedRules),
}
