//! How the processes of a sandbox ended, from what systemd says of its unit.

use nix::libc::{CLD_DUMPED, CLD_EXITED, CLD_KILLED};

use crate::link::launch::Ended;

/// Reads `Result`, `ExecMainCode` and `ExecMainStatus` of a service. The words are those of
/// systemd's service_result_table, v252 and v257. `None` for a good end.
pub fn read(result: &str, code: i32, status: i32) -> Option<Ended> {
    let number = u8::try_from(status).ok().filter(|number| *number > 0);
    Some(match (result, code, number) {
        ("success", ..) => return None,
        ("exit-code", CLD_EXITED, Some(code)) => Ended::Exited { code },
        ("signal" | "core-dump", CLD_KILLED | CLD_DUMPED, Some(number)) => Ended::Signal { number },
        ("oom-kill", ..) => Ended::OutOfMemory,
        ("timeout", ..) => Ended::Timeout,
        _ => Ended::Failed { result: result.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_systemd_are_read() {
        let failed = |result: &str| Some(Ended::Failed { result: result.to_owned() });
        let cases = [
            ("success", CLD_EXITED, 0, None),
            ("success", CLD_KILLED, 15, None),
            ("exit-code", CLD_EXITED, 3, Some(Ended::Exited { code: 3 })),
            ("signal", CLD_KILLED, 9, Some(Ended::Signal { number: 9 })),
            ("core-dump", CLD_DUMPED, 6, Some(Ended::Signal { number: 6 })),
            ("oom-kill", CLD_KILLED, 9, Some(Ended::OutOfMemory)),
            ("timeout", CLD_KILLED, 9, Some(Ended::Timeout)),
            ("resources", 0, 0, failed("resources")),
            ("watchdog", CLD_KILLED, 6, failed("watchdog")),
            ("exit-code", 0, 0, failed("exit-code")),
            ("signal", CLD_KILLED, 4711, failed("signal")),
        ];
        for (result, code, status, ended) in cases {
            assert_eq!(read(result, code, status), ended, "{result} {code} {status}");
        }
    }
}
