//! What nodes of a cluster do with each other.

use std::time::{Duration, Instant};

use redis::{Cmd, cmd};

use crate::{
    HarnessError, RedisOptions, RedisServer,
    server::{field_of, info},
};

/// Redis gives up a fail-over that was ordered when it has not come about within 5 s.
const GIVEN_UP: Duration = Duration::from_secs(6);

/// So many keys go to another node at once.
const AT_ONCE: u32 = 100;

fn cluster(command: &str) -> Cmd {
    let mut order = cmd("CLUSTER");
    order.arg(command);
    order
}

impl RedisServer {
    /// One more primary of the cluster that this node is of, without any slot.
    pub async fn beside(node: &RedisServer, options: RedisOptions) -> Result<Self, HarnessError> {
        let other = Self::launch(options, None).await?;
        other.meets(node).await?;
        other.serves_its_slots().await?;
        Ok(other)
    }

    /// Moves the slot of this key, and all keys in it, to another primary of the cluster, as
    /// `redis-cli --cluster reshard` does it.
    pub async fn move_slot(&self, key: &str, to: &RedisServer) -> Result<(), HarnessError> {
        let (mut here, mut there) = (self.connect().await?, to.connect().await?);
        let slot: u16 = cluster("KEYSLOT").arg(key).query_async(&mut here).await?;
        let (from_id, to_id) = (self.node_id().await?, to.node_id().await?);
        let set =
            |state: &str, node: &str| cluster("SETSLOT").arg(slot).arg(state).arg(node).to_owned();
        set("IMPORTING", &from_id).exec_async(&mut there).await?;
        set("MIGRATING", &to_id).exec_async(&mut here).await?;
        loop {
            let mut keys = cluster("GETKEYSINSLOT");
            let keys: Vec<Vec<u8>> = keys.arg(slot).arg(AT_ONCE).query_async(&mut here).await?;
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(10_000).arg("KEYS");
            migrate.arg(keys).exec_async(&mut here).await?;
        }
        // First there, so that it has an owner all the time.
        set("NODE", &to_id).exec_async(&mut there).await?;
        set("NODE", &to_id).exec_async(&mut here).await?;
        Ok(())
    }

    /// A replica of a cluster takes its primary's place, with all it has.
    pub async fn take_over(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        let order = cluster("FAILOVER");
        order.exec_async(&mut connection).await?;
        let begun = Instant::now();
        let mut ordered = begun;
        while field_of(&info(&mut connection).await?, "role") != Some("master") {
            self.again(begun, "the fail-over").await?;
            if ordered.elapsed() > GIVEN_UP {
                // Refused where it has just taken over, which the next look tells.
                let _ = order.exec_async(&mut connection).await;
                ordered = Instant::now();
            }
        }
        Ok(())
    }

    /// Becomes a cluster of its own.
    pub(crate) async fn takes_every_slot(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        cluster("ADDSLOTSRANGE").arg(0).arg(16_383).exec_async(&mut connection).await?;
        self.serves_its_slots().await
    }

    /// Becomes a node of the cluster that this one is of, and its replica.
    pub(crate) async fn joins(&self, primary: &RedisServer) -> Result<(), HarnessError> {
        self.meets(primary).await?;
        let id = primary.node_id().await?;
        let mut connection = self.connect().await?;
        cluster("REPLICATE").arg(&id).exec_async(&mut connection).await?;
        let mut theirs = primary.connect().await?;
        let begun = Instant::now();
        // One that its primary does not know of cannot take over.
        while cluster("REPLICAS").arg(&id).query_async::<Vec<String>>(&mut theirs).await?.is_empty()
        {
            self.again(begun, "its cluster").await?;
        }
        self.serves_its_slots().await
    }

    /// Becomes a node of this one's cluster, when both know each other.
    async fn meets(&self, node: &RedisServer) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        cluster("MEET").arg("127.0.0.1").arg(node.port()).exec_async(&mut connection).await?;
        let begun = Instant::now();
        while !(self.knows(node).await? && node.knows(self).await?) {
            self.again(begun, "its cluster").await?;
        }
        Ok(())
    }

    /// Whether they have shaken hands.
    async fn knows(&self, node: &RedisServer) -> Result<bool, HarnessError> {
        let nodes: String = cluster("NODES").query_async(&mut self.connect().await?).await?;
        let id = node.node_id().await?;
        Ok(nodes.lines().any(|line| line.starts_with(&id) && !line.contains("handshake")))
    }

    async fn node_id(&self) -> Result<String, HarnessError> {
        Ok(cluster("MYID").query_async(&mut self.connect().await?).await?)
    }

    pub(crate) async fn serves_its_slots(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        let begun = Instant::now();
        loop {
            let state: String = cluster("INFO").query_async(&mut connection).await?;
            if field_of(&state, "cluster_state") == Some("ok") {
                return Ok(());
            }
            self.again(begun, "its slots").await?;
        }
    }
}
