//! Which traces are kept.

use super::context::TraceId;

/// The share of traces that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u64);

/// What all of them are, in the half of 64 bits that is compared.
const ALL: u64 = 1 << 63;

impl Ratio {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(ALL);

    /// A share from 0 to 1; `None` for any other number.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self((share * ALL as f64) as u64))
    }

    /// As a number from 0 to 1.
    pub fn share(self) -> f64 {
        self.0 as f64 / ALL as f64
    }

    /// Decides by the trace's id, as SDKs of OpenTelemetry do, so that all who are asked for one trace say the same
    /// where they keep the same share.
    pub fn keeps(self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.0
    }
}

/// Decides whether a trace is kept when it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a caller who has a trace decides.
    pub parent_based: bool,
    /// What is kept of the rest.
    pub ratio: Ratio,
}

impl Sampler {
    /// The sampler that `OTEL_TRACES_SAMPLER` names, with `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn named(name: &str, share: Option<&str>) -> Result<Self, String> {
        let ratio = || match share {
            None => Ok(Ratio::ALL),
            Some(text) => text
                .trim()
                .parse()
                .ok()
                .and_then(Ratio::new)
                .ok_or_else(|| format!("OTEL_TRACES_SAMPLER_ARG={text:?} is not a number from 0 to 1")),
        };
        let (parent_based, rest) = name.strip_prefix("parentbased_").map_or((false, name), |rest| (true, rest));
        let ratio = match rest {
            "always_on" => Ratio::ALL,
            "always_off" => Ratio::NONE,
            "traceidratio" => ratio()?,
            _ => return Err(format!("OTEL_TRACES_SAMPLER={name:?} is not a sampler that Ash has")),
        };
        Ok(Self { parent_based, ratio })
    }

    /// Whether a trace is kept of which its caller said this.
    pub fn keeps(self, trace: TraceId, parent: Option<bool>) -> bool {
        match parent {
            Some(is_sampled) if self.parent_based => is_sampled,
            _ => self.ratio.keeps(trace),
        }
    }
}

impl Default for Sampler {
    /// `parentbased_always_on`, the default of OpenTelemetry.
    fn default() -> Self {
        Self { parent_based: true, ratio: Ratio::ALL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u64) -> TraceId {
        let mut id = [1; 16];
        id[8..].copy_from_slice(&last.to_be_bytes());
        TraceId(id)
    }

    #[test]
    fn samplers_decide_by_parent_and_share() {
        let (low, high) = (id(0), id(u64::MAX));
        for (name, share, low_root, high_root, kept_parent, dropped_parent) in [
            ("always_on", None, true, true, true, true),
            ("always_off", None, false, false, false, false),
            ("traceidratio", Some("0.5"), true, false, true, true),
            ("traceidratio", None, true, true, true, true),
            ("parentbased_always_on", None, true, true, true, false),
            ("parentbased_always_off", None, false, false, true, false),
            ("parentbased_traceidratio", Some("0.25"), true, false, true, false),
            ("parentbased_traceidratio", Some("0"), false, false, true, false),
            ("parentbased_traceidratio", Some(" 1 "), true, true, true, false),
        ] {
            let sampler = Sampler::named(name, share).expect(name);
            assert_eq!((sampler.keeps(low, None), sampler.keeps(high, None)), (low_root, high_root), "{name}");
            assert_eq!(
                (sampler.keeps(low, Some(true)), sampler.keeps(low, Some(false))),
                (kept_parent, dropped_parent),
                "{name}"
            );
        }
        assert_eq!(Sampler::named("parentbased_always_on", None), Ok(Sampler::default()));
    }

    #[test]
    fn other_samplers_and_shares_are_refused() {
        for name in ["", "jaeger_remote", "xray", "parentbased_", "ALWAYS_ON", "parentbased_jaeger_remote"] {
            assert!(Sampler::named(name, None).is_err(), "{name}");
        }
        for share in ["", "x", "-0.1", "1.1", "NaN", "inf"] {
            assert!(Sampler::named("traceidratio", Some(share)).is_err(), "{share}");
        }
    }

    #[test]
    fn a_share_is_about_what_it_says() {
        let quarter = Ratio::new(0.25).expect("a share");
        let step = u64::MAX / 1000;
        let kept = (0..1000).filter(|n| quarter.keeps(id(n * step))).count();
        assert!((249..=251).contains(&kept), "{kept}");
    }
}
