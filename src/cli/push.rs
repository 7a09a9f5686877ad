//! `maple-pipe push`: sends results to a store that a team shares.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::Args;

use super::project::{PipelineArguments, Selection};
use super::remote::{RemoteArguments, sharing};
use super::terminal::{say, say_waiting};
use crate::error::{Error, Result};
use crate::store::Record;
use crate::text::nodes;

/// Send the results of a pipeline that a remote lacks, as far as they are up to date; nothing is executed
#[derive(Args, Debug)]
pub(super) struct Push {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl Push {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let remote = self.remote.must_open(&project.settings.remote)?;
        if remote.is_readonly() {
            return Err(Error::hinted("`--remote-readonly` lets nothing be sent", "leave it out"));
        }
        let selection = self.selection.of(&project)?;
        let held = project.store.share(say_waiting)?;
        let inspection = project.inspect(selection, &held)?;
        let record = |&index| Some((project.graph.node(index).name.clone(), inspection.plan.record(index)?.clone()));
        let fresh: BTreeMap<String, Record> = inspection.selection.iter().filter_map(record).collect();
        let pipeline = project.graph.digest();
        sharing(&remote, || {
            remote.prepare(&pipeline);
            remote.send_all(&project.store, &pipeline, &fresh, SystemTime::UNIX_EPOCH);
        });
        say(&format!("{}: {} up to date", nodes(inspection.selection.len()), fresh.len()));
        say(&remote.traffic().to_string());
        remote.check()
    }
}
