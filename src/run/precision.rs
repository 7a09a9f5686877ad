//! Precisions that take long on a processor: said before the nodes run that compute in them.

use std::collections::BTreeSet;

use petgraph::graph::NodeIndex;

use super::devices::{DeviceChoice, Warning};
use crate::device::{Device, processor_has};
use crate::graph::{Graph, Source};
use crate::method::Precision;
use crate::numerics::Numerics;

/// What to say where some of these nodes compute in 16-bit floating point on the processor, and how to change that.
pub fn warn_of_precision(graph: &Graph, nodes: &[NodeIndex], devices: &DeviceChoice) -> Option<Warning> {
    let slow: Vec<Slow> = nodes.iter().filter_map(|&index| Slow::find(graph, index, &processor_has)).collect();
    let on_processor = || devices.found().devices.slots().any(|(device, _)| device == Device::Cpu);
    if slow.is_empty() || !on_processor() { None } else { Some(warning(&slow, &processor_has)) }
}

/// A node that computes in 16-bit floating point.
struct Slow {
    stage: String,
    /// What changes its precision.
    setting: String,
    numerics: Numerics,
}

impl Slow {
    fn find(graph: &Graph, index: NodeIndex, processor_has: &dyn Fn(&str) -> bool) -> Option<Slow> {
        let node = graph.node(index);
        let numerics = node.work.numerics();
        let (stage, precision, keys) = said(graph, index).filter(|_| node.work.uses_libtorch())?;
        let is_half = matches!(precision, Precision::Fp16 | Precision::Mixed);
        // libtorch uses these instructions, unless it is held to others.
        if !is_half || numerics != Numerics::Portable && processor_has("avx512_fp16") {
            return None;
        }
        Some(Slow { stage: node.stage_name.clone(), setting: format!("--set stage.{stage}.{keys}=fp32"), numerics })
    }
}

/// The precision of a node, with the stage that says it, and where in that stage's table.
fn said(graph: &Graph, index: NodeIndex) -> Option<(&str, Precision, &'static str)> {
    let node = graph.node(index);
    if let Some((precision, keys)) = node.work.precision() {
        return Some((&node.stage_name, precision, keys));
    }
    let prompts = node.inputs.iter().filter(|input| input.is_of("prompt") || input.is_of("prompts"));
    prompts
        .filter_map(|input| if let Source::Output(index, _) = input.source { Some(index) } else { None })
        .find_map(|index| said(graph, index))
}

fn warning(slow: &[Slow], processor_has: &dyn Fn(&str) -> bool) -> Warning {
    let each = |texts: BTreeSet<String>, between: &str| texts.into_iter().collect::<Vec<_>>().join(between);
    let stages = each(slow.iter().map(|one| format!("`{}`", one.stage)).collect(), ", ");
    let settings = each(slow.iter().map(|one| one.setting.clone()).collect(), " ");
    let has_brain = ["amx_bf16", "avx512_bf16"].into_iter().any(processor_has);
    let brain = if has_brain && slow.iter().any(|one| one.numerics != Numerics::Portable) {
        "; `bf16` takes less time still on this processor, and rounds more"
    } else {
        ""
    };
    Warning {
        message: format!(
            "nodes of {stages} compute in 16-bit floating point on the processor, where 32-bit takes less time"
        ),
        hint: format!("`{settings}` computes in 32 bits, which rounds less than the published code does{brain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brain_floats_are_for_processors_that_have_them() {
        let slow = |stage: &str, numerics| Slow {
            stage: stage.to_owned(),
            setting: "--set stage.train.method.precision=fp32".to_owned(),
            numerics,
        };
        let hint = |numerics, flag: &str| {
            let warning = warning(&[slow("train", numerics), slow("eval", numerics)], &|known| known == flag);
            assert!(warning.message.starts_with("nodes of `eval`, `train` compute "), "{}", warning.message);
            assert!(warning.hint.starts_with("`--set stage.train.method.precision=fp32` computes"), "{}", warning.hint);
            warning.hint.contains("`bf16`")
        };
        assert!(hint(Numerics::Native, "amx_bf16") && hint(Numerics::Native, "avx512_bf16"));
        assert!(!hint(Numerics::Portable, "amx_bf16") && !hint(Numerics::Native, "avx512f"));
    }
}
