//! `[cluster]`: several servers as one, on etcd.

use std::{path::PathBuf, time::Duration};

use super::{
    load::spanned,
    read::{Table, text},
};

/// Several servers as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Where etcd is.
    pub etcd: EtcdConfig,
    /// What all keys of the cluster begin with.
    pub prefix: String,
    /// What the other servers know this one by; `None` for its address.
    pub name: Option<String>,
    /// Where the other servers reach this one; `None` for where it listens.
    pub address: Option<String>,
    /// Where clients that save the hop reach this one, as a URL; `None` for where the other servers do. `none`: they are not told of it.
    pub advertise: Option<String>,
    /// After how long without a word to etcd a server's budgets are another's.
    pub lease: Duration,
    /// The authorities of the other servers' certificates; `None` for the system's.
    pub peer_ca: Option<PathBuf>,
}

/// Where etcd is, and what it wants to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// URLs of its members; in a file `etcd://host:2379,host:2379`, or `etcds://` for TLS. Without any there is no cluster.
    pub endpoints: Vec<String>,
    /// Who this server is to etcd, if that wants to know.
    pub user: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<PathBuf>,
    /// With `https` endpoints.
    pub tls: Option<EtcdTlsConfig>,
}

/// TLS to etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTlsConfig {
    /// etcd's authorities; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// The certificate to show etcd.
    pub cert: Option<PathBuf>,
    /// The certificate's private key.
    pub key: Option<PathBuf>,
}

impl ClusterConfig {
    /// After how long without a word a server's budgets are another's, where nobody says: with the second that a takeover may take,
    /// 5 s.
    pub const LEASE: Duration = Duration::from_secs(4);

    /// As `advertise`: clients are not told of this server.
    pub const NOWHERE: &str = "none";

    /// On the etcd at these endpoints, everything else by default.
    #[must_use]
    pub fn on(endpoints: Vec<String>) -> Self {
        let tls = endpoints.iter().any(|url| url.starts_with("https://")).then(EtcdTlsConfig::default);
        Self {
            etcd: EtcdConfig { endpoints, tls, ..EtcdConfig::default() },
            prefix: "permitd".to_owned(),
            name: None,
            address: None,
            advertise: None,
            lease: Self::LEASE,
            peer_ca: None,
        }
    }

    /// Its endpoints, as [`ClusterConfig::endpoints`] reads them; empty without any.
    pub(super) fn etcd_url(&self) -> String {
        if self.etcd.endpoints.is_empty() {
            return String::new();
        }
        let hosts = self.etcd.endpoints.iter();
        let hosts: Vec<&str> =
            hosts.map(|url| url.split_once("://").map_or(&**url, |(_, host)| host)).collect();
        format!("{}://{}", if self.etcd.tls.is_some() { "etcds" } else { "etcd" }, hosts.join(","))
    }

    /// Reads `etcd://host:2379,host:2379`, or `etcds://` for TLS.
    ///
    /// # Errors
    /// How to write it.
    pub fn endpoints(text: &str) -> Result<Vec<String>, String> {
        let (scheme, hosts) = match text.split_once("://") {
            Some(("etcd", hosts)) => ("http", hosts),
            Some(("etcds", hosts)) => ("https", hosts),
            _ => {
                return Err(format!(
                    "{text:?} is no cluster; write it like etcd://127.0.0.1:2379,127.0.0.2:2379"
                ));
            }
        };
        let hosts = hosts.trim_end_matches('/').split(',').map(str::trim);
        hosts
            .map(|host| match host.rsplit_once(':') {
                Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(format!("{scheme}://{host}"))
                }
                _ => Err(format!("{host:?} is no host with a port; write it like 127.0.0.1:2379")),
            })
            .collect()
    }
}

/// `[cluster]`. Without endpoints there is none.
pub(super) fn read_cluster(mut table: Table<'_>) -> Option<ClusterConfig> {
    let mut named = |name: &str| table.read(name, text).filter(|text| !text.is_empty());
    let etcd = named("etcd");
    let (prefix, name, address) = (named("prefix"), named("name"), named("address"));
    let advertise = named("advertise");
    let (user, password_file) = (named("user"), named("password_file"));
    let peer_ca = named("peer_ca").map(PathBuf::from);
    let base = ClusterConfig::on(Vec::new());
    let lease = spanned(&mut table, "lease", base.lease, Duration::from_secs(2), Duration::from_secs(60));
    let mut files = table.table("etcd_tls");
    let mut path = |name: &str| files.read(name, text).filter(|text| !text.is_empty()).map(PathBuf::from);
    let tls = EtcdTlsConfig { ca: path("ca"), cert: path("cert"), key: path("key") };
    files.finish();
    let endpoints = etcd.and_then(|etcd| {
        let read = ClusterConfig::endpoints(&etcd);
        read.map_err(|problem| table.notes().problem(table.path_of("etcd"), None, problem)).ok()
    });
    if tls.cert.is_some() != tls.key.is_some() {
        let problem = "a certificate and its private key belong together; name both files";
        table.notes().problem(table.path_of("etcd_tls"), None, problem.to_owned());
    }
    table.finish();
    let on = ClusterConfig::on(endpoints?);
    let etcd = EtcdConfig {
        user,
        password_file: password_file.map(PathBuf::from),
        tls: on.etcd.tls.is_some().then_some(tls),
        ..on.etcd
    };
    let prefix = prefix.unwrap_or(base.prefix);
    Some(ClusterConfig { etcd, prefix, name, address, advertise, lease, peer_ca })
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    /// Goal: what is in force is shown as it would be written, and a wrong endpoint is told with its place.
    #[test]
    fn round_trip() {
        let text = "[cluster]\netcd = \"etcds://a:1,b:2\"\nname = \"n\"\nadvertise = \"http://c:1\"\nlease = \"9s\"\n[cluster.etcd_tls]\nca = \"c\"\n";
        let config = Config::read(text, "here", []).expect("right");
        let cluster = config.cluster.clone().expect("there are endpoints");
        assert_eq!(cluster.etcd.endpoints, ["https://a:1", "https://b:2"]);
        let shown = Config::read(&config.to_string(), "shown", []).expect("right");
        assert_eq!(shown.cluster, Some(cluster));
        for wrong in ["http://a:1", "etcd://a", "etcd://:1", "etcd://a:1,", "etcd://a:x"] {
            let problem =
                Config::read(&format!("[cluster]\netcd = \"{wrong}\"\n"), "here", []).expect_err(wrong);
            assert!(problem.to_string().contains("cluster.etcd"), "{problem}");
        }
    }
}
