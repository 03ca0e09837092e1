//! A launcher whose requests are counted and timed.

use std::sync::Arc;
use std::time::Duration;

use super::{LaunchError, Launcher, Limits, Listed, Pending, Spec, Started};
use crate::cgroup::Figures;
use crate::telemetry::metrics::Metrics;
use crate::wire::SandboxId;

/// Passes everything on to another launcher.
#[derive(Debug)]
pub struct Measured {
    inner: Arc<dyn Launcher>,
    metrics: Metrics,
}

impl Measured {
    /// Tells these metrics of what `inner` is asked.
    pub fn new(inner: Arc<dyn Launcher>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }

    fn measure<'a, T: Send + 'a>(&'a self, request: &'static str, pending: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move {
            // Also tells of one that nobody waits for any more.
            let timer = self.metrics.launcher_request_seconds.with_label_values(&[request]).start_timer();
            let outcome = pending.await;
            timer.observe_duration();
            if let Err(error) = &outcome {
                let reason = match error {
                    LaunchError::Unreachable { .. } => "unreachable",
                    LaunchError::Refused(_) => "refused",
                    LaunchError::Failed(_) => "failed",
                };
                self.metrics.launcher_failures.with_label_values(&[reason]).inc();
            }
            outcome
        })
    }
}

impl Launcher for Measured {
    fn start<'a>(&'a self, spec: &'a Spec) -> Pending<'a, Started> {
        self.measure("start", self.inner.start(spec))
    }

    fn stop(&self, sandbox: SandboxId, grace: Duration) -> Pending<'_, ()> {
        self.measure("stop", self.inner.stop(sandbox, grace))
    }

    fn kill(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        self.measure("kill", self.inner.kill(sandbox))
    }

    fn freeze(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        self.measure("freeze", self.inner.freeze(sandbox))
    }

    fn thaw(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        self.measure("thaw", self.inner.thaw(sandbox))
    }

    fn limit<'a>(&'a self, sandbox: SandboxId, limits: &'a Limits) -> Pending<'a, ()> {
        self.measure("limit", self.inner.limit(sandbox, limits))
    }

    fn list(&self) -> Pending<'_, Vec<Listed>> {
        self.measure("list", self.inner.list())
    }

    fn remove(&self, sandbox: SandboxId) -> Pending<'_, ()> {
        self.measure("remove", self.inner.remove(sandbox))
    }

    fn host_stops(&self) -> Pending<'_, bool> {
        self.measure("host_stops", self.inner.host_stops())
    }

    fn usage(&self, sandbox: SandboxId) -> Pending<'_, Option<Figures>> {
        self.measure("usage", self.inner.usage(sandbox))
    }

    fn quota(&self, sandbox: Option<SandboxId>) -> Pending<'_, bool> {
        self.measure("quota", self.inner.quota(sandbox))
    }

    fn lacks(&self) -> Vec<String> {
        self.inner.lacks()
    }
}
