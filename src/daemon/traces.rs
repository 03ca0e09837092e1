//! Where traces are sent: the configuration, the credential and the environment put together.

use std::path::Path;

use super::DaemonError;
use crate::config::{Settings, credential};
use crate::telemetry::trace::setup::{Configured, Rules, rules};
use crate::telemetry::trace::{IS_BUILT_IN, Ratio, Sampler};

/// The rules, if traces are to be sent. What of the environment can not be used is told, and passed over.
///
/// # Errors
///
/// A build that can send none is not started by a configuration that wants it to; the headers can not be used.
pub(super) fn find(
    settings: &Settings,
    credentials: Option<&Path>,
    root: &Path,
    instance: String,
) -> Result<Option<Rules>, DaemonError> {
    let traces = &settings.telemetry;
    let headers = credential::otlp_headers(credentials, root)?;
    let (path, headers) = headers.unzip();
    let configured = Configured {
        endpoint: traces.endpoint.clone(),
        ratio: traces.sample_ratio.and_then(|share| Ratio::new(share.as_number())),
        service: traces.service_name.clone(),
        headers,
        instance,
        host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
    };
    let found = rules(&configured, |name| std::env::var(name).ok());
    let (found, ignored) = found.map_err(|source| DaemonError::TraceHeaders { path: path.unwrap_or_default(), source })?;
    for reason in ignored {
        tracing::warn!(error = reason, "the environment says of traces what can not be used, ignoring");
    }
    match found {
        Some(_) if !IS_BUILT_IN && traces.endpoint.is_some() => Err(DaemonError::Unsupported {
            key: "telemetry.endpoint",
            reason: "this build of ashd can send no traces (it lacks the Cargo feature \"otel\")".to_owned(),
        }),
        Some(_) if !IS_BUILT_IN => {
            tracing::warn!("the environment asks for traces (OTEL_…), which this build of ashd can not send, ignoring");
            Ok(None)
        }
        Some(rules) => {
            let Sampler { parent_based, ratio } = rules.sampler;
            // Without a query, which may be a key.
            tracing::info!(url = rules.shown_url(), share = ratio.share(), parent_based, "traces are sent");
            Ok(Some(rules))
        }
        None => Ok(None),
    }
}
