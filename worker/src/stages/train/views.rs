//! Features that trainings see in place of images.

use tch::{Device, Tensor};

use crate::method::{Labelled, Sample};
use crate::stages::inputs::{self, Known};
use maple_pipe::data::Loader;
use maple_pipe::error::Result;
use maple_pipe::stages::dataset::Index;
use maple_pipe::task::Task;

/// Features of the views that epochs see.
pub(super) struct Views {
    /// `(views, images, embedding)`.
    features: Tensor,
    /// For each image of the sample its row there; none for one that is left out.
    rows: Vec<Option<i64>>,
    /// Whether epochs behind the last view begin with the first again.
    repeat: bool,
}

impl Views {
    /// Those of a sample's images. Features of whole images are those of every epoch.
    pub(super) fn new(known: &Known, items: &Index, repeat: bool, device: Device) -> Result<Views> {
        let rows = items.iter().map(|item| known.row(item)).collect::<Result<_>>()?;
        let features = known.features.to_device(device);
        match features.dim() {
            2 => Ok(Views { features: features.unsqueeze(0), rows, repeat: true }),
            _ => Ok(Views { features, rows, repeat }),
        }
    }

    /// The first epochs whose views these are.
    pub(super) fn epochs(&self) -> u32 {
        if self.repeat { u32::MAX } else { self.features.size()[0] as u32 }
    }

    /// The sample for a learner that works behind the towers, with the images by which it chooses.
    pub(super) fn sample(&self, task: &Task, items: &Index) -> Result<Sample> {
        let device = self.features.device();
        let known = items.iter().zip(&self.rows).filter_map(|(item, row)| Some((item.label as i64, (*row)?)));
        let (labels, rows): (Vec<i64>, Vec<i64>) = known.unzip();
        let [labels, rows] = [labels, rows].map(|numbers| Tensor::from_slice(&numbers).to_device(device));
        let labelled = |input: &str| -> Result<Option<Labelled>> {
            let of = |(features, listed): (Tensor, Index)| {
                let labels: Vec<i64> = listed.iter().map(|item| item.label as i64).collect();
                Labelled { features: features.to_device(device), labels: Tensor::from_slice(&labels).to_device(device) }
            };
            Ok(inputs::features_of(task, input)?.map(of))
        };
        Ok(Sample {
            views: self.features.index_select(1, &rows),
            labels,
            validation: labelled("validation")?,
            test: labelled("test")?,
        })
    }

    /// How many images are left out.
    pub(super) fn lacking(&self) -> usize {
        self.rows.iter().filter(|row| row.is_none()).count()
    }

    /// The images of a batch that are not left out, with their features `(B, embedding)` and labels `(B,)`.
    pub(super) fn batch(&self, epoch: u32, places: &[usize], loader: &Loader) -> (Vec<usize>, Tensor, Tensor) {
        let known = places.iter().filter_map(|&place| Some((place, self.rows[place]?)));
        let (places, rows): (Vec<usize>, Vec<i64>) = known.unzip();
        let labels: Vec<i64> = places.iter().map(|&place| loader.items()[place].label as i64).collect();
        let device = self.features.device();
        let [rows, labels] = [rows, labels].map(|numbers| inputs::send(&Tensor::from_slice(&numbers), device));
        let view = i64::from(epoch) % self.features.size()[0];
        (places, self.features.get(view).index_select(0, &rows), labels)
    }
}
