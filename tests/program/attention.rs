//! `attention`: where the class token looks.

use std::fs;

use maple_pipe::evaluation::AttentionMap;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

/// A project whose attention is asked for, of CLIP and of MaPLe.
fn project() -> Project {
    let project = Project::after_a_run();
    let stages = "\n[stage.plain]\nkind = \"attention\"\naxes = [\"dataset\", \"method\"]\nonly = { method = \"clip\" }\n\
                  method = \"methods/{method}.toml\"\ndataset = \"@data\"\nweights = \"@clip\"\n\
                  \n[stage.prompted]\nkind = \"attention\"\naxes = [\"dataset\", \"method\", \"seed\"]\n\
                  only = { method = \"maple\", seed = 1 }\nprompt = \"@train\"\ndataset = \"@data\"\nweights = \"@clip\"\nimages = 3\n";
    project.write(PIPELINE, &(project.read(PIPELINE) + stages));
    project
}

fn maps(project: &Project, node: &str) -> Vec<AttentionMap> {
    serde_json::from_str(&fs::read_to_string(project.artifact(node, "maps")).unwrap()).unwrap()
}

#[test]
fn attention_is_shown_over_the_first_image_of_each_class() {
    let project = project();
    let nodes = ["plain/shapes/clip", "prompted/shapes/maple/seed1"];
    assert_eq!(project.ran(&["run", PIPELINE]), names(&nodes));
    let [plain, prompted] = nodes.map(|node| maps(&project, node));
    let classes = |maps: &[AttentionMap]| maps.iter().map(|map| map.class.clone()).collect::<Vec<_>>();
    assert_eq!((plain.len(), prompted.len()), (4, 3));
    assert_eq!(classes(&prompted), [0, 1, 2].map(|place: usize| classes(&plain)[place * 4 / 3].clone()));
    for map in plain.iter().chain(&prompted) {
        // 32 pixels in patches of 16.
        let sum = map.patches.iter().sum::<f32>() + map.prompts;
        assert!(map.side() == 2 && map.patches.len() == 4 && (0.0..1.0).contains(&sum), "{map:?}");
    }
    assert!(plain.iter().all(|map| map.prompts == 0.0) && prompted.iter().all(|map| map.prompts > 0.0));

    assert_eq!(project.run(&["report", PIPELINE, "-o", "report.html"]).code, Some(0));
    let html = project.read("report.html");
    let section = html.split("<section id=\"attention\"").nth(1).unwrap().split("</section>").next().unwrap();
    // Four images, four looks of CLIP, three of MaPLe.
    assert_eq!(section.matches("<img src=\"data:image/jpeg;base64,").count(), 4 + 4 + 3, "{section}");
    assert_eq!(section.matches(" % to prompts").count(), 3, "{section}");
}

#[test]
fn attention_needs_a_prompt_or_a_method() {
    let project = project();
    project.replace(PIPELINE, "images = 3\n", "");
    project.replace(PIPELINE, "seed = 1 }\nprompt = \"@train\"\n", "seed = 1 }\n");
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: an `attention` stage needs a `prompt` or a `method`
  --> pipelines/tiny.toml:83:8
   |
83 | [stage.prompted]
   |        ^^^^^^^^
   |
   = hint: `prompt = "@train"` for a trained prompt, `method = "methods/clip.toml"` for zero-shot
<exit code 2>

"#]],
    );
}
