//! The division of a tensor into pieces, which are loaded separately.

/// The division of a tensor into pieces, each of which is a run of complete rows of one matrix.
pub(super) struct Pieces {
    /// The number of matrices in the tensor: 1, or the number of experts.
    pub(super) matrices: usize,
    pub(super) rows_in_matrix: usize,
    pub(super) columns: usize,
    /// The length of a row in the file, in bytes.
    row_bytes: u64,
    /// The number of rows of a piece; the last piece of a matrix may have fewer.
    pub(super) rows: usize,
}

/// The start of a piece in the tensor.
#[derive(Clone, Copy)]
pub(super) struct PieceStart {
    /// The position of the piece in the bytes of the tensor in the file.
    pub(super) byte: u64,
    /// The number of values of the tensor before the piece.
    pub(super) value: u64,
}

impl Pieces {
    /// Divides a tensor of `shape` that takes `bytes` bytes in the file into pieces of about
    /// `piece_bytes` bytes, and at least one row.
    pub(super) fn new(shape: &[usize], bytes: u64, piece_bytes: u64) -> Pieces {
        let columns = shape.last().copied().unwrap_or(1).max(1);
        let rows = shape.iter().product::<usize>() / columns;
        // merged experts are inspected separately
        let matrices = match shape {
            [count, _, _] => (*count).max(1),
            _ => 1,
        };
        let row_bytes = (bytes / rows.max(1) as u64).max(1);
        Pieces {
            matrices,
            rows_in_matrix: rows / matrices,
            columns,
            row_bytes,
            rows: (piece_bytes / row_bytes).max(1) as usize,
        }
    }

    /// Returns the start of the piece with the number `piece` of the matrix with the number
    /// `matrix`.
    pub(super) fn start(&self, matrix: usize, piece: usize) -> PieceStart {
        let row = (matrix * self.rows_in_matrix + piece * self.rows) as u64;
        PieceStart { byte: row * self.row_bytes, value: row * self.columns as u64 }
    }
}
