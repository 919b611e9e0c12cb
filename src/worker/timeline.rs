//! Many samples into few points, extremes kept.

use super::probe::Sample;
use modelgate_protocol::{Finite, Timeline};
use std::collections::BTreeMap;

/// Points that a timeline has at most.
const MOST_POINTS: usize = 2000;

/// Reduces samples, oldest first, to a timeline: of each stretch of time the lowest and the highest
/// private memory stay.
pub(super) fn timeline(samples: &[Sample]) -> Timeline {
    let kept: Vec<&Sample> = if samples.len() <= MOST_POINTS {
        samples.iter().collect()
    } else {
        let stretch = samples.len().div_ceil(MOST_POINTS / 2);
        samples.chunks(stretch).flat_map(extremes).collect()
    };
    let column = |value: fn(&Sample) -> u64| kept.iter().map(|sample| value(sample)).collect();
    Timeline {
        t_s: kept.iter().filter_map(|sample| Finite::new(sample.t_s)).collect(),
        series: BTreeMap::from([
            ("host_private".to_owned(), column(|sample| sample.private)),
            ("host_rss".to_owned(), column(|sample| sample.rss)),
        ]),
    }
}

/// The lowest and the highest of a stretch, in the order of time.
fn extremes(stretch: &[Sample]) -> Vec<&Sample> {
    let lowest = stretch.iter().enumerate().min_by_key(|(_, sample)| sample.private);
    let highest = stretch.iter().enumerate().max_by_key(|(_, sample)| sample.private);
    let mut both: Vec<(usize, &Sample)> = lowest.into_iter().chain(highest).collect();
    both.sort_by_key(|(index, _)| *index);
    both.dedup_by_key(|(index, _)| *index);
    both.into_iter().map(|(_, sample)| sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_of_one_sample_stays() {
        let samples: Vec<Sample> = (0..100_000)
            .map(|i| Sample {
                t_s: f64::from(i) * 0.005,
                private: if i == 77_777 { 9_000 } else { 100 },
                rss: 200,
            })
            .collect();
        let timeline = timeline(&samples);
        assert!(timeline.t_s.len() <= MOST_POINTS);
        let private = &timeline.series["host_private"];
        assert_eq!(private.len(), timeline.t_s.len());
        assert_eq!(private.iter().filter(|bytes| **bytes == 9_000).count(), 1);
        assert!(timeline.t_s.is_sorted_by(|a, b| a.get() < b.get()));
    }
}
