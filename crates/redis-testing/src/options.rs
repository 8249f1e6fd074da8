//! How a server is to be set up, and the configuration that says so to redis-server.

use std::{fmt::Write as _, path::Path};

use crate::{process::Ports, tls};

/// When the append-only file reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aof {
    #[default]
    Off,
    EverySec,
    Always,
}

/// A server of a test; the default is one without password, TLS and anything on disk.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    pub aof: Aof,
    pub password: Option<String>,
    /// Whose the password is, instead of the user `default`; `more` has to make this user.
    pub user: Option<&'static str>,
    /// In bytes.
    pub maxmemory: Option<u64>,
    /// `maxmemory-policy`; Redis' own default is `noeviction`.
    pub policy: Option<&'static str>,
    /// A second port speaks TLS, with a certificate of a CA made for this server; of a replica, with
    /// its primary's. Replicas speak TLS with their primary then.
    pub tls: bool,
    /// It lets in only who has a certificate of the same CA there.
    pub tls_clients: bool,
    /// A cluster of one node that serves every slot; of a replica, one more node of its primary's.
    pub cluster: bool,
    /// Any other directives, as they would stand in redis.conf.
    pub more: Vec<(String, String)>,
}

impl RedisOptions {
    pub fn with_aof(aof: Aof) -> Self {
        Self { aof, ..Self::default() }
    }

    /// The whole configuration. It is given on standard input, so no file of the machine plays in.
    pub(crate) fn directives(&self, directory: &Path, ports: Ports) -> String {
        let mut text = String::new();
        let mut set = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value}");
        };
        set("bind", "127.0.0.1");
        set("port", &ports.plain.to_string());
        set("dir", &format!("\"{}\"", directory.display()));
        set("daemonize", "no");
        set("save", "\"\"");
        // A replica waits 5 s for others to sync with it otherwise.
        set("repl-diskless-sync-delay", "0");
        set("appendonly", if self.aof == Aof::Off { "no" } else { "yes" });
        match self.aof {
            Aof::Off => {}
            Aof::EverySec => set("appendfsync", "everysec"),
            Aof::Always => set("appendfsync", "always"),
        }
        if let Some(password) = &self.password {
            set("masterauth", password);
            match self.user {
                Some(user) => set("masteruser", user),
                None => set("requirepass", password),
            }
        }
        if let Some(bytes) = self.maxmemory {
            set("maxmemory", &bytes.to_string());
        }
        if let Some(policy) = self.policy {
            set("maxmemory-policy", policy);
        }
        if let Some(port) = ports.tls {
            set("tls-port", &port.to_string());
            set("tls-auth-clients", if self.tls_clients { "yes" } else { "no" });
            set("tls-ca-cert-file", &tls::ca(directory).display().to_string());
            set("tls-cert-file", &tls::certificate(directory).display().to_string());
            set("tls-key-file", &tls::key(directory).display().to_string());
            set("tls-replication", "yes");
        }
        if self.cluster {
            set("cluster-enabled", "yes");
        }
        for (name, value) in &self.more {
            set(name, value);
        }
        text
    }
}
