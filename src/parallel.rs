//! The same work on many things, which the processors share where that pays.

use rayon::prelude::*;

/// To hand fewer things to other processors takes longer than to look at them, which takes some microseconds each.
const MANY: usize = 16;

/// What the work makes of each, in order.
pub fn map<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Send + Sync) -> Vec<R> {
    if things.len() < MANY {
        things.iter().map(work).collect()
    } else {
        things.par_iter().with_min_len(MANY).map(work).collect()
    }
}
