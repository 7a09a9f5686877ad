//! Tests that need what not every computer has: a tool, a right, reference data. Where it is absent, they are reported as
//! ignored; with `--include-ignored` they fail there.

use libtest_mimic::{Arguments, Trial};

mod browser;
mod disk;
mod latex;
#[path = "../program/numbers.rs"]
mod numbers;
#[path = "../objects/mod.rs"]
mod objects;
#[path = "../parity/mod.rs"]
mod parity;
mod pytorch;
mod reference;
mod s3;
// The program's tests use all of it.
#[allow(dead_code)]
#[path = "../program/support.rs"]
mod support;

/// Tests with the same need.
struct Needing {
    what: &'static str,
    is_there: fn() -> bool,
    tests: &'static [(&'static str, fn())],
}

const ALL: [Needing; 8] = [
    Needing {
        what: "Chromium",
        is_there: browser::is_there,
        tests: &[("tables_sort_in_a_browser", browser::tables_sort_in_a_browser)],
    },
    Needing {
        what: "the right to mount",
        is_there: disk::may_mount,
        tests: &[
            (
                "a_full_disk_is_named_and_a_run_with_more_room_goes_on",
                disk::a_full_disk_is_named_and_a_run_with_more_room_goes_on,
            ),
            ("a_full_disk_fails_a_training_that_goes_on_later", disk::a_full_disk_fails_a_training_that_goes_on_later),
            ("a_store_that_cannot_be_written_can_be_read", disk::a_store_that_cannot_be_written_can_be_read),
        ],
    },
    Needing { what: "pdflatex", is_there: latex::is_there, tests: &[("latex_compiles", latex::latex_compiles)] },
    Needing {
        what: "PyTorch",
        is_there: pytorch::is_there,
        tests: &[("pytorch_loads_exported_checkpoints", pytorch::pytorch_loads_exported_checkpoints)],
    },
    Needing {
        what: "moto_server and the feature `remote`",
        is_there: s3::is_there,
        tests: &[
            ("a_bucket_is_shared_and_collected", s3::a_bucket_is_shared_and_collected),
            (
                "a_broken_bucket_costs_one_warning_and_nothing_else",
                s3::a_broken_bucket_costs_one_warning_and_nothing_else,
            ),
            ("two_runs_share_a_bucket_at_the_same_time", s3::two_runs_share_a_bucket_at_the_same_time),
        ],
    },
    Needing {
        what: "MAPLE_PIPE_SHARED/splits",
        is_there: reference::has_splits,
        tests: &[(
            "few_shot_samples_of_real_data_sets_equal_the_published_ones",
            reference::few_shot_samples_of_real_data_sets_equal_the_published_ones,
        )],
    },
    Needing {
        what: "MAPLE_PIPE_SHARED/data",
        is_there: reference::has_data,
        tests: &[(
            "the_caltech_subset_is_what_its_manifest_says",
            reference::the_caltech_subset_is_what_its_manifest_says,
        )],
    },
    Needing {
        what: "MAPLE_PIPE_SHARED/golden/preprocess",
        is_there: reference::has_preprocess,
        tests: &[
            ("all_evaluation_crops_equal_torchvisions", reference::all_evaluation_crops_equal_torchvisions),
            ("all_decoded_jpegs_equal_pillows", reference::all_decoded_jpegs_equal_pillows),
            ("normalised_values_are_torchvisions_to_the_bit", reference::normalised_values_are_torchvisions_to_the_bit),
        ],
    },
];

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for Needing { what, is_there, tests } in ALL {
        let is_absent = !is_there();
        for &(name, test) in tests {
            let trial = Trial::test(name, move || {
                test();
                Ok(())
            });
            trials.push(trial.with_kind(format!("needs {what}")).with_ignored_flag(is_absent));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
