//! How a tensor is divided into pieces, which are loaded one by one.

/// How a tensor is divided into pieces: runs of whole rows.
pub(super) struct Pieces {
    /// The matrices that the tensor holds.
    pub(super) matrices: usize,
    pub(super) rows_in_matrix: usize,
    pub(super) columns: usize,
    /// Bytes of a row in the file.
    row_bytes: u64,
    /// Rows of a piece.
    pub(super) rows: usize,
}

/// Where the values of a piece begin in the tensor.
#[derive(Clone, Copy)]
pub(super) struct PieceStart {
    /// The position in the file's bytes of the tensor.
    pub(super) byte: u64,
    /// The number of values before it.
    pub(super) value: u64,
}

impl Pieces {
    /// Divides a tensor of `shape` that has `bytes` bytes in the file into pieces of about
    /// `piece_bytes`.
    pub(super) fn new(shape: &[usize], bytes: u64, piece_bytes: u64) -> Pieces {
        let columns = shape.last().copied().unwrap_or(1).max(1);
        let rows = shape.iter().product::<usize>() / columns;
        // experts that are one tensor are inspected one by one
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

    /// Returns where a piece of a matrix begins.
    pub(super) fn start(&self, matrix: usize, piece: usize) -> PieceStart {
        let row = (matrix * self.rows_in_matrix + piece * self.rows) as u64;
        PieceStart { byte: row * self.row_bytes, value: row * self.columns as u64 }
    }
}
