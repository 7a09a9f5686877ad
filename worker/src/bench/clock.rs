//! Times of what may run on a card, which is waited for around a group of repetitions and not within it.

use std::time::Instant;

use maple_pipe::error::Result;
use maple_pipe::terminal;
use tch::Device;

use crate::cuda::CudaGraph;

/// Seconds that a group of repetitions lasts at least, so that the waiting around it does not count.
const GROUP: f64 = 0.3;

/// Waits until the device has done what it was given.
pub(super) fn wait_for(device: Device) {
    if let Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
}

/// Seconds of `work`.
pub(super) fn seconds(device: Device, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    wait_for(device);
    let clock = Instant::now();
    work()?;
    wait_for(device);
    Ok(clock.elapsed().as_secs_f64())
}

/// How often to repeat what takes so many seconds.
pub(super) fn repetitions(seconds: f64) -> usize {
    ((GROUP / seconds.max(1e-9)).ceil() as usize).clamp(1, 10_000)
}

/// Seconds of one of many repetitions of `work`, which has run before: the median of `runs` groups.
pub(super) fn median_seconds(device: Device, runs: usize, work: &dyn Fn() -> Result<()>) -> Result<f64> {
    work()?;
    let count = repetitions(seconds(device, work)?);
    let group = || -> Result<f64> { Ok(seconds(device, || (0..count).try_for_each(|_| work()))? / count as f64) };
    let times: Vec<f64> = (0..runs).map(|_| group()).collect::<Result<_>>()?;
    Ok(median(times, |seconds| *seconds))
}

/// The same of work that nothing is read of, which a card has recorded, as it has the steps of a training.
pub(super) fn recorded_seconds(device: Device, runs: usize, work: &dyn Fn() -> Result<()>) -> Result<f64> {
    if device == Device::Cpu {
        return median_seconds(device, runs, work);
    }
    work()?;
    match CudaGraph::record(work) {
        Ok((graph, ())) => median_seconds(device, runs, &|| graph.replay()),
        Err(error) => {
            terminal::warn(&format!("the parts of a step are measured as they are launched: {error}"));
            median_seconds(device, runs, work)
        }
    }
}

/// The middle one by `key`; there must be one.
pub(super) fn median<T>(mut all: Vec<T>, key: impl Fn(&T) -> f64) -> T {
    all.sort_by(|one, other| key(one).total_cmp(&key(other)));
    all.swap_remove(all.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_long_enough_and_no_longer() {
        assert_eq!([2.0, 0.3, 0.1, 1e-3, 0.0].map(repetitions), [1, 1, 3, 300, 10_000]);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3, 1, 2], |one| f64::from(*one)), 2);
        assert_eq!(median(vec!["b", "a"], |one| if *one == "a" { 0.0 } else { 1.0 }), "b");
    }
}
