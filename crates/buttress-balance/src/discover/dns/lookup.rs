//! Questions to DNS, and what is answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use buttress_core::Name;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as NoAnswer, NetError};
use hickory_resolver::proto::rr::domain::Name as DomainName;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::DnsError;
use crate::policy::greatest_common_divisor;

/// Which addresses are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    Both,
    V4,
    V6,
}

/// What an SRV record says, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) priority: u32,
    pub(super) weight: u32,
    pub(super) port: u16,
    pub(super) host: Name,
}

/// What was answered to one question.
pub(super) enum Found<T> {
    Some {
        records: Vec<T>,
        ttl: Duration,
    },
    /// There are none, it says.
    None {
        ttl: Option<Duration>,
        error: DnsError,
    },
    Failed(DnsError),
}

pub(super) fn check(name: &Name) -> Result<(), DnsError> {
    let bad = |rule| Err(DnsError::BadName { name: name.clone(), rule });
    if name.is_empty() || name.as_str() == "." {
        return bad("it must have a label");
    }
    if name.parse::<IpAddr>().is_ok() {
        return bad("it is an address, which is an endpoint without DNS");
    }
    match DomainName::from_utf8(name.as_str()) {
        Ok(_) => Ok(()),
        Err(_) => bad(
            "it must be made of labels of 1 to 63 bytes, with a dot between them, and have 255 bytes at most",
        ),
    }
}

pub(super) struct Lookups {
    resolver: TokioResolver,
    families: Families,
}

impl Lookups {
    pub(super) fn new(
        servers: &[SocketAddr],
        timeout: Duration,
        families: Families,
    ) -> Result<Self, DnsError> {
        let settings = |source| DnsError::Settings { source: Arc::new(source) };
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(settings)?
        } else {
            let servers = servers.iter().map(|&server| name_server(server)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            // Who names the servers means these, and not a file.
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        builder.options_mut().timeout = timeout;
        Ok(Self { resolver: builder.build().map_err(settings)?, families })
    }

    /// Each round asks anew: when to ask is decided here.
    pub(super) fn forget(&self) {
        self.resolver.clear_cache();
    }

    /// The records of the families that are looked for.
    pub(super) const fn families(&self) -> &'static [RecordType] {
        match self.families {
            Families::Both => &[RecordType::A, RecordType::AAAA],
            Families::V4 => &[RecordType::A],
            Families::V6 => &[RecordType::AAAA],
        }
    }

    /// The addresses of `host`, of one family.
    pub(super) async fn addresses(&self, host: &str, family: RecordType) -> Found<IpAddr> {
        let address = |data: &RData| match data {
            RData::A(address) => Some(address.0.into()),
            RData::AAAA(address) => Some(address.0.into()),
            _ => None,
        };
        self.records(host, family, address).await
    }

    /// The targets of the service `name`, the first ones first.
    pub(super) async fn targets(&self, name: &str) -> Found<Target> {
        let target = |data: &RData| match data {
            RData::SRV(record) if !record.target.is_root() => Some(Target {
                priority: record.priority.into(),
                weight: u32::from(record.weight).max(1),
                port: record.port,
                host: record.target.to_ascii().into(),
            }),
            _ => None,
        };
        let mut found = self.records(name, RecordType::SRV, target).await;
        if let Found::Some { records, .. } = &mut found {
            let weights = records.iter().map(|target| target.weight.into());
            let unit = weights.fold(0, greatest_common_divisor).max(1) as u32;
            records.iter_mut().for_each(|target| target.weight /= unit);
            records.sort_by(|one, other| {
                let key = |target: &Target| (target.priority, u32::MAX - target.weight, target.port);
                key(one).cmp(&key(other)).then_with(|| one.host.cmp(&other.host))
            });
        }
        found
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        record: impl Fn(&RData) -> Option<T>,
    ) -> Found<T> {
        let (owner, kind_name) = (Name::from(name.to_owned()), label(kind));
        let error = match self.resolver.lookup(name, kind).await {
            Ok(answer) => {
                let answers = answer.answers();
                let records: Vec<T> = answers.iter().filter_map(|answer| record(&answer.data)).collect();
                let ttl = answers.iter().map(|answer| answer.ttl).min();
                let ttl = ttl.map(|seconds| Duration::from_secs(seconds.into()));
                if let (false, Some(ttl)) = (records.is_empty(), ttl) {
                    return Found::Some { records, ttl };
                }
                return Found::None { ttl, error: DnsError::NoRecords { name: owner, records: kind_name } };
            }
            Err(error) => error,
        };
        let exists = !error.is_nx_domain();
        match error {
            NetError::Dns(NoAnswer::NoRecordsFound(no)) => Found::None {
                ttl: no.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())),
                error: if exists {
                    DnsError::NoRecords { name: owner, records: kind_name }
                } else {
                    DnsError::NoName { name: owner, records: kind_name }
                },
            },
            error => Found::Failed(DnsError::Unanswered {
                name: owner,
                records: kind_name,
                source: Arc::new(error),
            }),
        }
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

const fn label(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        _ => "SRV",
    }
}
