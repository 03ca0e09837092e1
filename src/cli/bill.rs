//! What a turn took, in units that people read.

use crate::cli::output::duration;
use crate::wire::usage::{ModelUsage, Usage};

/// The bill on one line: `1.2 s · 3 tools · 12.3k in, 456 out · $0.0123`. What is not known is left
/// out; `in` is all that the model read, with what came from its cache.
pub(super) fn summary(usage: &Usage) -> String {
    let mut parts = vec![time(usage.wall_ms)];
    match usage.tool_calls {
        0 => {}
        1 => parts.push("1 tool".into()),
        many => parts.push(format!("{many} tools")),
    }
    let tokens = total(usage);
    if tokens.calls > 0 {
        let read = tokens.input_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens + tokens.cache_write_1h_tokens;
        parts.push(format!("{} in, {} out", count(read), count(tokens.output_tokens)));
    }
    parts.extend(usage.cost_usd.map(price));
    parts.join(" · ")
}

/// The bill as names and values.
pub(super) fn fields(usage: &Usage) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Time", time(usage.wall_ms))];
    fields.extend(usage.cpu_ms.map(|ms| ("Processor", time(ms))));
    fields.extend(usage.memory_peak_bytes.map(|bytes| ("Memory", format!("{} at most", size(bytes)))));
    if usage.io_read_bytes.is_some() || usage.io_write_bytes.is_some() {
        let known = |bytes: Option<u64>| bytes.map_or("?".into(), size);
        fields.push(("Disk", format!("{} read, {} written", known(usage.io_read_bytes), known(usage.io_write_bytes))));
    }
    fields.push(("Tools", usage.tool_calls.to_string()));
    for (name, tokens) in &usage.models {
        fields.push(("Model", format!("{name}: {}", model(tokens))));
    }
    fields.extend(usage.cost_usd.map(|usd| ("Price", price(usd))));
    fields
}

fn model(tokens: &ModelUsage) -> String {
    let mut parts = vec![format!("{} in", count(tokens.input_tokens))];
    for (tokens, what) in [
        (tokens.cache_read_tokens, "from the cache"),
        (tokens.cache_write_tokens, "to the cache"),
        (tokens.cache_write_1h_tokens, "to the cache for an hour"),
    ] {
        if tokens > 0 {
            parts.push(format!("{} {what}", count(tokens)));
        }
    }
    parts.push(format!("{} out", count(tokens.output_tokens)));
    let calls = if tokens.calls == 1 { "1 call".to_owned() } else { format!("{} calls", tokens.calls) };
    format!("{calls}, {}", parts.join(", "))
}

fn total(usage: &Usage) -> ModelUsage {
    let mut total = ModelUsage::default();
    usage.models.values().for_each(|model| total.add(model));
    total
}

/// A short length of time: `45 ms`, `1.2 s`, then as [`duration`] says it.
pub(super) fn time(ms: u64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => duration(i64::try_from(ms / 1000).unwrap_or(i64::MAX)),
    }
}

/// A number with three digits of meaning: `456`, `12.3k`, `1.2M`.
pub(super) fn count(number: u64) -> String {
    match number {
        ..1000 => number.to_string(),
        // What would round to 1000k.
        1000..999_950 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Dollars with the cents that matter: small sums have four decimals.
pub(super) fn price(usd: f64) -> String {
    if usd != 0.0 && usd < 1.0 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::usage::ModelCalls;

    fn usage() -> Usage {
        let tokens = ModelUsage {
            calls: 2,
            input_tokens: 300,
            output_tokens: 456,
            cache_read_tokens: 11_000,
            cache_write_tokens: 1_000,
            cache_write_1h_tokens: 0,
        };
        Usage {
            wall_ms: 1_234,
            cpu_ms: Some(87),
            memory_peak_bytes: Some(300 << 20),
            io_read_bytes: Some(4096),
            io_write_bytes: None,
            tool_calls: 3,
            models: [("opus".to_owned(), tokens)].into(),
            model_calls: ModelCalls::default(),
            cost_usd: Some(0.01234),
        }
    }

    #[test]
    fn a_bill_fits_one_line_and_says_only_what_is_known() {
        assert_eq!(summary(&usage()), "1.2 s · 3 tools · 12.3k in, 456 out · $0.0123");
        let bare = Usage { wall_ms: 999, tool_calls: 1, ..Usage::default() };
        assert_eq!(summary(&bare), "999 ms · 1 tool");
    }

    #[test]
    fn a_bill_in_full_keeps_kinds_of_tokens_apart() {
        let lines: Vec<String> = fields(&usage()).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "Time=1.2 s",
                "Processor=87 ms",
                "Memory=300.0 MiB at most",
                "Disk=4.0 KiB read, ? written",
                "Tools=3",
                "Model=opus: 2 calls, 300 in, 11.0k from the cache, 1.0k to the cache, 456 out",
                "Price=$0.0123",
            ]
        );
    }

    #[test]
    fn numbers_are_rounded_into_the_right_unit() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1.0k"), (999_949, "999.9k"), (999_950, "1.0M"), (12_345_678, "12.3M")]
        {
            assert_eq!(count(number), text);
        }
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), ((1 << 30) - 1, "1.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
        for (ms, text) in [(0, "0 ms"), (59_900, "59.9 s"), (61_000, "1m 1s")] {
            assert_eq!(time(ms), text);
        }
        for (usd, text) in [(0.0, "$0.00"), (0.5, "$0.5000"), (1.239, "$1.24")] {
            assert_eq!(price(usd), text);
        }
    }
}
