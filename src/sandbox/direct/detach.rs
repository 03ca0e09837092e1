//! Prepares a child process that outlives its parent.
#![expect(unsafe_code, reason = "the step between fork and exec has no safe form")]

use std::fs::File;

use tokio::process::Command;

/// Lets the child lead a session of its own, so that no signal of the parent's terminal reaches
/// it, and write its number into a file first: whoever finds the process finds the file, however
/// early the parent dies.
pub fn lead_session(command: &mut Command, number: File) {
    let prepare = move || {
        let pid = nix::unistd::setsid()?;
        let mut digits = [0_u8; 10];
        let mut at = digits.len();
        let mut rest = pid.as_raw();
        while rest > 0 {
            at -= 1;
            // A digit fits.
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        nix::unistd::write(&number, &digits[at..])?;
        Ok(())
    };
    // SAFETY: Between fork and exec only what is safe in a signal handler may be called, as another
    // thread may have held any lock when the process was copied. The closure makes the system
    // calls setsid(2) and write(2) and touches nothing but its stack and the descriptor it owns;
    // it does not allocate, lock or panic (a number of ten digits holds every pid).
    unsafe {
        command.pre_exec(prepare);
    }
}
