//! What commands show of jobs and of the cluster.

use crate::{JOBS, Project, eventually};

pub fn status_and_runs_show_jobs() {
    let project = Project::new("", "");
    let text = r#"
[axes]
number = [1, 2, 3]
[stage.part]
kind = "command"
axes = ["number"]
run = '''
echo begun >> PLACE/begun
while ! [ -e PLACE/go ]; do sleep 0.05; done
echo {number} > part
'''
outputs = { part = "part" }
"#;
    project.project.write(JOBS, &text.replace("PLACE", &project.project.path().display().to_string()));
    let run = project.start("run", &["run", JOBS]);
    // The cluster has room for two.
    eventually("two nodes run", || project.count("begun") == 2);
    let status = project.run(&["status", JOBS, "--all"]).stdout;
    let is_running = |number: u32| {
        let line =
            format!(r"(?m)^part/number{number}   running \(Slurm job \d+_{}, process \d+ on \S+, \d+s\)$", number - 1);
        regex::Regex::new(&line).unwrap().is_match(&status)
    };
    assert!(is_running(1) && is_running(2), "{status}");
    assert!(
        regex::Regex::new(r"(?m)^part/number3   queued \(Slurm job \d+_2\)$").unwrap().is_match(&status),
        "{status}"
    );
    let node = &project.json(&["status", JOBS, "--json"])["nodes"][2];
    assert_eq!(node["reason"], "queued");
    run.says("SUBMITTED");
    eventually("the run has seen its jobs", || project.run(&["runs", "last"]).stdout.matches("running").count() > 2);
    let runs = project.run(&["runs", "last"]).stdout;
    assert!(runs.contains("part/number1") && runs.matches("Slurm job ").count() == 3, "{runs}");
    project.project.write("go", "");
    assert_eq!(run.end().code, Some(0));
}

pub fn doctor_knows_the_cluster() {
    let project = Project::new("", "");
    let printed = project.run(&["doctor"]);
    let all = printed.stdout + &printed.stderr;
    assert!(all.contains("slurm-wlm") && all.contains("main* up 1 idle gpu:2"), "{all}");
}
