//! Settings of a user and of a project.

use snapbox::str;

use crate::support::{PIPELINE, Project};

#[test]
fn settings_take_the_place_of_options_that_are_not_given() {
    let project = Project::new();
    project.write("maple-pipe.toml", "[executor]\njobs = 1\ndevices = \"nowhere\"\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: there is no device `nowhere`
hint: devices are `cpu` and `cuda:NUMBER`; `cuda:0*4` is four nodes at once on one card
<exit code 2>

"#]],
    );
    // An option comes before a setting, and a project's setting before the user's.
    project.write("maple-pipe.toml", "[executor]\ndevices = \"cpu\"\n");
    project.write("own.toml", "[executor]\ndevices = \"nowhere\"\n");
    let run = |project: &Project, option: &[&str]| {
        let arguments = [&["run", PIPELINE, "--only", "captioned"][..], option].concat();
        project.printed(project.command(&arguments).env("MAPLE_PIPE_CONFIG", "own.toml").output().unwrap()).code
    };
    assert_eq!(run(&project, &[]), Some(0));
    std::fs::remove_file(project.file("maple-pipe.toml")).unwrap();
    assert_eq!([run(&project, &[]), run(&project, &["--devices", "cpu"])], [Some(2), Some(0)]);
}

#[test]
fn a_mistake_in_settings_is_shown_at_its_place() {
    let project = Project::new();
    project.write("maple-pipe.toml", "[executor]\njob = 1\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: unknown key `job`
 --> [PROJECT]/maple-pipe.toml:2:1
  |
2 | job = 1
  | ^^^
  |
  = hint: did you mean `jobs`?
<exit code 2>

"#]],
    );
    let named = project.command(&["status", PIPELINE]).env("MAPLE_PIPE_CONFIG", "absent.toml").output().unwrap();
    project.printed(named).is(str![[r#"
<stderr>
error: could not read `absent.toml`: No such file or directory (os error 2)
<exit code 2>

"#]]);
}
