//! The programs, libtorch, the processor, cards, a cluster.

use serde_json::json;

use super::Finding;
use crate::cards::{Cards, PhysicalCard};
use crate::device::{Share, processor_memory, total_memory};
use crate::executor::mps::Mps;
use crate::executor::{SlurmHere, ask_worker};
use crate::identity;
use crate::made_by::MadeBy;
use crate::run::shares;
use crate::task::{About, CudaCard};
use crate::text::{bytes, plural};

/// What this computer has, whatever the pipeline.
pub fn machine() -> Vec<Finding> {
    let about = ask_worker();
    let cards = Cards::look();
    let mut findings = vec![Finding::ok("program", format!("maple-pipe {}", identity::VERSION))];
    match &about {
        Ok(about) => findings.extend([libtorch(about), processor(&about.instructions), cuda(about, &cards)]),
        Err(error) => {
            let hint = error.hint().unwrap_or("build again: `make build`".into());
            findings.push(Finding::missing("libtorch", error.to_string(), hint));
        }
    }
    let usable = about.ok().and_then(|about| about.cuda.ok()).unwrap_or_default();
    let mps = Mps::look();
    let shares = shares(&usable, mps != Mps::Absent);
    findings
        .extend(usable.iter().zip(shares).enumerate().map(|(number, (one, share))| card(number, one, share, &cards)));
    if !usable.is_empty() {
        findings.push(several_nodes(&mps));
    }
    findings.push(slurm());
    findings
}

fn libtorch(about: &About) -> Finding {
    let place = about.path.as_ref().map_or_else(String::new, |path| format!(", `{path}`"));
    let text = format!("{}{place}", about.libtorch);
    let details = json!({ "version": about.libtorch, "path": about.path });
    if about.libtorch == identity::LIBTORCH {
        return Finding::ok("libtorch", text).details(details);
    }
    let text = format!("{text}, and this build is for {}", identity::LIBTORCH);
    Finding::missing("libtorch", text, "unset `LD_LIBRARY_PATH`, or build again: `make build`").details(details)
}

fn processor(instructions: &str) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (total, free) = (total_memory(), processor_memory());
    let memory = total.zip(free).map(|(total, free)| format!(", {} of {} memory free", bytes(free), bytes(total)));
    let model = MadeBy::here().processor.model;
    let cores_text = plural(cores, "core", "cores");
    let text = format!("{model}, {cores_text}, libtorch uses {instructions}{}", memory.unwrap_or_default());
    let details = json!({
        "model": model, "cores": cores, "instructions": instructions, "memory_total": total, "memory_free": free,
    });
    let portable = ["AVX2", "AVX512"].contains(&instructions);
    let finding = if portable {
        Finding::ok("processor", text)
    } else {
        let hint = "compute with `--set 'defaults.train.numerics=\"native\"'` and the like";
        Finding::warning("processor", format!("{text}: too little for portable numerics, which need AVX2"), hint)
    };
    finding.details(details)
}

/// Whether libtorch can use cards, where the machine shows one.
fn cuda(about: &About, cards: &Cards) -> Finding {
    let details = json!({ "shown": cards, "usable": about.cuda.is_ok() });
    let finding = match &about.cuda {
        Ok(usable) => Finding::ok("CUDA", format!("libtorch can use {}", plural(usable.len(), "card", "cards"))),
        Err(problem) if cards.show_one() => {
            let text = format!("{}, but no card can be used: {problem}", cards.sign());
            Finding::warning("CUDA", text, problem.hint())
        }
        Err(_) if cards.hidden => {
            Finding::ok("CUDA", "`CUDA_VISIBLE_DEVICES` hides the cards; nodes compute on the processor")
        }
        Err(problem) => Finding::ok("CUDA", format!("no card shows; nodes compute on the processor ({problem})")),
    };
    finding.details(details)
}

fn card(number: usize, one: &CudaCard, share: Share, cards: &Cards) -> Finding {
    let physical = cards.cards.iter().find(|card| card.uuid == one.card.uuid).cloned();
    let physical = physical.or_else(|| Cards::find(&one.card.uuid));
    let free = physical
        .as_ref()
        .map_or_else(String::new, |card: &PhysicalCard| format!("{} free of ", bytes(card.memory_free)));
    let driver = cards.driver.as_ref().map_or_else(String::new, |driver| format!(", driver {driver}"));
    let text = format!(
        "cuda:{number}: {}, {free}{} memory{driver}, compute capability {}; takes {share}",
        one.card.name,
        bytes(one.memory_total),
        one.card.compute_capability
    );
    let details = json!({
        "number": number, "name": one.card.name, "uuid": one.card.uuid, "memory_total": one.memory_total,
        "memory_free": physical.map(|card| card.memory_free), "driver": cards.driver,
        "compute_capability": one.card.compute_capability, "nodes": share.nodes,
    });
    Finding::ok("card", text).details(details)
}

/// Whether kernels of several nodes run on a card side by side.
fn several_nodes(mps: &Mps) -> Finding {
    let text = match mps {
        Mps::Runs(folder) => format!("it runs, in `{}`: kernels of several nodes run side by side", folder.display()),
        Mps::CanStart(program) => {
            format!("a run starts `{}`: kernels of several nodes run side by side", program.display())
        }
        Mps::Absent => "not here: kernels of several nodes on a card take turns".to_owned(),
    };
    Finding::ok("MPS", text)
}

/// Whether a Slurm cluster takes jobs from here.
fn slurm() -> Finding {
    const LOOK: &str = "look at what `sinfo` says";
    match SlurmHere::ask() {
        SlurmHere::Absent => Finding::ok("Slurm", "not here, and not needed"),
        SlurmHere::NotSetUp(error) => Finding::warning("Slurm", format!("installed, but not set up: {error}"), LOOK),
        SlurmHere::Silent { version, error } => {
            let text = format!("{version}, whose controller does not answer: {error}");
            Finding::warning("Slurm", text, LOOK)
        }
        SlurmHere::Ready { version, partitions } => {
            let first = partitions.first().map_or("no partition", String::as_str);
            let text = format!("{version}, {first}; `run --executor slurm` hands jobs to it");
            Finding::ok("Slurm", text).details(json!({ "version": version, "partitions": partitions }))
        }
    }
}
