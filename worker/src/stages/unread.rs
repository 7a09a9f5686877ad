//! Results that have been computed, or will be, and that nobody has read yet.

use tch::Device;

/// How many results stay on a card: to read one, the program waits until the card is done with all that it was given.
const ON_A_CARD: usize = 32;

/// Results in their order, with what is known of each.
pub(crate) struct Unread<T> {
    results: Vec<T>,
    most: usize,
}

impl<T> Unread<T> {
    /// None yet, of what this device computes.
    pub(crate) fn new(device: Device) -> Unread<T> {
        Unread { results: Vec::new(), most: if device.is_cuda() { ON_A_CARD } else { 1 } }
    }

    /// One more; returns them all once they are enough to be read.
    pub(crate) fn add(&mut self, result: T) -> Vec<T> {
        self.results.push(result);
        if self.results.len() >= self.most { self.take() } else { Vec::new() }
    }

    /// All that are left.
    pub(crate) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.results)
    }
}
