//! Every body for a moment, without any tool; and that a body which is wrong would be caught.

use std::{thread, time::Duration};

use quorate_fuzz::{TARGETS, Target, drive::drive};

/// Time for each body at scale 1.
const MOMENT: Duration = Duration::from_millis(1_500);

#[test]
fn no_body_panics_whatever_it_is_given() {
    let times: f64 = std::env::var("QUORATE_PROOF").ok().and_then(|times| times.parse().ok()).unwrap_or(1.0);
    thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(move || match drive(target, 1, MOMENT.mul_f64(times)) {
                Ok(tried) => {
                    println!("{}: {tried} inputs", target.name);
                    assert!(tried > 20, "{} tried only {tried} inputs", target.name);
                }
                Err(finding) => panic!("{}: input {} of bytes {:02x?}", target.name, finding.tried, finding.input),
            });
        }
    });
}

#[test]
fn a_body_that_is_wrong_is_found_out() {
    // It trusts a length that stands in the input, as one forgets to check it.
    fn trusting(bytes: &[u8]) {
        if let [b'l', length, rest @ ..] = bytes {
            assert!(rest.get(..usize::from(*length)).is_some(), "beyond the end");
        }
    }
    let target = Target { name: "trusting", body: trusting, seeds: || vec![("four", b"l\x04abcd".to_vec())] };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let finding = drive(&target, 1, Duration::from_secs(5));
    std::panic::set_hook(hook);
    assert!(finding.is_err(), "it was not found");
}
