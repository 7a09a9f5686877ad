//! How a node stands, in one word.

use std::fmt;

use serde::Serialize;

use super::State;

/// A [`State`] without what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its key has a valid record.
    Fresh,
    /// It must run.
    Stale,
    /// Something that it needs is stale.
    Waiting,
    /// It cannot run: something from outside is not there, which it or a node that it needs would read.
    Blocked,
}

impl Standing {
    /// All of them.
    pub const ALL: [Standing; 4] = [Standing::Fresh, Standing::Stale, Standing::Waiting, Standing::Blocked];

    /// The word in the attributes of pictures; as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Fresh => "fresh",
            Standing::Stale => "stale",
            Standing::Waiting => "waiting",
            Standing::Blocked => "blocked",
        }
    }
}

impl From<&State> for Standing {
    fn from(state: &State) -> Standing {
        match state {
            State::Fresh(_) => Standing::Fresh,
            State::Stale { .. } => Standing::Stale,
            State::Pending => Standing::Waiting,
            State::Blocked => Standing::Blocked,
        }
    }
}

impl fmt::Display for Standing {
    /// The words that people read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if *self == Standing::Fresh { "up to date" } else { self.name() })
    }
}

/// How many nodes stand how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// All.
    pub nodes: usize,
    /// Up to date.
    pub fresh: usize,
    /// Must run.
    pub stale: usize,
    /// Need a stale one.
    pub waiting: usize,
    /// Cannot run.
    pub blocked: usize,
}

impl Counts {
    /// The nodes that stand so.
    pub fn of(&self, standing: Standing) -> usize {
        match standing {
            Standing::Fresh => self.fresh,
            Standing::Stale => self.stale,
            Standing::Waiting => self.waiting,
            Standing::Blocked => self.blocked,
        }
    }

    /// `, 3 blocked`, where there are some.
    pub fn and_blocked(&self) -> String {
        if self.blocked > 0 { format!(", {} blocked", self.blocked) } else { String::new() }
    }

    /// What is most urgent among them: blocked before stale before waiting before fresh.
    pub fn worst(&self) -> Standing {
        match self {
            Counts { blocked: 1.., .. } => Standing::Blocked,
            Counts { stale: 1.., .. } => Standing::Stale,
            Counts { waiting: 1.., .. } => Standing::Waiting,
            _ => Standing::Fresh,
        }
    }
}

impl FromIterator<Standing> for Counts {
    fn from_iter<I: IntoIterator<Item = Standing>>(standings: I) -> Counts {
        let mut counts = Counts::default();
        for standing in standings {
            counts.nodes += 1;
            *match standing {
                Standing::Fresh => &mut counts.fresh,
                Standing::Stale => &mut counts.stale,
                Standing::Waiting => &mut counts.waiting,
                Standing::Blocked => &mut counts.blocked,
            } += 1;
        }
        counts
    }
}

impl fmt::Display for Counts {
    /// `3 up to date, 1 stale`: what there is none of is not mentioned.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Standing::ALL.into_iter().filter(|standing| self.of(*standing) > 0);
        let words: Vec<String> = present.map(|standing| format!("{} {standing}", self.of(standing))).collect();
        formatter.write_str(&words.join(", "))
    }
}
