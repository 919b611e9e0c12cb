//! The byte layout of a GGUF file, read without candle and without validation. Tests use it to
//! damage valid files, and to compare loaded tensors with the bytes in the file.

use crate::mutation::Field;
use std::collections::BTreeMap;
use std::ops::Range;

/// The positions of header fields and tensor data in a GGUF file.
#[derive(Debug, Default)]
pub struct Layout {
    /// The places of all numbers of the header: counts, lengths, types, dimensions and offsets.
    pub fields: Vec<Field>,
    /// The shape of each tensor (rows first) and the byte offset of its data, by tensor name.
    pub tensors: BTreeMap<String, (Vec<u64>, usize)>,
    /// The length of the header in bytes.
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

    /// Reads a metadata value. `kind` is the number of its type in `gguf.h`. Returns the value of a
    /// number, 0 for a string and the length of an array. `None` if the file ends too early or the
    /// type is unknown.
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

/// Returns the layout of a GGUF file of version 2 or 3. `None` if the file ends too early or a
/// value has an unknown type.
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
