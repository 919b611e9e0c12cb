//! Reduces many samples to a few points, and keeps the extremes.

use crate::measurement::Timeline;
use modelgate_protocol::Finite;
use std::collections::BTreeMap;

/// The maximum number of points of a timeline.
const MAX_POINTS: usize = 2000;

/// Samples of one quantity.
pub(super) struct Series {
    /// The name in the report.
    pub(super) name: String,
    /// Pairs of seconds from the start of the worker and bytes, oldest first.
    pub(super) points: Vec<(f64, u64)>,
    /// Whether the reduction keeps the extremes of this series.
    pub(super) keep_extremes: bool,
}

/// Combines series on one time axis, on which a series keeps its value until its next sample, and
/// reduces them to [`MAX_POINTS`]: each interval keeps the times of the lowest and the highest
/// value of each series with `keep_extremes`.
pub(super) fn timeline(mut series: Vec<Series>) -> Timeline {
    series.retain(|series| !series.points.is_empty());
    let mut times: Vec<f64> =
        series.iter().flat_map(|series| series.points.iter().map(|(t_s, _)| *t_s)).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let columns: Vec<Vec<u64>> =
        series.iter().map(|series| values_at(&series.points, &times)).collect();
    let kept: Vec<&Vec<u64>> = series
        .iter()
        .zip(&columns)
        .filter(|(series, _)| series.keep_extremes)
        .map(|(_, column)| column)
        .collect();
    let rows: Vec<usize> = if times.len() <= MAX_POINTS || kept.is_empty() {
        (0..times.len()).collect()
    } else {
        let intervals = (MAX_POINTS / (2 * kept.len())).max(1);
        let rows: Vec<usize> = (0..times.len()).collect();
        let rows_per_interval = times.len().div_ceil(intervals);
        rows.chunks(rows_per_interval).flat_map(|rows| extremes(rows, &kept)).collect()
    };
    let mut reduced = BTreeMap::new();
    for (series, column) in series.into_iter().zip(&columns) {
        reduced.insert(series.name, rows.iter().map(|row| column[*row]).collect());
    }
    let t_s = rows.iter().filter_map(|row| Finite::new(times[*row])).collect();
    Timeline { t_s, series: reduced }
}

/// Returns the value at each of `times`: the value of the last point until then, or of the first
/// point.
fn values_at(points: &[(f64, u64)], times: &[f64]) -> Vec<u64> {
    let mut next = 0;
    let at = |t_s: &f64| {
        while points.get(next + 1).is_some_and(|(later, _)| later <= t_s) {
            next += 1;
        }
        points[next].1
    };
    times.iter().map(at).collect()
}

/// Returns the rows of an interval in which a column is lowest or highest, in order of time.
fn extremes(rows: &[usize], columns: &[&Vec<u64>]) -> Vec<usize> {
    let mut extremes: Vec<usize> = columns
        .iter()
        .flat_map(|column| {
            let lowest = rows.iter().min_by_key(|row| column[**row]);
            let highest = rows.iter().max_by_key(|row| column[**row]);
            lowest.into_iter().chain(highest).copied()
        })
        .collect();
    extremes.sort_unstable();
    extremes.dedup();
    extremes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: Vec<(f64, u64)>, keep_extremes: bool) -> Series {
        Series { name: name.into(), points, keep_extremes }
    }

    #[test]
    fn a_spike_of_one_sample_is_kept() {
        let points = |period: f64, spike: u32| -> Vec<(f64, u64)> {
            (0..100_000)
                .map(|i| (f64::from(i) * period, if i == spike { 9_000 } else { 100 }))
                .collect()
        };
        let timeline = timeline(vec![
            series("host_private", points(0.008, 77_777), true),
            series("host_rss", points(0.008, 1), false),
            series("cuda:0_used", points(0.005, 12_345), true),
        ]);
        assert!(timeline.t_s.len() <= MAX_POINTS && timeline.t_s.len() > MAX_POINTS / 4);
        for name in ["host_private", "cuda:0_used"] {
            let bytes = &timeline.series[name];
            assert_eq!(bytes.len(), timeline.t_s.len());
            assert!(bytes.contains(&9_000), "{name}");
        }
        assert!(timeline.t_s.is_sorted_by(|a, b| a.get() < b.get()));
    }

    #[test]
    fn a_series_keeps_its_value_until_the_next_sample() {
        let timeline = timeline(vec![
            series("a", vec![(1.0, 10), (3.0, 30)], true),
            series("b", vec![(2.0, 200), (3.0, 300), (4.0, 400)], true),
            series("none", Vec::new(), true),
        ]);
        let times: Vec<f64> = timeline.t_s.iter().map(|t_s| t_s.get()).collect();
        assert_eq!(times, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(timeline.series["a"], [10, 10, 30, 30]);
        assert_eq!(timeline.series["b"], [200, 200, 300, 400]);
        assert!(!timeline.series.contains_key("none"));
    }
}
