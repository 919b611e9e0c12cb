//! Where everything is in a GGUF file, read without candle and without any check: for sound files that
//! are to be damaged, and to compare with what was loaded of others.

use crate::mutation::Field;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the header of a file says.
#[derive(Debug, Default)]
pub struct Layout {
    /// Every count, length, type, dimension and offset.
    pub fields: Vec<Field>,
    /// The bytes of each tensor to the end of the file, by its name, with the sizes, rows first.
    pub tensors: BTreeMap<String, (Vec<u64>, usize)>,
    /// Where the header ends.
    pub header: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Reader<'_> {
    fn place(&mut self, width: usize) -> Option<Range<usize>> {
        let place = self.at..self.at.checked_add(width).filter(|end| *end <= self.bytes.len())?;
        self.at = place.end;
        Some(place)
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        let place = self.place(width)?;
        self.fields.push(Field::Binary(place.clone()));
        Some(self.bytes[place].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number(8)? as usize;
        let place = self.place(length)?;
        Some(String::from_utf8_lossy(&self.bytes[place]).trim_end_matches('\0').to_owned())
    }

    /// Reads a value of a type by its number in `gguf.h`; returns it if it is a number.
    fn value(&mut self, kind: u64) -> Option<u64> {
        match kind {
            0 | 1 | 7 => self.number(1),
            2 | 3 => self.number(2),
            4..=6 => self.number(4),
            10..=12 => self.number(8),
            8 => self.text().map(|_| 0),
            9 => {
                let (kind, count) = (self.number(4)?, self.number(8)?);
                for _ in 0..count {
                    self.value(kind)?;
                }
                Some(count)
            }
            _ => None,
        }
    }
}

/// Reads the header of a file of version 2 or 3; returns `None` if the file ends too early.
pub fn layout(bytes: &[u8]) -> Option<Layout> {
    let mut reader = Reader { bytes, at: 8, fields: Vec::new() };
    let (tensors, values) = (reader.number(8)?, reader.number(8)?);
    let mut alignment = 32;
    for _ in 0..values {
        let key = reader.text()?;
        let kind = reader.number(4)?;
        let value = reader.value(kind)?;
        if key == "general.alignment" {
            alignment = value.max(1);
        }
    }
    let mut offsets = Vec::new();
    for _ in 0..tensors {
        let name = reader.text()?;
        let dimensions = reader.number(4)?;
        let shape = (0..dimensions).map(|_| reader.number(8)).collect::<Option<Vec<u64>>>()?;
        let (_, offset) = (reader.number(4)?, reader.number(8)?);
        offsets.push((name, shape.into_iter().rev().collect(), offset));
    }
    let data = (reader.at as u64).next_multiple_of(alignment);
    let tensors = offsets.into_iter().map(|(name, shape, offset)| {
        Some((name, (shape, usize::try_from(data.checked_add(offset)?).ok()?)))
    });
    let tensors = tensors.collect::<Option<BTreeMap<_, _>>>()?;
    Some(Layout { fields: reader.fields, tensors, header: reader.at })
}
