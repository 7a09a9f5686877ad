//! What PyTorch makes of exported checkpoints. `MAPLE_PIPE_PYTHON` names the Python that has it, `python3` else.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use maple_pipe::weights::Checkpoint;

use crate::support::Project;

/// Loads the checkpoint that the first argument names into a model with the names and shapes that the second one lists, as the
/// published code does, and saves that model in the file that the third one names.
const LOAD: &str = r#"
import json, sys, torch

exported, expected, saved = sys.argv[1:]
checkpoint = torch.load(exported, map_location="cpu", weights_only=True)
whole = torch.load(exported, map_location="cpu", weights_only=False)
assert list(checkpoint) == list(whole) == ["state_dict", "epoch", "val_result", "maple-pipe"]
model = torch.nn.Module()
for name, tensor in json.loads(expected).items():
    *modules, last = name.split(".")
    module = model
    for part in modules:
        if not hasattr(module, part):
            module.add_module(part, torch.nn.Module())
        module = getattr(module, part)
    values = torch.zeros(tensor["shape"], dtype=getattr(torch, tensor["dtype"]))
    module.register_parameter(last, torch.nn.Parameter(values))
missing, unexpected = model.load_state_dict(checkpoint["state_dict"], strict=False)
assert not missing and not unexpected, (missing, unexpected)
torch.save({"state_dict": model.state_dict(), "epoch": whole["epoch"]}, saved)
"#;

fn python() -> Command {
    Command::new(std::env::var_os("MAPLE_PIPE_PYTHON").unwrap_or_else(|| OsString::from("python3")))
}

pub fn is_there() -> bool {
    let status = python().args(["-c", "import torch"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub fn pytorch_loads_exported_checkpoints() {
    let project = Project::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts");
    let expected = fs::read_to_string(fixtures.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    for (name, epoch) in [("maple", 5), ("coop", 50)] {
        let released = fixtures.join(format!("{name}/model.pth.tar-{epoch}"));
        let imported = project.run(&["prompts", "import", released.to_str().unwrap(), "-o", "prompt.safetensors"]);
        assert_eq!(imported.code, Some(0), "{}", imported.stderr);
        let exported = project.run(&["prompts", "export", "prompt.safetensors", "exported.pth.tar"]);
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
        let tensors = expected[name]["tensors"].to_string();
        let arguments = ["-c", LOAD, "exported.pth.tar", &tensors, "saved.pth.tar"];
        let output = python().args(arguments).current_dir(project.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let [exported, saved] =
            ["exported.pth.tar", "saved.pth.tar"].map(|path| Checkpoint::read(&project.file(path)).unwrap());
        assert_eq!((saved.tensors(), saved.epoch()), (exported.tensors(), exported.epoch()), "{name}");
    }
}
