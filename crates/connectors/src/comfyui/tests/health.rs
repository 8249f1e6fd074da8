//! How the service is.

use std::time::Duration;

use pointsman_comfyui_sim::{Faults, SimConfig};
use pointsman_core::record::ConnectorStatus;

use super::{Bench, comfy_task, settings, sleeping};
use crate::{Connector as _, Health, StopReason, comfyui::ComfyUiConnector};

#[tokio::test]
async fn connecting_until_it_was_up_and_offline_after() {
    let bench = Bench::new().await;
    assert_eq!(bench.connector.probe().await, Health::idle());
    let Bench { sim, connector } = bench;
    sim.stop().await;
    assert_eq!(connector.probe().await.status, ConnectorStatus::Offline);
    let fresh = ComfyUiConnector::new(settings(connector.client.base_url(), "worker-a")).unwrap();
    let health = fresh.probe().await;
    assert_eq!(health.status, ConnectorStatus::Connecting);
    assert!(health.message.unwrap().contains("waiting for ComfyUI"));
}

#[tokio::test]
async fn silence_is_an_error_only_when_it_is_idle_and_lasts() {
    let probe = Duration::from_millis(50);
    let bench = Bench::with(SimConfig::default(), |settings| settings.pace.probe = probe).await;
    assert_eq!(bench.connector.probe().await, Health::idle());
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    bench.sim.set_faults(Faults { http_stall_ms: 1000, ..Faults::default() });
    for _ in 0..3 {
        assert_eq!(bench.connector.probe().await.status, ConnectorStatus::Idle, "it is busy");
    }
    bench.sim.set_faults(Faults::default());
    running.stop(StopReason::Cancel);
    drop(running.end().await);
    assert_eq!(bench.connector.probe().await, Health::idle());
    bench.sim.set_faults(Faults { http_stall_ms: 1000, ..Faults::default() });
    let statuses = [bench.connector.probe().await.status, bench.connector.probe().await.status];
    assert_eq!(statuses, [ConnectorStatus::Idle, ConnectorStatus::Error]);
}
