"""Runs the trainer of a Dassl-based repository as a command of maple-pipe: `python3 inputs/run train` or `... test`.

Finds, as every command does: parameters.json (pipelines/dassl.toml says what stands there), inputs/code (the repository),
inputs/images (the data set's folder), inputs/train and inputs/val (the few-shot sample), and to test inputs/model (what
training left). Leaves log.txt, and after training model/ and checkpoint.pth.tar.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path


def fail(message, hint):
    sys.exit(f"error: {message}\nhint: {hint}")


def mirror(images, root, folder):
    """The data set's folder as links, so that what the program writes there stays out of it."""
    mirrored = root / folder
    mirrored.mkdir(parents=True)
    for entry in images.iterdir():
        if entry.name != "split_fewshot":
            (mirrored / entry.name).symlink_to(entry.resolve())
    return mirrored


def hand_over(sample, mirrored, shots, seed):
    """The few-shot sample, where the data sets of CoOp and its successors look for one that was drawn before."""
    from dassl.data.datasets import Datum

    def datum(item):
        return Datum(impath=str(mirrored / item["path"]), label=item["label"], domain=0, classname=item["class_name"])

    parts = {part: [datum(item) for item in json.loads(file.read_text())] for part, file in sample.items()}
    (mirrored / "split_fewshot").mkdir()
    with open(mirrored / "split_fewshot" / f"shot_{shots}-seed_{seed}.pkl", "wb") as file:
        pickle.dump(parts, file)


def run(command, folder, log):
    """Runs a command; what it prints is shown and kept."""
    threads = os.environ.get("MAPLE_THREADS", "1")
    environment = dict(os.environ, OMP_NUM_THREADS=threads, PYTHONDONTWRITEBYTECODE="1")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with open(log, "wb") as kept, subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        for line in process.stdout:
            kept.write(line)
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    if process.returncode != 0:
        sys.exit(f"error: the trainer ended with code {process.returncode}")


def main(task):
    here = Path.cwd()
    given = json.loads((here / "parameters.json").read_text())
    # A copy: programs write to where they are.
    code, output = here / "code", here / "output"
    shutil.copytree((here / "inputs/code").resolve(), code)
    sys.path.insert(0, str(code))
    mirrored = mirror((here / "inputs/images").resolve(), here / "root", given["folder"])
    hand_over({part: here / "inputs" / part for part in ["train", "val"]}, mirrored, given["shots"], given["seed"])

    arguments = {
        "root": here / "root",
        "seed": given["seed"],
        "trainer": given["trainer"],
        "dataset-config-file": code / "configs/datasets" / f"{given['dataset']}.yaml",
        "config-file": code / "configs/trainers" / f"{given['config']}.yaml",
        "output-dir": output,
    }
    for name in ["dataset-config-file", "config-file"]:
        if not arguments[name].is_file():
            fail(f"the repository has no `{arguments[name].relative_to(code)}`", "look at the attributes of the axes")
    options = ["DATASET.NUM_SHOTS", given["shots"], "DATASET.SUBSAMPLE_CLASSES", given["classes"]]
    command = [sys.executable, "-u", "train.py"]
    if task == "test":
        command += ["--eval-only", "--model-dir", here / "inputs/model", "--load-epoch", given["epoch"]]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    command += [*options, *given.get("options", [])]
    run([str(word) for word in command], code, here / "log.txt")

    if task == "train":
        name = f"model.pth.tar-{given['epoch']}"
        found = sorted(output.glob(f"*/{name}"))
        if len(found) != 1:
            left = ", ".join(sorted(str(file.relative_to(output)) for file in output.rglob("*.pth.tar-*"))) or "none"
            fail(f"the trainer left {len(found)} files `{name}`, not one", f"its checkpoints are: {left}")
        kept = here / "model" / found[0].parent.name
        kept.mkdir(parents=True)
        shutil.copy(found[0], kept / name)
        shutil.copy(found[0], here / "checkpoint.pth.tar")
    for folder in [code, output, here / "root"]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:] not in (["train"], ["test"]):
        fail("the task is neither `train` nor `test`", "python3 inputs/run train")
    main(sys.argv[1])
